//! Builds through buildctl and buildx, and their reports about steps.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use testkit::process::run;
use testkit::{Daemon, Tools};

use crate::case::{Case, Keys};

/// The input of cases that build LLB.
const DEFINITION: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../oci2bk/tests/data/history/steps.pb");

/// A context with its Dockerfile, ready to build.
#[derive(Debug)]
pub struct Source<'a> {
    /// The build.
    pub case: &'a Case,
    /// The directory of the Dockerfile and of all files that it copies.
    pub context: &'a Path,
}

/// The step that makes the file of a heredoc.
const HEREDOC: &str = "[internal] preparing inline document";

/// Options of a build.
#[derive(Debug, Default)]
pub struct Options<'a> {
    /// The directory to export the cache to, and more attributes of `--export-cache`.
    pub export: Option<(&'a Path, &'a str)>,
    /// The value of `--export-cache` for an export to another place.
    pub export_to: Option<String>,
    /// The directory of the cache to import.
    pub import: Option<&'a Path>,
    /// The value of `--output`.
    pub output: Option<String>,
    /// LLB that replaces the case's, if the case builds LLB.
    pub definition: Option<Vec<u8>>,
    /// `--opt` for the provenance attestation.
    pub provenance: &'a str,
    /// `--opt` for the SBOM attestation.
    pub sbom: String,
}

/// The report of a build.
#[derive(Debug, Default)]
pub struct Report {
    vertices: BTreeMap<String, Vertex>,
    statuses: BTreeSet<String>,
}

#[derive(Debug, Default)]
struct Vertex {
    name: String,
    has_inputs: bool,
    cached: bool,
}

impl Report {
    /// Returns the names of the cached steps, a name once for each step that has it.
    ///
    /// A cache export has no results of steps without inputs, such as base images and the first WORKDIR on
    /// scratch (`ExportRoots` is false in buildkit's `solver/llbsolver`); they follow from the steps above
    /// them if the source of keys has the ops. Steps whose results cannot follow are left out: all of them if
    /// `keys` are only digests, as in a `cache.db`, and always the files of heredocs, because they are only
    /// copied and so are not the result of any layer of an export.
    pub fn cached(&self, keys: Keys) -> Vec<&str> {
        let follows = |vertex: &Vertex| keys.have_ops() && vertex.name != HEREDOC;
        let counts = |vertex: &&Vertex| vertex.has_inputs || follows(vertex);
        let steps = self.vertices.values().filter(|vertex| vertex.cached).filter(counts);
        let mut names: Vec<&str> = steps.map(|vertex| vertex.name.as_str()).collect();
        names.sort_unstable();
        names
    }

    /// Returns each step by its name, and whether it was cached.
    pub fn steps(&self) -> impl Iterator<Item = (&str, bool)> {
        self.vertices.values().map(|vertex| (vertex.name.as_str(), vertex.cached))
    }

    /// Returns the layers that were extracted.
    pub fn extracted(&self) -> impl Iterator<Item = &str> {
        self.statuses.iter().filter_map(|status| status.strip_prefix("extracting "))
    }

    /// Returns the layer blobs that were fetched, from a registry or a cache (BuildKit v0.34.2
    /// `util/pull/pullprogress/progress.go`, `trackProgress`).
    pub fn fetched(&self) -> impl Iterator<Item = &str> {
        self.statuses.iter().map(String::as_str).filter(|status| status.starts_with("sha256:"))
    }

    /// Fails if a step fetched or unpacked anything from a cache, other than the layers for which `of_base`
    /// is true.
    pub fn ensure_nothing_imported(&self, of_base: impl Fn(&str) -> bool) -> Result<()> {
        let names = self.vertices.values().map(|vertex| &vertex.name);
        let telling: Vec<_> = names
            .chain(&self.statuses)
            .filter(|text| text.contains("importing") || text.contains("extracting"))
            .filter(|text| !text.strip_prefix("extracting ").is_some_and(&of_base))
            .collect();
        ensure!(telling.is_empty(), "the build reports {telling:?}");
        Ok(())
    }

    /// Parses the output of `--progress=rawjson`.
    pub fn parse(progress: &str) -> Result<Self> {
        let mut report = Self::default();
        // buildctl logs its own warnings between the lines of JSON.
        for line in progress.lines().filter(|line| line.starts_with('{')) {
            let update: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
            for vertex in update["vertexes"].as_array().into_iter().flatten() {
                report.vertex(vertex)?;
            }
            for status in update["statuses"].as_array().into_iter().flatten() {
                report.statuses.insert(status["id"].as_str().unwrap_or_default().to_owned());
            }
        }
        Ok(report)
    }

