//! The cost of seeding a cache mount with files: with the command into the root of a stopped daemon, and with the
//! dummy builds that copy them in a step, on a running one.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use serde_json::Value;

use crate::cache::{Cache, Compression, Shape, caches};
use crate::daemon::Daemon;
use crate::measure::{Sample, measure};
use crate::process::{run, run_watched};
use crate::report::Spread;
use crate::target::{Kind, Target};

/// The measured files.
const SHAPE: Shape = Shape { bytes: 600_000_000, files: 5_000, layers: 1 };

/// The builds, each a stage. The first one is made before the others are measured.
const DOCKERFILE: &str = r#"
FROM scratch AS base
COPY --from=tools busybox /bin/busybox
FROM base AS bind
RUN --mount=type=bind,target=/from --mount=type=cache,target=/seeded ["/bin/busybox", "cp", "-a", "/from/.", "/seeded/"]
FROM base AS copy
COPY . /from
RUN --mount=type=cache,target=/seeded ["/bin/busybox", "cp", "-a", "/from/.", "/seeded/"]
FROM base AS layout
RUN --mount=type=bind,from=image,target=/from --mount=type=cache,target=/seeded ["/bin/busybox", "cp", "-a", "/from/.", "/seeded/"]
"#;

/// The cost of all ways, by name, one sample for each round.
#[derive(Debug, Serialize)]
pub(crate) struct Mounts {
    pub(crate) shape: Shape,
    pub(crate) runs: BTreeMap<&'static str, Vec<Sample>>,
}

/// A way to fill the mount.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// `mounts import` of this source.
    Import(&'static str),
    /// A build of this stage.
    Build(&'static str),
}

/// The names of the builds that copy a directory, and files in a layout.
const OF_DIRECTORY: &str = "build with a bind mount";
const OF_LAYOUT: &str = "build with a bind mount of an image in a layout";

const WAYS: [(&str, Way); 5] = [
    ("import of a directory", Way::Import("dir:files")),
    ("import of a layout", Way::Import("oci:layout")),
    (OF_DIRECTORY, Way::Build("bind")),
    ("build with COPY", Way::Build("copy")),
    (OF_LAYOUT, Way::Build("layout")),
];

/// The part of the time of a build from the same source that an import may take.
const WANTED: f64 = 0.25;

/// Fills a mount `rounds` times in each way, in turns, in the root of a real daemon on a new file system.
pub(crate) fn seed(
    work: &Path,
    kind: Kind,
    (oci2bk, buildkit): (&Path, &Path),
    rounds: usize,
) -> Result<Mounts> {
    let mut bench = Bench { work: work.join("mounts"), image: None, kind, oci2bk, buildkit };
    bench.prepare(work)?;
    bench.image = Some(manifest(&bench.work.join("image"))?);
    let mut runs: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let mut turns = WAYS.to_vec();
    for round in 1..=rounds {
        for (name, way) in &turns {
            bench.warm()?;
            let sample = bench.run(*way).with_context(|| (*name).to_owned())?;
            eprintln!("a mount, round {round}: {name} {:.2} s", sample.seconds);
            runs.entry(*name).or_default().push(sample);
        }
        turns.rotate_left(1);
    }
    fs::remove_dir_all(&bench.work)?;
    Ok(Mounts { shape: SHAPE, runs })
}

struct Bench<'b> {
    /// The directory of the sources: `files`, `layout`, `image`, `tools` and `dockerfile`.
    work: PathBuf,
    /// The digest of the image with the files.
    image: Option<String>,
    kind: Kind,
    oci2bk: &'b Path,
    buildkit: &'b Path,
}

impl Bench<'_> {
    fn prepare(&self, caches_in: &Path) -> Result<()> {
        if self.work.exists() {
            fs::remove_dir_all(&self.work)?;
        }
        let [files, tools, dockerfile] =
            ["files", "tools", "dockerfile"].map(|name| self.work.join(name));
        for dir in [&files, &tools, &dockerfile] {
            fs::create_dir_all(dir)?;
        }
        fs::copy("/bin/busybox", tools.join("busybox")).context("busybox")?;
        fs::write(dockerfile.join("Dockerfile"), DOCKERFILE)?;
        let made: Vec<Cache> = caches(caches_in, SHAPE, &[Compression::Zstd])?;
        let layer = made.first().and_then(|cache| cache.layers.first()).context("a layer")?;
        run(Command::new("tar").arg("-xf").arg(&layer.tar).arg("-C").arg(&files))?;
        let image = &made.first().context("a cache")?.image;
        run(Command::new("cp").arg("-a").arg(image).arg(self.work.join("image")))?;
        let root = self.work.join("root");
        run(&mut self.import("dir:files", &root))?;
        let mut export = Command::new(self.oci2bk);
        export.args(["mounts", "export", "--progress=quiet"]).arg(&root);
        run(export.args(["--to", "oci:layout"]).current_dir(&self.work))?;
        Ok(fs::remove_dir_all(root)?)
    }

    /// Reads everything that is read in a run, so that all find it in the page cache.
    fn warm(&self) -> Result<()> {
        run(Command::new("tar")
            .args(["-cf", "-", "files", "layout", "image", "tools"])
            .current_dir(&self.work))
        .map(drop)
    }

    fn run(&self, way: Way) -> Result<Sample> {
        // A build has the files in the mount, in the context that it was sent, and in a layer.
        let target = Target::new(&self.work, self.kind, SHAPE.bytes * 4)?;
        let root = target.path().join("root");
        let daemon = Daemon::start(self.buildkit, target.path())?;
        run(&mut self.build(&daemon, "base"))?;
        let sample = match way {
            Way::Import(source) => {
                drop(daemon);
                measure(target.path(), None, || {
                    run_watched(&mut self.import(source, &root)).map(Some)
                })?
            }
            Way::Build(stage) => {
                let sample = measure(target.path(), Some(daemon.id()), || {
                    run(&mut self.build(&daemon, stage)).map(|_| None)
                })?;
                drop(daemon);
                sample
            }
        };
        let mut ls = Command::new(self.oci2bk);
        let listed = run(ls.args(["mounts", "ls", "--format=json"]).arg(&root))?;
        let listed: Value = serde_json::from_str(&listed)?;
        let size = listed["mounts"][0]["disk_size"].as_u64().context("there is no mount")?;
        ensure!(size >= SHAPE.bytes, "the mount has {size} bytes");
        Ok(sample)
    }

    fn import(&self, source: &str, root: &Path) -> Command {
        let mut import = Command::new(self.oci2bk);
        import.args(["mounts", "import", "--progress=quiet", source]).arg(root);
        let id: &[&str] = if source.starts_with("dir:") { &["--id=target=/seeded"] } else { &[] };
        import.args(id).current_dir(&self.work);
        import
    }

    fn build(&self, daemon: &Daemon, stage: &str) -> Command {
        let mut build = daemon.buildctl();
        build.args(["build", "--progress=plain", "--frontend=dockerfile.v0"]);
        build.args(["--local=context=files", "--local=dockerfile=dockerfile"]);
        build.args(["--local=tools=tools", "--opt=context:tools=local:tools"]);
        build.arg(format!("--opt=target={stage}")).current_dir(&self.work);
        if let Some(digest) = &self.image {
            build.arg("--oci-layout=image=image");
            build.arg(format!("--opt=context:image=oci-layout://image@{digest}"));
        }
        build
    }
}

