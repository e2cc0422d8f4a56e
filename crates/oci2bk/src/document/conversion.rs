//! The documents about a conversion: before it, and after it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bkstate::Digest;
use bkstate::root::Location;
use bkstate::worker::Owners;
use llb::release::Target;
use serde::Serialize;
use serde::ser::Serializer;

use super::MountsImport;
use crate::convert::{self, Shares};
use crate::degree::Degree;
use crate::gc::Collection;
use crate::keys::SourceSummary;
use crate::plan::{Dropped, Lost, Miss, NamedImage, Plan, Source, SourceIndex};
use crate::prepare::Prepared;
use crate::sparse::Sparse;

/// Where a state is, or will be.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Destination {
    /// The root. That of the [report](convert::Report::root) takes its place in a [`Conversion`].
    pub root: PathBuf,
    /// The containerd with the layers; `None` if they are in the root.
    pub containerd: Option<Containerd>,
    /// The map of the owners of a rootless daemon, if one was given.
    pub owner_map: Option<String>,
    /// The program from which the release of BuildKit in Docker Engine is known, if it is.
    pub dockerd: Option<PathBuf>,
    /// The images that have a name in the image store of the containerd.
    pub images: BTreeMap<String, NamedImage>,
}

/// A containerd, as a builder uses it.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Containerd {
    /// Its root.
    pub root: PathBuf,
    /// The namespace of the builder.
    pub namespace: String,
}

impl Destination {
    /// Returns the destination of `plan` in `location`.
    pub fn new(plan: &Plan, location: &Location) -> Self {
        let worker = location.worker();
        let containerd = location.containerd().map(|root| Containerd {
            root: root.to_owned(),
            namespace: worker.namespace().to_owned(),
        });
        let images = plan.images.iter().filter(|_| worker.has_images());
        Self {
            root: location.root().to_owned(),
            containerd,
            owner_map: match worker.owners() {
                Owners::Mapped(map) => Some(map.to_string()),
                _ => None,
            },
            dockerd: None,
            images: images.map(|(name, image)| (name.clone(), image.clone())).collect(),
        }
    }
}

/// What a conversion would write, `plan.json`.
#[derive(Debug)]
#[non_exhaustive]
pub struct Preview<'a> {
    /// What was prepared.
    pub prepared: &'a Prepared,
    /// Where the state will be.
    pub destination: &'a Destination,
    /// What of the plan the root has already, and what would be new.
    pub shares: Shares,
}

impl<'a> Preview<'a> {
    /// Joins them.
    pub fn new(prepared: &'a Prepared, destination: &'a Destination, shares: Shares) -> Self {
        Self { prepared, destination, shares }
    }
}

#[derive(Serialize)]
struct PlanDocument<'a> {
    #[serde(flatten)]
    plan: &'a Plan,
    #[serde(flatten)]
    destination: &'a Destination,
    complete: bool,
    warmth: Option<Degree>,
    key_sources: &'a [SourceSummary],
    shares: Shares,
}

impl Serialize for Preview<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Prepared { plan, keyring, .. } = self.prepared;
        let document = PlanDocument {
            plan,
            destination: self.destination,
            complete: plan.is_complete(),
            warmth: plan.degree(),
            key_sources: keyring.sources(),
            shares: self.shares,
        };
        document.serialize(serializer)
    }
}

/// A conversion and its result, `convert.json`.
#[derive(Debug)]
#[non_exhaustive]
pub struct Conversion<'a> {
    /// What was prepared.
    pub prepared: &'a Prepared,
    /// Where the state is.
    pub destination: Destination,
    /// What was done.
    pub report: &'a convert::Report,
    /// The `--cache-from` value for each cache that BuildKit can read: at first in its place, if that is a
    /// directory.
    pub cache_from: Vec<String>,
    /// The index of the caches, if it was written.
    pub sparse_layout: Option<Sparse>,
    /// The cache mounts that were imported, for each cache that has some.
    pub mounts: Vec<MountsImport>,
    /// What the daemon's garbage collection takes of the state, if that is known.
    pub gc: Option<Collection>,
    /// How long each stage took, by its [name](crate::progress::Stage::name).
    pub stage_seconds: BTreeMap<&'static str, f64>,
}

impl<'a> Conversion<'a> {
    /// Joins them. The rest is empty.
    pub fn new(
        prepared: &'a Prepared,
        destination: Destination,
        report: &'a convert::Report,
    ) -> Self {
        let readable = prepared.exports.iter().filter(|export| export.layout.is_directory());
        let mut cache_from: Vec<_> = readable.map(|export| export.source.attributes()).collect();
        // The platforms of an image are one cache.
        cache_from.dedup();
        Self {
            prepared,
            destination: Destination { root: report.root.clone(), ..destination },
            report,
            cache_from,
            sparse_layout: None,
            mounts: Vec::new(),
            gc: None,
            stage_seconds: BTreeMap::new(),
        }
    }
}

/// Numbers of records of caches, which are steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct StepCounts {
    /// Of all caches; duplicates count once.
    pub total: usize,
    /// Those that are keys of the solver now.
    pub converted: usize,
    /// Those without an op digest.
    pub unkeyed: usize,
    /// Those with results.
    pub with_results: usize,
}

impl StepCounts {
    /// Counts the steps of `plan`.
    pub fn of(plan: &Plan) -> Self {
        Self {
            total: plan.steps.len() + different(&plan.lost),
            converted: plan.steps.len(),
            unkeyed: plan.unkeyed().count(),
            with_results: plan.steps.iter().filter(|step| !step.results.is_empty()).count(),
        }
    }
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

/// The destination and the report both have the root, and it is the same.
#[derive(Serialize)]
struct ConversionDocument<'a> {
    #[serde(flatten)]
    report: &'a convert::Report,
    containerd: Option<&'a Containerd>,
    owner_map: Option<&'a str>,
    dockerd: Option<&'a PathBuf>,
    images: &'a BTreeMap<String, NamedImage>,
    buildkit: Target,
    warmth: Option<Degree>,
    cache_from: &'a [String],
    sparse_layout: Option<&'a Sparse>,
    mounts: &'a [MountsImport],
    sources: &'a [Source],
    key_sources: &'a [SourceSummary],
    step_counts: StepCounts,
    complete: bool,
    lost: &'a [Lost],
    dropped: &'a [Dropped],
    misses: &'a [Miss],
    layer_count: usize,
    gc: Option<&'a Collection>,
    stage_seconds: &'a BTreeMap<&'static str, f64>,
}

impl Serialize for Conversion<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Prepared { plan, keyring, .. } = self.prepared;
        let Destination { containerd, owner_map, dockerd, images, .. } = &self.destination;
        let document = ConversionDocument {
            report: self.report,
            containerd: containerd.as_ref(),
            owner_map: owner_map.as_deref(),
            dockerd: dockerd.as_ref(),
            images,
            buildkit: plan.target,
            warmth: plan.degree(),
            cache_from: &self.cache_from,
            sparse_layout: self.sparse_layout.as_ref(),
            mounts: &self.mounts,
            sources: &plan.sources,
            key_sources: keyring.sources(),
            step_counts: StepCounts::of(plan),
            complete: plan.is_complete(),
            lost: &plan.lost,
            dropped: &plan.dropped,
            misses: &plan.misses,
            layer_count: plan.layers.len(),
            gc: self.gc.as_ref(),
            stage_seconds: &self.stage_seconds,
        };
        document.serialize(serializer)
    }
}
