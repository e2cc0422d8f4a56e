//! Errors of a conversion.

use std::path::PathBuf;

use bkstate::dir::DirError;
use bkstate::root::OpenRootError;
use bkstate::state::{Damage, ExistingError, StagingError, VerifyError};
use bkstate::{Classified as _, Digest};

use crate::layout::{BadCopy, BlobError, copies};
use crate::limits::{Bound, MAX_CHAIN};
use crate::place::NoPlace;
use crate::plan::BrokenPlan;
use crate::unpack::{RightsError, UnpackError};

/// Why a conversion failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// The plan was changed after it was made, and is inconsistent.
    #[error(transparent)]
    Plan(#[from] BrokenPlan),
    /// A snapshot is treated as one to unpack, but has no place.
    #[error(transparent)]
    NoPlace(#[from] NoPlace),
    /// The root cannot be opened or created, is not a root, or is in use.
    #[error(transparent)]
    Open(#[from] OpenRootError),
    /// A file or directory of the root cannot be used.
    #[error("cannot use the root")]
    Root(#[from] DirError),
    /// The existing state cannot be read, or nothing can be added to it.
    #[error(transparent)]
    Existing(#[from] ExistingError),
    /// The state cannot be written.
    #[error(transparent)]
    Staging(#[from] StagingError),
    /// A blob is missing from the layout or does not match the manifest.
    #[error("cannot use a layer of the cache")]
    Blob(#[from] BlobError),
    /// Several layouts have a blob, but no copy is good.
    #[error("no copy of a layer can be used: {}", copies::all(copies))]
    NoGoodCopy {
        /// The copies.
        copies: Vec<BadCopy>,
    },
    /// A blob cannot be copied.
    #[error("cannot copy the layer blob {digest} into {}", root.display())]
    Copy {
        /// The blob.
        digest: Digest,
        /// The root.
        root: PathBuf,
        /// The error of the kernel.
        #[source]
        source: std::io::Error,
    },
    /// A blob of the layout cannot be hard-linked, as requested.
    /// [`StoreBlobs::Auto`](super::StoreBlobs::Auto) copies it instead.
    #[error("cannot hard-link the layer blob {digest} into the root")]
    Link {
        /// The blob.
        digest: Digest,
        /// The cause.
        #[source]
        reason: LinkError,
    },
    /// Blobs are neither to be stored nor unpacked, which leaves nothing to use.
    #[error("layers that are not unpacked need their blobs in the root")]
    NothingToStore,
    /// An image is to have a name, and its blobs are not to be stored.
    #[error("the image {name} needs the blobs of its layers in the root")]
    ImageWithoutBlobs {
        /// The name.
        name: String,
    },
    /// Another image of the root has the name.
    #[error(
        "the root has another image {name}, {found}, and {given} cannot have the same name; remove it first"
    )]
    OtherImage {
        /// The name.
        name: String,
        /// The digest of the image that has it.
        found: String,
        /// That of the image in the plan.
        given: Digest,
    },
    /// A layer is on top of more others than overlayfs can mount, and a step needs its files. Nothing was
    /// read yet. [`extract(false)`](super::Converter::extract) accepts it.
    #[error(
        "the layer {layer}{} lies on {MAX_CHAIN} others, and a step needs its files; overlayfs mounts no \
         more at a time, so no daemon could use it",
        of_step(description.as_deref())
    )]
    ChainTooLong {
        /// Its blob.
        layer: Digest,
        /// Its description in the cache, such as the step that made it.
        description: Option<String>,
    },
    /// There are more snapshots to unpack than the limit. Nothing was read yet.
    #[error("{count} snapshots are to be unpacked, more than {limit}")]
    TooManySnapshots {
        /// The number of snapshots.
        count: u64,
        /// The limit ([`Limits::snapshots`](crate::Limits::snapshots)).
        limit: u64,
    },
    /// The total size of the uncompressed layers, counted each time they are unpacked, exceeds the limit.
    /// Nothing was read yet.
    #[error("the layers have {bytes} bytes or more when they are unpacked, more than {}", limit.value)]
    TooLarge {
        /// A lower bound of their size in bytes.
        bytes: u64,
        /// The limit.
        limit: Bound,
    },
    /// A layer cannot be unpacked.
    #[error(
        "cannot unpack the layer {digest} into {}{}{}",
        root.display(), obstacle(source), advice_on_cache(source)
    )]
    Unpack {
        /// The blob.
        digest: Digest,
        /// The root.
        root: PathBuf,
        /// The cause.
        #[source]
        source: Box<UnpackError>,
    },
    /// A layer that stays packed does not match the cache.
    #[error("cannot check the layer {digest}{}", advice_on_cache(source))]
    Check {
        /// The blob.
        digest: Digest,
        /// The cause.
        #[source]
        source: Box<UnpackError>,
    },
    /// A layer whose blob is already in the root cannot be unpacked.
    #[error(
        "cannot unpack the layer {digest} from the blob that {} has{}",
        root.display(), obstacle(source)
    )]
    UnpackExisting {
        /// The blob.
        digest: Digest,
        /// The root.
        root: PathBuf,
        /// The cause.
        #[source]
        source: Box<UnpackError>,
    },
    /// Layers cannot be unpacked there, whatever their content. Nothing was read yet.
    /// [`extract(false)`](super::Converter::extract) needs no privileges.
    #[error("cannot unpack layers into {}", root.display())]
    Rights {
        /// The root.
        root: PathBuf,
        /// The cause.
        #[source]
        source: RightsError,
    },
    /// An existing layer of the root cannot be compared with that of the cache.
    #[error("cannot compare the layers that the root has with those of the cache")]
    Compare(#[source] Box<crate::verify::VerifyError>),
    /// The conversion was [cancelled](super::Converter::cancel). The root is unchanged.
    #[error("the conversion was cancelled; the root is as it was")]
    Cancelled,
    /// The state cannot be read back before it is published.
    #[error("cannot read the state back")]
    Verify(#[from] VerifyError),
    /// The new state is not sound, so it is not published.
    #[error(
        "what was to be published is damaged, so nothing was; 1 of {}: {}",
        damage.len(), first(damage)
    )]
    Damaged {
        /// The damage.
        damage: Vec<Damage>,
    },
}

