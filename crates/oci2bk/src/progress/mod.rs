//! Progress of a conversion, from reading its sources on, or of a verification.
//!
//! ```
//! use std::sync::{Arc, Mutex};
//!
//! use oci2bk::progress::{LayerWork, Silent, Stage};
//! use oci2bk::{CacheExport, Converter, Event, Keyring, Limits, Plan, Progress};
//!
//! /// Records the stages, and the finished part of the layers.
//! #[derive(Default)]
//! struct Follower {
//!     stages: Mutex<Vec<&'static str>>,
//!     stored: Mutex<u64>,
//! }
//!
//! impl Progress for Follower {
//!     fn event(&self, event: Event<'_>) {
//!         match event {
//!             Event::StageFinished(stage) => self.stages.lock().unwrap().push(Stage::name(stage)),
//!             Event::LayerFinished(LayerWork { size, .. }) => *self.stored.lock().unwrap() += size,
//!             Event::LayersCounted { layers, to_read } => println!("{layers} layers, {to_read} bytes"),
//!             Event::LayerAdvanced { work, done } => println!("{}: {done} of {}", work.digest, work.to_read),
//!             // More events may be added.
//!             _ => {}
//!         }
//!     }
//! }
//!
//! let exports = CacheExport::read_sources(&["fixtures/min/cache".parse()?], &Limits::default())?;
//! let plan = Plan::new(&exports, &Keyring::for_exports(&exports))?;
//! let root = tempfile::tempdir()?;
//!
//! let follower = Arc::new(Follower::default());
//! let converter = Converter::new().extract(false);
//! let report = converter.clone().progress(follower.clone()).convert(&plan, &root)?;
//! assert_eq!(*follower.stages.lock().unwrap(), ["layers", "verify", "publish"]);
//! assert_eq!(*follower.stored.lock().unwrap(), report.blob_bytes);
//!
//! // The default of a converter. A closure works, too.
//! converter.clone().progress(Arc::new(Silent)).convert(&plan, &root)?;
//! converter.progress(Arc::new(|_: Event<'_>| {})).convert(&plan, &root)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod data;

use bkstate::Digest;

use crate::cancel::Cancel;
use crate::unpack::Watch;
use crate::warning::Warning;

