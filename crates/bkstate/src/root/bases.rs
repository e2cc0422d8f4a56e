//! Opens the directories of a state that is in the roots of a daemon and of a containerd.

use std::path::{Path, PathBuf};

use super::{Location, OpenRootError, RootError, access, check_access, open, open_if_there};
use super::{open_to_write, refused};
use crate::dir::{Dir, DirError, if_there};
use crate::worker::{Base, Bases, CONTAINERD_METADATA, CONTAINERD_PLUGIN, Worker};

/// The mode with which containerd creates its root (v2.4.2 `cmd/containerd/server/server.go`).
const CONTAINERD_ROOT_MODE: u32 = 0o711;

/// Opens the root of a containerd for reading; it may be empty. The containerd may run.
///
/// ```
/// use bkstate::root::{RootError, open_containerd};
///
/// let temp = tempfile::tempdir()?;
/// assert_eq!(open_containerd(temp.path())?.path(), temp.path());
///
/// std::fs::write(temp.path().join("containerd.sock"), "")?;
/// let refused = open_containerd(temp.path()).unwrap_err();
/// assert!(matches!(refused, RootError::ContainerdState { .. }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Returns an error if it cannot be opened, or is not the root of a containerd.
pub fn open_containerd(path: &Path) -> Result<Dir, RootError> {
    let containerd = Dir::open(path).map_err(|error| refused(path, error))?;
    ensure_of_containerd(&containerd)?;
    Ok(containerd)
}

/// Opens the bases of `location`, whose root exists, and whose containerd has one.
pub(super) fn to_read(location: &Location) -> Result<Bases, RootError> {
    let root = open(location.root())?.for_owner(location.worker().owners().root_on_disk());
    if let Some(path) = location.containerd() {
        Dir::open(path).map_err(|error| refused(path, error))?;
    }
    with_containerd(root, location)
}

/// Same as [`to_read`], but either root may be missing. A missing root of the daemon counts as empty. Returns
/// `None` if both are missing.
pub(super) fn if_there_is_any(location: &Location) -> Result<Option<Bases>, RootError> {
    let root = match open_if_there(location.root())? {
        Some(root) => root,
        None if location.containerd().is_some_and(Path::exists) => Dir::unnamed(location.root())?,
        None => return Ok(None),
    };
    with_containerd(root, location).map(Some)
}

fn with_containerd(root: Dir, location: &Location) -> Result<Bases, RootError> {
    let mut bases = Bases::from(root);
    let Some(path) = location.containerd() else { return Ok(bases) };
    let containerd = match open_containerd(path) {
        Err(RootError::Dir(error)) if error.is_not_found() => return Ok(bases),
        opened => opened?,
    };
    for (base, name, _) in location.worker().bases_of_containerd() {
        let opened = match location.moved_snapshotter().filter(|_| base == Base::Snapshotter) {
            Some(path) => if_there(Dir::open(path))?,
            None => if_there(containerd.dir(name.as_str()))?,
        };
        if let Some(dir) = opened {
            bases.add(base, dir);
        }
    }
    Ok(bases)
}

/// Checks the directories of `location` as [`to_write`] does, without creating any.
pub(super) fn check_to_write(location: &Location) -> Result<(), RootError> {
    let worker = location.worker();
    if open_to_write(location.root(), worker)?.is_none() {
        access::check_new(location.root(), worker)?;
    }
    let moved = location.moved_snapshotter();
    if let Some(path) = location.containerd() {
        match opened_to_write(path, worker)? {
            None => access::check_new(path, worker)?,
            Some(dir) => {
                ensure_of_containerd(&dir)?;
                for (_, name, _) in worker.bases_of_containerd() {
                    if let Some(base) = if_there(dir.dir(name.as_str()))? {
                        check_access(&base, worker)?;
                    }
                }
            }
        }
    }
    moved.map(|path| opened_to_write(path, worker)).transpose()?;
    Ok(())
}

/// Opens the bases of `location`, and creates missing ones.
pub(super) fn to_write(location: &Location) -> Result<Bases, OpenRootError> {
    check_to_write(location)?;
    // An existing directory is not created: the kernel's answer would only be that it exists.
    let worker = location.worker();
    let root = match open_to_write(location.root(), worker)? {
        Some(root) => root,
        None => {
            make(location.root(), worker, worker.root_mode())?;
            let made = open_to_write(location.root(), worker)?;
            made.ok_or_else(|| gone(location.root()))?
        }
    };
    let mut bases = Bases::from(root);
    let Some(path) = location.containerd() else { return Ok(bases) };
    let containerd = open_or_make(path, worker, CONTAINERD_ROOT_MODE)?;
    for (base, name, mode) in worker.bases_of_containerd() {
        let dir = match location.moved_snapshotter().filter(|_| base == Base::Snapshotter) {
            Some(path) => open_or_make(path, worker, mode)?,
            None => match if_there(containerd.dir(name.as_str())).map_err(RootError::from)? {
                Some(dir) => dir,
                None => containerd.create_dir(name.as_str(), mode).map_err(RootError::from)?,
            },
        };
        check_access(&dir, worker)?;
        bases.add(base, dir);
    }
    Ok(bases)
}

fn open_or_make(path: &Path, worker: &Worker, mode: u32) -> Result<Dir, OpenRootError> {
    if let Some(dir) = opened_to_write(path, worker)? {
        return Ok(dir);
    }
    make(path, worker, mode)?;
    opened_to_write(path, worker)?.ok_or_else(|| gone(path))
}

/// Opens a directory that only its owner may change, on a path that other users cannot redirect.
fn opened_to_write(path: &Path, worker: &Worker) -> Result<Option<Dir>, RootError> {
    let dir = match access::open(path, worker) {
        Err(RootError::Dir(error)) if error.is_not_found() => return Ok(None),
        opened => opened?,
    };
    check_access(&dir, worker)?;
    Ok(Some(dir))
}

fn make(path: &Path, worker: &Worker, mode: u32) -> Result<(), OpenRootError> {
    use std::os::unix::fs::DirBuilderExt as _;
    if worker.owners().root_on_disk().is_some() {
        return Ok(access::create(path, worker, mode)?);
    }
    let mut builder = std::fs::DirBuilder::new();
    let made = builder.recursive(true).mode(mode).create(path);
    made.map_err(|source| OpenRootError::Create { path: path.to_owned(), source })
}

fn gone(path: &Path) -> OpenRootError {
    let source = std::io::ErrorKind::NotFound.into();
    OpenRootError::Create { path: path.to_owned(), source }
}

/// Rejects a directory that is not the root of a containerd, and cannot become one.
fn ensure_of_containerd(dir: &Dir) -> Result<(), RootError> {
    let entries = dir.entries()?;
    let names: Vec<_> = entries.iter().filter_map(|entry| entry.to_str()).collect();
    let foreign = || -> PathBuf { dir.path().to_owned() };
    if names.iter().any(|name| name.ends_with(".sock")) {
        return Err(RootError::ContainerdState { path: foreign() });
    }
    let is_new =
        names.iter().all(|name| *name == "lost+found" || name.starts_with(CONTAINERD_PLUGIN));
    if names.contains(&CONTAINERD_METADATA.0) || is_new {
        return Ok(());
    }
    Err(RootError::NotContainerd { path: foreign() })
}

/// Waits until everything is on disk.
pub(crate) fn sync(bases: &Bases) -> Result<(), DirError> {
    bases.all().try_for_each(Dir::sync_file_system)
}
