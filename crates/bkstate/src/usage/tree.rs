//! Measures the files of a snapshot on disk as containerd does: allocated blocks, each inode once, including
//! the root directory (continuity v0.5 `fs/du_unix.go` `diskUsage`).

use std::collections::BTreeSet;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir as Entries, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::UsageError;
use crate::dir::{Dir, DirError};
use crate::snapshots::{TREES, Trees};

/// Unit of `st_blocks`, independent of the file system's block size.
const BLOCK_BYTES: i64 = 512;
/// The kernel returns EAGAIN if it cannot rule out a race with a rename elsewhere.
const MAX_ATTEMPTS: usize = 64;

/// Returns the size in bytes of the snapshot `id`, in the first of `trees` that has it.
pub(super) fn measure(trees: &[Trees], id: u64) -> Result<i64, UsageError> {
    let mut missing = None;
    for trees in trees {
        match trees.fs(id) {
            Ok(fs) => return allocated(&fs).map_err(|source| UsageError::Tree { id, source }),
            Err(error) if error.is_not_found() => missing = Some(error),
            Err(source) => return Err(UsageError::Tree { id, source }),
        }
    }
    let none = || DirError {
        action: "find the directories of",
        path: PathBuf::from(TREES),
        source: Errno::NOENT.into(),
    };
    Err(UsageError::Tree { id, source: missing.unwrap_or_else(none) })
}

fn allocated(top: &Dir) -> Result<i64, DirError> {
    let mut walk = Walk { linked: BTreeSet::new(), bytes: 0, pending: vec![PathBuf::new()] };
    let refused = |path: &Path, errno: Errno| DirError {
        action: "measure",
        path: top.path().join(path),
        source: errno.into(),
    };
    let stat = rustix::fs::fstat(top).map_err(|errno| refused(Path::new(""), errno))?;
    walk.add(&stat);
    while let Some(path) = walk.pending.pop() {
        walk.directory(top, &path).map_err(|errno| refused(&path, errno))?;
    }
    Ok(walk.bytes)
}

struct Walk {
    /// Inodes with several links that were counted already.
    linked: BTreeSet<(u64, u64)>,
    bytes: i64,
    /// Directories not yet read, by their paths.
    pending: Vec<PathBuf>,
}

impl Walk {
    fn directory(&mut self, top: &Dir, path: &Path) -> Result<(), Errno> {
        let mut entries = Entries::new(open(top, path)?)?;
        while let Some(entry) = entries.read() {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let stat = rustix::fs::statat(entries.fd()?, name, AtFlags::SYMLINK_NOFOLLOW)?;
            self.add(&stat);
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                self.pending.push(path.join(std::ffi::OsStr::from_bytes(name.to_bytes())));
            }
        }
        Ok(())
    }

    fn add(&mut self, stat: &Stat) {
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if is_directory || stat.st_nlink < 2 || self.linked.insert((stat.st_dev, stat.st_ino)) {
            self.bytes = self.bytes.saturating_add(stat.st_blocks.saturating_mul(BLOCK_BYTES));
        }
    }
}

/// Opens the directory `path` below `top`, without following links.
fn open(top: &Dir, path: &Path) -> Result<std::os::fd::OwnedFd, Errno> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..MAX_ATTEMPTS {
        match rustix::fs::openat2(top.as_fd(), path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN) => {}
            outcome => return outcome,
        }
    }
    Err(Errno::AGAIN)
}
