//! Why a conversion fails.

use std::path::PathBuf;

use bkstate::Digest;
use bkstate::dir::DirError;
use bkstate::root::OpenRootError;
use bkstate::state::{Damage, ExistingError, StagingError, VerifyError};

use crate::layout::{BadCopy, BlobError, copies};
use crate::limits::{Bound, MAX_CHAIN};
use crate::place::NoPlace;
use crate::plan::BrokenPlan;
use crate::unpack::{RightsError, UnpackError};

/// Why a conversion failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// The plan was changed after it was made, and does not fit together.
    #[error(transparent)]
    Plan(#[from] BrokenPlan),
    /// A part of the plan has no place in the root and needs one.
    #[error(transparent)]
    NoPlace(#[from] NoPlace),
    /// The root cannot be opened or made, is not one, or is in use.
    #[error(transparent)]
    Open(#[from] OpenRootError),
    /// A file or directory of the root cannot be used.
    #[error("cannot use the root")]
    Root(#[from] DirError),
    /// What the root holds cannot be read, or nothing can be added to it.
    #[error(transparent)]
    Existing(#[from] ExistingError),
    /// The state cannot be written.
    #[error(transparent)]
    Staging(#[from] StagingError),
    /// A blob is missing from the layout or is not what the manifest says.
    #[error("cannot use a layer of the cache")]
    Blob(#[from] BlobError),
    /// Several layouts have a blob, and no copy is what it should be.
    #[error("no copy of a layer can be used: {}", copies::all(copies))]
    NoGoodCopy {
        /// The copies.
        copies: Vec<BadCopy>,
    },
    /// A blob could not be copied.
    #[error("cannot copy the layer blob {digest} into {}", root.display())]
    Copy {
        /// The blob.
        digest: Digest,
        /// The root.
        root: PathBuf,
        /// What the kernel answered.
        #[source]
        source: std::io::Error,
    },
    /// A blob of the layout cannot be the file of the store too, as was asked for.
    #[error(
        "cannot hard-link the layer blob {digest} into the root; copy what has to be with \
         --blobs auto"
    )]
    Link {
        /// The blob.
        digest: Digest,
        /// Why.
        #[source]
        reason: LinkError,
    },
    /// Blobs are neither to be stored nor unpacked, which leaves nothing to build on.
    #[error("layers that are not unpacked need their blobs in the root")]
    NothingToStore,
    /// A layer lies on more others than overlayfs can mount, and a step needs its files. Nothing was read
    /// yet.
    #[error(
        "the layer {layer}{} lies on {MAX_CHAIN} others, and a step needs its files; overlayfs mounts no \
         more at a time, so no daemon could use it; leave layers packed with --no-extract",
        of_step(description.as_deref())
    )]
    ChainTooLong {
        /// Its blob.
        layer: Digest,
        /// What the cache says of it, such as the step that made it.
        description: Option<String>,
    },
    /// More snapshots are to be unpacked than may be. Nothing was read yet.
    #[error(
        "{count} snapshots are to be unpacked, more than {limit}; allow for more with --limit snapshots, or \
         leave layers packed with --no-extract"
    )]
    TooManySnapshots {
        /// How many.
        count: u64,
        /// How many may be.
        limit: u64,
    },
    /// The layers that are not compressed have more bytes than all together may have, each time they are
    /// unpacked. Nothing was read yet.
    #[error(
        "the layers have {bytes} bytes or more when they are unpacked, more than {}; allow for more with \
         --limit {}",
        limit.value, limit.name
    )]
    TooLarge {
        /// How many at least.
        bytes: u64,
        /// How many they may have.
        limit: Bound,
    },
    /// A layer could not be unpacked.
    #[error(
        "cannot unpack the layer {digest} into {}{}{}",
        root.display(), advice(source), advice_on_cache(source)
    )]
    Unpack {
        /// The blob.
        digest: Digest,
        /// The root.
        root: PathBuf,
        /// Why.
        #[source]
        source: Box<UnpackError>,
    },
    /// A layer that stays packed is not the one that the cache says.
    #[error("cannot check the layer {digest}{}", advice_on_cache(source))]
    Check {
        /// The blob.
        digest: Digest,
        /// Why.
        #[source]
        source: Box<UnpackError>,
    },
    /// A layer whose blob the root has already could not be unpacked.
    #[error(
        "cannot unpack the layer {digest} from the blob that {} has{}",
        root.display(), advice(source)
    )]
    UnpackExisting {
        /// The blob.
        digest: Digest,
        /// The root.
        root: PathBuf,
        /// Why.
        #[source]
        source: Box<UnpackError>,
    },
    /// Layers cannot be unpacked there, whatever is in them. Nothing was read yet.
    #[error(
        "cannot unpack layers into {}; leave them packed with --no-extract, which takes no privileges",
        root.display()
    )]
    Rights {
        /// The root.
        root: PathBuf,
        /// Why.
        #[source]
        source: RightsError,
    },
    /// A layer that the root has cannot be compared with that of the cache.
    #[error("cannot compare the layers that the root has with those of the cache")]
    Compare(#[source] Box<crate::verify::VerifyError>),
    /// Somebody [asked to stop](super::Converter::cancel). The root is as it was.
    #[error("the conversion was cancelled; the root is as it was")]
    Cancelled,
    /// The state cannot be read back before it is published.
    #[error("cannot read the state back")]
    Verify(#[from] VerifyError),
    /// The state is not sound, so it is not published.
    #[error(
        "what was to be published is damaged, so nothing was; 1 of {}: {}",
        damage.len(), first(damage)
    )]
    Damaged {
        /// What is wrong with it.
        damage: Vec<Damage>,
    },
}