    fn vertex(&mut self, update: &Value) -> Result<()> {
        let digest = update["digest"].as_str().context("a vertex has no digest")?;
        let name = update["name"].as_str().unwrap_or_default();
        if let Some(error) = update["error"].as_str() {
            bail!("step {name:?} failed: {error}");
        }
        let vertex = self.vertices.entry(digest.to_owned()).or_default();
        vertex.name = without_target_platform(name);
        // A step whose cached result has to be extracted is reported again later, then without its inputs and
        // as not cached.
        vertex.has_inputs |= update["inputs"].as_array().is_some_and(|inputs| !inputs.is_empty());
        vertex.cached |= update["cached"].as_bool().unwrap_or_default();
        Ok(())
    }
}

/// Reads the input of cases that build LLB.
pub fn definition() -> Result<Vec<u8>> {
    fs::read(DEFINITION).context(DEFINITION)
}

/// Returns a file that is read from its beginning.
pub fn file_of(content: &[u8]) -> Result<File> {
    let mut file = tempfile::tempfile()?;
    file.write_all(content)?;
    file.rewind()?;
    Ok(file)
}

/// A step that the builds for two platforms share has the name that the first of them gave it:
/// `[linux/amd64->arm64 native 2/3] …` is also `[linux/amd64 native 2/3] …`.
fn without_target_platform(name: &str) -> String {
    match name.split_once("->") {
        Some((native, rest)) if native.starts_with('[') && !native.contains(']') => {
            format!("{native}{}", rest.trim_start_matches(|c: char| c != ' ' && c != ']'))
        }
        _ => name.to_owned(),
    }
}

