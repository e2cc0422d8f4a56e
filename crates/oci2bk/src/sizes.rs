//! What a root with a cache would take, before anything is written: its blobs, and the trees of its layers.
//!
//! The layers are read, verified and counted. Nothing is unpacked, so this needs neither rights nor room.
//!
//! ```
//! use std::num::NonZeroUsize;
//! use std::sync::Arc;
//!
//! use oci2bk::sizes::{Sizer, Sizes, SizesError};
//! use oci2bk::{CacheExport, Cancel, Event, Keyring, Limits, Plan};
//!
//! let limits = Limits::default();
//! let exports = CacheExport::read_sources(&["fixtures/index/cache".parse()?], &limits)?;
//! let plan = Plan::new(&exports, &Keyring::for_exports(&exports))?;
//!
//! let cancel = Cancel::new();
//! let sizer = Sizer::new()
//!     .jobs(NonZeroUsize::MIN)
//!     .limits(limits)
//!     .progress(Arc::new(|event: Event<'_>| println!("{event:?}")))
//!     .cancel(cancel.clone());
//! let Sizes { blobs, blob_bytes, snapshots, entries, disk_bytes, .. } = sizer.measure(&plan)?;
//! assert_eq!((blobs, blob_bytes), (12, 1_069_935));
//! // What the report of a conversion says when it has unpacked them.
//! assert_eq!((snapshots, entries, disk_bytes), (13, 321, 2_215_936));
//!
//! cancel.cancel();
//! let error: SizesError = sizer.measure(&plan).unwrap_err();
//! assert!(error.is_cancelled());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;

use bkstate::Digest;
use serde::Serialize;
use serde::ser::{SerializeStruct as _, Serializer};

use crate::cancel::Cancel;
use crate::layout::BlobError;
use crate::limits::Limits;
use crate::parallel::{in_parallel, processors};
use crate::plan::{Blob, Plan};
use crate::progress::{self, Event, LayerWork, Progress, Silent, Stage, Unpacking};
use crate::unpack::{self, Allowance, Layer, MOST_AT_ONCE, Measured, Placement, UnpackError};

/// What a root with a cache takes. As JSON it is the member `sizes` of what `oci2bk inspect --sizes` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Sizes {
    /// Number of blobs, the packed layers.
    pub blobs: usize,
    /// Their size in bytes.
    pub blob_bytes: u64,
    /// Number of snapshots, the trees of unpacked layers. A blob on two different parents has two.
    pub snapshots: usize,
    /// The size of their tar streams in bytes.
    pub stream_bytes: u64,
    /// Number of entries in the archives.
    pub entries: u64,
    /// The size of the snapshots in bytes, in blocks of 4 KiB: as [`unpack::usage`] measures them.
    pub disk_bytes: u64,
    /// Number of their inodes.
    pub inodes: u64,
}

impl Serialize for Sizes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut sizes = serializer.serialize_struct("Sizes", 7)?;
        sizes.serialize_field("blob_count", &self.blobs)?;
        sizes.serialize_field("blob_size", &self.blob_bytes)?;
        sizes.serialize_field("snapshot_count", &self.snapshots)?;
        sizes.serialize_field("stream_size", &self.stream_bytes)?;
        sizes.serialize_field("entry_count", &self.entries)?;
        sizes.serialize_field("disk_size", &self.disk_bytes)?;
        sizes.serialize_field("inode_count", &self.inodes)?;
        sizes.end()
    }
}

/// Why the layers of a plan cannot be measured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SizesError {
    /// A blob cannot be read.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// A layer is not what its descriptor says, could not be unpacked, or exceeds a limit.
    #[error(transparent)]
    Layer(#[from] UnpackError),
}

impl SizesError {
    /// Returns whether the caller asked for the end.
    pub const fn is_cancelled(&self) -> bool {
        matches!(self, Self::Layer(UnpackError::Cancelled { .. }))
    }
}

/// Measures the layers of plans.
#[derive(Clone)]
pub struct Sizer {
    jobs: NonZeroUsize,
    limits: Limits,
    progress: Arc<dyn Progress>,
    cancel: Cancel,
}

impl Sizer {
    /// Returns one that works on all processors, within the default limits.
    #[must_use]
    pub fn new() -> Self {
        let (progress, cancel) = (Arc::new(Silent), Cancel::new());
        Self { jobs: processors(), limits: Limits::default(), progress, cancel }
    }

    /// Sets how many layers are read at the same time.
    #[must_use]
    pub fn jobs(mut self, jobs: NonZeroUsize) -> Self {
        self.jobs = jobs;
        self
    }

    /// Sets the limits on what the layers may cost.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Reports events of [`Stage::Layers`] to `progress`, from several threads.
    #[must_use]
    pub fn progress(mut self, progress: Arc<dyn Progress>) -> Self {
        self.progress = progress;
        self
    }

    /// Stops as soon as `cancel` requests it.
    #[must_use]
    pub fn cancel(mut self, cancel: Cancel) -> Self {
        self.cancel = cancel;
        self
    }

