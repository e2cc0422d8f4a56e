//! The lock of a running buildkitd on its root, and other users of the root.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{FlockOperation, flock, fstat};

use super::{Holder, holders, mounts};
use crate::dir::{Dir, DirError};
use crate::worker::{Base, Bases, Worker};
use crate::{Class, Classified as _};

/// Holds the lock of the daemon and the existing databases; no daemon can start on the root while it lives.
///
/// buildkitd takes the lock `buildkitd.lock` with `flock(2)` (BuildKit v0.32.2 `cmd/buildkitd/main.go`). The
/// file remains; a daemon does not mind it. Docker Engine and containerd have only the locks of their
/// databases, so two conversions exclude each other by a lock on the directory.
#[derive(Debug)]
pub(super) struct RootLock {
    files: Vec<OwnedFd>,
    databases: Vec<File>,
}

impl Drop for RootLock {
    fn drop(&mut self) {
        // Closing them is not enough: if another thread starts a process right now, that process holds them
        // too until it executes its program.
        let databases = self.databases.iter().map(AsFd::as_fd);
        for file in databases.chain(self.files.iter().map(AsFd::as_fd)) {
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
    pub(super) fn acquire_existing(bases: &Bases, worker: &Worker) -> Result<Self, LockError> {
        let root = bases.root();
        let file = match worker.lock() {
            Some(name) => root.size(name)?.map(|_| lock(root, name)).transpose()?,
            None => None,
        };
        Self::with(file, bases, worker)
    }

    /// Takes the lock without waiting, and checks as well as the kernel allows that no process uses the root
    /// without it.
    ///
    /// # Errors
    /// Returns an error if another program uses the root, or the lock cannot be taken at all.
    pub(super) fn acquire(bases: &Bases, worker: &Worker) -> Result<Self, LockError> {
        // From here on no daemon can start, so nothing unused comes into use.
        let file = worker.lock().map(|name| lock(bases.root(), name)).transpose()?;
        Self::with(file, bases, worker)
    }

    fn with(file: Option<OwnedFd>, bases: &Bases, worker: &Worker) -> Result<Self, LockError> {
        let mut files: Vec<_> = file.into_iter().collect();
        if worker.lock().is_none() {
            files.push(lock_directory(bases.root())?);
        }
        if let Some(metadata) = bases.get(Base::Metadata) {
            files.push(lock_directory(metadata)?);
        }
        let databases = holders::lock_databases(bases, worker)?;
        mounts::ensure_unused(bases.root())?;
        Ok(Self { files, databases })
    }
}

/// Takes the daemon's lock.
fn lock(root: &Dir, name: &str) -> Result<OwnedFd, LockError> {
    loop {
        let file = root.lock_file(name)?;
        lock_alone(&file, root)?;
        // A stopping daemon removes the file, perhaps after we opened it. A lock on an unlinked file keeps no
        // daemon out.
        let stat = fstat(&file).map_err(|error| unsupported(root, error))?;
        if stat.st_nlink > 0 {
            return Ok(file);
        }
    }
}

/// Locks `dir` against other conversions; no daemon takes this lock.
fn lock_directory(dir: &Dir) -> Result<OwnedFd, LockError> {
    // A handle of its own: a lock is that of the open file.
    let file: OwnedFd = dir.reopen()?;
    lock_alone(&file, dir)?;
    Ok(file)
}

fn lock_alone(file: impl AsFd, root: &Dir) -> Result<(), LockError> {
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let holder = Holder::of_lock(&file);
            Err(LockError::InUse { root: root.path().to_owned(), holder })
        }
        Err(error) => Err(unsupported(root, error)),
    }
}

fn unsupported(root: &Dir, error: rustix::io::Errno) -> LockError {
    LockError::Unsupported { root: root.path().to_owned(), source: error.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_of_two_is_refused_until_the_first_lets_go() {
        let temp = tempfile::tempdir().unwrap();
        let root = Bases::from(Dir::open(temp.path()).unwrap());
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
        let root = Bases::from(Dir::open(temp.path()).unwrap());
        RootLock::acquire_existing(&root, &Worker::default()).unwrap();
        assert!(root.root().entries().unwrap().is_empty());
        let first = RootLock::acquire(&root, &Worker::default()).unwrap();
        let refused = RootLock::acquire_existing(&root, &Worker::default()).unwrap_err();
        assert!(matches!(refused, LockError::InUse { .. }), "{refused}");
        let holder = format!(" is in use by process {} (", std::process::id());
        assert!(refused.to_string().contains(&holder), "{refused}");
        drop(first);
        RootLock::acquire_existing(&root, &Worker::default()).unwrap();
    }
}