/// Why a file of a layout cannot be hard-linked into the store.
///
/// ```
/// use oci2bk::convert::{ConvertError, LinkError, StoreBlobs};
/// use oci2bk::{CacheExport, Converter, Keyring, Limits, Plan};
///
/// // An archive of a layout: its blobs are parts of one file.
/// let temporary = tempfile::tempdir()?;
/// let archive = temporary.path().join("cache.tar");
/// let mut tar = tar::Builder::new(std::fs::File::create(&archive)?);
/// tar.append_dir_all(".", "fixtures/min/cache")?;
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
#[non_exhaustive]
pub enum LinkError {
    /// The blob is a part of an archive.
    #[error("it lies in an archive")]
    InArchive,
    /// The file belongs to another user, who could change it at any time.
    #[error("the file belongs to user {owner}, who could change it later; chown it to {user}")]
    Owner {
        /// The user id of its owner.
        owner: u32,
        /// The id of the current user.
        user: u32,
    },
    /// Other users may write to the file.
    #[error("users other than its owner may write to the file (mode {mode:04o}); chmod go-w it")]
    Writable {
        /// Its permissions.
        mode: u32,
    },
    /// Another process has the file open for writing, and would still have it afterwards.
    #[error(
        "somebody has the file open for writing, or mapped, and could change it later; end that program \
         (lsof or fuser -v names it), or copy the blobs"
    )]
    OpenForWriting,
    /// The kernel refuses, as between file systems.
    #[error("the kernel refuses a link")]
    Kernel(#[source] DirError),
    /// The file cannot be examined.
    #[error("cannot look at the file")]
    Look(#[source] std::io::Error),
}

impl ConvertError {
    /// Converts the error of comparing layers of a root with those of a cache.
    pub(super) fn of_comparison(error: crate::verify::VerifyError) -> Self {
        match error {
            crate::verify::VerifyError::Cancelled => Self::Cancelled,
            error => Self::Compare(Box::new(error)),
        }
    }
}

/// Returns why a layer cannot be unpacked, to follow the message.
fn obstacle(error: &UnpackError) -> &'static str {
    if error.is_denied() {
        "; that takes root with CAP_SYS_ADMIN, or the root of a user namespace"
    } else if error.can_stay_packed() {
        ", and a step needs its files"
    } else {
        ""
    }
}

/// Returns advice about a layer that does not match the cache.
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
    /// Returns whether the input is the cause, and not the machine or the root.
    pub fn is_input(&self) -> bool {
        self.class().is_of_input()
    }

    /// Returns whether the error is about the copy of a blob that was read, so that another copy may be good.
    pub(super) fn is_of_copy(&self) -> bool {
        match self {
            Self::Blob(_) => true,
            Self::Unpack { source, .. } | Self::Check { source, .. } => source.is_of_blob(),
            _ => false,
        }
    }
}
