//! How the blobs of a cache come into the content store of a root.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;

use bkstate::dir::DirError;
use bkstate::kernel::{Lease, read_lease};
use rustix::fs::ioctl_ficlone;

use super::ConvertError;
use super::blobs::Site;
use super::copying::Stored;
use crate::layout::{BlobFile, Descriptor, Layout};

/// How the blobs of layers come into the root.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum StoreBlobs {
    /// By sharing what is on disk (reflink) where the file system can do that, else by copying.
    #[default]
    Auto,
    /// By copying every byte.
    Copy,
    /// By making the file of the layout the file of the store too. Whoever can write to the one then
    /// writes to the other, so only files that nobody else can write to are taken, and none that
    /// somebody has open for writing. File systems without leases do not tell that:
    /// [`Report::unleased`](super::Report::unleased).
    Hardlink,
    /// Not at all. New records know nothing but their snapshots, as those of steps that a daemon ran
    /// and never exported. This takes [`extract`](super::Converter::extract).
    None,
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

/// Puts the blob of `descriptor`, which `layout` has, into the store. It is verified when it is read from
/// what is returned, and a copy is made of just what is read.
pub(super) fn store(
    site: &Site<'_>,
    layout: &Layout,
    descriptor: &Descriptor,
) -> Result<Stored, ConvertError> {
    let digest = descriptor.digest;
    let blob = layout.open_blob(descriptor)?;
    let store = site.staging.blobs();
    if site.store == StoreBlobs::Hardlink {
        let file = linkable(&blob).and_then(|file| {
            // Before it is linked and hashed. It lasts until what is returned here is closed.
            match read_lease(file) {
                Lease::Held => {}
                Lease::Refused => return Err(LinkError::OpenForWriting),
                Lease::Unknown(_) => site.note_unleased(digest),
            }
            store.link_blob(&digest, file).map_err(LinkError::Kernel)?;
            file.try_clone().map_err(LinkError::Look)
        });
        let file = file.map_err(|reason| ConvertError::Link { digest, reason })?;
        return Ok(Stored::Whole(file));
    }
    let copy = store.create_blob(&digest)?;
    if site.store == StoreBlobs::Auto && is_cloned(&blob, &copy) {
        return Ok(Stored::Whole(copy));
    }
    Ok(Stored::copying(blob, copy))
}

/// The file of `blob`, if that can be the one of a store too.
fn linkable(blob: &BlobFile) -> Result<&File, LinkError> {
    let file = blob.whole().ok_or(LinkError::InArchive)?;
    let metadata = file.metadata().map_err(LinkError::Look)?;
    let (owner, user) = (metadata.uid(), rustix::process::geteuid().as_raw());
    if owner != user {
        return Err(LinkError::Owner { owner, user });
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o022 != 0 {
        return Err(LinkError::Writable { mode });
    }
    Ok(file)
}

/// Makes `copy` share what `blob` has on disk. Whether that was possible: some file systems can, for
/// files that are both on them (Linux 6.18 `Documentation/filesystems/vfs.rst` `remap_file_range`). If
/// not, `copy` is as empty as it was.
fn is_cloned(blob: &BlobFile, copy: &File) -> bool {
    blob.whole().is_some_and(|file| ioctl_ficlone(copy, file).is_ok())
}