/// Returns the digest of the only manifest in a layout.
pub(crate) fn manifest(layout: &Path) -> Result<String> {
    let index: Value = serde_json::from_slice(&fs::read(layout.join("index.json"))?)?;
    let digest = index["manifests"][0]["digest"].as_str().context("a manifest")?;
    Ok(digest.to_owned())
}

impl Mounts {
    /// Appends the table.
    pub(crate) fn write(&self, text: &mut String) {
        let Shape { bytes, files, .. } = self.shape;
        let seconds = |name: &str| -> Option<Vec<f64>> {
            Some(self.runs.get(name)?.iter().map(|sample| sample.seconds).collect())
        };
        let builds = WAYS.iter().filter(|(_, way)| matches!(way, Way::Build(_)));
        let builds: Vec<_> = builds.map(|(name, _)| *name).collect();
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "\n## A cache mount\n\n{:.1} GB in {files} files, into a mount in the root of a daemon that has run: with \
             `mounts import`, and with builds that copy them there. Wanted: at most {WANTED} of the time of the \
             build from the same source.\n\n| | seconds | spread | of the {} | peak memory, MiB | |\n|---|---|---|{}---|---|",
            bytes as f64 / 1e9,
            builds.join(" | of the "),
            "---|".repeat(builds.len()),
        );
        for (name, _) in WAYS {
            let Some(samples) = self.runs.get(name) else { continue };
            let Some(own) = seconds(name) else { continue };
            let Some(spread) = Spread::of(own.clone()) else { continue };
            let ratio = |build: &str| {
                let build = seconds(build).filter(|_| !builds.contains(&name))?;
                Spread::of(own.iter().zip(build).map(|(own, build)| own / build).collect())
            };
            let cell = |build: &&str| match ratio(build) {
                Some(Spread { median, lowest, highest }) => {
                    format!("{median:.2} ({lowest:.2} to {highest:.2})")
                }
                None => String::new(),
            };
            let peak = samples.iter().filter_map(|sample| sample.peak_bytes).max();
            let same = if name.ends_with("layout") { OF_LAYOUT } else { OF_DIRECTORY };
            let verdict = match ratio(same) {
                None => "",
                Some(ratio) if ratio.median <= WANTED => "PASS",
                Some(_) => "FAIL",
            };
            let cells: Vec<_> = builds.iter().map(cell).collect();
            let Spread { median, lowest, highest } = spread;
            let _ = writeln!(
                text,
                "| {name} | {median:.2} | {lowest:.2} to {highest:.2} | {} | {} | {verdict} |",
                cells.join(" | "),
                peak.map_or_else(String::new, |peak| (peak >> 20).to_string()),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_import_of_mounts_is_compared_with_builds() {
        let samples = |seconds: &[f64]| {
            let sample =
                |seconds: &f64| Sample { seconds: *seconds, cpu_seconds: 1.0, peak_bytes: None };
            seconds.iter().map(sample).collect()
        };
        let runs = [
            ("import of a directory", samples(&[1.0, 1.0, 3.0])),
            (OF_DIRECTORY, samples(&[5.0, 4.0, 6.0])),
            ("build with COPY", samples(&[10.0, 10.0, 10.0])),
        ];
        let shape = Shape { bytes: 600_000_000, files: 5_000, layers: 1 };
        let mut text = String::new();
        Mounts { shape, runs: runs.into() }.write(&mut text);
        let rows: Vec<_> = text.lines().skip(7).collect();
        assert_eq!(
            rows,
            [
                "| import of a directory | 1.00 | 1.00 to 3.00 | 0.25 (0.20 to 0.50) | 0.10 (0.10 to 0.30) |  |  | PASS |",
                "| build with a bind mount | 5.00 | 4.00 to 6.00 |  |  |  |  |  |",
                "| build with COPY | 10.00 | 10.00 to 10.00 |  |  |  |  |  |",
            ]
        );
    }
}
