//! Stores the blobs of a cache in the content store of a root.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;

use bkstate::kernel::{Lease, read_lease};
use rustix::fs::ioctl_ficlone;

use super::copying::Stored;
use super::error::{ConvertError, LinkError};
use super::options::StoreBlobs;
use super::site::Site;
use crate::layout::{BlobFile, Descriptor, Layout};

/// Puts the blob of `descriptor`, which `layout` has, into the store. It is verified when the returned value
/// is read, and a copy is made of exactly what is read.
pub(super) fn store(
    site: &Site<'_>,
    layout: &Layout,
    descriptor: &Descriptor,
) -> Result<Stored, ConvertError> {
    let digest = descriptor.digest;
    let blob = layout.open_blob(descriptor)?;
    let store = site.staging.blobs();
    if site.store == StoreBlobs::Hardlink {
        let owners = site.existing.state.worker.owners();
        let user = owners.root_on_disk().map(|(user, _)| user);
        let file = linkable(&blob, user).and_then(|file| {
            // Before it is linked and hashed. The lease lasts until the returned value is closed.
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

/// Returns the file of `blob`, if it can be hard-linked into a store of `user`, or else of the current user.
fn linkable(blob: &BlobFile, user: Option<u32>) -> Result<&File, LinkError> {
    let file = blob.whole().ok_or(LinkError::InArchive)?;
    let metadata = file.metadata().map_err(LinkError::Look)?;
    let user = user.unwrap_or_else(|| rustix::process::geteuid().as_raw());
    let owner = metadata.uid();
    if owner != user {
        return Err(LinkError::Owner { owner, user });
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o022 != 0 {
        return Err(LinkError::Writable { mode });
    }
    Ok(file)
}

/// Makes `copy` share the disk blocks of `blob`. Returns whether that was possible: some file systems support
/// it, for two files on them (Linux 6.18 `Documentation/filesystems/vfs.rst` `remap_file_range`). Otherwise
/// `copy` stays empty.
fn is_cloned(blob: &BlobFile, copy: &File) -> bool {
    blob.whole().is_some_and(|file| ioctl_ficlone(copy, file).is_ok())
}
