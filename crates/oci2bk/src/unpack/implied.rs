//! Directories that a layer implies: they contain its entries, but do not have entries themselves.
//!
//! containerd creates them with mode 0755 and then copies owner, mode, times and extended
//! attributes from the same directory in the nearest layer below (containerd v2.3.3
//! `pkg/archive/tar.go` `mkparent`). We unpack layers before those below them, so the copying is a
//! second step.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bkstate::Digest;
use bkstate::worker::OverlayMarks;
use rustix::fs::{FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::allowance::{Allowance, Counter};
use super::create::is_of_overlay;
use super::error::{EntryName, Refusal, UnpackError};
use super::paths::{LayerLookups, Lookups, OPEN_DIRECTORY, open_plain, resolve, split};
use super::times::name_memory;
use super::xattrs;

/// The directories that a layer implies, by their path in the snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImpliedParents {
    layer: Digest,
    /// The attributes that are not inherited.
    marks: OverlayMarks,
    unnamed: Paths,
    /// Implied directories that a later entry of the layer names.
    named: Paths,
    /// Approximate memory of all paths that were ever in it, in bytes.
    memory: u64,
    /// Remaining lookups in the layers below, after unpacking.
    lookups: LayerLookups,
}

/// Clean paths, sorted by bytes: a directory comes before its content, but not directly before it (`a`,
/// `a-b`, `a/c`).
type Paths = BTreeSet<Vec<u8>>;

/// The attributes that an implied directory inherits from the layer below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Inherits {
    /// Owner, mode, times and extended attributes.
    Everything,
    /// Only extended attributes that it does not have: the layer's own entry for the directory set everything
    /// else.
    Xattrs,
}

impl ImpliedParents {
    pub(super) fn new(layer: Digest, marks: OverlayMarks, lookups: LayerLookups) -> Self {
        Self { layer, marks, unnamed: Paths::new(), named: Paths::new(), memory: 0, lookups }
    }

    /// Sets the limit on lookups for settling them.
    pub(super) fn allow(&mut self, lookups: LayerLookups) {
        self.lookups = lookups;
    }

    /// Returns whether the layer implies no directory, so that settling is not needed.
    pub fn is_empty(&self) -> bool {
        self.unnamed.is_empty() && self.named.is_empty()
    }

    /// Records that the implied directory `path` was created.
    pub(super) fn created(&mut self, path: &[u8]) {
        if self.unnamed.insert(path.to_vec()) {
            self.memory += name_memory(path);
        }
    }

    /// Returns the approximate memory of the paths, in bytes.
    pub(super) fn memory(&self) -> u64 {
        self.memory
    }

    /// Records that the layer has an entry for the directory `path` after all.
    pub(super) fn named(&mut self, path: &[u8]) {
        if let Some(path) = self.unnamed.take(path) {
            self.named.insert(path);
        }
    }

    /// Records that `path` was removed with everything below it.
    pub(super) fn removed(&mut self, path: &[u8]) {
        for paths in [&mut self.unnamed, &mut self.named] {
            paths.remove(path);
            for below in below(paths, path) {
                paths.remove(&below);
            }
        }
    }

    /// Returns the directories below `path` without an entry in the layer, each before its content.
    pub(super) fn unnamed_below(&self, path: &[u8]) -> Vec<Vec<u8>> {
        below(&self.unnamed, path)
    }

    /// Returns whether `path` is (still) such a directory.
    pub(crate) fn is_unnamed(&self, path: &[u8]) -> bool {
        self.unnamed.contains(path)
    }

    /// Returns those without an entry in the layer.
    pub(super) fn unnamed(&self) -> impl Iterator<Item = &[u8]> {
        self.unnamed.iter().map(Vec::as_slice)
    }

    /// [Settles](Self::settle) one of several layers, on top of layers that are opened when needed, and fails
    /// with the first that cannot be opened.
    pub(crate) fn settle_within<L: AsFd, E>(
        &self,
        fs: BorrowedFd<'_>,
        lowers: impl Iterator<Item = Result<L, E>>,
        allowance: &Allowance,
    ) -> Result<Result<(), UnpackError>, E> {
        let mut unopened = None;
        let opened = lowers.map_while(|lower| lower.map_err(|error| unopened = Some(error)).ok());
        let settled = self.settle_on(fs, opened, &allowance.lookups);
        unopened.map_or(Ok(settled), Err)
    }

