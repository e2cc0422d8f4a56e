//! The lock of a running buildkitd on its root, and other users of the root.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{FlockOperation, flock, fstat};

use super::{Holder, holders, mounts};
use crate::dir::{Dir, DirError};
use crate::worker::{StateFile, Worker};
use crate::{Class, Classified as _};

/// Holds `buildkitd.lock` and the existing databases; no daemon can start on the root while it lives.
///
/// buildkitd takes the same lock with `flock(2)` (BuildKit v0.32.2 `cmd/buildkitd/main.go`). The file
/// remains; a daemon does not mind it.
#[derive(Debug)]
pub(super) struct RootLock {
    file: Option<OwnedFd>,
    databases: Vec<File>,
}

impl Drop for RootLock {
    fn drop(&mut self) {
        // Closing them is not enough: if another thread starts a process right now, that process holds them
        // too until it executes its program.
        let databases = self.databases.iter().map(AsFd::as_fd);
        for file in databases.chain(self.file.as_ref().map(AsFd::as_fd)) {
            let _ = flock(file, FlockOperation::Unlock);
        }
    }
}

/// Why the lock could not be taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// A daemon, or another run of oci2bk, uses the root.
    #[error(
        "{} is in use by {holder}, a running buildkitd or another conversion; stop it and run again",
        root.display()
    )]
    InUse {
        /// The root.
        root: PathBuf,
        /// The holder of the lock.
        holder: Holder,
    },
    /// A process has a database open for writing, without the lock of the root.
    #[error("{} is in use by {holder}; stop it and run again", path.display())]
    Database {
        /// The database.
        path: PathBuf,
        /// The process.
        holder: Holder,
    },
    /// A part of the root is mounted, as in a running container.
    #[error(
        "{} is in use by the mount at {}{}; stop the container that has it, or unmount it, and run \
         again",
        part.display(),
        point.display(),
        of(holder.as_ref())
    )]
    Mounted {
        /// The directory of the root.
        part: PathBuf,
        /// The mount point of the directory, or of the overlay that contains it, or of a mount on it.
        point: PathBuf,
        /// A process that has the mount, if it is in another mount namespace.
        holder: Option<Holder>,
    },
    /// The lock file or a database cannot be opened or locked.
    #[error("cannot lock the root")]
    File(#[from] DirError),
    /// The file system does not support locks.
    #[error("cannot lock {}; use a file system that supports flock", root.display())]
    Unsupported {
        /// The root.
        root: PathBuf,
        /// The error of the kernel.
        #[source]
        source: std::io::Error,
    },
}

fn of(holder: Option<&Holder>) -> String {
    holder.map(|holder| format!(" of {holder}")).unwrap_or_default()
}

impl LockError {
    /// Returns whether another program uses the root, so that a later attempt may succeed.
    pub fn is_in_use(&self) -> bool {
        self.class() == Class::InUse
    }
}

impl RootLock {
    /// Takes the lock. If the lock file is missing, it does not create one, because no daemon runs then.
    ///
    /// # Errors
    /// Same as [`acquire`](Self::acquire).
    pub(super) fn acquire_existing(root: &Dir, worker: &Worker) -> Result<Self, LockError> {
        let name = worker.name(StateFile::Lock);
        let file = root.size(name)?.map(|_| lock(root, name)).transpose()?;
        Self::with(file, root, worker)
    }

    /// Takes the lock without waiting, and checks as well as the kernel allows that no process uses the root
    /// without it.
    ///
    /// # Errors
    /// Returns an error if another program uses the root, or the lock cannot be taken at all.
    pub(super) fn acquire(root: &Dir, worker: &Worker) -> Result<Self, LockError> {
        // From here on no daemon can start, so nothing unused comes into use.
        Self::with(Some(lock(root, worker.name(StateFile::Lock))?), root, worker)
    }

    fn with(file: Option<OwnedFd>, root: &Dir, worker: &Worker) -> Result<Self, LockError> {
        let databases = holders::lock_databases(root, worker)?;
        mounts::ensure_unused(root)?;
        Ok(Self { file, databases })
    }
}

/// Takes the daemon's lock.
fn lock(root: &Dir, name: &str) -> Result<OwnedFd, LockError> {
    let unsupported = |error: rustix::io::Errno| LockError::Unsupported {
        root: root.path().to_owned(),
        source: error.into(),
    };
    loop {
        let file = root.lock_file(name)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let holder = Holder::of_lock(&file);
                return Err(LockError::InUse { root: root.path().to_owned(), holder });
            }
            Err(error) => return Err(unsupported(error)),
        }
        // A stopping daemon removes the file, perhaps after we opened it. A lock on an unlinked file keeps no
        // daemon out.
        if fstat(&file).map_err(unsupported)?.st_nlink > 0 {
            return Ok(file);
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
        let first = RootLock::acquire(&root, &Worker::default()).unwrap();
        let refused = RootLock::acquire(&root, &Worker::default()).unwrap_err();
        assert!(matches!(refused, LockError::InUse { .. }), "{refused}");
        let holder = format!(" is in use by process {} (", std::process::id());
        assert!(refused.to_string().contains(&holder), "{refused}");
        drop(first);
        RootLock::acquire(&root, &Worker::default()).unwrap();
    }

    #[test]
    fn looking_for_the_lock_makes_no_file() {
        let temp = tempfile::tempdir().unwrap();
        let root = Dir::open(temp.path()).unwrap();
        RootLock::acquire_existing(&root, &Worker::default()).unwrap();
        assert!(root.entries().unwrap().is_empty());
        let first = RootLock::acquire(&root, &Worker::default()).unwrap();
        let refused = RootLock::acquire_existing(&root, &Worker::default()).unwrap_err();
        assert!(matches!(refused, LockError::InUse { .. }), "{refused}");
        let holder = format!(" is in use by process {} (", std::process::id());
        assert!(refused.to_string().contains(&holder), "{refused}");
        drop(first);
        RootLock::acquire_existing(&root, &Worker::default()).unwrap();
    }
}