impl Source<'_> {
    /// Builds with buildctl.
    pub fn build(&self, daemon: &Daemon, options: &Options<'_>) -> Result<Report> {
        let mut command = daemon.buildctl();
        command.args(["build", "--progress=rawjson"]);
        command.args(daemon.build_arguments()).args(self.arguments());
        if self.case.keys == Keys::Definition {
            let definition = options.definition.clone().map_or_else(definition, Ok)?;
            command.stdin(file_of(&definition)?);
        } else {
            command
                .args(["--frontend", "dockerfile.v0"])
                .arg(format!("--local=context={}", self.context.display()))
                .arg(format!("--local=dockerfile={}", self.context.display()));
        }
        if !options.provenance.is_empty() {
            command.args(["--opt", &format!("attest:provenance={}", options.provenance)]);
        }
        if !options.sbom.is_empty() {
            command.args(["--opt", &format!("attest:sbom={}", options.sbom)]);
        }
        if let Some((dir, attributes)) = options.export {
            command.args([
                "--export-cache",
                &format!(
                    "type=local,dest={},mode={}{}{attributes}",
                    dir.display(),
                    self.case.export.mode.name(),
                    self.case.export.attributes
                ),
            ]);
        }
        if let Some(target) = &options.export_to {
            command.args(["--export-cache", target]);
        }
        if let Some(dir) = options.import {
            command.args(["--import-cache", &format!("type=local,src={}", dir.display())]);
        }
        if let Some(output) = &options.output {
            command.args(["--output", output]);
        }
        let output = command.output().context("cannot start buildctl")?;
        let progress = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            let text: Vec<_> = progress.lines().filter(|line| !line.starts_with('{')).collect();
            bail!("{command:?} failed:\n{}", text.join("\n"));
        }
        Report::parse(&progress)
    }

    /// Builds and exports with buildx, which writes its metadata file to `metadata`.
    fn build_with_buildx(
        &self,
        tools: &Tools,
        daemon: &Daemon,
        cache: &Path,
        metadata: &Path,
    ) -> Result<()> {
        let config = metadata.with_extension("buildx");
        run(buildx(tools, &config)
            .args(["create", "--name", "e2e", "--driver", "remote"])
            .arg(daemon.address()))?;
        run(buildx(tools, &config)
            .env("BUILDX_METADATA_PROVENANCE", "max")
            .args(["--builder", "e2e", "build", "--progress=plain"])
            .args(["--provenance=mode=max", "--output=type=cacheonly", "--metadata-file"])
            .arg(metadata)
            .arg(format!(
                "--cache-to=type=local,dest={},mode={}{}",
                cache.display(),
                self.case.export.mode.name(),
                self.case.export.attributes
            ))
            .arg(self.context))
        .map(drop)
    }

    /// Runs the first build: exports the cache to `cache` and returns the file or directory with the keys, if
    /// they are not in the layout of the cache itself.
    pub fn make(
        &self,
        tools: &Tools,
        daemon: &Daemon,
        cache: &Path,
        keys: &Path,
    ) -> Result<Option<PathBuf>> {
        let export = Some((cache, ""));
        let max = "mode=max";
        match self.case.keys {
            Keys::Provenance | Keys::ProvenanceV02 => {
                let v02 = self.case.keys == Keys::ProvenanceV02;
                let provenance = if v02 { "mode=max,version=v0.2" } else { max };
                let output = Some(format!("type=local,dest={}", keys.display()));
                self.build(daemon, &Options { export, output, provenance, ..Options::default() })?;
                Ok(Some(keys.join("provenance.json")))
            }
            Keys::Attestation => {
                let output = Some(format!("type=oci,tar=false,dest={}", keys.display()));
                let provenance = max;
                self.build(daemon, &Options { export, output, provenance, ..Options::default() })?;
                Ok(Some(keys.to_owned()))
            }
            Keys::Beside => {
                let out = cache.with_file_name("out");
                let output = Some(format!("type=local,dest={}", out.display()));
                let provenance = max;
                self.build(daemon, &Options { export, output, provenance, ..Options::default() })?;
                Ok(None)
            }
            Keys::Tar => {
                let output = Some(format!("type=tar,dest={}", keys.display()));
                let provenance = max;
                self.build(daemon, &Options { export, output, provenance, ..Options::default() })?;
                Ok(Some(keys.to_owned()))
            }
            Keys::Answer => {
                self.build(daemon, &Options { export, ..Options::default() })?;
                let answer = run(daemon
                    .buildctl()
                    .args(["build", "--progress=plain", "--frontend", "dockerfile.v0"])
                    .args(["--opt", "requestid=frontend.convertllb"])
                    .args(daemon.build_arguments())
                    .args(self.arguments())
                    .arg(format!("--local=context={}", self.context.display()))
                    .arg(format!("--local=dockerfile={}", self.context.display())))?;
                fs::write(keys, answer)?;
                Ok(Some(keys.to_owned()))
            }
            Keys::Inside => {
                let output = Some(format!("type=oci,tar=false,dest={}", cache.display()));
                let provenance = max;
                self.build(daemon, &Options { output, provenance, ..Options::default() })?;
                let export = Some((cache, ",tag=cache"));
                self.build(daemon, &Options { export, ..Options::default() })?;
                Ok(None)
            }
            Keys::Attached => {
                let output = Some(format!("type=local,dest={}", keys.display()));
                let provenance = max;
                self.build(daemon, &Options { export, output, provenance, ..Options::default() })?;
                let file = keys.join("keys.json");
                run(Command::new(&tools.oci2bk)
                    .args(["keys", "--output"])
                    .args([&file, &keys.join("provenance.json")]))?;
                run(Command::new(&tools.oci2bk)
                    .args(["keys", "attach"])
                    .arg(cache)
                    .arg("--keys")
                    .arg(file))?;
                Ok(None)
            }
            Keys::Metadata => {
                self.build_with_buildx(tools, daemon, cache, keys)?;
                Ok(Some(keys.to_owned()))
            }
            Keys::Definition => {
                self.build(daemon, &Options { export, ..Options::default() })?;
                Ok(Some(DEFINITION.into()))
            }
            Keys::Bundle => {
                self.build_with_buildx(tools, daemon, cache, &keys.with_extension("json"))?;
                let config = keys.with_extension("buildx");
                let export = ["--builder", "e2e", "history", "export", "--all", "--output"];
                run(buildx(tools, &config).args(export).arg(keys))?;
                Ok(Some(keys.to_owned()))
            }
            Keys::Donor | Keys::CacheDebug | Keys::History | Keys::Root => {
                self.build(daemon, &Options { export, ..Options::default() })?;
                let source = daemon.root().join(match self.case.keys {
                    Keys::CacheDebug => "cache-debug.db",
                    Keys::History => "history.db",
                    Keys::Root => "",
                    _ => "cache.db",
                });
                // What the history refers to is in the containerd, if there is one.
                Ok(Some(match daemon.containerd() {
                    Ok(containerd) if self.case.keys == Keys::History => {
                        let [source, containerd] = [&*source, containerd.root()].map(Path::display);
                        format!("{source},containerd={containerd}").into()
                    }
                    _ => source,
                }))
            }
        }
    }

    fn arguments(&self) -> impl Iterator<Item = String> {
        let context = self.context.display().to_string();
        self.case.arguments.iter().map(move |argument| argument.replace("{context}", &context))
    }
}

/// Returns buildx with its data in the directory `config`.
pub fn buildx(tools: &Tools, config: &Path) -> Command {
    let mut command = Command::new(&tools.buildx);
    command.env("BUILDX_CONFIG", config).env("DOCKER_CONFIG", config);
    command
}
