//! How much a snapshot takes on disk, as containerd counts it (continuity v0.5 `fs/du_unix.go`):
//! allocated blocks and inodes, each inode once, the root directory included.

use std::collections::BTreeSet;
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, Dir, FileType, OFlags};
use rustix::io::Errno;

use super::error::{EntryName, UnpackError};
use super::paths::open_plain;

/// The unit of `st_blocks`, whatever the file system's block size.
const BLOCK_BYTES: i64 = 512;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What a snapshot takes on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Allocated bytes.
    pub size: i64,
    /// Inodes.
    pub inodes: i64,
}

/// Measures the snapshot directory `fs`.
///
/// # Errors
/// The system refuses to list or read a directory.
pub fn usage(fs: BorrowedFd<'_>) -> Result<Usage, UnpackError> {
    let mut walk = Walk { fs, usage: Usage::default(), linked: BTreeSet::new(), to_do: Vec::new() };
    walk.to_do.push(Vec::new());
    while let Some(path) = walk.to_do.pop() {
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
    /// Inodes with several links that were met before.
    linked: BTreeSet<(u64, u64)>,
    /// Directories not yet read.
    to_do: Vec<Vec<u8>>,
}

impl Walk<'_> {
    fn directory(&mut self, path: &[u8]) -> Result<(), Errno> {
        let fd = open_plain(&self.fs, path, DIRECTORY)?;
        self.count(&rustix::fs::fstat(&fd)?);
        let mut entries = Dir::read_from(&fd)?;
        while let Some(entry) = entries.read() {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let stat = rustix::fs::statat(&fd, name, AtFlags::SYMLINK_NOFOLLOW)?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                self.count(&stat);
            } else if path.is_empty() {
                self.to_do.push(name.to_bytes().to_vec());
            } else {
                self.to_do.push([path, b"/", name.to_bytes()].concat());
            }
        }
        Ok(())
    }

    fn count(&mut self, stat: &rustix::fs::Stat) {
        let shared =
            stat.st_nlink > 1 && FileType::from_raw_mode(stat.st_mode) != FileType::Directory;
        if shared && !self.linked.insert((stat.st_dev, stat.st_ino)) {
            return;
        }
        self.usage.size += stat.st_blocks * BLOCK_BYTES;
        self.usage.inodes += 1;
    }
}
