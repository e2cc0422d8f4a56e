//! Plans: the state to be written, as data.
//!
//! A plan is made from exports and a keyring without reading the target root. It can be printed, serialised,
//! and executed by [`convert`](crate::convert).
//!
//! ```
//! use oci2bk::plan::{
//!     Blob, Document, Layer, LayerIndex, Lost, LostReason, Snapshot, SnapshotIndex, Source,
//!     SourceIndex, Step, StepIndex, StepLink, StepResult,
//! };
//! use oci2bk::{BaseImage, CacheExport, Degree, Keyring, Limits, Plan, Target};
//!
//! let limits = Limits::default();
//! let exports = CacheExport::read_sources(&["fixtures/index/cache".parse()?], &limits)?;
//!
//! // Without keys, only the position of a step is known.
//! let plan = Plan::new(&exports, &Keyring::for_exports(&exports))?;
//! for Lost { digest, reason, hint, .. } in plan.unkeyed() {
//!     assert_eq!(*reason, LostReason::NoKey);
//!     println!("{digest}: {}", hint.as_deref().unwrap_or("nothing is known of it"));
//! }
//! assert!(plan.unkeyed().count() > 0);
//!
//! let mut keyring = Keyring::for_exports(&exports);
//! keyring.read("fixtures/index/keys/provenance.json", &limits)?;
//! let mut plan = Plan::for_target(&exports, &keyring, Target::NEWEST)?;
//! assert!(plan.lost.is_empty() && plan.dropped.is_empty() && plan.misses.is_empty());
//! assert!(plan.newest().is_some());
//! let [Source { records, .. }] = plan.sources.as_slice() else { panic!("one was given") };
//! assert_eq!(*records, exports[0].config.records.len());
//!
//! // All references are to earlier parts. Each list has its own index type.
//! for (index, Step { name, results, links, .. }) in plan.steps.iter().enumerate() {
//!     println!("{}", name.as_deref().unwrap_or("(no name)"));
//!     assert!(links.iter().all(|StepLink { from, .. }| *from < StepIndex(index)));
//!     for StepResult { layer, .. } in results {
//!         let layer: LayerIndex = *layer;
//!         let Layer { snapshot, blob, .. } = &plan.layers[layer];
//!         let Blob { size, source, .. } = &plan.blobs[blob];
//!         let source: SourceIndex = *source;
//!         println!("  {blob}: {size} bytes, from {}", plan.sources[source].reference);
//!         let snapshot: SnapshotIndex = *snapshot;
//!         let Snapshot { parent, .. } = &plan.snapshots[snapshot];
//!         assert!(parent.is_none_or(|parent| parent < snapshot));
//!     }
//! }
//!
//! // The documents to resolve a `FROM` are added if a step uses them. These steps have no inputs.
//! plan.add_images_of(&exports)?;
//! let images = BaseImage::read(&"debian=fixtures/manifest/keys/image".parse()?, &limits)?;
//! assert_eq!(plan.add_images(&images).len(), 1);
//! assert_eq!(plan.documents.values().map(|Document { size, .. }| size).sum::<u64>(), 0);
//!
//! // A complete image adds its layers, and is then used.
//! assert_eq!(plan.degree(), Some(Degree::Steps));
//! plan.add_layers(&images[0].whole(&"linux/amd64".parse()?)?)?;
//! assert!(plan.add_images(&images).is_empty() && !plan.documents.is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What will be missing
//!
//! What makes the state less than the caches is known before anything is written, so that the caller can
//! decide whether that is acceptable:
//!
//! ```
//! use oci2bk::plan::{ParseRequirementError, Requirement, Shortfall, ShortfallKind};
//! use oci2bk::{CacheExport, Keyring, Limits, Plan};
//!
//! let limits = Limits::default();
//! let exports = CacheExport::read_sources(&["fixtures/index/cache".parse()?], &limits)?;
//! let mut keyring = Keyring::for_exports(&exports);
//! let mut plan = Plan::new(&exports, &keyring)?;
//! assert!(!plan.is_complete());
//! for Shortfall { kind, name, inputs, size, .. } in plan.shortfalls() {
//!     let name = name.unwrap_or_else(|| format!("a step after {}", inputs.join(" and ")));
//!     println!("{}: {name}, {size} bytes", kind.name());
//! }
//!
//! // A caller can ask for less than all. Without keys, hardly any step can be found.
//! assert!(plan.unmet(Requirement::Layers).is_empty());
//! let half: Requirement = "50%".parse()?;
//! assert!(!plan.unmet(half).is_empty());
//! let wrong: ParseRequirementError = "some".parse::<Requirement>().unwrap_err();
//! assert_eq!(wrong.0, "some");
//!
//! // Layers of steps without keys only help builds that import the cache.
//! let is_unused = |it: &Shortfall| it.kind == ShortfallKind::UnusedLayer;
//! let dropped = plan.drop_unused_layers();
//! assert!(!dropped.is_empty() && !plan.shortfalls().iter().any(is_unused));
//! plan.check()?;
//!
//! keyring.read("fixtures/index/keys/provenance.json", &limits)?;
//! assert!(Plan::new(&exports, &keyring)?.is_complete());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Some steps a daemon may find or not:
//!
//! ```
//! use oci2bk::plan::{Dropped, Miss, MissReason};
//! use oci2bk::{CacheExport, Keyring, Limits, Plan};
//!
//! let limits = Limits::default();
//! let exports = CacheExport::read_sources(&["fixtures/index/cache".parse()?], &limits)?;
//! let mut keyring = Keyring::for_exports(&exports);
//! keyring.read("fixtures/index/keys/provenance.json", &limits)?;
//!
//! // Copied files are found by their hash. Older releases hash links differently.
//! let plan = Plan::for_target(&exports, &keyring, "v0.13.2".parse()?)?;
//! let may_run_again = |miss: &Miss| miss.reason == MissReason::Links && !miss.certain;
//! assert!(plan.misses.iter().any(may_run_again));
//! for Dropped { record, missing, .. } in &plan.dropped {
//!     panic!("{record} needs {missing}, and the copy of the cache is whole");
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod bases;
mod error;
mod images;
mod layers;
mod named;
mod pulled;
mod requirement;
mod shortfall;
mod sound;
mod steps;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod translate;
mod unused;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bkstate::ids::{KeyId, RecordId, WorkerId};
use bkstate::solver::Link;
use bkstate::{Digest, Time};
use llb::release::{Releases, Target};
use serde::Serialize;
use typed_index_collections::TiVec;

