//! Checks which other users can change a root that is to be written.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, Stat, fstat, fstatfs, openat, readlinkat, statat,
};
use rustix::io::Errno;

use super::RootError;
use crate::dir::{Dir, DirError};
use crate::worker::{Owners, Worker};

/// Maximum number of links to follow, as in the kernel.
const MOST_LINKS: u32 = 40;
/// Mode bits: group and others may write.
pub(crate) const SHARED: u32 = 0o022;
/// Mode bit: in a directory that everybody may write to, only the owner of a file may remove it.
const STICKY: u32 = 0o1000;
/// The file system of `/proc` (Linux `include/uapi/linux/magic.h` `PROC_SUPER_MAGIC`). The text of its links
/// is not where they lead.
const PROC: u64 = 0x9fa0;

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

/// Users who may own a root, or a directory on the path to it.
pub(crate) struct Trusted {
    users: Vec<u32>,
}

impl Trusted {
    /// Returns root, the current user, and the owner of `/`: in a user namespace, root may have another
    /// number.
    pub(crate) fn new() -> Self {
        let top = rustix::fs::stat("/").map_or(0, |stat| stat.st_uid);
        Self { users: vec![0, rustix::process::geteuid().as_raw(), top] }
    }

    /// Returns those who may own the state of `worker`: with a map, only the user of the daemon, who could not
    /// use what belongs to another.
    pub(crate) fn of_state(worker: &Worker) -> Self {
        match worker.owners().root_on_disk() {
            Some((user, _)) => Self { users: vec![user] },
            None => Self::new(),
        }
    }

    /// Returns those who may own directories on the path to the root of `worker`.
    fn of_way(worker: &Worker) -> Self {
        let mut trusted = Self::new();
        trusted.users.extend(worker.owners().root_on_disk().map(|(user, _)| user));
        trusted
    }

    pub(crate) fn add(&mut self, user: u32) {
        self.users.push(user);
    }

    pub(crate) fn has(&self, user: u32) -> bool {
        self.users.contains(&user)
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
    let mut left: VecDeque<OsString> = components(&absolute).collect();
    let mut way = Way::new(&trusted, found)?;
    let mut links = 0;
    while let Some(name) = left.pop_front() {
        let next = way.path.join(&name);
        let look = || statat(&way.place, &name, AtFlags::SYMLINK_NOFOLLOW);
        let stat = look().map_err(|error| failed("open the directory", &next, error))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            way.enter(&name, OFlags::NOFOLLOW)?;
            continue;
        }
        if is_proc(&way.place) {
            way.enter(&name, OFlags::empty())?;
            continue;
        }
        let target = readlinkat(&way.place, &name, Vec::new());
        let target = target.map_err(|error| failed("read the link", &next, error))?;
        let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
        if !trusted.has(stat.st_uid) {
            return Err(RootError::Link { link: next, target, owner: stat.st_uid });
        }
        links += 1;
        if links > MOST_LINKS {
            return Err(failed("open the directory", path, Errno::LOOP).into());
        }
        if target.is_absolute() {
            way.restart()?;
        }
        for name in components(&target).collect::<Vec<_>>().into_iter().rev() {
            left.push_front(name);
        }
    }
    Ok(way.place)
}

/// Returns the names in a path, and its `..` components.
fn components(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    })
}

/// The position of the walk.
struct Way<'a> {
    trusted: &'a Trusted,
    found: &'a mut Vec<Option<Stranger>>,
    place: OwnedFd,
    path: PathBuf,
}

impl<'a> Way<'a> {
    fn new(trusted: &'a Trusted, found: &'a mut Vec<Option<Stranger>>) -> Result<Self, DirError> {
        let place = place(CWD, OsStr::new("/"), OFlags::empty())
            .map_err(|error| failed("open the directory", Path::new("/"), error))?;
        let mut way = Self { trusted, found, place, path: "/".into() };
        way.note()?;
        Ok(way)
    }

    fn restart(&mut self) -> Result<(), DirError> {
        self.path = "/".into();
        self.place = place(CWD, OsStr::new("/"), OFlags::empty())
            .map_err(|error| failed("open the directory", &self.path, error))?;
        Ok(())
    }

    fn enter(&mut self, name: &OsStr, flags: OFlags) -> Result<(), DirError> {
        let next = if name == ".." {
            self.path.parent().unwrap_or(Path::new("/")).to_owned()
        } else {
            self.path.join(name)
        };
        self.place = place(&self.place, name, flags)
            .map_err(|error| failed("open the directory", &next, error))?;
        self.path = next;
        self.note()
    }

    /// Records which other user can change the current directory.
    fn note(&mut self) -> Result<(), DirError> {
        let stat: Stat =
            fstat(&self.place).map_err(|error| failed("look at", &self.path, error))?;
        let (owner, mode) = (stat.st_uid, stat.st_mode & 0o7777);
        let is_foreign = !self.trusted.has(owner);
        let is_shared = mode & SHARED != 0 && mode & STICKY == 0;
        let directory = self.path.clone();
        self.found.push((is_foreign || is_shared).then_some(Stranger {
            directory,
            owner,
            mode,
            is_foreign,
        }));
        Ok(())
    }
}

/// Opens a handle of a directory that need not be readable.
fn place(dir: impl AsFd, name: &OsStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(dir, name.as_bytes(), flags, Mode::empty())
}

fn is_proc(dir: impl AsFd) -> bool {
    fstatfs(dir).is_ok_and(|found| u64::try_from(found.f_type).is_ok_and(|kind| kind == PROC))
}

fn failed(action: &'static str, path: &Path, error: Errno) -> DirError {
    DirError { action, path: path.to_owned(), source: error.into() }
}

#[cfg(test)]
mod tests;
