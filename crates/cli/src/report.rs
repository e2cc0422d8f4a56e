//! Reports as data: the content of `--metadata-file` and of `--format json`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use bkstate::Digest;
use bkstate::ids::WorkerId;
use bkstate::worker::Owners;
use oci2bk::Degree;
use oci2bk::convert::{self, LeftPacked, Shares};
use oci2bk::gc::Collection;
use oci2bk::keys::{Keyring, SourceSummary};
use oci2bk::layout::BadCopy;
use oci2bk::plan::{
    Dropped, Lost, LostReason, Miss, NamedImage, Plan, ShortfallKind, Source, SourceIndex,
};
use oci2bk::release::Target;
use oci2bk::text::{self, one_line};
use serde::Serialize;

use crate::daemon::DaemonRoot;
use crate::mounts::ImportReport;
use crate::sparse::Written;

/// The duration of each stage, in seconds.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(transparent)]
pub(crate) struct Timings {
    seconds: BTreeMap<&'static str, f64>,
}

impl Timings {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn add(&mut self, stage: &'static str, elapsed: Duration) {
        self.seconds.insert(stage, (elapsed.as_secs_f64() * 1000.0).round() / 1000.0);
    }

    pub(crate) fn extend(&mut self, stages: impl IntoIterator<Item = (&'static str, Duration)>) {
        for (stage, elapsed) in stages {
            self.add(stage, elapsed);
        }
    }

    pub(crate) fn total(&self) -> f64 {
        self.seconds.values().sum()
    }
}

/// Where the state is, or will be.
#[derive(Debug, Serialize)]
pub(crate) struct Destination {
    pub(crate) root: PathBuf,
    /// The containerd with the layers; `None` if they are in the root.
    pub(crate) containerd: Option<Containerd>,
    /// The map of the owners of a rootless daemon, if one was given.
    pub(crate) owner_map: Option<String>,
    /// The program from which the release of BuildKit in Docker Engine is known.
    pub(crate) dockerd: Option<PathBuf>,
    /// The images that have a name in the image store of the containerd.
    pub(crate) images: BTreeMap<String, NamedImage>,
}

/// A containerd, as a builder uses it.
#[derive(Debug, Serialize)]
pub(crate) struct Containerd {
    pub(crate) root: PathBuf,
    pub(crate) namespace: String,
}

impl Destination {
    /// Returns the destination of `plan` for `daemon`. The release is that of `dockerd` unless it was `given`.
    pub(crate) fn new(plan: &Plan, daemon: &DaemonRoot, given: bool) -> Self {
        let DaemonRoot { location, dockerd, .. } = daemon;
        let worker = location.worker();
        let containerd = location.containerd().map(|root| Containerd {
            root: root.to_owned(),
            namespace: worker.namespace().to_owned(),
        });
        let images = plan.images.iter().filter(|_| worker.has_images());
        let dockerd = dockerd.as_ref().filter(|_| !given);
        Self {
            root: location.root().to_owned(),
            containerd,
            owner_map: match worker.owners() {
                Owners::Mapped(map) => Some(map.to_string()),
                _ => None,
            },
            dockerd: dockerd.map(|dockerd| dockerd.path.clone()),
            images: images.map(|(name, image)| (name.clone(), image.clone())).collect(),
        }
    }

