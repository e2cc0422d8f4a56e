//! Executes plans with the caller's settings.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;

use bkstate::Time;
use bkstate::root::Location;

use super::{ConvertError, Options, Report, Run, Shares, StoreBlobs, convert, preview};
use crate::cancel::Cancel;
use crate::limits::Limits;
use crate::parallel::processors;
use crate::plan::Plan;
use crate::progress::{Progress, Silent};

/// Executes plans.
///
/// A converter is configured once and executes any number of plans. Here the first conversion stores all
/// blobs, and the second one finds everything and writes nothing.
///
/// ```
/// use std::num::NonZeroUsize;
/// use std::sync::Arc;
///
/// use oci2bk::convert::StoreBlobs;
/// use oci2bk::{CacheExport, Cancel, Converter, Event, Keyring, Limits, Plan};
///
/// let limits = Limits::default();
/// let exports = CacheExport::read_sources(&["fixtures/min/cache".parse()?], &limits)?;
/// let mut keyring = Keyring::for_exports(&exports);
/// keyring.read("fixtures/min/keys/metadata.json", &limits)?;
/// let plan = Plan::new(&exports, &keyring)?;
///
/// let cancel = Cancel::new();
/// let show = |event: Event<'_>| println!("{event:?}");
/// let converter = Converter::new()
///     .extract(false)
///     .blobs(StoreBlobs::Copy)
///     .trust_blobs(true)
///     .last_used(plan.newest())
///     .jobs(NonZeroUsize::MIN)
///     .limits(limits)
///     .progress(Arc::new(show))
///     .cancel(cancel.clone());
///
/// let root = tempfile::tempdir()?;
/// let will_be = converter.preview(&plan, &root)?;
/// assert_eq!((will_be.blobs.existing, will_be.blobs.added), (0, plan.blobs.len()));
///
/// let report = converter.convert(&plan, &root)?;
/// assert_eq!(report.shares, will_be);
/// let again = converter.convert(&plan, &root)?;
/// assert_eq!((again.blobs, again.shares.blobs.existing), (0, plan.blobs.len()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Converter {
    options: Options,
    progress: Arc<dyn Progress>,
    cancel: Cancel,
}

impl Converter {
    /// Creates a converter that unpacks, with one job per processor, within the default limits.
    pub fn new() -> Self {
        let options = Options {
            extract: true,
            jobs: processors(),
            blobs: StoreBlobs::default(),
            trust_blobs: false,
            last_used: None,
            limits: Limits::default(),
        };
        Self { options, progress: Arc::new(Silent), cancel: Cancel::new() }
    }

    /// Sets whether to unpack the layers, which requires root; the default is true. Otherwise the daemon
    /// unpacks each layer when a build first needs it.
    #[must_use]
    pub fn extract(mut self, extract: bool) -> Self {
        self.options.extract = extract;
        self
    }

    /// Sets the number of layers to work on in parallel; the default is the number of processors. It does not
    /// affect the output.
    #[must_use]
    pub fn jobs(mut self, jobs: NonZeroUsize) -> Self {
        self.options.jobs = jobs;
        self
    }

    /// Sets how the blobs of layers are stored in the root; by default they share disk blocks if the file
    /// system supports that, and are copied otherwise.
    #[must_use]
    pub fn blobs(mut self, blobs: StoreBlobs) -> Self {
        self.options.blobs = blobs;
        self
    }

    /// Sets whether existing blobs of the root with the right size are trusted. By default those that the
    /// plan uses are hashed, and damaged ones are replaced.
    #[must_use]
    pub fn trust_blobs(mut self, trust: bool) -> Self {
        self.options.trust_blobs = trust;
        self
    }

    /// Sets the time at which, for the daemon's garbage collection, everything was last used. The default is
    /// the creation time of the newest part of the cache.
    #[must_use]
    pub fn last_used(mut self, time: impl Into<Option<Time>>) -> Self {
        self.options.last_used = time.into();
        self
    }

    /// Sets the limits on unpacking.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.options.limits = limits;
        self
    }

    /// Reports events to `progress`, from several threads.
    #[must_use]
    pub fn progress(mut self, progress: Arc<dyn Progress>) -> Self {
        self.progress = progress;
        self
    }

    /// Stops with [`ConvertError::Cancelled`] as soon as `cancel` requests it. Once the result is being moved
    /// into place, the conversion continues to its end.
    #[must_use]
    pub fn cancel(mut self, cancel: Cancel) -> Self {
        self.cancel = cancel;
        self
    }

    /// Adds the content of `plan` to the directory `root`, which is created if it is missing. The result is
    /// verified before it is published. Layers are read from the layouts from which the plan was made.
    ///
    /// An existing state, made by a daemon or by earlier conversions, keeps everything: its worker id,
    /// records, snapshots, cache mounts and history. Parts that it shares with the plan are neither stored
    /// nor unpacked again. If it has all of the plan already, nothing is written.
    ///
    /// # Errors
    /// See [`ConvertError`]. Before publishing, the root stays unchanged. An error while publishing can leave
    /// a part of the plan in the root, which is a sound state; the next conversion completes it.
    pub fn convert(&self, plan: &Plan, root: impl Into<Location>) -> Result<Report, ConvertError> {
        convert(plan, root.into(), &self.run())
    }

    /// Returns what a conversion of `plan` into `root` would find there and what it would add. Nothing is
    /// changed.
    ///
    /// # Errors
    /// Same as [`check_root`](super::check_root); also if the existing state cannot be read or is damaged.
    pub fn preview(&self, plan: &Plan, root: impl Into<Location>) -> Result<Shares, ConvertError> {
        preview(plan, root.into(), &self.run())
    }

    fn run(&self) -> Run<'_> {
        let Self { options, progress, cancel } = self;
        Run { options, progress, cancel }
    }
}

impl Default for Converter {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Converter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { options, cancel, .. } = self;
        f.debug_struct("Converter")
            .field("options", options)
            .field("cancel", cancel)
            .finish_non_exhaustive()
    }
}