use crate::degree::Degree;
use crate::export::{CacheExport, own_first};
use crate::image::Repository;
use crate::index::index;
use crate::keys::Keyring;
use crate::layout::{Descriptor, Layout};
use crate::manifest::Style;

pub use error::PlanError;
pub(crate) use layers::LABEL_ANNOTATION;
use layers::Layers;
pub use named::NamedImage;
pub use requirement::{ParseRequirementError, Requirement};
pub use shortfall::{Shortfall, ShortfallKind};
pub use sound::BrokenPlan;
use steps::Steps;
use translate::Translation;

/// The state to be written.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Plan {
    /// The daemon that will use the state.
    #[serde(rename = "buildkit")]
    pub target: Target,
    /// The worker id of the new state.
    pub worker_id: WorkerId,
    /// The exports, in the given order.
    pub sources: Vec<Source>,
    /// The blobs for the content store.
    pub blobs: BTreeMap<Digest, Blob>,
    /// The documents of base images for the content store.
    pub documents: BTreeMap<Digest, Document>,
    /// The images for the image store of a containerd, by their names, such as `docker.io/library/debian:12`.
    #[serde(skip)]
    pub images: BTreeMap<String, NamedImage>,
    /// The snapshots, each after the one below it. The id of a snapshot is its index plus one.
    pub snapshots: Vec<Snapshot>,
    /// The layer records, each after the one below it.
    pub layers: Vec<Layer>,
    /// The solver's keys, each after the keys that link to it.
    pub steps: Vec<Step>,
    /// The records of the exports that cannot become steps.
    pub lost: Vec<Lost>,
    /// The results for which a partial copy of a cache lacks layers.
    pub dropped: Vec<Dropped>,
    /// The steps that the target will not find, or may not.
    pub misses: Vec<Miss>,
}

