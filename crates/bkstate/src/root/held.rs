//! A locked root: the only entry to a state.

use std::path::{Path, PathBuf};

use super::{LockError, RootError, RootLock, open, open_if_there, open_to_write};
use crate::dir::Dir;
use crate::worker::Worker;
use crate::{Class, Classified as _};

/// The root of a stopped daemon, under its lock.
///
/// While it lives, no daemon can start on the root, and no other program can read or write it. Dropping it
/// releases the lock.
///
/// ```
/// use bkstate::Root;
/// use bkstate::ids::WorkerId;
/// use bkstate::root::{Holder, LockError, OpenRootError};
/// use bkstate::state::VerifyError;
/// use bkstate::worker::Part;
///
/// let temp = tempfile::tempdir()?;
/// let path = temp.path().join("buildkit");
/// assert!(Root::open_if_there(&path)?.is_none());
///
/// // Opening it for writing creates it.
/// let root = Root::open_to_write(&path)?;
/// assert_eq!(root.path(), path);
/// assert!(root.worker().open(root.dir(), Part::Worker)?.is_none());
/// assert!(matches!(root.verify(), Err(VerifyError::NoState { .. })));
/// assert!(root.parts().is_err() && root.state().is_err() && root.usage().is_err());
/// let existing = root.existing(&WorkerId::derive("worker"))?;
/// assert!(existing.blobs.is_empty());
///
/// // A second attempt fails, and the error names the holder of the lock.
/// let refused = Root::open(&path).unwrap_err();
/// let OpenRootError::Lock(LockError::InUse { holder: Holder { pid, .. }, .. }) = refused else { panic!() };
/// assert!(pid.is_none_or(|pid| pid == std::process::id()));
///
/// drop(root);
/// Root::open(&path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Root {
    dir: Dir,
    worker: Worker,
    _lock: RootLock,
}

/// Why a root could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenRootError {
    /// The directory cannot be opened, or is not a root.
    #[error(transparent)]
    Root(#[from] RootError),
    /// The root is in use or cannot be locked.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The root does not exist and cannot be created.
    #[error("cannot make the root {}", path.display())]
    Create {
        /// The root.
        path: PathBuf,
        /// The error of the kernel.
        #[source]
        source: std::io::Error,
    },
}

impl OpenRootError {
    /// Returns whether another program uses the root, so that a later attempt may succeed.
    ///
    /// ```
    /// use bkstate::Root;
    ///
    /// let temp = tempfile::tempdir()?;
    /// let root = Root::open_to_write(temp.path())?;
    /// assert!(Root::open(temp.path()).unwrap_err().is_in_use());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_in_use(&self) -> bool {
        self.class() == Class::InUse
    }
}

impl Root {
    /// Opens the root at `path`, or in the Docker volume at `path`, for reading. The root may be empty.
    ///
    /// It changes nothing in the root. If the root has no lock file, it creates none, because no daemon runs
    /// then.
    ///
    /// # Errors
    /// Returns an error if it does not exist, is not a root, or is in use.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenRootError> {
        Self::to_read(open(path.as_ref())?)
    }

    /// Opens the root at `path` for reading; returns `None` if it does not exist.
    ///
    /// # Errors
    /// Same as [`open`](Self::open).
    pub fn open_if_there(path: impl AsRef<Path>) -> Result<Option<Self>, OpenRootError> {
        open_if_there(path.as_ref())?.map(Self::to_read).transpose()
    }

    /// Opens the root at `path` for writing, and creates it if it is missing.
    ///
    /// # Errors
    /// Same as [`open`](Self::open); also if other users can change the root.
    pub fn open_to_write(path: impl AsRef<Path>) -> Result<Self, OpenRootError> {
        let path = path.as_ref();
        // An existing directory is not created: the kernel's answer would only be that it exists.
        let dir = match open_to_write(path)? {
            Some(dir) => dir,
            None => make(path)?,
        };
        let worker = Worker::default();
        let lock = RootLock::acquire(&dir, &worker)?;
        Ok(Self { dir, worker, _lock: lock })
    }

    /// Checks a path as [`open_to_write`](Self::open_to_write) does, without creating anything. Opens an
    /// existing root for reading.
    ///
    /// # Errors
    /// Same as `open_to_write`.
    pub fn check_to_write(path: impl AsRef<Path>) -> Result<Option<Self>, OpenRootError> {
        open_to_write(path.as_ref())?;
        Self::open_if_there(path)
    }

    /// Opens the root at `path` with the state of `worker`.
    #[cfg(test)]
    pub(crate) fn open_of(worker: Worker, path: &Path) -> Result<Self, OpenRootError> {
        Ok(Self { worker, ..Self::open_to_write(path)? })
    }

    fn to_read(dir: Dir) -> Result<Self, OpenRootError> {
        let worker = Worker::default();
        let lock = RootLock::acquire_existing(&dir, &worker)?;
        Ok(Self { dir, worker, _lock: lock })
    }

    /// Returns its directory, to read other files.
    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    /// Returns its path, for messages.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Returns the worker whose state it contains, or will contain.
    pub fn worker(&self) -> &Worker {
        &self.worker
    }
}

fn make(path: &Path) -> Result<Dir, OpenRootError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let refused = |source| OpenRootError::Create { path: path.to_owned(), source };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(refused)?;
    open_to_write(path)?.ok_or_else(|| refused(std::io::ErrorKind::NotFound.into()))
}
