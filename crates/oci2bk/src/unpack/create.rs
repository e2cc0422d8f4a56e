//! Sets the attributes of entries: owner, then extended attributes (a change of owner drops file
//! capabilities), then mode (a change of owner drops setuid too), then times, which everything else changes.
//! Facts: containerd v2.3.3 `pkg/archive/tar.go` `createTarFile`, `tar_unix.go`.
//!
//! Attributes that the kernel has already set are not set again: for most files that saves two of six system
//! calls.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use bkstate::worker::{OverlayMarks, Owners};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid, XattrFlags};
use rustix::io::Errno;

use super::capability;
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
fn owner(entry: &Entry) -> (Option<u32>, Option<u32>) {
    let known = |id: u32| Some(id).filter(|id| *id != u32::MAX);
    (known(entry.uid as u32), known(entry.gid as u32))
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

    fn has_owner(&self, (uid, gid): Owner) -> bool {
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
pub(super) fn chown(directory: &impl AsFd, name: &[u8], owner: Owner) -> Result<(), Refusal> {
    rustix::fs::chownat(directory, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(Refusal::io("set the owner"))
}

/// An owner for the kernel; `None` leaves the user or the group unchanged.
pub(super) type Owner = (Option<Uid>, Option<Gid>);

/// Sets the attributes of entries as the daemon of a worker would.
#[derive(Debug)]
pub(super) struct Attributes<'a> {
    owners: &'a Owners,
    marks: OverlayMarks,
    /// Whether the marks of overlays are set as well.
    with_marks: bool,
    /// The user and the group of this process, which own new files.
    process: (u32, u32),
}

impl<'a> Attributes<'a> {
    pub(super) fn new(owners: &'a Owners, marks: OverlayMarks, with_marks: bool) -> Self {
        let user = rustix::process::geteuid().as_raw();
        Self { owners, marks, with_marks, process: (user, rustix::process::getegid().as_raw()) }
    }

    /// Returns the owner of what a daemon makes by itself, if it is not this process.
    pub(super) fn of_daemon(&self) -> Owner {
        let owner = self.owners.root_on_disk();
        let (user, group) = owner.unzip();
        (user.map(Uid::from_raw), group.map(Gid::from_raw))
    }

    /// Returns the owner of the file of `entry`.
    pub(super) fn owner(&self, entry: &Entry) -> Result<Owner, Refusal> {
        let (user, group) = owner(entry);
        let known = |id: Option<u32>| id.unwrap_or(0);
        let (on_disk, group_on_disk) = self.owners.on_disk(known(user), known(group))?;
        Ok((user.map(|_| Uid::from_raw(on_disk)), group.map(|_| Gid::from_raw(group_on_disk))))
    }

    /// Returns the same for a file with the attributes `given`: if the entry leaves the owner to the kernel, that
    /// is the root of the daemon, and not this process.
    fn owner_of(&self, entry: &Entry, given: Given) -> Result<Owner, Refusal> {
        let (user, group) = self.owner(entry)?;
        let Some((root, group_of_root)) = self.owners.root_on_disk() else {
            return Ok((user, group));
        };
        let is_ours = (given.uid == self.process.0, given.gid == self.process.1);
        Ok((
            user.or(is_ours.0.then(|| Uid::from_raw(root))),
            group.or(is_ours.1.then(|| Gid::from_raw(group_of_root))),
        ))
    }

    /// Sets all attributes of an open file or directory that differ.
    pub(super) fn set(&self, fd: &OwnedFd, entry: &Entry, given: Given) -> Result<(), Refusal> {
        let owner = self.owner_of(entry, given)?;
        let has_owner = given.has_owner(owner);
        if !has_owner {
            rustix::fs::fchown(fd, owner.0, owner.1).map_err(Refusal::io("set the owner"))?;
        }
        self.set_xattrs(entry, true, |name, value| {
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
    pub(super) fn set_at(
        &self,
        directory: &impl AsFd,
        name: &[u8],
        entry: &Entry,
        given: Given,
    ) -> Result<(), Refusal> {
        chown(directory, name, self.owner_of(entry, given)?)?;
        // A handle of the inode itself. Its name in /proc leads only to the inode, so no symbolic link can be
        // followed.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(directory, name, flags, Mode::empty())
            .map_err(Refusal::io("open what was created"))?;
        let kind = kind(&fd)?;
        let inode = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let has_user_xattrs = matches!(kind, FileType::RegularFile | FileType::Directory);
        self.set_xattrs(entry, has_user_xattrs, |name, value| {
            rustix::fs::setxattr(&inode, name, value, XattrFlags::empty())
        })?;
        if kind != FileType::Symlink {
            rustix::fs::chmod(&inode, mode(entry)).map_err(Refusal::io("set the mode"))?;
        }
        set_times_at(directory, name, entry)
    }

    /// Sets the attributes of a new symbolic link: owner, extended attributes and times.
    pub(super) fn set_of_symlink(
        &self,
        directory: &impl AsFd,
        name: &[u8],
        entry: &Entry,
        given: Given,
    ) -> Result<(), Refusal> {
        if entry.xattrs.is_empty() {
            let owner = self.owner_of(entry, given)?;
            if !given.has_owner(owner) {
                chown(directory, name, owner)?;
            }
            set_times_at(directory, name, entry)
        } else {
            self.set_at(directory, name, entry, given)
        }
    }

    /// Sets the extended attributes, except those that a layer must not set: `trusted.*`, where overlayfs keeps
    /// its own state, and those where it does so for a rootless daemon. Attributes that the file system does not
    /// support are skipped, and so are `user.*` attributes where the kernel does not allow any.
    fn set_xattrs(
        &self,
        entry: &Entry,
        has_user_xattrs: bool,
        mut set: impl FnMut(&[u8], &[u8]) -> rustix::io::Result<()>,
    ) -> Result<(), Refusal> {
        for (name, value) in &entry.xattrs {
            if is_of_overlay(name, self.marks) && !self.with_marks {
                continue;
            }
            let value = match self.owners.root_on_disk() {
                Some((root, _)) if name == capability::NAME => capability::within(value, root)?,
                _ => value.as_slice().into(),
            };
            match set(name, &value) {
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
}

/// Returns whether the extended attribute `name` is one of the `trusted.*`, or one with which overlayfs marks
/// files.
pub(super) fn is_of_overlay(name: &[u8], marks: OverlayMarks) -> bool {
    name.starts_with(b"trusted.") || marks.has(name)
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
