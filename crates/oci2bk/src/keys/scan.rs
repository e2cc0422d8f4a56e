//! SBOM scans: a step of builds with `attest:sbom` that no document about the build lists.
//!
//! A daemon makes the scan an exec op in the image of the scanner, with the result of the build mounted
//! (`frontend/attestations/sbom/sbom.go`). It is exported with the cache, but neither provenance nor the
//! build history has its op. With the image, the op follows from its config. Without it, provenance has
//! enough to recognise the scan: the image is among its materials though no op fetches it, and the op digest
//! of the result is known.

use std::collections::{BTreeMap, BTreeSet};

use bkstate::Digest;
use codec::from_objects;
use llb::op::{ExecOp, Kind, Meta, Mount, Op, TmpfsOpt};
use llb::{Output, Platform, Provenance, below_root};
use serde::Deserialize;

use super::source::{Candidate, KeySource, SourceDescription, SourceKind, candidates_of};
use crate::image::{BaseImage, PlatformImage, record_of};

/// The mount point of the scanned files, and the directory of the output.
const CORE: &str = "/run/src/core/sbom";
const EXTRAS: &str = "/run/src/extras";
/// The mount point of the build context, with `BUILDKIT_SBOM_SCAN_CONTEXT`.
const CONTEXT: &str = "/run/src/extras/sbom-context";
const OUT: &str = "/run/out/";

/// The possible scans in a cache, by the records of the images in which they run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Scans {
    scanners: BTreeMap<Digest, Scanner>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Scanner {
    /// Its name, if known.
    image: Option<String>,
    /// The possible scanned results.
    results: BTreeSet<Digest>,
}

impl Scans {
    /// Returns the possible scans of the build of `provenance`.
    pub(super) fn of(provenance: &Provenance) -> Self {
        let results = results(provenance);
        let mut scans = Self::default();
        for image in provenance.images.iter().filter(|_| !results.is_empty()) {
            let platform = image.platform.as_ref().unwrap_or(&provenance.default_platform);
            let record = record_of(image.digest, &platform.normalized());
            let scanner = Scanner { image: Some(image.name.clone()), results: results.clone() };
            scans.scanners.insert(record, scanner);
        }
        scans
    }

    pub(super) fn is_empty(&self) -> bool {
        self.scanners.is_empty()
    }

    /// Adds the possible scans of another build.
    pub(super) fn extend(&mut self, other: Self) {
        for (record, scanner) in other.scanners {
            let Scanner { image, results } = scanner;
            let known = self
                .scanners
                .entry(record)
                .or_insert_with(|| Scanner { image: None, results: BTreeSet::new() });
            known.image = known.image.take().or(image);
            known.results.extend(results);
        }
    }

    /// Returns the possible scans of results with one of the records `wanted`.
    pub(super) fn of_records(&self, wanted: &BTreeSet<Digest>) -> Self {
        let scanners = self.scanners.iter().filter_map(|(record, scanner)| {
            let results: BTreeSet<_> = scanner.results.intersection(wanted).copied().collect();
            let image = scanner.image.clone();
            (!results.is_empty()).then_some((*record, Scanner { image, results }))
        });
        Self { scanners: scanners.collect() }
    }

    /// Returns the records of the images and of the possible scanned results, without the names.
    pub(super) fn records(&self) -> impl Iterator<Item = (Digest, &BTreeSet<Digest>)> {
        self.scanners.iter().map(|(record, scanner)| (*record, &scanner.results))
    }

    /// Adds the possible scanned results for an image without a known name.
    pub(super) fn insert(&mut self, record: Digest, results: BTreeSet<Digest>) {
        let scanner = Scanner { image: None, results };
        self.extend(Self { scanners: BTreeMap::from([(record, scanner)]) });
    }

    /// Returns the same without the names of images.
    pub(super) fn unnamed(&self) -> Self {
        let mut unnamed = Self::default();
        self.records().for_each(|(record, results)| unnamed.insert(record, results.clone()));
        unnamed
    }

    /// Returns whether a step is a scan that runs in one of `images` and mounts something for which `mounted`
    /// is true: the name of the image, if known.
    pub(super) fn image(
        &self,
        images: impl IntoIterator<Item = Digest>,
        mounted: impl Fn(&BTreeSet<Digest>) -> bool,
    ) -> Option<Option<&str>> {
        let mut scanners = images.into_iter().filter_map(|record| self.scanners.get(&record));
        scanners.find(|scanner| mounted(&scanner.results)).map(|scanner| scanner.image.as_deref())
    }
}

