//! The directory that is given as the root of a daemon: what it is, and whether it can be one.
//!
//! A state that lies where no daemon looks for it is of no use, and what a wrong path holds would be mixed
//! with it. So a directory is opened as a root only if it is one, or can become one.
//!
//! ```
//! use bkstate::Root;
//! use bkstate::dir::Dir;
//! use bkstate::root::{Kind, OpenRootError, RootError, find};
//!
//! let temp = tempfile::tempdir()?;
//! let volume = temp.path().join("buildx_buildkit_ci0_state");
//! assert!(Root::open_if_there(&volume)?.is_none());
//!
//! // In a volume of Docker, the root is where a container has it.
//! std::fs::create_dir_all(volume.join("_data/runc-overlayfs"))?;
//! assert_eq!(Root::open(&volume)?.path(), volume.join("_data"));
//!
//! std::fs::write(volume.join("notes"), "")?;
//! let OpenRootError::Root(error) = Root::open(&volume).unwrap_err() else { panic!() };
//! assert!(matches!(error, RootError::NotARoot { kind: Kind::Other { .. }, .. }));
//!
//! // A caller that takes other directories too asks what this one is.
//! let layout = tempfile::tempdir()?;
//! std::fs::write(layout.path().join("index.json"), "{}")?;
//! let (dir, kind) = find(Dir::open(layout.path())?)?;
//! assert_eq!((dir.path(), kind), (layout.path(), Kind::Layout));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Who writes to a root has to know that nobody else can, since a daemon trusts all that is in it:
//!
//! ```
//! use std::fs::{Permissions, create_dir, set_permissions};
//! use std::os::unix::fs::PermissionsExt as _;
//!
//! use bkstate::Root;
//! use bkstate::root::{OpenRootError, RootError, Stranger, check_access, strangers};
//!
//! let temp = tempfile::tempdir()?;
//! let path = temp.path().join("buildkit");
//! assert!(Root::check_to_write(&path)?.is_none());
//! create_dir(&path)?;
//! set_permissions(&path, Permissions::from_mode(0o777))?;
//! let Err(OpenRootError::Root(error)) = Root::check_to_write(&path) else { panic!() };
//! assert!(matches!(error, RootError::Writable { mode: 0o777, .. }));
//! assert!(check_access(Root::open(&path)?.dir()).is_err());
//!
//! set_permissions(&path, Permissions::from_mode(0o700))?;
//! assert!(Root::check_to_write(&path)?.is_some());
//! // But somebody else can put another directory in its place.
//! set_permissions(temp.path(), Permissions::from_mode(0o777))?;
//! let found: Vec<Stranger> = strangers(&path)?;
//! assert!(found.iter().any(|found| found.directory == temp.path() && found.mode == 0o777));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! One that somebody uses is refused, and the error says who:
//!
//! ```
//! use bkstate::Root;
//! use bkstate::root::{Holder, LockError, OpenRootError};
//!
//! let temp = tempfile::tempdir()?;
//! let held = Root::open_to_write(temp.path())?;
//! let OpenRootError::Lock(error) = Root::open(temp.path()).unwrap_err() else { panic!() };
//! assert!(error.is_in_use());
//! let LockError::InUse { holder: Holder { pid, .. }, .. } = error else { panic!() };
//! assert!(pid.is_none_or(|pid| pid == std::process::id()));
//!
//! drop(held);
//! Root::open(temp.path())?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod access;
mod held;
mod holders;
mod kind;
mod lock;
mod mounts;
mod strangers;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};

pub(crate) use access::{SHARED, Trusted};
pub use access::{Stranger, check_access, strangers};
pub use held::{OpenRootError, Root};
pub use holders::Holder;
pub use kind::Kind;
pub use lock::LockError;
use lock::RootLock;

use crate::dir::{Dir, DirError};

/// Where the files of a Docker volume are in its directory (Docker v28.5.2 `volume/local/local.go`).
pub(crate) const VOLUME_DATA: &str = "_data";

