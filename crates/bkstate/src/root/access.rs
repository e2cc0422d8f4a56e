//! Checks which other users can change a root that is to be written.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Stat, fstat};

use super::RootError;
use crate::dir::{Dir, DirError};
use crate::machine::{self, Trusted, failed};
use crate::worker::{Owners, Worker};

/// Mode bits: group and others may write.
pub(crate) const SHARED: u32 = 0o022;
/// Mode bit: in a directory that everybody may write to, only the owner of a file may remove it.
const STICKY: u32 = 0o1000;

/// A directory on the path to a root in which another user can replace the next component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stranger {
    /// The directory.
    pub directory: PathBuf,
    /// The id of its owner.
    pub owner: u32,
    /// Its permissions.
    pub mode: u32,
    /// Whether the owner is neither root nor the current user.
    is_foreign: bool,
}

impl std::fmt::Display for Stranger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (directory, owner, mode) = (self.directory.display(), self.owner, self.mode);
        if self.is_foreign {
            write!(f, "{directory} belongs to user {owner}")
        } else {
            write!(f, "users other than its owner may write to {directory} (mode {mode:04o})")
        }
    }
}

/// Rejects a root that belongs to another user than the daemon of `worker`, or that others can change: the
/// daemon would trust what they put there, or could not use what is written there.
///
/// # Errors
/// Returns [`RootError::Owner`] or [`RootError::Writable`].
pub fn check_access(root: &Dir, worker: &Worker) -> Result<(), RootError> {
    let path = root.path().to_owned();
    let stat = fstat(root.as_fd()).map_err(|error| failed("look at", &path, error))?;
    let (owner, mode) = (stat.st_uid, stat.st_mode & 0o7777);
    let own = || rustix::process::geteuid().as_raw();
    let user = worker.owners().root_on_disk().map_or_else(own, |(user, _)| user);
    if !Trusted::of_state(worker).has(owner) {
        return Err(RootError::Owner { path, owner, user });
    }
    if mode & SHARED != 0 {
        return Err(RootError::Writable { path, mode });
    }
    Ok(())
}

/// Returns the directories on the path to `root` in which users other than that of the daemon of `worker` can
/// replace the next component, from the top down. Missing directories are not listed.
///
/// # Errors
/// Returns [`RootError::Link`], or an error if a directory cannot be examined.
pub fn strangers(root: &Path, worker: &Worker) -> Result<Vec<Stranger>, RootError> {
    let mut found = Vec::new();
    match walk(root, worker, &mut found) {
        // The root itself is an error, not a warning.
        Ok(_) => found.truncate(found.len() - 1),
        Err(RootError::Dir(error)) if error.is_not_found() => {}
        Err(error) => return Err(error),
    }
    Ok(found.into_iter().flatten().collect())
}

/// Opens the directory at `path`; every link on the path must belong to a trusted user. What is created in it
/// is given to the user of the daemon of `worker`.
pub(super) fn open(path: &Path, worker: &Worker) -> Result<Dir, RootError> {
    let dir = Dir::of_place(walk(path, worker, &mut Vec::new())?, path)?;
    Ok(dir.for_owner(worker.owners().root_on_disk()))
}

/// Rejects a missing directory that root would create below one of another user: a rootless daemon of that
/// user could not use it. In a user namespace it belongs to the user of the namespace.
///
/// # Errors
/// Returns [`RootError::InForeign`].
pub(super) fn check_new(path: &Path, worker: &Worker) -> Result<(), RootError> {
    let mut found = Vec::new();
    match walk(path, worker, &mut found) {
        Err(RootError::Dir(error)) if error.is_not_found() => {}
        walked => return walked.map(drop),
    }
    let is_root = rustix::process::geteuid().is_root();
    let within = matches!(worker.owners(), Owners::OfNamespace(_));
    match found.pop().flatten() {
        Some(Stranger { directory, owner, is_foreign: true, .. }) if is_root && !within => {
            Err(RootError::InForeign { path: path.to_owned(), directory, owner })
        }
        _ => Ok(()),
    }
}

/// Creates the directory at `path` with the permissions `mode`, and missing ones above it, for the user of the
/// daemon of `worker`.
pub(super) fn create(path: &Path, worker: &Worker, mode: u32) -> Result<(), RootError> {
    let mut missing = Vec::new();
    let mut next = path;
    let mut dir = loop {
        match open(next, worker) {
            Err(RootError::Dir(error)) if error.is_not_found() => {
                let (Some(name), Some(above)) = (next.file_name(), next.parent()) else {
                    return Err(error.into());
                };
                missing.push(name);
                next = if above.as_os_str().is_empty() { Path::new(".") } else { above };
            }
            opened => break opened?,
        }
    };
    for name in missing.into_iter().rev() {
        dir = dir.create_dir(name, mode)?;
    }
    Ok(())
}

/// Walks to the directory at `path`. For each directory on the path, including the last, it records which
/// other user can change it.
fn walk(
    path: &Path,
    worker: &Worker,
    found: &mut Vec<Option<Stranger>>,
) -> Result<OwnedFd, RootError> {
    let trusted = Trusted::of_way(worker);
    let absolute = std::path::absolute(path).map_err(|source| DirError {
        action: "find",
        path: path.to_owned(),
        source,
    })?;
    let mut note = |directory: &Path, stat: &Stat| {
        let (owner, mode) = (stat.st_uid, stat.st_mode & 0o7777);
        let is_foreign = !trusted.has(owner);
        let is_shared = mode & SHARED != 0 && mode & STICKY == 0;
        let directory = directory.to_owned();
        found.push((is_foreign || is_shared).then_some(Stranger {
            directory,
            owner,
            mode,
            is_foreign,
        }));
    };
    let end = machine::walk(Path::new("/"), &absolute, &trusted, &mut note)?;
    match end.stopped {
        None => Ok(end.place),
        Some(error) => {
            let stopped = end.left.iter().take(1).fold(end.path, |path, name| path.join(name));
            Err(failed("open the directory", &stopped, error).into())
        }
    }
}

#[cfg(test)]
mod tests;