/// Returns the possible names of the build's result in an export.
fn results(provenance: &Provenance) -> BTreeSet<Digest> {
    let Some(graph) = &provenance.graph else { return BTreeSet::new() };
    let mut results = BTreeSet::new();
    for Output { step, output } in graph.results() {
        let step = &graph.steps[step];
        let platforms = std::slice::from_ref(&provenance.default_platform);
        let candidates = candidates_of(&step.op, platforms, None).unwrap_or_default();
        results.extend(candidates.iter().map(|candidate| candidate.op_digest.record(output)));
        // A build may consist only of an image.
        let fetched = step.identifier.as_deref().and_then(|source| source.rsplit_once('@'));
        if let Some(digest) = fetched.and_then(|(_, digest)| digest.parse().ok()) {
            let platform = step.op.platform.as_ref().unwrap_or(&provenance.default_platform);
            results.insert(record_of(digest, &platform.normalized()));
        }
    }
    results
}

/// The parts of an image config that determine how it scans.
#[derive(Deserialize)]
#[serde(remote = "Self")]
struct Image {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: String,
    #[serde(default)]
    config: Config,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
#[serde(remote = "Self")]
struct Config {
    env: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    working_dir: String,
}

from_objects!(Image, Config);

impl KeySource {
    /// Returns the scans that `image` would make as a scanner without parameters; `None` if it cannot be one.
    pub(super) fn from_scanner(image: &BaseImage) -> Option<Self> {
        let candidates: Vec<_> = image.platforms.iter().flat_map(scans_by).collect();
        let path = image.reference.clone().into();
        let description = SourceDescription { path, kind: SourceKind::Scanner, part: None };
        (!candidates.is_empty()).then(|| Self::from_digests(candidates, description))
    }
}

fn scans_by(image: &PlatformImage) -> Vec<Candidate> {
    let Some(config) = image.documents.last() else { return Vec::new() };
    let Ok(image) = serde_json::from_slice::<Image>(&config.content) else { return Vec::new() };
    let platform = Platform {
        os: image.os.clone(),
        architecture: image.architecture.clone(),
        variant: image.variant.clone(),
        ..Platform::default()
    };
    let ops = scan_ops(&image.config, &platform);
    let platforms = std::slice::from_ref(&platform);
    let of_op = |op: &Op| candidates_of(op, platforms, None).unwrap_or_default();
    let name = |candidate| Candidate { name: Some("the SBOM scan".to_owned()), ..candidate };
    ops.iter().flat_map(of_op).map(name).collect()
}

/// Returns the ops that scan with `image`: of the result alone, or of the build context too; with a separate
/// `/tmp` since v0.12.
fn scan_ops(config: &Config, platform: &Platform) -> Vec<Op> {
    let Config { env, entrypoint, cmd, working_dir } = config;
    let args: Vec<_> = entrypoint.iter().chain(cmd).flatten().cloned().collect();
    if args.is_empty() {
        return Vec::new();
    }
    let mut ops = Vec::new();
    for (extra, tmp) in [(None, true), (Some(CONTEXT), true), (None, false), (Some(CONTEXT), false)]
    {
        let mut variables = Variables::default();
        env.iter().flatten().for_each(|variable| variables.set(variable));
        variables.set(&format!("BUILDKIT_SCAN_DESTINATION={OUT}"));
        variables.set(&format!("BUILDKIT_SCAN_SOURCE={CORE}"));
        if extra.is_some() {
            variables.set(&format!("BUILDKIT_SCAN_SOURCE_EXTRAS={EXTRAS}"));
        }
        let read = |input: i64, dest: &str| Mount {
            input,
            dest: dest.to_owned(),
            output: -1,
            readonly: true,
            ..Mount::default()
        };
        let root = Mount { dest: "/".to_owned(), ..Mount::default() };
        let (input, dest) = (Mount::NO_INPUT, OUT.to_owned());
        let out = Mount { input, dest, output: 1, ..Mount::default() };
        let mut mounts = vec![root, out, read(1, CORE)];
        mounts.extend(extra.map(|dest| read(2, dest)));
        mounts.extend(tmp.then(|| Mount {
            readonly: false,
            mount_type: Mount::TMPFS,
            tmpfs_opt: Some(TmpfsOpt::default()),
            ..read(Mount::NO_INPUT, "/tmp")
        }));
        let meta = Meta {
            args: args.clone(),
            env: variables.0,
            cwd: directory(working_dir),
            remove_mount_stubs_recursive: true,
            ..Meta::default()
        };
        let exec = ExecOp { meta, mounts, ..ExecOp::default() };
        ops.push(Op {
            inputs: if extra.is_some() { 3 } else { 2 },
            kind: Kind::Exec(exec.into()),
            platform: Some(platform.clone()),
        });
    }
    ops
}

/// An environment as built by `llb.AddEnv`: a variable that is set again moves to the end.
#[derive(Default)]
struct Variables(Vec<String>);

impl Variables {
    fn set(&mut self, variable: &str) {
        let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
        self.0.retain(|known| known.split_once('=').is_none_or(|(known, _)| known != name));
        self.0.push(format!("{name}={value}"));
    }
}

/// Returns the working directory, which `llb.Dir` resolves from the root.
fn directory(working_dir: &str) -> String {
    if working_dir.starts_with('/') { working_dir.to_owned() } else { below_root(working_dir) }
}

#[cfg(test)]
mod tests;