    /// Reads all layers of `plan`, and counts what they take. Those that a root has already count as well. A path that
    /// a layer has twice counts twice; the layers of BuildKit have none.
    ///
    /// # Errors
    /// Returns an error if a layer cannot be read, is not what its descriptor says, could not be unpacked, or exceeds
    /// a limit.
    pub fn measure(&self, plan: &Plan) -> Result<Sizes, SizesError> {
        let mut placements: BTreeMap<Digest, BTreeMap<bool, usize>> = BTreeMap::new();
        for snapshot in &plan.snapshots {
            let of_blob = placements.entry(snapshot.blob).or_default();
            *of_blob.entry(snapshot.parent.is_some()).or_default() += 1;
        }
        let mut tasks: Vec<_> = placements
            .into_iter()
            .map(|(digest, placements)| {
                let blob = &plan.blobs[&digest];
                let to_read = blob.size.saturating_mul(placements.len() as u64);
                let work = LayerWork { digest, size: blob.size, to_read, description: None };
                Task { blob, work, placements }
            })
            .collect();
        // The largest first, so that no thread is left with a large one at the end.
        tasks.sort_by_key(|task| std::cmp::Reverse(task.work.to_read));
        let finished = progress::stage(&*self.progress, Stage::Layers);
        progress::counted(&*self.progress, tasks.iter().map(|task| &task.work));
        let blob_bytes =
            plan.blobs.values().fold(0, |sum: u64, blob| sum.saturating_add(blob.size));
        let allowance = Allowance::of_run(&self.limits, blob_bytes);
        let measured = in_parallel(&tasks, self.jobs.min(MOST_AT_ONCE), |task| {
            self.progress.event(Event::LayerStarted(&task.work));
            let measured = task.measure(plan, &allowance, self)?;
            self.progress.event(Event::LayerFinished(&task.work));
            Ok::<_, SizesError>(measured)
        })?;
        finished();
        let sizes = Sizes { blobs: plan.blobs.len(), blob_bytes, ..Sizes::default() };
        Ok(measured.into_iter().fold(sizes, Sizes::with))
    }
}

impl Sizes {
    fn with(self, more: Self) -> Self {
        Self {
            snapshots: self.snapshots + more.snapshots,
            stream_bytes: self.stream_bytes.saturating_add(more.stream_bytes),
            entries: self.entries.saturating_add(more.entries),
            disk_bytes: self.disk_bytes.saturating_add(more.disk_bytes),
            inodes: self.inodes.saturating_add(more.inodes),
            ..self
        }
    }
}

/// A blob, and how many snapshots have it as their first layer (`false`) or on another one (`true`).
struct Task<'p> {
    blob: &'p Blob,
    work: LayerWork,
    placements: BTreeMap<bool, usize>,
}

impl Task<'_> {
    fn measure(
        &self,
        plan: &Plan,
        allowance: &Allowance,
        sizer: &Sizer,
    ) -> Result<Sizes, SizesError> {
        let descriptor = &self.blob.descriptor(self.work.digest);
        let mut failure = BlobError::Missing { digest: self.work.digest };
        for layout in plan.layouts_of(self.blob) {
            match layout.open_blob(descriptor) {
                Ok(blob) => return self.measure_copy(&blob, allowance, sizer),
                Err(BlobError::Missing { .. }) => {}
                Err(error) => failure = error,
            }
        }
        Err(failure.into())
    }

    fn measure_copy(
        &self,
        blob: &dyn unpack::Blob,
        allowance: &Allowance,
        sizer: &Sizer,
    ) -> Result<Sizes, SizesError> {
        let layer = Layer::of(blob, &self.work, &self.blob.media_type, self.blob.diff_id);
        let mut sizes = Sizes::default();
        for (pass, (&on_another, &snapshots)) in (0..).zip(&self.placements) {
            let placement = if on_another { Placement::Overlay } else { Placement::Base };
            let before = self.work.size.saturating_mul(pass);
            let (work, progress, cancel) = (&self.work, &*sizer.progress, &sizer.cancel);
            let watch = Unpacking { work, before, progress, cancel };
            let Measured { entries, stream, tree } =
                unpack::measure(&layer, placement, allowance, &watch)?;
            let times = |amount: u64| amount.saturating_mul(snapshots as u64);
            sizes = sizes.with(Sizes {
                snapshots,
                stream_bytes: times(stream),
                entries: times(entries),
                disk_bytes: times(u64::try_from(tree.size).unwrap_or(0)),
                inodes: times(u64::try_from(tree.inodes).unwrap_or(0)),
                ..Sizes::default()
            });
        }
        Ok(sizes)
    }
}

impl Default for Sizer {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Sizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { jobs, limits, cancel, .. } = self;
        f.debug_struct("Sizer")
            .field("jobs", jobs)
            .field("limits", limits)
            .field("cancel", cancel)
            .finish_non_exhaustive()
    }
}
