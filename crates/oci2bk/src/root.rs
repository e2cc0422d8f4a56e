//! The root of a daemon, for reading.
//!
//! ```
//! use oci2bk::root::OpenRootError;
//! use oci2bk::{CacheExport, Converter, Keyring, Limits, Plan, Root, State};
//!
//! let temporary = tempfile::tempdir()?;
//! let path = temporary.path().join("buildkit");
//! assert!(Root::open_if_there(&path)?.is_none());
//!
//! let exports = CacheExport::read_sources(&["../../fixtures/min/cache".parse()?], &Limits::default())?;
//! let plan = Plan::new(&exports, &Keyring::for_exports(&exports))?;
//! Converter::new().extract(false).convert(&plan, &path)?;
//!
//! let root = Root::open(&path)?;
//! let state: State = root.state()?;
//! assert_eq!(state.worker_id, plan.worker_id);
//! for record in state.records.by_id.values() {
//!     println!("{}", record.description.as_deref().unwrap_or("(no description)"));
//! }
//! // What else is there to read is reached from its directory.
//! let worker = root.dir().dir("runc-overlayfs")?;
//! assert_eq!(worker.path(), root.path().join("runc-overlayfs"));
//!
//! // For as long as `root` is there, nobody else gets at what it is a view of.
//! assert!(matches!(Root::open(&path), Err(OpenRootError::Lock(_))));
//! drop(root);
//! Root::open(&path)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::path::Path;

use bkstate::dir::Dir;
use bkstate::root::{self, RootError};
use bkstate::state::{LockError, ReadStateError, RootLock, State};

/// The root of a stopped daemon, opened for reading. Nothing in it is changed.
///
/// No daemon can start on it, and nobody convert into it, for as long as this lives. The lock is that
/// of the daemon if its file is there; see [`RootLock`] for what else is made sure of.
#[derive(Debug)]
pub struct Root {
    dir: Dir,
    lock: RootLock,
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
}

impl Root {
    /// Opens the root at `path`, or in the Docker volume at `path`. It may be empty.
    ///
    /// # Errors
    /// If it is not there or not a root, or somebody uses it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenRootError> {
        let dir = root::open(path.as_ref())?;
        let lock = RootLock::acquire_existing(&dir)?;
        Ok(Self { dir, lock })
    }

    /// Opens the root at `path`; nothing if there is none.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn open_if_there(path: impl AsRef<Path>) -> Result<Option<Self>, OpenRootError> {
        let Some(dir) = root::open_if_there(path.as_ref())? else { return Ok(None) };
        let lock = RootLock::acquire_existing(&dir)?;
        Ok(Some(Self { dir, lock }))
    }

    /// Reads the databases of the state in it. To know whether they are sound, [verify] the root.
    ///
    /// # Errors
    /// If one of them is missing, damaged or of an unknown form.
    ///
    /// [verify]: crate::Verifier::verify
    pub fn state(&self) -> Result<State, ReadStateError> {
        State::read(&self.dir)
    }

    /// Its directory, for what else there is to read.
    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    /// The lock that is held.
    pub(crate) fn lock(&self) -> &RootLock {
        &self.lock
    }

    /// Its path, for messages.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}
