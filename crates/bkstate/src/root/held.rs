//! A root that nobody else works on: the one door to a state.

use std::path::{Path, PathBuf};

use super::{LockError, RootError, RootLock, open, open_if_there, open_to_write};
use crate::dir::Dir;
use crate::worker::Worker;
use crate::{Class, Classified as _};

/// The root of a stopped daemon, under its lock.
///
/// No daemon can start on it, and nobody else can read or write it, for as long as this lives. Dropping it
/// lets go of the lock.
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
/// // Opening it to write makes it.
/// let root = Root::open_to_write(&path)?;
/// assert_eq!(root.path(), path);
/// assert!(root.worker().open(root.dir(), Part::Worker)?.is_none());
/// assert!(matches!(root.verify(), Err(VerifyError::NoState { .. })));
/// assert!(root.parts().is_err() && root.state().is_err() && root.usage().is_err());
/// let existing = root.existing(&WorkerId::derive("worker"))?;
/// assert!(existing.blobs.is_empty());
///
/// // Somebody else is refused, and told who has it.
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
    /// It cannot be opened, or is not a root.
    #[error(transparent)]
    Root(#[from] RootError),
    /// It is in use or cannot be locked.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// It is not there and cannot be made.
    #[error("cannot make the root {}", path.display())]
    Create {
        /// The root.
        path: PathBuf,
        /// What the kernel answered.
        #[source]
        source: std::io::Error,
    },
}

impl OpenRootError {
    /// Whether somebody else uses the root, so that it may work later.
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
    /// Opens the root at `path`, or in the Docker volume at `path`, to read it. It may be empty.
    ///
    /// Nothing in it is changed, and no file of a lock is made where there is none, because no daemon runs
    /// then.
    ///
    /// # Errors
    /// If it is not there or not a root, or somebody uses it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenRootError> {
        Self::to_read(open(path.as_ref())?)
    }

    /// Opens the root at `path` to read it; nothing if there is none.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn open_if_there(path: impl AsRef<Path>) -> Result<Option<Self>, OpenRootError> {
        open_if_there(path.as_ref())?.map(Self::to_read).transpose()
    }

    /// Opens the root at `path` to write to it, and makes it if it is not there.
    ///
    /// # Errors
    /// As for [`open`](Self::open), and if others have power over it.
    pub fn open_to_write(path: impl AsRef<Path>) -> Result<Self, OpenRootError> {
        let path = path.as_ref();
        // What is there is not made: of what the kernel answers, that would only tell that it exists.
        let dir = match open_to_write(path)? {
            Some(dir) => dir,
            None => make(path)?,
        };
        let worker = Worker::default();
        let lock = RootLock::acquire(&dir, &worker)?;
        Ok(Self { dir, worker, _lock: lock })
    }

    /// Refuses a path that [`open_to_write`](Self::open_to_write) would refuse, without making anything.
    /// Opens what is there, to read it.
    ///
    /// # Errors
    /// As for `open_to_write`.
    pub fn check_to_write(path: impl AsRef<Path>) -> Result<Option<Self>, OpenRootError> {
        open_to_write(path.as_ref())?;
        Self::open_if_there(path)
    }

    /// The root at `path` with the state of `worker`.
    #[cfg(test)]
    pub(crate) fn open_of(worker: Worker, path: &Path) -> Result<Self, OpenRootError> {
        Ok(Self { worker, ..Self::open_to_write(path)? })
    }

    fn to_read(dir: Dir) -> Result<Self, OpenRootError> {
        let worker = Worker::default();
        let lock = RootLock::acquire_existing(&dir, &worker)?;
        Ok(Self { dir, worker, _lock: lock })
    }

    /// Its directory, for what else there is to read.
    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    /// Its path, for messages.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The worker whose state it holds, or will hold.
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
