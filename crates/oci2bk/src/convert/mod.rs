//! Carrying a plan out.
//!
//! ```text
//! lock -> refuse a root with a state -> staging: blobs, snapshots -> databases -> verify -> publish
//! ```
//! Whatever goes wrong leaves the root as it was.

mod blobs;
pub(crate) mod parallel;
mod snapshots;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use bkstate::dir::{Dir, DirError};
use bkstate::state::{Damage, LockError, RootLock, Staging, StagingError, VerifyError};
use bkstate::{Digest, Time};

use crate::assemble::assemble;
use crate::export::CacheExport;
use crate::layout::BlobError;
use crate::plan::Plan;
use crate::progress::{Event, Progress, Stage};
use crate::unpack::UnpackError;

/// How to carry a plan out.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Whether to unpack the layers. If not, the daemon does so when a build first needs one, and
    /// the conversion does not need root.
    pub extract: bool,
    /// How many layers to work on at a time.
    pub jobs: NonZeroUsize,
    /// When the daemon's garbage collection is to believe that everything was last used. `None`
    /// means when the newest part of the cache was made.
    pub last_used: Option<Time>,
}

/// What a conversion did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    /// Blobs stored.
    pub blobs: usize,
    /// Their bytes.
    pub blob_bytes: u64,
    /// Snapshots unpacked.
    pub snapshots: usize,
    /// Bytes of the uncompressed layers.
    pub unpacked_bytes: u64,
    /// Entries of the layers' archives.
    pub entries: u64,
    /// Bytes that the snapshots occupy on disk.
    pub disk_bytes: u64,
}

/// Why a conversion failed.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// The root is in use or cannot be locked.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The root cannot be made.
    #[error("cannot make the root {}", path.display())]
    CreateRoot {
        /// The root.
        path: PathBuf,
        /// What the kernel answered.
        #[source]
        source: std::io::Error,
    },
    /// A file or directory of the root cannot be used.
    #[error("the root cannot be used")]
    Root(#[from] DirError),
    /// The root has a state already, or the new one cannot be written.
    #[error(transparent)]
    Staging(#[from] StagingError),
    /// A blob is missing from the layout or is not what the manifest says.
    #[error("a layer of the cache cannot be used")]
    Blob(#[from] BlobError),
    /// A blob could not be copied.
    #[error("the layer blob {digest} could not be copied into {}", root.display())]
    Copy {
        /// The blob.
        digest: Digest,
        /// The root.
        root: PathBuf,
        /// What the kernel answered.
        #[source]
        source: std::io::Error,
    },
    /// A layer could not be unpacked.
    #[error("the layer {digest} could not be unpacked")]
    Unpack {
        /// The blob.
        digest: Digest,
        /// Why.
        #[source]
        source: Box<UnpackError>,
    },
    /// The plan does not belong to the exports.
    #[error("the plan was not made from these exports: they have no blob {digest}")]
    ForeignPlan {
        /// The blob.
        digest: Digest,
    },
    /// The state cannot be read back before it is published.
    #[error("the state cannot be read back")]
    Verify(#[from] VerifyError),
    /// The state is not sound, so it is not published.
    #[error(
        "what was to be published is damaged in {} places, so nothing was; the first: {}",
        damage.len(), first(damage)
    )]
    Damaged {
        /// What is wrong with it.
        damage: Vec<Damage>,
    },
}

fn first(damage: &[Damage]) -> String {
    damage.first().map(ToString::to_string).unwrap_or_default()
}

impl ConvertError {
    /// Whether the input is to blame, rather than the machine or the root.
    pub fn is_input(&self) -> bool {
        match self {
            Self::Blob(_) | Self::ForeignPlan { .. } => true,
            Self::Unpack { source, .. } => source.is_input(),
            _ => false,
        }
    }
}

/// Writes the state that `plan` describes into the directory `root`, which is made if it is not
/// there. The state is verified before it is published. The exports are those that the plan was made
/// from.
///
/// # Errors
/// See [`ConvertError`]. The root then holds no state.
pub fn convert(
    plan: &Plan,
    exports: &[CacheExport],
    root: &Path,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Report, ConvertError> {
    let root = open_root(root)?;
    let lock = RootLock::acquire(&root)?;
    let staging = Staging::begin(&root, &lock)?;
    let stage = |stage: Stage| {
        progress.event(Event::StageStarted(stage));
        move || progress.event(Event::StageFinished(stage))
    };

    let done = stage(Stage::Layers);
    blobs::store_documents(plan, &staging)?;
    let unpacked = blobs::store_and_unpack(plan, exports, &staging, options, progress)?;
    done();

    let mut report = Report {
        blobs: plan.blobs.len(),
        blob_bytes: plan.blobs.values().map(|blob| blob.size).sum(),
        ..Report::default()
    };
    let mut usages = None;
    if options.extract {
        let done = stage(Stage::Settle);
        report.snapshots = unpacked.len();
        report.unpacked_bytes = unpacked.iter().map(|layer| layer.bytes).sum();
        report.entries = unpacked.iter().map(|layer| layer.entries).sum();
        let sizes = snapshots::settle(plan, &unpacked, &staging, options.jobs)?;
        report.disk_bytes = sizes.iter().map(|usage| usage.size.cast_unsigned()).sum();
        usages = Some(sizes);
        done();
    }

    let done = stage(Stage::Verify);
    staging.write(&assemble(
        plan,
        usages.as_deref(),
        options.last_used.or_else(|| plan.newest()),
    ))?;
    let verified = staging.parts()?.verify()?;
    if !verified.damage.is_empty() {
        return Err(ConvertError::Damaged { damage: verified.damage });
    }
    done();

    let done = stage(Stage::Publish);
    staging.publish()?;
    done();
    Ok(report)
}

/// Refuses a root that a conversion could not use, without changing anything: one that a daemon
/// works on, or that holds a state.
///
/// # Errors
/// [`ConvertError::Lock`], [`ConvertError::Staging`], or [`ConvertError::Root`] if it cannot be
/// read. A root that does not exist is fine.
pub fn check_root(root: &Path) -> Result<(), ConvertError> {
    match Dir::open(root) {
        Ok(root) => {
            RootLock::check(&root)?;
            Ok(Staging::check_vacant(&root)?)
        }
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn open_root(path: &Path) -> Result<Dir, ConvertError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let mut builder = std::fs::DirBuilder::new();
    builder
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| ConvertError::CreateRoot { path: path.to_owned(), source })?;
    Ok(Dir::open(path)?)
}
