//! Checks whether a directory is the root of a daemon, or can become one.
//!
//! A state in a wrong directory is useless, since no daemon looks there, and it would be mixed with other
//! files. So a directory is opened as a root only if it is one, or can become one.
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
//! // In a Docker volume, the root is where the container has it.
//! std::fs::create_dir_all(volume.join("_data/runc-overlayfs"))?;
//! assert_eq!(Root::open(&volume)?.path(), volume.join("_data"));
//!
//! std::fs::write(volume.join("notes"), "")?;
//! let OpenRootError::Root(error) = Root::open(&volume).unwrap_err() else { panic!() };
//! assert!(matches!(error, RootError::NotARoot { kind: Kind::Other { .. }, .. }));
//!
//! // A caller that accepts other directories too asks what this one is.
//! let layout = tempfile::tempdir()?;
//! std::fs::write(layout.path().join("index.json"), "{}")?;
//! let (dir, kind) = find(Dir::open(layout.path())?)?;
//! assert_eq!((dir.path(), kind), (layout.path(), Kind::Layout));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A writer must be sure that no other user can write to a root, because a daemon trusts everything in it:
//!
//! ```
//! use std::fs::{Permissions, create_dir, set_permissions};
//! use std::os::unix::fs::PermissionsExt as _;
//!
//! use bkstate::Root;
//! use bkstate::root::{OpenRootError, RootError, Stranger, check_access, strangers};
//! use bkstate::worker::Worker;
//!
//! let temp = tempfile::tempdir()?;
//! let path = temp.path().join("buildkit");
//! assert!(Root::check_to_write(&path)?.is_none());
//! create_dir(&path)?;
//! set_permissions(&path, Permissions::from_mode(0o777))?;
//! let Err(OpenRootError::Root(error)) = Root::check_to_write(&path) else { panic!() };
//! assert!(matches!(error, RootError::Writable { mode: 0o777, .. }));
//! let root = Root::open(&path)?;
//! assert!(check_access(root.dir(), root.worker()).is_err());
//! drop(root);
//!
//! set_permissions(&path, Permissions::from_mode(0o700))?;
//! assert!(Root::check_to_write(&path)?.is_some());
//! // But another user can replace the directory.
//! set_permissions(temp.path(), Permissions::from_mode(0o777))?;
//! let found: Vec<Stranger> = strangers(&path, &Worker::default())?;
//! assert!(found.iter().any(|found| found.directory == temp.path() && found.mode == 0o777));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A root in use is rejected, and the error names the user:
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
mod bases;
mod held;
mod holders;
mod kind;
mod location;
mod lock;
mod mounts;
mod strangers;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};

pub(crate) use access::SHARED;
pub use access::{Stranger, check_access, strangers};
pub use bases::open_containerd;
pub(crate) use bases::sync;
pub use held::{OpenRootError, Root};
pub use holders::Holder;
pub use kind::Kind;
pub use location::Location;
pub use lock::LockError;
use lock::RootLock;

use crate::dir::{Dir, DirError};
use crate::machine::{ForeignLink, PlaceError};
use crate::worker::{CONTAINERD_METADATA, Worker};

/// The directory of a Docker volume with its files (Docker v28.5.2 `volume/local/local.go`).
pub(crate) const VOLUME_DATA: &str = "_data";