    /// Says it in lines, if it is more than a root.
    pub(crate) fn lines(&self, target: Target) -> Vec<String> {
        let containerd = self.containerd.iter().map(|Containerd { root, namespace }| {
            format!("layers in the namespace {namespace} of the containerd in {}", text::path(root))
        });
        let owners = self.owner_map.iter().map(|map| format!("owners of the map {map}"));
        let dockerd = self.dockerd.iter().map(|program| {
            format!("for BuildKit {target}, which {} contains", text::path(program))
        });
        let images = self.images.keys().map(|name| format!("the image {}", one_line(name)));
        containerd.chain(owners).chain(dockerd).chain(images).collect()
    }
}

/// The result of a conversion.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    #[serde(flatten)]
    pub(crate) destination: Destination,
    pub(crate) worker_id: WorkerId,
    pub(crate) buildkit: Target,
    /// The warmth of a root with the caches; `None` if they have no layers.
    pub(crate) warmth: Option<Degree>,
    /// The `--cache-from` value for each cache that BuildKit can read in its current place.
    pub(crate) cache_from: Vec<String>,
    /// `None` if not requested.
    pub(crate) sparse_layout: Option<Written>,
    /// The cache mounts that were imported, for each cache that has some; empty if not requested.
    pub(crate) mounts: Vec<ImportReport>,
    pub(crate) sources: Vec<Source>,
    pub(crate) key_sources: Vec<KeySource>,
    pub(crate) step_counts: StepCounts,
    /// Whether the state is all that the caches have.
    pub(crate) complete: bool,
    pub(crate) lost: Vec<Lost>,
    pub(crate) dropped: Vec<Dropped>,
    pub(crate) misses: Vec<Miss>,
    /// Layers of the caches.
    pub(crate) layer_count: usize,
    pub(crate) stored: Stored,
    /// Blobs of the root that were damaged and replaced.
    pub(crate) replaced_blobs: BTreeSet<Digest>,
    /// Layers that a daemon before v0.33.1 unpacked and that match the cache, so that newer daemons share
    /// them now.
    pub(crate) mended_layer_count: usize,
    /// The chainIDs of such layers that differ from the cache.
    pub(crate) different_layers: BTreeSet<Digest>,
    /// Layers with trailing bytes after their gzip streams, which were ignored.
    pub(crate) trailing_data: Vec<TrailingData>,
    /// Copies of layers that were skipped, because another one was good.
    pub(crate) bad_copies: BTreeSet<BadCopy>,
    /// Hard-linked blobs that another process may have open for writing: the kernel does not tell.
    pub(crate) unleased_blobs: BTreeSet<Digest>,
    /// Layers that stay packed, because they cannot be unpacked and no step needs their files.
    pub(crate) left_packed: Vec<LeftPacked>,
    /// What the root had before, and what is new.
    pub(crate) shares: Shares,
    /// `None` if the limits of the target are not known.
    pub(crate) gc: Option<Collection>,
    #[serde(rename = "stage_seconds")]
    pub(crate) timings: Timings,
}

/// The state of a signature: there is no key to check it, and op digests need no trust.
const NOT_CHECKED: &str = "not-checked";

/// A key source and its contribution.
#[derive(Debug, Serialize)]
pub(crate) struct KeySource {
    pub(crate) description: String,
    /// Number of op digests it offered.
    pub(crate) candidate_count: usize,
    /// Records that it resolved and no earlier source did.
    pub(crate) resolved_count: usize,
    /// Whether it was found inside a cache or beside it, and not named by the user.
    pub(crate) found: bool,
    /// The state of its signature, if it has one.
    pub(crate) signature: Option<&'static str>,
}

/// Counts of the exports' records, which are steps.
#[derive(Debug, Serialize)]
pub(crate) struct StepCounts {
    /// In all exports; duplicates count once.
    pub(crate) total: usize,
    /// Converted to keys of the solver.
    pub(crate) converted: usize,
    /// Without an op digest.
    pub(crate) unkeyed: usize,
    /// With results.
    pub(crate) with_results: usize,
}

/// Additions to the root: counts, and sizes in bytes.
#[derive(Debug, Serialize)]
pub(crate) struct Stored {
    pub(crate) snapshot_count: usize,
    pub(crate) blob_count: usize,
    pub(crate) blob_size: u64,
    /// Total of the uncompressed layers.
    pub(crate) unpacked_size: u64,
    pub(crate) disk_size: u64,
    /// Total of the layers' archives.
    pub(crate) entry_count: u64,
    /// Devices among them, which a rootless daemon leaves out.
    pub(crate) left_out_count: u64,
}

