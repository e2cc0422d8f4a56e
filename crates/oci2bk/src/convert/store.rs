//! How the blobs of a cache come into the content store of a root.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;

use bkstate::Digest;
use bkstate::dir::DirError;
use rustix::fs::ioctl_ficlone;

use super::ConvertError;
use super::blobs::Site;
use crate::export::CacheExport;
use crate::layout::{BlobError, BlobFile, Descriptor};
use crate::verify::blobs::hash_file;

/// How the blobs of layers come into the root.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum StoreBlobs {
    /// By sharing what is on disk (reflink) where the file system can do that, else by copying.
    #[default]
    Auto,
    /// By copying every byte.
    Copy,
    /// By making the file of the layout the file of the store too. Whoever can write to the one then
    /// writes to the other, so only files that nobody else can write to are taken.
    Hardlink,
    /// Not at all. New records know nothing but their snapshots, as those of steps that a daemon ran
    /// and never exported. This takes [`extract`](super::Options::extract).
    None,
}

/// Why a file of a layout cannot be the file of a store too.
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
    /// The kernel refuses, as between file systems.
    #[error("the kernel refuses a link")]
    Kernel(#[source] DirError),
    /// The file cannot be looked at.
    #[error("the file cannot be looked at")]
    Look(#[source] std::io::Error),
}

/// Puts the blob of `descriptor`, which `export` has, into the store and returns its file there. It is
/// verified, unless it `is_read_again` by somebody who does that.
pub(super) fn store(
    site: &Site<'_>,
    export: &CacheExport,
    descriptor: &Descriptor,
    is_read_again: bool,
) -> Result<File, ConvertError> {
    let digest = descriptor.digest;
    let copy_error =
        |source| ConvertError::Copy { digest, root: site.staging.root().to_owned(), source };
    let mut blob = export.layout.open_blob(descriptor)?;
    let store = site.staging.blobs();
    if site.store == StoreBlobs::Hardlink {
        let file = linkable(&blob).and_then(|file| {
            store.link_blob(&digest, file).map_err(LinkError::Kernel)?;
            file.try_clone().map_err(LinkError::Look)
        });
        let file = file.map_err(|reason| ConvertError::Link { digest, reason })?;
        return if is_read_again { Ok(file) } else { verified(digest, file) };
    }
    let mut copy = store.create_blob(&digest)?;
    if site.store == StoreBlobs::Auto && is_cloned(&blob, &copy) {
        return if is_read_again { Ok(copy) } else { verified(digest, copy) };
    }
    if is_read_again {
        let copied = match site.store {
            StoreBlobs::Copy => blob.copy_bytes_to(&mut copy),
            _ => blob.copy_to(&mut copy),
        };
        copied.map_err(copy_error)?;
    } else {
        // Read once, and not a second time from the copy.
        export.layout.stream_blob(descriptor, |piece| copy.write_all(piece).map_err(copy_error))?;
    }
    Ok(copy)
}

/// A file to unpack the blob of `descriptor` from that is not to be stored: its own, or if it lies in an
/// archive a nameless copy, which goes when it is closed.
pub(super) fn borrow(
    site: &Site<'_>,
    export: &CacheExport,
    descriptor: &Descriptor,
) -> Result<File, ConvertError> {
    let digest = descriptor.digest;
    let copy_error =
        |source| ConvertError::Copy { digest, root: site.staging.root().to_owned(), source };
    let mut blob = export.layout.open_blob(descriptor)?;
    if let Some(file) = blob.whole() {
        return file.try_clone().map_err(|source| BlobError::Io { digest, source }.into());
    }
    let store = site.staging.blobs();
    let mut copy = store.create_blob(&digest)?;
    store.remove(&digest)?;
    blob.copy_to(&mut copy).map_err(copy_error)?;
    Ok(copy)
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

/// `file`, if it has the digest `digest`.
fn verified(digest: Digest, file: File) -> Result<File, ConvertError> {
    let found = hash_file(&file, |_| {});
    let actual = found.map_err(|source| BlobError::Io { digest, source })?;
    if actual == digest { Ok(file) } else { Err(BlobError::Digest { digest, actual }.into()) }
}