/// Why a path is not a usable root.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RootError {
    /// The path is not a directory that can be opened.
    #[error("cannot open the root")]
    Dir(#[from] DirError),
    /// A link in the path is dangling.
    #[error(
        "{} is a symbolic link to {}, which is not there; make that directory, or remove the link",
        link.display(), target.display()
    )]
    DanglingLink {
        /// The link.
        link: PathBuf,
        /// Its target.
        target: PathBuf,
    },
    /// The directory belongs to another user than the daemon. A daemon of the owner could not use what is
    /// written there, and a daemon of `user` would trust what the owner can change.
    #[error(
        "{} belongs to user {owner}, who can change all in it, and what is written would belong to user \
         {user}: no daemon can use it safely",
        path.display()
    )]
    Owner {
        /// The directory.
        path: PathBuf,
        /// The user id of its owner.
        owner: u32,
        /// The id of the user of the daemon: the current user, or that of the map.
        user: u32,
    },
    /// The directory is missing, and root would create it below one of another user. If that is the place of a
    /// rootless daemon of that user, it could not use the root.
    #[error(
        "{} would be made in {}, which belongs to user {owner}, and a daemon of that user cannot use it",
        path.display(), directory.display()
    )]
    InForeign {
        /// The missing directory.
        path: PathBuf,
        /// The nearest directory above it that exists.
        directory: PathBuf,
        /// The user id of its owner.
        owner: u32,
    },
    /// Other users may write to the directory.
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
    /// A link in the path belongs to another user, who could redirect it.
    #[error(transparent)]
    Link(ForeignLink),
    /// The directory is neither the root of a containerd nor empty.
    #[error(
        "{} is not the root of a containerd: it has other files and no {}; give the `root` of its \
         configuration, by default /var/lib/containerd",
        path.display(), CONTAINERD_METADATA.0
    )]
    NotContainerd {
        /// The directory.
        path: PathBuf,
    },
    /// The directory has the sockets of a containerd, not its data.
    #[error(
        "{} is the state directory of a containerd; give its `root`, by default /var/lib/containerd",
        path.display()
    )]
    ContainerdState {
        /// The directory.
        path: PathBuf,
    },
    /// The directory is something else.
    #[error("{}", kind.not_a_root(path))]
    NotARoot {
        /// The directory.
        path: PathBuf,
        /// Its kind.
        kind: Kind,
    },
}

impl From<PlaceError> for RootError {
    fn from(error: PlaceError) -> Self {
        match error {
            PlaceError::Dir(error) => error.into(),
            PlaceError::Link(link) => Self::Link(link),
        }
    }
}

/// Opens the root at `path`, or the one in the Docker volume at `path`.
///
/// # Errors
/// Returns an error if it does not exist, or is neither a root nor empty.
fn open(path: &Path) -> Result<Dir, RootError> {
    of_root(Dir::open(path).map_err(|error| refused(path, error))?)
}

/// Returns `dir`, or the directory in it if it is a volume, if that is a root.
fn of_root(dir: Dir) -> Result<Dir, RootError> {
    let (dir, kind) = find(dir)?;
    match kind {
        Kind::Root | Kind::Empty => Ok(dir),
        kind => Err(RootError::NotARoot { path: dir.path().to_owned(), kind }),
    }
}

/// Same as [`open`], but returns `None` if `path` does not exist.
///
/// # Errors
/// Same as [`open`].
fn open_if_there(path: &Path) -> Result<Option<Dir>, RootError> {
    match open(path) {
        Ok(dir) => Ok(Some(dir)),
        Err(RootError::Dir(error)) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Same as [`open_if_there`], for writing: the root must belong to the user of the daemon of `worker`, no other
/// user may write to it, and no link on the path may belong to another user.
///
/// # Errors
/// Same as [`open`]; also if other users can change the root.
fn open_to_write(path: &Path, worker: &Worker) -> Result<Option<Dir>, RootError> {
    let opened = access::open(path, worker).map_err(|error| match error {
        RootError::Dir(error) => refused(path, error),
        error => error,
    });
    let dir = match opened {
        Err(RootError::Dir(error)) if error.is_not_found() => return Ok(None),
        dir => of_root(dir?)?,
    };
    check_access(&dir, worker)?;
    Ok(Some(dir))
}

/// Determines what `dir` is; if it is a Docker volume, what the directory with its files is.
///
/// # Errors
/// Returns an error if a directory cannot be read.
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

/// A missing directory may be the target of a link on the path.
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