/// Trailing bytes after the gzip stream of a layer.
#[derive(Debug, Serialize)]
pub(crate) struct TrailingData {
    blob: Digest,
    size: u64,
}

impl Report {
    pub(crate) fn new(
        destination: Destination,
        plan: &Plan,
        keyring: &Keyring,
        done: &convert::Report,
        gc: Option<Collection>,
        timings: Timings,
    ) -> Self {
        let trailing = done.trailing.iter();
        Self {
            destination,
            worker_id: done.worker_id.clone(),
            buildkit: plan.target,
            warmth: plan.degree(),
            cache_from: Vec::new(),
            sparse_layout: None,
            mounts: Vec::new(),
            sources: plan.sources.clone(),
            key_sources: key_sources(keyring.sources()),
            step_counts: StepCounts {
                total: plan.steps.len() + different(&plan.lost),
                converted: plan.steps.len(),
                unkeyed: plan.unkeyed().count(),
                with_results: plan.steps.iter().filter(|step| !step.results.is_empty()).count(),
            },
            complete: plan.is_complete(),
            lost: plan.lost.clone(),
            dropped: plan.dropped.clone(),
            misses: plan.misses.clone(),
            layer_count: plan.layers.len(),
            stored: Stored {
                snapshot_count: done.snapshots,
                blob_count: done.blobs,
                blob_size: done.blob_bytes,
                unpacked_size: done.unpacked_bytes,
                disk_size: done.disk_bytes,
                entry_count: done.entries,
                left_out_count: done.left_out,
            },
            replaced_blobs: done.mended.clone(),
            mended_layer_count: done.legacy.mended.len(),
            different_layers: done.legacy.different.clone(),
            trailing_data: trailing.map(|(&blob, &size)| TrailingData { blob, size }).collect(),
            bad_copies: done.bad_copies.clone(),
            unleased_blobs: done.unleased.clone(),
            left_packed: done.left_packed.clone(),
            shares: done.shares,
            gc,
            timings,
        }
    }
}

pub(crate) fn key_sources(sources: &[SourceSummary]) -> Vec<KeySource> {
    sources
        .iter()
        .map(|summary| KeySource {
            description: summary.description.to_string(),
            candidate_count: summary.candidates,
            resolved_count: summary.resolved,
            found: summary.found,
            signature: summary.signed.then_some(NOT_CHECKED),
        })
        .collect()
}

/// Returns the number of different records: for each digest, the highest count in any source.
fn different(lost: &[Lost]) -> usize {
    let mut of_source: BTreeMap<(Digest, SourceIndex), usize> = BTreeMap::new();
    for record in lost {
        *of_source.entry((record.digest, record.source)).or_default() += 1;
    }
    let mut most: BTreeMap<Digest, usize> = BTreeMap::new();
    for ((digest, _), count) in of_source {
        let known = most.entry(digest).or_default();
        *known = count.max(*known);
    }
    most.values().sum()
}

/// Returns what a shortfall is, in a few words.
pub(crate) fn why(kind: ShortfallKind) -> &'static str {
    match kind {
        ShortfallKind::NoKey => "no key",
        ShortfallKind::Unproven => "no proven key",
        ShortfallKind::LostInput => "no key below",
        ShortfallKind::SbomScan => "SBOM scan",
        ShortfallKind::MissingLayer => "a layer is missing",
        ShortfallKind::NotFound => "this release of BuildKit looks for another key",
        ShortfallKind::UnusedLayer => "no step leads to the layer",
        other => other.name(),
    }
}

/// Returns the number of records of `plan` that are lost for `reason`.
pub(crate) fn lost_for(plan: &Plan, reason: LostReason) -> usize {
    plan.lost.iter().filter(|lost| lost.reason == reason).count()
}