index! {
    /// The index of a [`Source`] in [`Plan::sources`].
    pub struct SourceIndex of Source;
}

index! {
    /// The index of a [`Snapshot`] in [`Plan::snapshots`].
    pub struct SnapshotIndex of Snapshot;
}

index! {
    /// The index of a [`Layer`] in [`Plan::layers`].
    pub struct LayerIndex of Layer;
}

index! {
    /// The index of a [`Step`] in [`Plan::steps`].
    pub struct StepIndex of Step;
}

/// An export that the plan is made from.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Source {
    /// The user's argument.
    pub reference: String,
    /// The digest of its cache manifest.
    pub manifest: Digest,
    /// The form of the manifest.
    pub style: Style,
    /// Number of its records.
    #[serde(rename = "step_count")]
    pub records: usize,
    /// The releases of BuildKit that match the names of its steps and the key sources; `None` if no key
    /// source has the ops, or if they contradict each other, as after an upgrade of the builder.
    #[serde(rename = "exporter_releases")]
    pub exporter: Option<Releases>,
    /// Whether any of its keys differ from the exporter's.
    pub translated: bool,
    /// The layout with its blobs.
    #[serde(skip)]
    pub layout: Arc<Layout>,
}

/// A layer blob.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Blob {
    /// The first source that names it, whose layout is tried first.
    pub source: SourceIndex,
    /// Size in bytes.
    pub size: u64,
    /// Media type, which includes the compression. If sources have several for the blob, it is the OCI one.
    pub media_type: String,
    /// Digest of the uncompressed layer.
    pub diff_id: Digest,
    /// The creation time of the layer.
    pub created_at: Option<Time>,
    /// Annotations that the daemon keeps with the blob, such as the table of contents of eStargz; those on
    /// which all sources with the blob agree.
    pub annotations: BTreeMap<String, String>,
}

/// An index, manifest or config of a base image.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Document {
    /// Size in bytes.
    pub size: u64,
    /// The repositories that have it.
    pub repositories: BTreeSet<Repository>,
    /// The layers that keep it.
    pub layers: BTreeSet<LayerIndex>,
    /// The labels with which it keeps the parts of a named image.
    #[serde(skip)]
    pub references: BTreeMap<String, Digest>,
    /// Its bytes.
    #[serde(skip)]
    pub content: Arc<[u8]>,
}

/// A layer on disk, one per chainID.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Snapshot {
    /// The chainID, from which the key of the snapshot is made.
    pub chain_id: Digest,
    /// The blob with its files.
    pub blob: Digest,
    /// The snapshot below.
    pub parent: Option<SnapshotIndex>,
}

/// A cache record of a layer, one per chain of blobs.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Layer {
    /// The id of the record.
    pub record: RecordId,
    /// The chain of pairs of blob and diffID up to this layer, by which image pulls find it.
    pub blob_chain_id: Digest,
    /// Its blob.
    pub blob: Digest,
    /// Its snapshot.
    pub snapshot: SnapshotIndex,
    /// The layer below.
    pub parent: Option<LayerIndex>,
    /// Its creation time.
    pub created_at: Option<Time>,
    /// The description for `buildctl du --verbose`: from the export, or the step.
    pub description: Option<String>,
    /// Its image, if an image brought it.
    pub image: Option<String>,
}

/// A key of the solver.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Step {
    /// The id of the key.
    pub key: KeyId,
    /// The step as the user wrote it, if a key source has it.
    pub name: Option<String>,
    /// The layers of its results, including inferred results that the export omits.
    pub results: Vec<StepResult>,
    /// The edges to it.
    pub links: Vec<StepLink>,
}

/// A result of a step.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct StepResult {
    /// Its topmost layer.
    pub layer: LayerIndex,
    /// When the step ran. For an inferred result, when its layer was created.
    pub created_at: Option<Time>,
}

