//! Directories that a layer implies: they contain its entries, but it has no entry for them.
//!
//! containerd creates them with mode 0755 and then copies owner, mode, times and extended
//! attributes from the same directory in the nearest layer below (containerd v2.3.3
//! `pkg/archive/tar.go` `mkparent`). We unpack layers before those below them, so the copying is a
//! second step.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bkstate::Digest;
use rustix::fs::{FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::error::{EntryName, Refusal, UnpackError};
use super::paths::{open_plain, resolve};

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The directories that a layer implies, by their path in the snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImpliedParents {
    layer: Digest,
    paths: BTreeMap<Vec<u8>, Inherits>,
}

/// What an implied directory takes over from the layer below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Inherits {
    /// Owner, mode, times and extended attributes.
    Everything,
    /// Only extended attributes it does not have: the layer named the directory after it had
    /// implied it, which gave it all else.
    Xattrs,
}

impl ImpliedParents {
    pub(super) fn new(layer: Digest) -> Self {
        Self { layer, paths: BTreeMap::new() }
    }

    /// Whether the layer names all its directories, so that there is nothing to settle.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// The implied directory `path` was created.
    pub(super) fn created(&mut self, path: &[u8]) {
        self.paths.insert(path.to_vec(), Inherits::Everything);
    }

    /// The layer has an entry for the directory `path` after all.
    pub(super) fn named(&mut self, path: &[u8]) {
        if let Some(inherits) = self.paths.get_mut(path) {
            *inherits = Inherits::Xattrs;
        }
    }

    /// `path` was removed with all below it.
    pub(super) fn removed(&mut self, path: &[u8]) {
        if self.paths.is_empty() {
            return;
        }
        self.paths.remove(path);
        for below in self.below(path) {
            self.paths.remove(&below);
        }
    }

    /// The topmost directories below `path` that the layer never named.
    pub(super) fn unnamed_below(&self, path: &[u8]) -> Vec<Vec<u8>> {
        let mut topmost: Vec<Vec<u8>> = Vec::new();
        for below in self.below(path) {
            let covered = topmost.last().is_some_and(|top| is_below(&below, top));
            if !covered && self.paths.get(&below) == Some(&Inherits::Everything) {
                topmost.push(below);
            }
        }
        topmost
    }

    fn below(&self, path: &[u8]) -> Vec<Vec<u8>> {
        // Names with bytes below the slash sort between a directory and what it contains, so the
        // range starts at the first possible content.
        let first = if path.is_empty() { Vec::new() } else { [path, b"/"].concat() };
        let range = self.paths.range(first.clone()..);
        range.map(|(below, _)| below).take_while(|p| p.starts_with(&first)).cloned().collect()
    }

    /// Those that the layer never named.
    pub(super) fn unnamed(&self) -> impl Iterator<Item = &[u8]> {
        let unnamed = self.paths.iter().filter(|(_, inherits)| **inherits == Inherits::Everything);
        unnamed.map(|(path, _)| path.as_slice())
    }

    /// Copies owner, mode, times and extended attributes (except `trusted.*`) to each implied
    /// directory in `fs` from the first of `lowers` that has its path.
    ///
    /// `lowers` are the root directories of the layers below, the nearest first; each must be
    /// settled itself. A directory that no layer below has keeps mode 0755, owner root and the
    /// Unix epoch as its times, and so does one whose path is something else in the first layer
    /// that has it. Times of `fs` itself do not change.
    ///
    /// # Errors
    /// A layer below has something that is no directory where the path needs one, or the system
    /// refuses an operation.
    pub fn settle<L: AsFd>(
        &self,
        fs: BorrowedFd<'_>,
        lowers: impl IntoIterator<Item = L>,
    ) -> Result<(), UnpackError> {
        let mut open: Vec<(&[u8], Inherits)> =
            self.paths.iter().map(|(path, inherits)| (path.as_slice(), *inherits)).collect();
        let mut lowers = lowers.into_iter();
        while !open.is_empty()
            && let Some(lower) = lowers.next()
        {
            let mut undecided = Vec::with_capacity(open.len());
            for (path, inherits) in open {
                let settled = settle_from(fs, lower.as_fd(), path, inherits).map_err(|reason| {
                    let path = EntryName::new(path);
                    UnpackError::Settle { layer: self.layer, path, reason }
                })?;
                if !settled {
                    undecided.push((path, inherits));
                }
            }
            open = undecided;
        }
        Ok(())
    }
}

fn is_below(path: &[u8], top: &[u8]) -> bool {
    path.strip_prefix(top).is_some_and(|rest| rest.starts_with(b"/"))
}

