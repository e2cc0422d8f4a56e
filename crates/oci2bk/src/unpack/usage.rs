//! How much a snapshot takes on disk, as containerd counts it (continuity v0.5 `fs/du_unix.go`):
//! allocated blocks and inodes, each inode once, the root directory included.

use std::collections::BTreeSet;
use std::os::fd::BorrowedFd;
use std::rc::Rc;

use rustix::fs::{AtFlags, Dir, FileType};
use rustix::io::Errno;

use super::error::{EntryName, UnpackError};
use super::paths::{OPEN_DIRECTORY, join, open_plain};

/// The unit of `st_blocks`, whatever the file system's block size.
const BLOCK_BYTES: i64 = 512;

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
    let root = (Rc::from([]), Vec::new());
    let (usage, linked) = (Usage::default(), BTreeSet::new());
    let mut walk = Walk { fs, usage, linked, to_do: vec![root] };
    while let Some((above, name)) = walk.to_do.pop() {
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
    /// Inodes with several links that were met before.
    linked: BTreeSet<(u64, u64)>,
    /// Directories not yet read: the path of the directory above, and the name.
    to_do: Vec<(Rc<[u8]>, Vec<u8>)>,
}

impl Walk<'_> {
    fn directory(&mut self, path: &Rc<[u8]>) -> Result<(), Errno> {
        let fd = open_plain(&self.fs, path, OPEN_DIRECTORY)?;
        self.count(&rustix::fs::fstat(&fd)?);
        let mut entries = Dir::new(fd)?;
        while let Some(entry) = entries.read() {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let stat = rustix::fs::statat(entries.fd()?, name, AtFlags::SYMLINK_NOFOLLOW)?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                self.to_do.push((Rc::clone(path), name.to_bytes().to_vec()));
            } else {
                self.count(&stat);
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
