//! Compares a tree with all files: those of its layer, and those of the tree below that the layer leaves.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::FileType;
use rustix::io::Errno;

use super::Origin;
use super::below::{is_opaque, names};
use super::compare::{Comparison, Pending, open_directory};
use super::entry::{Difference, Entry};
use crate::unpack::paths::{OPEN_DIRECTORY, join, open_plain};

impl Comparison<'_> {
    /// Compares a directory of the tree `found`. `layer` is the unpacked layer, with its whiteouts.
    pub(super) fn full_directory(
        &mut self,
        pending: &Pending,
        layer: BorrowedFd<'_>,
        found: BorrowedFd<'_>,
    ) -> io::Result<()> {
        let path = pending.path.as_slice();
        let found = open_directory(found, path)?;
        let layer = open_if_there(layer, path)?;
        let hides = pending.hides
            || layer.as_ref().map_or(Ok(false), |dir| is_opaque(dir, self.marks.opaque()))?;
        let below = if hides { None } else { self.below(path)? };
        let [of_layer, of_below] =
            [&layer, &below].map(|dir| dir.as_ref().map_or(Ok(BTreeSet::new()), names));
        let (of_layer, of_below, found_names) = (of_layer?, of_below?, names(&found)?);
        let all: BTreeSet<_> = of_layer.iter().chain(&of_below).chain(&found_names).collect();
        for name in all {
            let path = join(path, name);
            let own = layer.as_ref().filter(|_| of_layer.contains(name));
            let own = own.map(|dir| Entry::read(dir, name)).transpose()?;
            let is_own = own.is_some();
            let expected = match (own, &below) {
                (Some(own), _) => Some(own).filter(|own| !own.is_whiteout()),
                (None, Some(below)) if of_below.contains(name) => Some(Entry::read(below, name)?),
                (None, _) => None,
            };
            let has = found_names.contains(name);
            let entry = has.then(|| Entry::read(&found, name)).transpose()?;
            match (&expected, &entry) {
                (Some(expected), None) => self.missing(&path, false, expected),
                (None, Some(entry)) => {
                    // Not in layers.
                    let is_socket = entry.kind() == FileType::Socket;
                    if !(self.tree.origin == Origin::Step && is_socket) {
                        self.add(&path, Difference::Unexpected);
                    }
                }
                (Some(expected), Some(entry)) => {
                    self.of_full(path, is_own, hides, expected, entry)?
                }
                (None, None) => {}
            }
        }
        Ok(())
    }

    fn of_full(
        &mut self,
        path: Vec<u8>,
        is_own: bool,
        hides: bool,
        expected: &Entry<'_>,
        found: &Entry<'_>,
    ) -> io::Result<()> {
        let is_directory = |entry: &Entry<'_>| entry.kind() == FileType::Directory;
        let are_directories = is_directory(expected) && is_directory(found);
        if is_own || !are_directories {
            // Often, what the layer leaves is the same file.
            if is_own || expected.inode() != found.inode() {
                self.entry(&path, expected, found)?;
            }
        } else {
            // The time of a directory is that of the copy, if a daemon made it.
            self.access(&path, &expected.stat, &found.stat);
            self.xattrs(&path, expected, found)?;
        }
        if are_directories {
            self.pending.push(Pending { path, covered: false, hides });
        }
        Ok(())
    }

    /// Opens a directory in the tree below.
    fn below(&self, path: &[u8]) -> io::Result<Option<OwnedFd>> {
        let Some(lower) = self.tree.lowers().next() else { return Ok(None) };
        self.lookups.take(path).map_err(io::Error::other)?;
        open_if_there(lower.map_err(io::Error::other)?.as_fd(), path)
    }
}

/// Opens a directory; `None` if there is none at its path.
fn open_if_there(tree: BorrowedFd<'_>, path: &[u8]) -> io::Result<Option<OwnedFd>> {
    match open_plain(&tree, path, OPEN_DIRECTORY) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
