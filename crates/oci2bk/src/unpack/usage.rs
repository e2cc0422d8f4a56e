//! Computes the size of a snapshot on disk.
//!
//! containerd counts allocated blocks and inodes, each inode once, including the root directory (continuity
//! v0.5 `fs/du_unix.go`). Which blocks are allocated depends on the file system, and on ext4 even on the
//! fragmentation of a file. So that the same layers give the same state everywhere, this counts the minimum
//! that ext4 with its usual blocks of 4 KiB would allocate.

use std::collections::BTreeSet;
use std::os::fd::BorrowedFd;
use std::rc::Rc;

use rustix::fs::{AtFlags, Dir, FileType};
use rustix::io::Errno;

use super::error::{EntryName, UnpackError};
use super::paths::{OPEN_DIRECTORY, join, open_plain};

/// Size of an allocation block, in bytes.
const BLOCK_BYTES: i64 = 4096;

/// A shorter target of a symbolic link is stored in the inode.
pub(super) const LONG_TARGET: i64 = 60;

/// Size of a directory entry without its name.
pub(super) const ENTRY_BYTES: usize = 8;

/// The size of a snapshot on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Usage {
    /// Size in whole blocks, in bytes.
    pub size: i64,
    /// Number of inodes.
    pub inodes: i64,
}

impl Usage {
    /// Adds an inode with this many bytes.
    pub(super) fn add(&mut self, bytes: i64) {
        let blocks = bytes.saturating_add(BLOCK_BYTES - 1) / BLOCK_BYTES;
        self.size = self.size.saturating_add(blocks.saturating_mul(BLOCK_BYTES));
        self.inodes = self.inodes.saturating_add(1);
    }
}

/// Measures the snapshot directory `fs`.
///
/// # Errors
/// Returns an error if the system refuses to list or read a directory.
pub fn usage(fs: BorrowedFd<'_>) -> Result<Usage, UnpackError> {
    usage_while(fs, || Ok(()))
}

/// Same as [`usage`], but ends with the error of `check`, which is called again and again.
pub(crate) fn usage_while(
    fs: BorrowedFd<'_>,
    check: impl Fn() -> Result<(), UnpackError>,
) -> Result<Usage, UnpackError> {
    let root = (Rc::from([]), Vec::new());
    let (usage, linked) = (Usage::default(), BTreeSet::new());
    let mut walk = Walk { fs, usage, linked, to_do: vec![root] };
    while let Some((above, name)) = walk.to_do.pop() {
        check()?;
        let path = join(&above, &name).into();
        walk.directory(&path).map_err(|errno| UnpackError::Usage {
            path: EntryName::new(&path),
            source: errno.into(),
        })?;
    }
    Ok(walk.usage)
}

struct Walk<'fs> {
    fs: BorrowedFd<'fs>,
    usage: Usage,
    /// Inodes with several links that were counted already.
    linked: BTreeSet<(u64, u64)>,
    /// Directories not yet read: the path of the parent directory, and the name.
    to_do: Vec<(Rc<[u8]>, Vec<u8>)>,
}

impl Walk<'_> {
    fn directory(&mut self, path: &Rc<[u8]>) -> Result<(), Errno> {
        let fd = open_plain(&self.fs, path, OPEN_DIRECTORY)?;
        let mut listing = 0;
        let mut entries = Dir::new(fd)?;
        while let Some(entry) = entries.read() {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            listing += ENTRY_BYTES + name.to_bytes().len();
            let stat = rustix::fs::statat(entries.fd()?, name, AtFlags::SYMLINK_NOFOLLOW)?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                self.to_do.push((Rc::clone(path), name.to_bytes().to_vec()));
            } else {
                self.count(&stat);
            }
        }
        self.usage.add(i64::try_from(listing.max(1)).unwrap_or(i64::MAX));
        Ok(())
    }

    fn count(&mut self, stat: &rustix::fs::Stat) {
        if stat.st_nlink > 1 && !self.linked.insert((stat.st_dev, stat.st_ino)) {
            return;
        }
        self.usage.add(match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => stat.st_size,
            FileType::Symlink if stat.st_size >= LONG_TARGET => stat.st_size,
            _ => 0,
        });
    }
}
