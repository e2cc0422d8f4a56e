//! Carrying plans out, as set up by the caller.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::Path;

use bkstate::Time;

use super::{ConvertError, Options, Report, Run, Shares, StoreBlobs, convert, preview};
use crate::cancel::Cancel;
use crate::limits::Limits;
use crate::parallel::processors;
use crate::plan::Plan;
use crate::progress::{Progress, Silent};

/// Carries plans out.
///
/// A converter is set up once and carries out any number of plans. Here the first conversion stores
/// all blobs, and the second one finds everything there and writes nothing.
///
/// ```
/// use std::num::NonZeroUsize;
///
/// use oci2bk::convert::StoreBlobs;
/// use oci2bk::{CacheExport, Cancel, Converter, Event, Keyring, Limits, Plan};
///
/// let limits = Limits::default();
/// let exports = CacheExport::read_sources(&["../../fixtures/min/cache".parse()?], &limits)?;
/// let mut keyring = Keyring::for_exports(&exports);
/// keyring.read("../../fixtures/min/keys/metadata.json", &limits)?;
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
///     .progress(&show)
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
pub struct Converter<'p> {
    options: Options,
    progress: &'p dyn Progress,
    cancel: Cancel,
}

impl<'p> Converter<'p> {
    /// A converter that unpacks, with a job for each processor, within the default limits.
    pub fn new() -> Self {
        let options = Options {
            extract: true,
            jobs: processors(),
            blobs: StoreBlobs::default(),
            trust_blobs: false,
            last_used: None,
            limits: Limits::default(),
        };
        Self { options, progress: &Silent, cancel: Cancel::new() }
    }

    /// Whether to unpack the layers, which takes root; as long as nothing else is said, they are. If
    /// not, the daemon unpacks each when a build first needs it.
    #[must_use]
    pub fn extract(mut self, extract: bool) -> Self {
        self.options.extract = extract;
        self
    }

    /// How many layers to work on at a time; by default as many as there are processors. It does not
    /// show in what is written.
    #[must_use]
    pub fn jobs(mut self, jobs: NonZeroUsize) -> Self {
        self.options.jobs = jobs;
        self
    }

    /// How the blobs of the layers come into the root; by default they share what is on disk if the file
    /// system can do that, and are copied if not.
    #[must_use]
    pub fn blobs(mut self, blobs: StoreBlobs) -> Self {
        self.options.blobs = blobs;
        self
    }

    /// Whether blobs that the root has already are what they are named if they have the right size. As
    /// long as nothing else is said, those that the plan uses are hashed, and what is damaged is replaced.
    #[must_use]
    pub fn trust_blobs(mut self, trust: bool) -> Self {
        self.options.trust_blobs = trust;
        self
    }

    /// When the daemon's garbage collection is to believe that everything was last used. Without it
    /// that is when the newest part of the cache was made.
    #[must_use]
    pub fn last_used(mut self, time: impl Into<Option<Time>>) -> Self {
        self.options.last_used = time.into();
        self
    }

    /// What unpacking a layer may cost.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.options.limits = limits;
        self
    }

    /// Tells `progress` what happens, from several threads.
    #[must_use]
    pub fn progress(mut self, progress: &'p dyn Progress) -> Self {
        self.progress = progress;
        self
    }

    /// Stops with [`ConvertError::Cancelled`] as soon as `cancel` asks for it. Once the result is being
    /// moved into its place, the conversion goes on to its end.
    #[must_use]
    pub fn cancel(mut self, cancel: Cancel) -> Self {
        self.cancel = cancel;
        self
    }

    /// Adds what `plan` describes to the directory `root`, which is made if it is not there. The
    /// outcome is verified before it is published. Layers are read from the layouts that the plan was made from.
    ///
    /// A state that is there, made by a daemon or by earlier conversions, keeps everything it has: its
    /// worker id, records, snapshots, cache mounts and history. What the plan shares with it is neither
    /// stored nor unpacked again. If it has all of the plan already, nothing is written.
    ///
    /// # Errors
    /// See [`ConvertError`]. Before publishing, the root stays as it was. An error while publishing can
    /// leave a part of the plan in the root, which is a sound state; the next conversion completes it.
    pub fn convert(&self, plan: &Plan, root: impl AsRef<Path>) -> Result<Report, ConvertError> {
        let Self { options, progress, cancel } = self;
        convert(plan, root.as_ref(), &Run { options, progress: *progress, cancel })
    }

    /// What a conversion of `plan` into `root` would find there and what it would add. Nothing is
    /// changed.
    ///
    /// # Errors
    /// As [`check_root`](super::check_root), and if what the root holds cannot be read or is damaged.
    pub fn preview(&self, plan: &Plan, root: impl AsRef<Path>) -> Result<Shares, ConvertError> {
        preview(plan, root.as_ref(), &self.options)
    }
}

impl Default for Converter<'_> {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Converter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { options, cancel, .. } = self;
        f.debug_struct("Converter")
            .field("options", options)
            .field("cancel", cancel)
            .finish_non_exhaustive()
    }
}
