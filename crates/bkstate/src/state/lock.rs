//! The lock that a running buildkitd holds on its root.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::{FlockOperation, flock, fstat};

use super::LOCK;
use crate::dir::{Dir, DirError};

/// Holds `buildkitd.lock`; no daemon can start on the root while it lives.
///
/// buildkitd takes the same lock with `flock(2)` (BuildKit v0.32.2 `cmd/buildkitd/main.go`). The
/// file stays behind; a daemon does not mind it.
#[derive(Debug)]
pub struct RootLock {
    _file: OwnedFd,
}

/// Why the lock could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// A daemon, or another run of ours, works on the root.
    #[error(
        "{} is in use by a running buildkitd or another conversion; stop it and run again",
        root.display()
    )]
    InUse {
        /// The root.
        root: PathBuf,
    },
    /// The lock file cannot be opened.
    #[error("the lock file of the root cannot be used")]
    File(#[from] DirError),
    /// The file system does not lock.
    #[error("{} cannot be locked; use a file system that supports flock", root.display())]
    Unsupported {
        /// The root.
        root: PathBuf,
        /// What the kernel answered.
        #[source]
        source: std::io::Error,
    },
}

impl RootLock {
    /// Whether the lock could be taken, without making the lock file where there is none.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    pub fn check(root: &Dir) -> Result<(), LockError> {
        Self::acquire_existing(root).map(drop)
    }

    /// Takes the lock if its file is there: where there is none no daemon runs, and the root may be
    /// one that we cannot write.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    pub fn acquire_existing(root: &Dir) -> Result<Option<Self>, LockError> {
        root.size(LOCK)?.map(|_| Self::acquire(root)).transpose()
    }

    /// Takes the lock without waiting for it.
    ///
    /// # Errors
    /// If somebody else holds it, or it cannot be taken at all.
    pub fn acquire(root: &Dir) -> Result<Self, LockError> {
        let unsupported = |error: rustix::io::Errno| LockError::Unsupported {
            root: root.path().to_owned(),
            source: error.into(),
        };
        loop {
            let file = root.lock_file(LOCK)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    return Err(LockError::InUse { root: root.path().to_owned() });
                }
                Err(error) => return Err(unsupported(error)),
            }
            // A daemon that stops removes its file, perhaps after we opened it. A lock on a file
            // that has no name any more keeps nobody out.
            if fstat(&file).map_err(unsupported)?.st_nlink > 0 {
                return Ok(Self { _file: file });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_of_two_is_refused_until_the_first_lets_go() {
        let temp = tempfile::tempdir().unwrap();
        let root = Dir::open(temp.path()).unwrap();
        let first = RootLock::acquire(&root).unwrap();
        let refused = RootLock::acquire(&root).unwrap_err();
        assert!(matches!(refused, LockError::InUse { .. }), "{refused}");
        drop(first);
        RootLock::acquire(&root).unwrap();
    }

    #[test]
    fn looking_for_the_lock_makes_no_file() {
        let temp = tempfile::tempdir().unwrap();
        let root = Dir::open(temp.path()).unwrap();
        assert!(RootLock::acquire_existing(&root).unwrap().is_none());
        assert!(root.entries().unwrap().is_empty());
        let first = RootLock::acquire(&root).unwrap();
        let refused = RootLock::acquire_existing(&root).unwrap_err();
        assert!(matches!(refused, LockError::InUse { .. }), "{refused}");
        drop(first);
        assert!(RootLock::acquire_existing(&root).unwrap().is_some());
    }
}