    /// Returns the remaining lookups; `allowance` counts those of all layers.
    pub(crate) fn lookups<'a>(&self, allowance: &'a Allowance) -> Lookups<'a> {
        Lookups::new(self.lookups, &allowance.lookups)
    }

    /// Copies owner, mode, times and extended attributes (except `trusted.*`, and those of overlayfs) to each
    /// implied directory in `fs` from the first of `lowers` that has its path.
    ///
    /// `lowers` are the root directories of the layers below, nearest first; each must be settled already.
    /// The iterator is only advanced as far as needed. A directory that no layer below has keeps mode 0755,
    /// owner root (the group of a parent with setgid) and the Unix epoch as its times, and so does one whose
    /// path is something else in the first layer that has it. Times of `fs` itself do not change.
    ///
    /// # Errors
    /// Returns an error if a layer below has another kind of file where the path needs a directory, if the
    /// lookups exceed the limits, or if the system refuses an operation.
    pub fn settle<L: AsFd>(
        &self,
        fs: BorrowedFd<'_>,
        lowers: impl IntoIterator<Item = L>,
    ) -> Result<(), UnpackError> {
        self.settle_on(fs, lowers, &self.lookups.counter())
    }

    fn settle_on<L: AsFd>(
        &self,
        fs: BorrowedFd<'_>,
        lowers: impl IntoIterator<Item = L>,
        of_all: &Counter,
    ) -> Result<(), UnpackError> {
        let failed = |path: &[u8], reason| {
            let path = EntryName::new(path);
            UnpackError::Settle { layer: self.layer, path, reason }
        };
        let unnamed = self.unnamed.iter().map(|path| (path.as_slice(), Inherits::Everything));
        let named = self.named.iter().map(|path| (path.as_slice(), Inherits::Xattrs));
        let mut open: Vec<_> = unnamed.chain(named).collect();
        let mut new = BTreeSet::new();
        let lookups = Lookups::new(self.lookups, of_all);
        let mut lowers = lowers.into_iter();
        while !open.is_empty()
            && let Some(lower) = lowers.next()
        {
            // Opening the layer takes about as long as a lookup in it.
            lookups.take(&[]).map_err(|r| failed(&[], r))?;
            let mut undecided = Vec::with_capacity(open.len());
            for (path, inherits) in open {
                let origin =
                    Origin::find(lower.as_fd(), path, &lookups).map_err(|r| failed(path, r))?;
                match origin {
                    Origin::Missing => undecided.push((path, inherits)),
                    Origin::Replaced => drop(new.insert(path)),
                    Origin::Directory(source) => open_plain(&fs, path, OPEN_DIRECTORY)
                        .map_err(Refusal::io("open the directory"))
                        .and_then(|target| copy_attributes(&source, &target, inherits, self.marks))
                        .map_err(|reason| failed(path, reason))?,
                }
            }
            open = undecided;
        }
        new.extend(open.into_iter().map(|(path, _)| path));
        // Parents come before their content.
        for path in new.into_iter().filter(|path| self.unnamed.contains(*path)) {
            let (parent, _) = split(path);
            if self.unnamed.contains(parent) {
                take_group(fs, parent, path).map_err(|reason| failed(path, reason))?;
            }
        }
        Ok(())
    }
}

/// Returns the paths below `path`; the root's is empty.
fn below(paths: &Paths, path: &[u8]) -> Vec<Vec<u8>> {
    let start = if path.is_empty() { Vec::new() } else { [path, b"/"].concat() };
    let range = paths.range(start.clone()..);
    range.take_while(|path| path.starts_with(&start)).cloned().collect()
}

/// What a layer below has at the path of an implied directory.
enum Origin {
    Missing,
    /// Anything but a directory, such as a whiteout.
    Replaced,
    Directory(OwnedFd),
}