/// An edge to a step.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct StepLink {
    /// The source step.
    pub from: StepIndex,
    /// The edge itself.
    pub link: Link,
}

/// A record that cannot become a step.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Lost {
    /// The source.
    pub source: SourceIndex,
    /// The digest of the record in the export.
    pub digest: Digest,
    /// The reason.
    pub reason: LostReason,
    /// A description: of its layer, or its inputs; for an SBOM scan, the name of the scanner's image.
    pub hint: Option<String>,
    /// The step as the user wrote it, or the description of its layer, if anything knows it.
    pub name: Option<String>,
    /// The names of the steps that it builds on, as far as they are known.
    pub inputs: Vec<String>,
    /// The size of its layer, in bytes of its blob; 0 if the cache has none.
    pub size: u64,
}

/// Why a record cannot become a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum LostReason {
    /// No key source has its op digest.
    NoKey,
    /// Its op digest is known, but one of its inputs is lost in every alternative.
    LostInput,
    /// Its op digest is known, but does not include what the mounts of the step select, and the selection in
    /// the key source differs from the one in the cache.
    Unproven,
    /// It is the scan of a build with an SBOM, whose op no key source has. It follows from the image of
    /// the scanner, see [`Keyring::add_scanners`].
    SbomScan,
}

/// A result for which a partial copy of a cache lacks a layer.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Dropped {
    /// The source.
    pub source: SourceIndex,
    /// The digest of the record in the export.
    #[serde(rename = "digest")]
    pub record: Digest,
    /// The step, if known.
    pub name: Option<String>,
    /// The lowest missing layer.
    #[serde(rename = "missing_blob")]
    pub missing: Digest,
    /// The names of the steps that it builds on, as far as they are known.
    pub inputs: Vec<String>,
    /// The size of the missing layer, in bytes of its blob; 0 if the cache does not describe it.
    pub size: u64,
}

/// A step that the target will not find, or may not, because it has another name in the release that exported
/// it.
#[derive(Debug, Clone, Serialize)]
pub struct Miss {
    /// The source.
    pub source: SourceIndex,
    /// The digest of the record in the export.
    #[serde(rename = "digest")]
    pub record: Digest,
    /// The step, if known.
    pub name: Option<String>,
    /// The reason.
    pub reason: MissReason,
    /// Whether it will not be found with any build context and any possible release of the exporter.
    pub certain: bool,
    /// If it depends on the release of the exporter, those with which it may not be found.
    #[serde(rename = "exporter_releases")]
    pub exporter: Option<Releases>,
    /// The names of the steps that it builds on, as far as they are known.
    pub inputs: Vec<String>,
    /// The size of its layer, in bytes of its blob; 0 if the cache has none.
    pub size: u64,
}

/// Why the target may not find a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum MissReason {
    /// It is found by a hash of content. If that is a directory with symbolic links in it, the target
    /// computes another hash.
    Links,
    /// It is found by a hash of pattern matches in the build context, which the target computes differently.
    Patterns,
    /// The op digest comes from the `cache.db` of a builder or a keys file, which do not have the op
    /// itself, so it is not translated.
    NoOp,
}

impl Plan {
    /// Plans the conversion of `exports` with the keys of `keyring`, for a daemon of the newest known
    /// release.
    ///
    /// Common parts of several exports are planned once.
    ///
    /// # Errors
    /// See [`PlanError`].
    pub fn new(exports: &[CacheExport], keyring: &Keyring) -> Result<Self, PlanError> {
        Self::for_target(exports, keyring, Target::NEWEST)
    }

    /// Plans the conversion for a daemon of the given release.
    ///
    /// # Errors
    /// See [`PlanError`].
    pub fn for_target(
        exports: &[CacheExport],
        keyring: &Keyring,
        target: Target,
    ) -> Result<Self, PlanError> {
        exports.iter().try_for_each(PlanError::of_sparse)?;
        Self::of_any(exports, keyring, target)
    }