/// Why a file of a layout cannot be the file of a store too.
///
/// ```
/// use oci2bk::convert::{ConvertError, LinkError, StoreBlobs};
/// use oci2bk::{CacheExport, Converter, Keyring, Limits, Plan};
///
/// // An archive of a layout: its blobs are parts of one file.
/// let temporary = tempfile::tempdir()?;
/// let archive = temporary.path().join("cache.tar");
/// let mut tar = tar::Builder::new(std::fs::File::create(&archive)?);
/// tar.append_dir_all(".", "../../fixtures/min/cache")?;
/// tar.into_inner()?;
///
/// let source = format!("oci-archive:{}", archive.display()).parse()?;
/// let exports = CacheExport::read_sources(&[source], &Limits::default())?;
/// let plan = Plan::new(&exports, &Keyring::for_exports(&exports))?;
/// let converter = Converter::new().extract(false).blobs(StoreBlobs::Hardlink);
/// let Err(ConvertError::Link { reason, .. }) =
///     converter.convert(&plan, temporary.path().join("buildkit"))
/// else {
///     panic!("a part of a file was linked");
/// };
/// assert!(matches!(reason, LinkError::InArchive));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The blob is a part of an archive.
    #[error("it lies in an archive")]
    InArchive,
    /// The file belongs to another user, who could change it at any time.
    #[error("the file belongs to user {owner}, who could change it later; chown it to {user}")]
    Owner {
        /// The user id of its owner.
        owner: u32,
        /// Ours.
        user: u32,
    },
    /// Others may write to the file.
    #[error("users other than its owner may write to the file (mode {mode:04o}); chmod go-w it")]
    Writable {
        /// Its permissions.
        mode: u32,
    },
    /// Somebody has the file open for writing, and would still have it then.
    #[error(
        "somebody has the file open for writing, or mapped, and could change it later; end that program \
         (lsof or fuser -v names it), or copy the blobs"
    )]
    OpenForWriting,
    /// The kernel refuses, as between file systems.
    #[error("the kernel refuses a link")]
    Kernel(#[source] DirError),
    /// The file cannot be looked at.
    #[error("cannot look at the file")]
    Look(#[source] std::io::Error),
}

impl ConvertError {
    /// Why the layers of a root could not be compared with those of a cache.
    pub(super) fn of_comparison(error: crate::verify::VerifyError) -> Self {
        match error {
            crate::verify::VerifyError::Cancelled => Self::Cancelled,
            error => Self::Compare(Box::new(error)),
        }
    }
}

/// What to do about a layer that cannot be unpacked, to follow the message.
fn advice(error: &UnpackError) -> &'static str {
    if error.is_denied() {
        "; that takes root with CAP_SYS_ADMIN, not in a user namespace; leave layers packed with \
         --no-extract"
    } else if error.can_stay_packed() {
        ", and a step needs its files; leave layers packed with --no-extract"
    } else {
        ""
    }
}

/// What to do about a layer of the cache that is not what the cache says.
fn advice_on_cache(error: &UnpackError) -> &'static str {
    match error {
        UnpackError::WrongBlobSize { .. }
        | UnpackError::WrongBlobDigest { .. }
        | UnpackError::WrongDiffId { .. }
        | UnpackError::Decompress { .. } => "; copy or export the cache again",
        _ => "",
    }
}

fn of_step(description: Option<&str>) -> String {
    description.map(|step| format!(" of {step:?}")).unwrap_or_default()
}

fn first(damage: &[Damage]) -> String {
    damage.first().map(ToString::to_string).unwrap_or_default()
}

impl ConvertError {
    /// Whether the input is to blame, rather than the machine or the root.
    pub fn is_input(&self) -> bool {
        match self {
            Self::Blob(_)
            | Self::NoGoodCopy { .. }
            | Self::ChainTooLong { .. }
            | Self::TooManySnapshots { .. }
            | Self::TooLarge { .. } => true,
            Self::Unpack { source, .. } | Self::Check { source, .. } => source.is_input(),
            // The blob is what its digest says, and not what the cache says.
            Self::UnpackExisting { source, .. } => source.is_input() && !source.is_of_blob(),
            _ => false,
        }
    }

    /// Whether it is about the copy of a blob that was read, so that another copy may do.
    pub(super) fn is_of_copy(&self) -> bool {
        match self {
            Self::Blob(_) => true,
            Self::Unpack { source, .. } | Self::Check { source, .. } => source.is_of_blob(),
            _ => false,
        }
    }
}