impl Origin {
    fn find(lower: BorrowedFd<'_>, path: &[u8], lookups: &Lookups<'_>) -> Result<Self, Refusal> {
        lookups.take(path)?;
        match open_plain(&lower, path, OPEN_DIRECTORY) {
            Ok(fd) => return Ok(Self::Directory(fd)),
            Err(Errno::NOENT) => return Ok(Self::Missing),
            Err(Errno::NOSYS) => return Err(Refusal::NoOpenat2),
            // A link or another file is in the path.
            Err(_) => {}
        }
        let resolved = resolve(lower, path, lookups)?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match open_plain(&lower, &resolved, flags) {
            Ok(found) if kind(&found)? != FileType::Directory => Ok(Self::Replaced),
            Ok(_) => open_plain(&lower, &resolved, OPEN_DIRECTORY)
                .map(Self::Directory)
                .map_err(Refusal::io("open the directory in a lower layer")),
            Err(Errno::NOENT) => Ok(Self::Missing),
            Err(Errno::NOTDIR) => Err(Refusal::ParentNotDirectory),
            Err(errno) => Err(Refusal::io("open the path in a lower layer")(errno)),
        }
    }
}

/// The kernel gives a new directory the group of its parent if that has setgid; here the parent got setgid
/// only after the directory was created.
fn take_group(fs: BorrowedFd<'_>, parent: &[u8], path: &[u8]) -> Result<(), Refusal> {
    let above = open_plain(&fs, parent, OPEN_DIRECTORY)
        .and_then(rustix::fs::fstat)
        .map_err(Refusal::io("read the attributes of the parent"))?;
    if Mode::from_raw_mode(above.st_mode).contains(Mode::SGID) {
        open_plain(&fs, path, OPEN_DIRECTORY)
            .and_then(|fd| rustix::fs::fchown(fd, None, Some(Gid::from_raw(above.st_gid))))
            .map_err(Refusal::io("set the group"))?;
    }
    Ok(())
}

fn kind(fd: &OwnedFd) -> Result<FileType, Refusal> {
    let stat = rustix::fs::fstat(fd).map_err(Refusal::io("read the attributes"))?;
    Ok(FileType::from_raw_mode(stat.st_mode))
}

pub(super) fn copy_attributes(
    source: &OwnedFd,
    target: &OwnedFd,
    inherits: Inherits,
    marks: OverlayMarks,
) -> Result<(), Refusal> {
    let stat = rustix::fs::fstat(source).map_err(Refusal::io("read the attributes"))?;
    let everything = inherits == Inherits::Everything;
    if everything {
        let owner = Some(Uid::from_raw(stat.st_uid));
        let group = Some(Gid::from_raw(stat.st_gid));
        rustix::fs::fchown(target, owner, group).map_err(Refusal::io("set the owner"))?;
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
        rustix::fs::fchmod(target, mode).map_err(Refusal::io("set the mode"))?;
    }
    copy_xattrs(source, target, marks)?;
    if everything {
        rustix::fs::futimens(target, &times(&stat)).map_err(Refusal::io("set the times"))?;
    }
    Ok(())
}

fn copy_xattrs(source: &OwnedFd, target: &OwnedFd, marks: OverlayMarks) -> Result<(), Refusal> {
    let names = xattrs::names(source).map_err(Refusal::io("list the extended attributes"))?;
    for name in &names {
        if is_of_overlay(name, marks) {
            continue;
        }
        let value = xattrs::value(source, name).map_err(|errno| xattr_error(name, errno))?;
        let Some(value) = value else { continue };
        match rustix::fs::fsetxattr(target, name.as_slice(), &value, XattrFlags::CREATE) {
            Ok(()) | Err(Errno::NOTSUP | Errno::NODATA | Errno::EXIST) => {}
            Err(errno) => return Err(xattr_error(name, errno)),
        }
    }
    Ok(())
}

fn xattr_error(name: &[u8], errno: Errno) -> Refusal {
    Refusal::Xattr { name: EntryName::new(name), source: errno.into() }
}

/// Returns the times of a file, to give them to another.
pub(super) fn times(stat: &Stat) -> Timestamps {
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

fn time(seconds: i64, nanoseconds: u64) -> Timespec {
    // The kernel returns less than a second.
    Timespec { tv_sec: seconds, tv_nsec: nanoseconds.cast_signed() }
}