/// Receives progress events. It is called from several threads at once. Any function of an [`Event`]
/// implements it.
pub trait Progress: Send + Sync {
    /// Receives an event.
    fn event(&self, event: Event<'_>);
}

impl<F: Fn(Event<'_>) + Send + Sync> Progress for F {
    fn event(&self, event: Event<'_>) {
        self(event);
    }
}

/// An event during the work. As JSON it is a line of the command's `--progress rawjson`:
///
/// ```
/// use oci2bk::Event;
/// use oci2bk::progress::Stage;
///
/// let line = oci2bk::text::to_json_line(&Event::StageStarted(Stage::Layers))?;
/// assert_eq!(line, r#"{"event":"stage-started","stage":"layers"}"#);
/// # Ok::<(), oci2bk::FormatError>(())
/// ```
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Something that does not stop the work.
    Warning(Warning<'a>),
    /// A stage starts.
    StageStarted(Stage),
    /// A stage was successful.
    StageFinished(Stage),
    /// How much work there is on layers in the stage that has started, before the first one starts. It can be
    /// less: what a damaged copy or an error makes needless is not done.
    LayersCounted {
        /// Number of blobs; each has an event when its work starts and one when it is finished.
        layers: usize,
        /// Total of their [`to_read`](LayerWork::to_read), in bytes.
        to_read: u64,
    },
    /// Work on a layer starts.
    LayerStarted(&'a LayerWork),
    /// Work on a layer goes on.
    LayerAdvanced {
        /// The work.
        work: &'a LayerWork,
        /// How many of its [`to_read`](LayerWork::to_read) bytes are done since it started.
        done: u64,
    },
    /// A layer is finished.
    LayerFinished(&'a LayerWork),
    /// Work on a cache mount starts.
    MountStarted(&'a MountWork),
    /// Work on a cache mount goes on.
    MountAdvanced {
        /// The work.
        work: &'a MountWork,
        /// How many of its [`size`](MountWork::size) bytes are done since it started.
        done: u64,
    },
    /// A cache mount is finished.
    MountFinished(&'a MountWork),
}

/// The stages of the preparation of a conversion, of the conversion, of a verification, and of the work on cache
/// mounts, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Stage {
    /// Reads the caches and the images.
    Read,
    /// Reads the key sources, and proves their keys.
    Keys,
    /// Makes the plan.
    Plan,
    /// Hashes the existing blobs of the root.
    Check,
    /// Stores and checks blobs, and unpacks layers.
    Layers,
    /// Completes the attributes that layers inherit from those below, and measures sizes.
    Settle,
    /// Writes databases, and checks their consistency with each other and with the files.
    Verify,
    /// Syncs everything and moves it into place.
    Publish,
    /// Hashes the blobs of a state.
    Blobs,
    /// Compares the unpacked trees of a state with their layers.
    Trees,
    /// Makes an image of unpacked trees.
    Image,
    /// Packs or unpacks cache mounts.
    Mounts,
}

impl Stage {
    /// Returns whether it comes before the work on a root, and mostly ends soon.
    ///
    /// ```
    /// use oci2bk::progress::Stage;
    ///
    /// assert!(Stage::Plan.is_preparation() && !Stage::Layers.is_preparation());
    /// ```
    pub const fn is_preparation(self) -> bool {
        matches!(self, Self::Read | Self::Keys | Self::Plan)
    }

    /// Returns its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Keys => "keys",
            Self::Plan => "plan",
            Self::Check => "check",
            Self::Layers => "layers",
            Self::Settle => "settle",
            Self::Verify => "verify",
            Self::Publish => "publish",
            Self::Blobs => "blobs",
            Self::Trees => "trees",
            Self::Image => "image",
            Self::Mounts => "mounts",
        }
    }
}

/// The work on one blob: storing it and unpacking it into its snapshots, or verifying it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LayerWork {
    /// The blob.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Compressed bytes to read: the size of the blob for storing it, and once more for each
    /// snapshot it is unpacked into.
    pub to_read: u64,
    /// A description of the layer, for people.
    pub description: Option<String>,
}

/// The work on one cache mount: packing or unpacking it.
///
/// ```
/// use oci2bk::progress::{Event, MountWork};
///
/// fn show(event: Event<'_>) {
///     if let Event::MountAdvanced { work: MountWork { id, size, .. }, done } = event {
///         println!("{id}: {done} of {size} bytes");
///     }
/// }
/// # oci2bk::Progress::event(&show, Event::StageStarted(oci2bk::progress::Stage::Mounts));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MountWork {
    /// Its id.
    pub id: String,
    /// The bytes to do: its size on disk when it is packed, and the size of its archive when it is unpacked.
    pub size: u64,
}

/// Reports how much work there is.
pub(crate) fn counted<'w>(progress: &dyn Progress, all: impl Iterator<Item = &'w LayerWork>) {
    let count = |(layers, to_read): (usize, u64), work: &LayerWork| {
        (layers + 1, to_read.saturating_add(work.to_read))
    };
    let (layers, to_read) = all.fold((0, 0), count);
    progress.event(Event::LayersCounted { layers, to_read });
}

/// Reports that `stage` starts. Returns what reports that it was successful.
pub(crate) fn stage(progress: &dyn Progress, stage: Stage) -> impl FnOnce() {
    progress.event(Event::StageStarted(stage));
    move || progress.event(Event::StageFinished(stage))
}

/// Ignores all events.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn event(&self, _event: Event<'_>) {}
}

/// Reports the progress of unpacking a layer, and ends it on cancellation.
pub(crate) struct Unpacking<'a> {
    pub(crate) work: &'a LayerWork,
    /// Number of bytes that were read before.
    pub(crate) before: u64,
    pub(crate) progress: &'a dyn Progress,
    pub(crate) cancel: &'a Cancel,
}

impl Watch for Unpacking<'_> {
    fn read(&self, bytes: u64) {
        let done = self.before.saturating_add(bytes);
        self.progress.event(Event::LayerAdvanced { work: self.work, done });
    }

    fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }
}