/// Whether `lower` has the path, so that those below it do not matter.
fn settle_from(
    fs: BorrowedFd<'_>,
    lower: BorrowedFd<'_>,
    path: &[u8],
    inherits: Inherits,
) -> Result<bool, Refusal> {
    let source = match open_plain(&lower, path, DIRECTORY) {
        Ok(fd) => fd,
        Err(Errno::NOSYS) => return Err(Refusal::NoOpenat2),
        // A link or something else is on the way.
        Err(_) => {
            let resolved = resolve(lower, path)?;
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match open_plain(&lower, &resolved, flags) {
                Err(Errno::NOENT) => return Ok(false),
                Err(Errno::NOTDIR) => return Err(Refusal::ParentNotDirectory),
                Err(errno) => return Err(Refusal::io("open the path in a lower layer")(errno)),
                Ok(found) if kind(&found)? != FileType::Directory => return Ok(true),
                Ok(_) => open_plain(&lower, &resolved, DIRECTORY)
                    .map_err(Refusal::io("open the directory in a lower layer"))?,
            }
        }
    };
    let target = open_plain(&fs, path, DIRECTORY).map_err(Refusal::io("open the directory"))?;
    copy_attributes(&source, &target, inherits)?;
    Ok(true)
}

fn kind(fd: &OwnedFd) -> Result<FileType, Refusal> {
    let stat = rustix::fs::fstat(fd).map_err(Refusal::io("read the attributes"))?;
    Ok(FileType::from_raw_mode(stat.st_mode))
}

fn copy_attributes(source: &OwnedFd, target: &OwnedFd, inherits: Inherits) -> Result<(), Refusal> {
    let stat = rustix::fs::fstat(source).map_err(Refusal::io("read the attributes"))?;
    let everything = inherits == Inherits::Everything;
    if everything {
        let owner = Some(Uid::from_raw(stat.st_uid));
        let group = Some(Gid::from_raw(stat.st_gid));
        rustix::fs::fchown(target, owner, group).map_err(Refusal::io("set the owner"))?;
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
        rustix::fs::fchmod(target, mode).map_err(Refusal::io("set the mode"))?;
    }
    copy_xattrs(source, target)?;
    if everything {
        let times = Timestamps {
            last_access: time(stat.st_atime, stat.st_atime_nsec as u64),
            last_modification: time(stat.st_mtime, stat.st_mtime_nsec as u64),
        };
        rustix::fs::futimens(target, &times).map_err(Refusal::io("set the times"))?;
    }
    Ok(())
}

fn copy_xattrs(source: &OwnedFd, target: &OwnedFd) -> Result<(), Refusal> {
    for name in xattr_names(source)?.split(|byte| *byte == 0) {
        if name.is_empty() || name.starts_with(b"trusted.") {
            continue;
        }
        let Some(value) = xattr_value(source, name)? else { continue };
        match rustix::fs::fsetxattr(target, name, &value, XattrFlags::CREATE) {
            Ok(()) | Err(Errno::NOTSUP | Errno::NODATA | Errno::EXIST) => {}
            Err(errno) => return Err(xattr_error(name, errno)),
        }
    }
    Ok(())
}

/// The names, each followed by a NUL.
fn xattr_names(source: &OwnedFd) -> Result<Vec<u8>, Refusal> {
    // The kernel's limits for the list and for one value, XATTR_LIST_MAX and XATTR_SIZE_MAX.
    let mut names = vec![0; 1 << 16];
    match rustix::fs::flistxattr(source, &mut names[..]) {
        Ok(length) => {
            names.truncate(length);
            Ok(names)
        }
        Err(Errno::NOTSUP) => Ok(Vec::new()),
        Err(errno) => Err(Refusal::io("list the extended attributes")(errno)),
    }
}

fn xattr_value(source: &OwnedFd, name: &[u8]) -> Result<Option<Vec<u8>>, Refusal> {
    let mut value = vec![0; 1 << 16];
    match rustix::fs::fgetxattr(source, name, &mut value[..]) {
        Ok(length) => {
            value.truncate(length);
            Ok(Some(value))
        }
        Err(Errno::NOTSUP | Errno::NODATA) => Ok(None),
        Err(errno) => Err(xattr_error(name, errno)),
    }
}

fn xattr_error(name: &[u8], errno: Errno) -> Refusal {
    Refusal::Xattr { name: EntryName::new(name), source: errno.into() }
}

fn time(seconds: i64, nanoseconds: u64) -> Timespec {
    // The kernel gives less than a second.
    Timespec { tv_sec: seconds, tv_nsec: nanoseconds.cast_signed() }
}