    /// Same as [`for_target`](Self::for_target), but also accepts exports without any of their layers, for
    /// inspection.
    pub(crate) fn of_any(
        exports: &[CacheExport],
        keyring: &Keyring,
        target: Target,
    ) -> Result<Self, PlanError> {
        let mut layers = Layers::default();
        let mut steps = Steps::default();
        let mut dropped = Vec::new();
        let mut sources: TiVec<SourceIndex, Source> = TiVec::with_capacity(exports.len());
        let mut misses = Vec::new();
        for export in exports {
            let translation = Translation::new(export, keyring, target);
            let source = sources.push_and_get_key(Source::of(export, &translation));
            let tops = layers.add(source, export).map_err(|it| PlanError::of(&sources.raw, &it))?;
            let fates = steps.add(source, export, &translation, &tops, &mut layers);
            let records = &export.config.records;
            misses.extend(translation.misses(source).map(|(index, miss)| Miss {
                inputs: steps.inputs(&records[index], &fates),
                size: layers.size(&tops[index]),
                ..miss
            }));
            let described = &export.manifest.layers;
            dropped.extend(export.config.dropped.iter().map(|result| Dropped {
                source,
                record: result.digest,
                name: keyring.get(&result.digest).and_then(|key| key.name.clone()),
                missing: result.missing,
                inputs: steps.inputs(&records[result.record], &fates),
                size: described.get(&result.missing).map_or(0, |blob| blob.descriptor.size),
            }));
        }
        layers.date();
        bases::infer(&mut steps.steps, &steps.bases, &layers.layers);
        let manifests: Vec<_> =
            exports.iter().map(|export| export.manifest.digest.to_string()).collect();
        Ok(Self {
            target,
            worker_id: WorkerId::derive(&manifests.join(" ")),
            sources: sources.into(),
            blobs: layers.blobs,
            documents: BTreeMap::new(),
            images: BTreeMap::new(),
            snapshots: layers.snapshots.into(),
            layers: layers.layers.into(),
            steps: steps.steps.into(),
            lost: steps.lost,
            dropped,
            misses,
        })
    }

    /// Returns the records for which no key source has the key, except SBOM scans.
    pub fn unkeyed(&self) -> impl Iterator<Item = &Lost> {
        let without = [LostReason::NoKey, LostReason::Unproven];
        self.lost.iter().filter(move |lost| without.contains(&lost.reason))
    }

    /// Returns how warm the plan alone makes a root; `None` if it is empty.
    pub fn degree(&self) -> Option<Degree> {
        let has_links = self.steps.iter().any(|step| !step.links.is_empty());
        Degree::of(has_links, || !self.layers.is_empty())
    }

    /// Returns the layouts that may have a blob, that of its source first.
    pub(crate) fn layouts_of(&self, blob: &Blob) -> Vec<&Layout> {
        let own = self.sources.get(blob.source.0);
        let layouts = own.into_iter().chain(&self.sources).map(|source| &*source.layout);
        own_first(layouts)
    }

    /// Returns the time of the newest part of the plan.
    pub fn newest(&self) -> Option<Time> {
        let layers = self.layers.iter().map(|layer| layer.created_at);
        let results = self.steps.iter().flat_map(|step| &step.results);
        layers.chain(results.map(|result| result.created_at)).flatten().max()
    }
}

impl Blob {
    /// Returns the descriptor of the blob `digest` in a layout.
    pub(crate) fn descriptor(&self, digest: Digest) -> Descriptor {
        Descriptor {
            media_type: self.media_type.clone(),
            digest,
            size: self.size,
            annotations: BTreeMap::new(),
            platform: None,
            artifact_type: None,
        }
    }
}

impl Source {
    fn of(export: &CacheExport, translation: &Translation<'_>) -> Self {
        Self {
            reference: export.source.to_string(),
            manifest: export.manifest.digest,
            style: export.manifest.style,
            records: export.config.records.len(),
            exporter: translation.exporter(),
            translated: translation.is_translated(),
            layout: Arc::clone(&export.layout),
        }
    }
}