/// Why a path does not lead to the root of a daemon.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RootError {
    /// It is not a directory that can be opened.
    #[error("cannot open the root")]
    Dir(#[from] DirError),
    /// A link in the path leads to nothing.
    #[error(
        "{} is a symbolic link to {}, which is not there; make that directory, or remove the link",
        link.display(), target.display()
    )]
    DanglingLink {
        /// The link.
        link: PathBuf,
        /// What it names.
        target: PathBuf,
    },
    /// It belongs to another user, who could change what is written there.
    #[error(
        "{} belongs to user {owner}, who can change all in it, and a daemon would trust it; give another \
         directory, or make it yours: chown {user} {}",
        path.display(), path.display()
    )]
    Owner {
        /// The directory.
        path: PathBuf,
        /// The user id of its owner.
        owner: u32,
        /// Ours.
        user: u32,
    },
    /// Others may write to it.
    #[error(
        "users other than the owner of {} may write to it (mode {mode:04o}), and a daemon would trust what \
         they put there: chmod go-w {}",
        path.display(), path.display()
    )]
    Writable {
        /// The directory.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// A link in the path belongs to another user, who could let it lead anywhere.
    #[error(
        "{} is a symbolic link to {} that belongs to user {owner}; give the directory itself",
        link.display(), target.display()
    )]
    Link {
        /// The link.
        link: PathBuf,
        /// What it names.
        target: PathBuf,
        /// The user id of its owner.
        owner: u32,
    },
    /// It is a directory of something else.
    #[error("{}", kind.not_a_root(path))]
    NotARoot {
        /// The directory.
        path: PathBuf,
        /// What it is.
        kind: Kind,
    },
}

/// Opens the root at `path`, or the one in the Docker volume at `path`.
///
/// # Errors
/// If it is not there, or neither a root nor empty.
fn open(path: &Path) -> Result<Dir, RootError> {
    of_root(Dir::open(path).map_err(|error| refused(path, error))?)
}

/// `dir`, or the one in the volume that it is, if that is a root.
fn of_root(dir: Dir) -> Result<Dir, RootError> {
    let (dir, kind) = find(dir)?;
    match kind {
        Kind::Root | Kind::Empty => Ok(dir),
        kind => Err(RootError::NotARoot { path: dir.path().to_owned(), kind }),
    }
}

/// As [`open`]; nothing if there is nothing at `path`.
///
/// # Errors
/// As for [`open`].
fn open_if_there(path: &Path) -> Result<Option<Dir>, RootError> {
    match open(path) {
        Ok(dir) => Ok(Some(dir)),
        Err(RootError::Dir(error)) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// As [`open_if_there`], for who writes to the root: it has to belong to who runs this, or to root, and
/// nobody else may write to it; nor may a link on the way to it be another user's.
///
/// # Errors
/// As for [`open`], and if others have power over it.
fn open_to_write(path: &Path) -> Result<Option<Dir>, RootError> {
    let opened = access::open(path).map_err(|error| match error {
        RootError::Dir(error) => refused(path, error),
        error => error,
    });
    let dir = match opened {
        Err(RootError::Dir(error)) if error.is_not_found() => return Ok(None),
        dir => of_root(dir?)?,
    };
    check_access(&dir)?;
    Ok(Some(dir))
}

/// What `dir` is, or the directory with the files of the Docker volume that `dir` is.
///
/// # Errors
/// If a directory cannot be read.
pub fn find(dir: Dir) -> Result<(Dir, Kind), DirError> {
    match kind::of(&dir)? {
        Kind::Volume => {
            let data = dir.dir(VOLUME_DATA)?;
            let kind = kind::of(&data)?;
            Ok((data, kind))
        }
        kind => Ok((dir, kind)),
    }
}

/// What is not there may be what a link on the way to it names.
fn refused(path: &Path, error: DirError) -> RootError {
    if error.source.kind() == io::ErrorKind::NotFound {
        let dangling = path.ancestors().filter(|part| !part.exists()).find_map(|part| {
            let target = std::fs::read_link(part).ok()?;
            Some(RootError::DanglingLink { link: part.to_owned(), target })
        });
        return dangling.unwrap_or(RootError::Dir(error));
    }
    RootError::Dir(error)
}
