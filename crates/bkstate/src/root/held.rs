//! A locked root: the only entry to a state.

use std::path::{Path, PathBuf};

use super::{Location, LockError, RootError, RootLock, bases};
use crate::dir::{Dir, DirError, if_there};
use crate::packed::Images;
use crate::snapshots::Trees;
use crate::worker::{Bases, Part, Worker};
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
/// assert!(root.open_part(Part::Worker)?.is_none());
/// assert_eq!(root.bases().root().path(), path);
/// assert!(matches!(root.verify_databases(), Err(VerifyError::NoState { .. })));
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
    bases: Bases,
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
    /// Opens the root at `location`, or in the Docker volume there, for reading. The root may be empty.
    ///
    /// It changes nothing in the root. If the root has no lock file, it creates none, because no daemon runs
    /// then.
    ///
    /// # Errors
    /// Returns an error if it does not exist, is not a root, or is in use.
    pub fn open(location: impl Into<Location>) -> Result<Self, OpenRootError> {
        let location = location.into().here();
        Self::to_read(bases::to_read(&location)?, location.worker())
    }

    /// Opens the root at `location` for reading; returns `None` if it does not exist. A builder that has its
    /// layers in an existing containerd has something already: its own root then counts as empty.
    ///
    /// # Errors
    /// Same as [`open`](Self::open).
    pub fn open_if_there(location: impl Into<Location>) -> Result<Option<Self>, OpenRootError> {
        let location = location.into().here();
        let bases = bases::if_there_is_any(&location)?;
        bases.map(|bases| Self::to_read(bases, location.worker())).transpose()
    }

    /// Opens the root at `location` for writing, and creates missing directories.
    ///
    /// # Errors
    /// Same as [`open`](Self::open); also if other users can change the root.
    pub fn open_to_write(location: impl Into<Location>) -> Result<Self, OpenRootError> {
        let location = location.into().here();
        let bases = bases::to_write(&location)?;
        let lock = RootLock::acquire(&bases, location.worker())?;
        Ok(Self { bases, worker: location.worker().clone(), _lock: lock })
    }

    /// Checks a location as [`open_to_write`](Self::open_to_write) does, without creating anything. Opens an
    /// existing root for reading.
    ///
    /// # Errors
    /// Same as `open_to_write`.
    pub fn check_to_write(location: impl Into<Location>) -> Result<Option<Self>, OpenRootError> {
        let location = location.into().here();
        bases::check_to_write(&location)?;
        Self::open_if_there(location)
    }

    /// Opens the root at `path` with the state of `worker`.
    #[cfg(test)]
    pub(crate) fn open_of(worker: Worker, path: &Path) -> Result<Self, OpenRootError> {
        Self::open_to_write(Location::from(path).with_worker(worker))
    }

    fn to_read(bases: Bases, worker: &Worker) -> Result<Self, OpenRootError> {
        let lock = RootLock::acquire_existing(&bases, worker)?;
        Ok(Self { bases, worker: worker.clone(), _lock: lock })
    }

    /// Returns its directory, to read other files.
    pub fn dir(&self) -> &Dir {
        self.bases.root()
    }

    /// Returns the directories from which its parts are reached.
    pub fn bases(&self) -> &Bases {
        &self.bases
    }

    /// Opens a part of its state, if it exists.
    ///
    /// # Errors
    /// Returns an error if it cannot be opened, or is not a directory.
    pub fn open_part(&self, part: Part) -> Result<Option<Dir>, DirError> {
        self.worker.open(&self.bases, part)
    }

    /// Opens the directories of its snapshots, with the images into which they may lead, if there are any.
    ///
    /// ```
    /// use bkstate::Root;
    ///
    /// let temp = tempfile::tempdir()?;
    /// assert!(Root::open_to_write(temp.path())?.trees()?.is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Returns an error if they cannot be opened.
    pub fn trees(&self) -> Result<Option<Trees>, DirError> {
        let Some(snapshotter) = self.open_part(Part::Snapshotter)? else { return Ok(None) };
        let Some(trees) = if_there(Trees::open(&snapshotter, self.worker.form()))? else {
            return Ok(None);
        };
        let images =
            if self.worker.can_be_packed() { Images::open(self.dir())? } else { Images::none() };
        Ok(Some(trees.with_images(images)))
    }

    /// Returns its path, for messages.
    pub fn path(&self) -> &Path {
        self.bases.root().path()
    }

    /// Returns the worker whose state it contains, or will contain.
    pub fn worker(&self) -> &Worker {
        &self.worker
    }
}
