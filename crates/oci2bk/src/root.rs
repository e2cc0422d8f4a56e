//! The root of a daemon, for reading.
//!
//! ```no_run
//! use oci2bk::{Root, Verifier};
//!
//! let root = Root::open("/var/lib/buildkit")?;
//! println!("{} records", root.state()?.records.by_id.len());
//! for damage in Verifier::new().verify(&root)?.damage {
//!     println!("{}: {damage}: {}", damage.kind(), damage.consequence());
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::path::Path;

use bkstate::dir::{Dir, DirError, if_there};
use bkstate::state::{LockError, ReadStateError, RootLock, State};

/// The root of a daemon that does not run, opened for reading. Nothing in it is changed.
///
/// No daemon can start on it, and nobody convert into it, for as long as this lives. The lock is that
/// of the daemon if its file is there; see [`RootLock`] for what else is made sure of.
#[derive(Debug)]
pub struct Root {
    dir: Dir,
    _lock: RootLock,
}

/// Why a root could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenRootError {
    /// It is no directory that can be opened.
    #[error("cannot open the root")]
    Dir(#[from] DirError),
    /// It is in use or cannot be locked.
    #[error(transparent)]
    Lock(#[from] LockError),
}

impl Root {
    /// Opens the root at `path`, whatever it holds.
    ///
    /// # Errors
    /// If it is not there, or somebody uses it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenRootError> {
        let dir = Dir::open(path.as_ref())?;
        let lock = RootLock::acquire_existing(&dir)?;
        Ok(Self { dir, _lock: lock })
    }

    /// Opens the root at `path`; nothing if there is none.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn open_if_there(path: impl AsRef<Path>) -> Result<Option<Self>, OpenRootError> {
        let Some(dir) = if_there(Dir::open(path.as_ref()))? else { return Ok(None) };
        let lock = RootLock::acquire_existing(&dir)?;
        Ok(Some(Self { dir, _lock: lock }))
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

    /// Its path, for messages.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}
