//! Gives entries their attributes: owner, then extended attributes (a change of owner drops file
//! capabilities), then mode (it drops setuid too), then times, which everything else changes.
//! Facts: containerd v2.3.3 `pkg/archive/tar.go` `createTarFile`, `tar_unix.go`.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid, XattrFlags};
use rustix::io::Errno;

use super::error::{EntryName, Refusal};
use super::tar::Entry;
use super::times;

/// The permission bits of an entry, with setuid, setgid and sticky.
pub(super) fn mode(entry: &Entry) -> Mode {
    // Masked to 12 bits, so the cast keeps all of them.
    Mode::from_raw_mode((entry.mode & 0o7777) as u32)
}

/// The owner as the kernel takes it: the low 32 bits, of which all ones mean "leave as it is".
/// containerd passes ids on without a check, so larger ones wrap round.
fn owner(entry: &Entry) -> (Option<Uid>, Option<Gid>) {
    let (uid, gid) = (entry.uid as u32, entry.gid as u32);
    let uid = (uid != u32::MAX).then(|| Uid::from_raw(uid));
    let gid = (gid != u32::MAX).then(|| Gid::from_raw(gid));
    (uid, gid)
}

/// Sets the owner of `name` in `directory`, which may be a symbolic link.
pub(super) fn chown(directory: &impl AsFd, name: &[u8], entry: &Entry) -> Result<(), Refusal> {
    let (uid, gid) = owner(entry);
    rustix::fs::chownat(directory, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(Refusal::io("set the owner"))
}

/// Sets all attributes of an open file or directory.
pub(super) fn set_attributes(fd: &OwnedFd, entry: &Entry) -> Result<(), Refusal> {
    let (uid, gid) = owner(entry);
    rustix::fs::fchown(fd, uid, gid).map_err(Refusal::io("set the owner"))?;
    set_xattrs(entry, true, |name, value| {
        rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty())
    })?;
    rustix::fs::fchmod(fd, mode(entry)).map_err(Refusal::io("set the mode"))?;
    rustix::fs::futimens(fd, &times::of(entry)).map_err(Refusal::io("set the times"))
}

/// Sets all attributes of `name` in `directory`, whatever it is, without opening it: opening a
/// device or FIFO has effects. A symbolic link keeps its mode.
pub(super) fn set_attributes_at(
    directory: &impl AsFd,
    name: &[u8],
    entry: &Entry,
) -> Result<(), Refusal> {
    chown(directory, name, entry)?;
    // A handle for the inode itself. Its name in /proc leads to the inode and no further, so
    // that no symbolic link can be followed.
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
) -> Result<(), Refusal> {
    if entry.xattrs.is_empty() {
        chown(directory, name, entry)?;
        set_times_at(directory, name, entry)
    } else {
        set_attributes_at(directory, name, entry)
    }
}

fn set_times_at(directory: &impl AsFd, name: &[u8], entry: &Entry) -> Result<(), Refusal> {
    rustix::fs::utimensat(directory, name, &times::of(entry), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(Refusal::io("set the times"))
}

/// What an open handle refers to.
fn kind(fd: &impl AsFd) -> Result<FileType, Refusal> {
    let stat = rustix::fs::fstat(fd).map_err(Refusal::io("read the attributes"))?;
    Ok(FileType::from_raw_mode(stat.st_mode))
}

/// Sets the extended attributes, except `trusted.*`, which a layer must not set: overlayfs keeps
/// its own state there. What the file system does not support is left out, and so are `user.*`
/// attributes where the kernel does not allow any.
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
