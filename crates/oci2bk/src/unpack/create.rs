//! Sets the attributes of entries: owner, then extended attributes (a change of owner drops file
//! capabilities), then mode (a change of owner drops setuid too), then times, which everything else changes.
//! Facts: containerd v2.3.3 `pkg/archive/tar.go` `createTarFile`, `tar_unix.go`.
//!
//! Attributes that the kernel has already set are not set again: for most files that saves two of six system
//! calls.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid, XattrFlags};
use rustix::io::Errno;

use super::error::{EntryName, Refusal};
use super::tar::Entry;
use super::times;

/// Returns the permission bits of an entry, with setuid, setgid and sticky.
pub(super) fn mode(entry: &Entry) -> Mode {
    // Masked to 12 bits, so the cast keeps all of them.
    Mode::from_raw_mode((entry.mode & 0o7777) as u32)
}

/// Returns whether an entry does not set a group.
pub(super) fn leaves_group_to_kernel(entry: &Entry) -> bool {
    owner(entry).1.is_none()
}

/// Returns the owner for the kernel: the low 32 bits, of which all ones mean "unchanged". containerd passes
/// ids on without a check, so larger ones wrap around.
fn owner(entry: &Entry) -> (Option<Uid>, Option<Gid>) {
    let (uid, gid) = (entry.uid as u32, entry.gid as u32);
    let uid = (uid != u32::MAX).then(|| Uid::from_raw(uid));
    let gid = (gid != u32::MAX).then(|| Gid::from_raw(gid));
    (uid, gid)
}

/// The attributes of a file before they are set.
///
/// The kernel derives them from the process (user, umask) and, for new files, from the directory (setgid,
/// default ACL), so they are read and not computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Given {
    uid: u32,
    gid: u32,
    /// The lower 12 bits.
    mode: u32,
}

impl Given {
    /// Reads the values of the file or directory `fd`.
    pub(super) fn of(fd: &impl AsFd) -> Result<Self, Refusal> {
        let stat = rustix::fs::fstat(fd).map_err(Refusal::io("read the attributes"))?;
        Ok(Self::from(&stat))
    }

    /// Reads the values of `name` in `directory`, which may be a symbolic link.
    pub(super) fn of_name(directory: &impl AsFd, name: &[u8]) -> Result<Self, Refusal> {
        rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
            .map(|stat| Self::from(&stat))
            .map_err(Refusal::io("read the attributes"))
    }

    fn has_owner(&self, entry: &Entry) -> bool {
        let (uid, gid) = owner(entry);
        uid.is_none_or(|uid| uid.as_raw() == self.uid)
            && gid.is_none_or(|gid| gid.as_raw() == self.gid)
    }

    /// Returns whether the file has the mode of the entry, after setting everything else: extended attributes
    /// may be ACLs, which change it.
    fn has_mode(&self, entry: &Entry) -> bool {
        entry.xattrs.is_empty() && self.mode == mode(entry).as_raw_mode()
    }
}

impl From<&Stat> for Given {
    fn from(stat: &Stat) -> Self {
        Self { uid: stat.st_uid, gid: stat.st_gid, mode: stat.st_mode & 0o7777 }
    }
}

/// Sets the owner of `name` in `directory`, which may be a symbolic link.
pub(super) fn chown(directory: &impl AsFd, name: &[u8], entry: &Entry) -> Result<(), Refusal> {
    let (uid, gid) = owner(entry);
    rustix::fs::chownat(directory, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(Refusal::io("set the owner"))
}

/// Sets all attributes of an open file or directory that differ.
pub(super) fn set_attributes(fd: &OwnedFd, entry: &Entry, given: Given) -> Result<(), Refusal> {
    let has_owner = given.has_owner(entry);
    if !has_owner {
        let (uid, gid) = owner(entry);
        rustix::fs::fchown(fd, uid, gid).map_err(Refusal::io("set the owner"))?;
    }
    set_xattrs(entry, true, |name, value| {
        rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty())
    })?;
    // The change of the owner may have changed the mode.
    if !(has_owner && given.has_mode(entry)) {
        rustix::fs::fchmod(fd, mode(entry)).map_err(Refusal::io("set the mode"))?;
    }
    rustix::fs::futimens(fd, &times::of(entry)).map_err(Refusal::io("set the times"))
}

/// Sets all attributes of `name` in `directory`, of any kind, without opening it: opening a device or FIFO
/// has side effects. A symbolic link keeps its mode.
pub(super) fn set_attributes_at(
    directory: &impl AsFd,
    name: &[u8],
    entry: &Entry,
) -> Result<(), Refusal> {
    chown(directory, name, entry)?;
    // A handle of the inode itself. Its name in /proc leads only to the inode, so no symbolic link can be
    // followed.
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(directory, name, flags, Mode::empty())
        .map_err(Refusal::io("open what was created"))?;
    let kind = kind(&fd)?;
    let inode = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let has_user_xattrs = matches!(kind, FileType::RegularFile | FileType::Directory);
    set_xattrs(entry, has_user_xattrs, |name, value| {
        rustix::fs::setxattr(&inode, name, value, XattrFlags::empty())
    })?;
    if kind != FileType::Symlink {
        rustix::fs::chmod(&inode, mode(entry)).map_err(Refusal::io("set the mode"))?;
    }
    set_times_at(directory, name, entry)
}

/// Sets the attributes of a new symbolic link: owner, extended attributes and times.
pub(super) fn set_symlink_attributes(
    directory: &impl AsFd,
    name: &[u8],
    entry: &Entry,
    given: Given,
) -> Result<(), Refusal> {
    if entry.xattrs.is_empty() {
        if !given.has_owner(entry) {
            chown(directory, name, entry)?;
        }
        set_times_at(directory, name, entry)
    } else {
        set_attributes_at(directory, name, entry)
    }
}

fn set_times_at(directory: &impl AsFd, name: &[u8], entry: &Entry) -> Result<(), Refusal> {
    rustix::fs::utimensat(directory, name, &times::of(entry), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(Refusal::io("set the times"))
}

/// Returns the type of the file behind an open handle.
fn kind(fd: &impl AsFd) -> Result<FileType, Refusal> {
    let stat = rustix::fs::fstat(fd).map_err(Refusal::io("read the attributes"))?;
    Ok(FileType::from_raw_mode(stat.st_mode))
}

/// Sets the extended attributes, except `trusted.*`, which a layer must not set: overlayfs keeps its own
/// state there. Attributes that the file system does not support are skipped, and so are `user.*` attributes
/// where the kernel does not allow any.
fn set_xattrs(
    entry: &Entry,
    has_user_xattrs: bool,
    mut set: impl FnMut(&[u8], &[u8]) -> rustix::io::Result<()>,
) -> Result<(), Refusal> {
    for (name, value) in &entry.xattrs {
        if name.starts_with(b"trusted.") {
            continue;
        }
        match set(name, value) {
            Ok(()) | Err(Errno::NOTSUP) => {}
            Err(Errno::PERM) if name.starts_with(b"user.") && !has_user_xattrs => {}
            Err(errno) => {
                let name = EntryName::new(name);
                return Err(Refusal::Xattr { name, source: errno.into() });
            }
        }
    }
    Ok(())
}
