//! What a conversion or a verification tells while it runs.

use bkstate::Digest;

/// Receives the progress. Called from several threads at once.
pub trait Progress: Sync {
    /// Something happened.
    fn event(&self, event: Event<'_>);
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
