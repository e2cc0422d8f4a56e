//! Completes the tree of a layer with everything that the layer leaves as it is below.
//!
//! The native snapshotter has the whole tree in each snapshot (containerd v2.3.3
//! `plugins/snapshots/native/native.go`): the daemon copies the parent's tree and applies the layer to the copy.
//! Here the layer is unpacked for overlayfs first, independently of others, and the parent's tree is then put
//! below it. The result is the same, with two differences: a file that the layer does not touch is not a copy
//! but a hard link to the parent's file, and directories keep their times, where the daemon has the time of the
//! copy.
//!
//! Links are safe: a daemon mounts committed snapshots read-only, or copies them. It links between snapshots
//! itself (BuildKit v0.34.2 `snapshot/diffapply_linux.go`).

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};

use bkstate::Digest;
use bkstate::worker::OverlayMarks;
use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Uid};
use rustix::io::Errno;

use super::allowance::Allowance;
use super::error::{EntryName, Refusal, UnpackError};
use super::implied::{Inherits, copy_attributes, times};
use super::paths::{OPEN_DIRECTORY, join, open_plain};
use crate::cancel::Cancel;

/// Puts the whole tree `parent` below the unpacked layer `tree`, whose whiteouts and marks it removes. `marks` are
/// those of the unpacked layer. Both trees must be settled; `parent` has neither
/// whiteouts nor marks.
pub(crate) fn complete(
    layer: Digest,
    tree: BorrowedFd<'_>,
    parent: Option<BorrowedFd<'_>>,
    marks: OverlayMarks,
    allowance: &Allowance,
    cancel: &Cancel,
) -> Result<(), UnpackError> {
    let completion = Completion { layer, tree, parent, marks, allowance };
    let mut steps = vec![Step { path: Vec::new(), has_own: true, has_below: parent.is_some() }];
    // Trees can be deeper than the stack and the limit on open files allow.
    while let Some(step) = steps.pop() {
        cancel.check(UnpackError::Cancelled { layer })?;
        let done = if step.has_own {
            completion.merge(&step, &mut steps)
        } else {
            completion.fill(&step, &mut steps)
        };
        done.map_err(|stop| match stop {
            Stop::Limit(error) => error,
            Stop::Refusal(reason) => {
                UnpackError::Entry { layer, entry: EntryName::new(&step.path), reason }
            }
        })?;
    }
    Ok(())
}

struct Completion<'a> {
    layer: Digest,
    tree: BorrowedFd<'a>,
    parent: Option<BorrowedFd<'a>>,
    marks: OverlayMarks,
    allowance: &'a Allowance,
}

/// A directory to complete.
struct Step {
    path: Vec<u8>,
    /// Whether the layer has the directory; otherwise it was created, empty, for that of the parent.
    has_own: bool,
    /// Whether something of the parent may be visible in it.
    has_below: bool,
}

/// Why a directory cannot be completed.
enum Stop {
    Refusal(Refusal),
    /// A limit on all layers.
    Limit(UnpackError),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refusal(refusal)
    }
}

impl Completion<'_> {
    /// Completes a directory of the layer, which keeps its attributes.
    fn merge(&self, step: &Step, steps: &mut Vec<Step>) -> Result<(), Stop> {
        let own = open(self.tree, &step.path)?;
        let before = rustix::fs::fstat(&own).map_err(read_failed)?;
        let is_opaque = self.take_mark(&own)?;
        let below = match self.parent.filter(|_| step.has_below && !is_opaque) {
            Some(parent) => open_if_there(parent, &step.path)?,
            None => None,
        };
        let mut made = BTreeSet::new();
        if let Some(below) = &below {
            if step.path.is_empty() {
                copy_top(below, &own)?;
            }
            made = self.take(below, &own, &step.path, steps)?;
        }
        for entry in entries(&own)? {
            let (name, stat) = entry?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory if !made.contains(&name) => steps.push(Step {
                    path: join(&step.path, &name),
                    has_own: true,
                    has_below: below.is_some(),
                }),
                FileType::CharacterDevice if stat.st_rdev == 0 => {
                    let removed = rustix::fs::unlinkat(&own, name.as_slice(), AtFlags::empty());
                    removed.map_err(Refusal::io("remove a whiteout"))?;
                }
                _ => {}
            }
        }
        Ok(set_times(&own, &before)?)
    }

    /// Fills a directory that only the parent has.
    fn fill(&self, step: &Step, steps: &mut Vec<Step>) -> Result<(), Stop> {
        let own = open(self.tree, &step.path)?;
        let Some(parent) = self.parent else { return Ok(()) };
        let below = open(parent, &step.path)?;
        self.take(&below, &own, &step.path, steps)?;
        Ok(copy_attributes(&below, &own, Inherits::Everything, self.marks)?)
    }

    /// Takes everything of the directory `below` into `own` that has no such name there. Returns the names of the
    /// directories, which are created empty.
    fn take(
        &self,
        below: &OwnedFd,
        own: &OwnedFd,
        path: &[u8],
        steps: &mut Vec<Step>,
    ) -> Result<BTreeSet<Vec<u8>>, Stop> {
        let mut made = BTreeSet::new();
        for entry in entries(below)? {
            let (name, stat) = entry?;
            let taken = if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                rustix::fs::mkdirat(own, name.as_slice(), Mode::RWXU).map(|()| true)
            } else {
                match rustix::fs::linkat(below, &*name, own, &*name, AtFlags::empty()) {
                    // The file has as many names as the file system can count, or is on another one.
                    Err(Errno::MLINK | Errno::XDEV) => {
                        copy(below, own, &name, &stat, self.marks)?;
                        Ok(false)
                    }
                    linked => linked.map(|()| false),
                }
            };
            match taken {
                Ok(is_directory) => {
                    self.allowance.take_entry(self.layer).map_err(Stop::Limit)?;
                    if is_directory {
                        let path = join(path, &name);
                        steps.push(Step { path, has_own: false, has_below: true });
                        made.insert(name);
                    }
                }
                // The layer has another one, or a whiteout.
                Err(Errno::EXIST) => {}
                Err(error) => {
                    return Err(Refusal::io("take a file of the layer below")(error).into());
                }
            }
        }
        Ok(made)
    }

    /// Removes the mark of an opaque directory, and returns whether there was one.
    fn take_mark(&self, directory: &OwnedFd) -> Result<bool, Refusal> {
        match rustix::fs::fremovexattr(directory, self.marks.opaque()) {
            Ok(()) => Ok(true),
            Err(Errno::NODATA | Errno::NOTSUP) => Ok(false),
            Err(error) => Err(Refusal::io("remove the mark of an opaque directory")(error)),
        }
    }
}

