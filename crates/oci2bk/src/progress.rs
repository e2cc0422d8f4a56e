//! What a conversion or a verification tells while it runs.
//!
//! ```
//! use std::sync::Mutex;
//!
//! use oci2bk::progress::{LayerWork, Silent, Stage};
//! use oci2bk::{CacheExport, Converter, Event, Keyring, Limits, Plan, Progress};
//!
//! /// Remembers the stages, and how much of the layers is done.
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
//!             // There will be others.
//!             _ => {}
//!         }
//!     }
//! }
//!
//! let exports = CacheExport::read_sources(&["../../fixtures/min/cache".parse()?], &Limits::default())?;
//! let plan = Plan::new(&exports, &Keyring::for_exports(&exports))?;
//! let root = tempfile::tempdir()?;
//!
//! let follower = Follower::default();
//! let converter = Converter::new().extract(false);
//! let report = converter.clone().progress(&follower).convert(&plan, &root)?;
//! assert_eq!(*follower.stages.lock().unwrap(), ["layers", "verify", "publish"]);
//! assert_eq!(*follower.stored.lock().unwrap(), report.blob_bytes);
//!
//! // What a converter tells as long as nothing else is said. A closure will do, too.
//! converter.clone().progress(&Silent).convert(&plan, &root)?;
//! converter.progress(&|_: Event<'_>| {}).convert(&plan, &root)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use bkstate::Digest;

use crate::cancel::Cancel;
use crate::unpack::Watch;

/// Receives the progress. Called from several threads at once. Any function of an [`Event`] will do.
pub trait Progress: Sync {
    /// Something happened.
    fn event(&self, event: Event<'_>);
}

impl<F: Fn(Event<'_>) + Sync> Progress for F {
    fn event(&self, event: Event<'_>) {
        self(event);
    }
}

/// Something that happened.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A stage begins.
    StageStarted(Stage),
    /// A stage has ended well.
    StageFinished(Stage),
    /// Work on a layer begins.
    LayerStarted(&'a LayerWork),
    /// So many of a layer's [`to_read`](LayerWork::to_read) bytes are done.
    LayerAdvanced(&'a LayerWork, u64),
    /// A layer is done.
    LayerFinished(&'a LayerWork),
}

/// The stages of a conversion and of a verification, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Stage {
    /// The blobs that the root has already are hashed.
    Check,
    /// Blobs are stored and checked, and layers unpacked.
    Layers,
    /// What layers leave to the ones below them is filled in, and sizes are taken.
    Settle,
    /// Databases are written, and compared with each other and with what is there.
    Verify,
    /// Everything is synced and moved into place.
    Publish,
    /// The blobs of a state are hashed.
    Blobs,
    /// The unpacked trees of a state are compared with their layers.
    Trees,
}

impl Stage {
    /// Its name, as reports show it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Layers => "layers",
            Self::Settle => "settle",
            Self::Verify => "verify",
            Self::Publish => "publish",
            Self::Blobs => "blobs",
            Self::Trees => "trees",
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
    /// What the layer is, for people.
    pub description: Option<String>,
}

/// Listens to nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn event(&self, _event: Event<'_>) {}
}

/// Tells how far the unpacking of a layer is, and ends it when asked to.
pub(crate) struct Unpacking<'a> {
    pub(crate) work: &'a LayerWork,
    /// Of the bytes to read, those that were read before.
    pub(crate) before: u64,
    pub(crate) progress: &'a dyn Progress,
    pub(crate) cancel: &'a Cancel,
}

impl Watch for Unpacking<'_> {
    fn read(&self, bytes: u64) {
        self.progress.event(Event::LayerAdvanced(self.work, self.before.saturating_add(bytes)));
    }

    fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }
}