fn open(tree: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Refusal> {
    open_plain(&tree, path, OPEN_DIRECTORY).map_err(Refusal::io("open a directory"))
}

/// Opens a directory; `None` if there is none at its path.
fn open_if_there(tree: BorrowedFd<'_>, path: &[u8]) -> Result<Option<OwnedFd>, Refusal> {
    match open_plain(&tree, path, OPEN_DIRECTORY) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(error) => Err(Refusal::io("open a directory")(error)),
    }
}

/// Returns the entries of a directory, without itself and its parent.
fn entries(
    directory: &OwnedFd,
) -> Result<impl Iterator<Item = Result<(Vec<u8>, Stat), Refusal>>, Refusal> {
    let listed = Dir::read_from(directory).map_err(read_failed)?;
    let handle = rustix::io::fcntl_dupfd_cloexec(directory, 0).map_err(read_failed)?;
    Ok(listed.filter_map(move |entry| {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => return Some(Err(read_failed(error))),
        };
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            return None;
        }
        let stat = rustix::fs::statat(&handle, name, AtFlags::SYMLINK_NOFOLLOW);
        Some(stat.map(|stat| (name.to_vec(), stat)).map_err(read_failed))
    }))
}

fn read_failed(error: Errno) -> Refusal {
    Refusal::io("read a directory")(error)
}

/// The root directory is not in layers: it has the owner and the mode of the one below.
fn copy_top(below: &OwnedFd, own: &OwnedFd) -> Result<(), Refusal> {
    let stat = rustix::fs::fstat(below).map_err(read_failed)?;
    let (owner, group) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    rustix::fs::fchown(own, Some(owner), Some(group)).map_err(Refusal::io("set the owner"))?;
    let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
    rustix::fs::fchmod(own, mode).map_err(Refusal::io("set the mode"))
}

fn set_times(directory: &OwnedFd, stat: &Stat) -> Result<(), Refusal> {
    rustix::fs::futimens(directory, &times(stat)).map_err(Refusal::io("set the times"))
}

/// Copies the file `name` of `below`, which cannot get another name.
fn copy(
    below: &OwnedFd,
    own: &OwnedFd,
    name: &[u8],
    stat: &Stat,
    marks: OverlayMarks,
) -> Result<(), Refusal> {
    let failed = |operation| move |error: Errno| Refusal::io(operation)(error);
    let kind = FileType::from_raw_mode(stat.st_mode);
    if kind == FileType::RegularFile {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let source = rustix::fs::openat(below, name, flags, Mode::empty())
            .map_err(failed("open a file of the layer below"))?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let target = rustix::fs::openat(own, name, flags, Mode::RUSR | Mode::WUSR);
        // With the name it would otherwise have.
        let target = match target {
            Err(Errno::EXIST) => return Ok(()),
            target => target.map_err(failed("create a copy"))?,
        };
        let (mut source, mut target) = (File::from(source), File::from(target));
        // The kernel shares the blocks where the file system can.
        io::copy(&mut source, &mut target).map_err(|source| Refusal::Io {
            operation: "copy a file of the layer below",
            source,
        })?;
        return copy_attributes(&source.into(), &target.into(), Inherits::Everything, marks);
    }
    // Of other files, owner, mode and times are all that counts: the kernel allows them no attributes of users,
    // and only programs have capabilities.
    let made = if kind == FileType::Symlink {
        rustix::fs::readlinkat(below, name, Vec::new())
            .and_then(|target| rustix::fs::symlinkat(target, own, name))
    } else {
        rustix::fs::mknodat(own, name, kind, Mode::empty(), stat.st_rdev)
    };
    match made {
        Err(Errno::EXIST) => return Ok(()),
        made => made.map_err(failed("create a copy"))?,
    }
    let (owner, group) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    rustix::fs::chownat(own, name, Some(owner), Some(group), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(failed("set the owner"))?;
    if kind != FileType::Symlink {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let inode = rustix::fs::openat(own, name, flags, Mode::empty())
            .map_err(failed("open what was created"))?;
        let path = format!("/proc/self/fd/{}", inode.as_raw_fd());
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
        rustix::fs::chmod(path, mode).map_err(failed("set the mode"))?;
    }
    rustix::fs::utimensat(own, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(failed("set the times"))
}
