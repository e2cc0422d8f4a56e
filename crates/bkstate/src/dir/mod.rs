//! Files and directories below an open directory handle.
//!
//! We run as root on trees that archives have shaped. Every name is a single component that is opened without
//! following a link, so nothing outside the handle can be reached.
//!
//! ```
//! use std::os::unix::fs::symlink;
//!
//! use bkstate::dir::{Dir, DirEntry, DirError, FileKind, Found, Name, if_there};
//!
//! let temp = tempfile::tempdir()?;
//! symlink("/etc", temp.path().join("link"))?;
//! let dir = Dir::open(temp.path())?;
//!
//! // A link is visible, and never followed.
//! let entries: Vec<DirEntry> = dir.entries()?;
//! assert_eq!(entries[0].to_str(), Some("link"));
//! assert!(matches!(dir.find(&*entries[0].name)?, Some(Found { kind: FileKind::Link, .. })));
//! assert!(dir.dir("link").is_err());
//! let inner = dir.create_dir("inner", 0o750)?.itself()?;
//! assert_eq!((inner.kind, inner.mode, inner.owner), (FileKind::Directory, 0o750, dir.itself()?.owner));
//!
//! // No name leads out of the directory.
//! fn is_refused(dir: &Dir, name: impl Name) -> bool {
//!     dir.file(name).is_err_and(|error: DirError| !error.is_not_found())
//! }
//! assert!(["..", "", "link/passwd", "/etc/passwd"].iter().all(|name| is_refused(&dir, *name)));
//! assert!(is_refused(&dir, c".."));
//!
//! // A missing file can be allowed.
//! assert!(if_there(dir.file("absent"))?.is_none());
//! assert_eq!(dir.size("absent")?, None);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod find;
mod name;
mod owner;
mod remove;

use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, FileType, Gid, Mode, OFlags, Uid};
use rustix::path::Arg;

pub use error::{DirError, if_there};
pub use find::{DirEntry, FileKind, Found};
pub use name::Name;

/// An open directory, with its path for messages.
///
/// A file is replaced as a whole, by a new one with the access rights of the old one:
///
/// ```
/// use std::fs::File;
/// use std::io::{Read as _, Write as _};
///
/// use bkstate::dir::Dir;
///
/// let temp = tempfile::tempdir()?;
/// let dir = Dir::open(temp.path())?;
/// dir.create_file("state", 0o640)?.write_all(b"old")?;
///
/// // Only one lock at a time.
/// let lock = File::from(dir.lock_file("lock")?);
/// lock.try_lock()?;
/// assert!(File::from(dir.lock_file("lock")?).try_lock().is_err());
///
/// let mut new = dir.create_file("state.new", 0o600)?;
/// new.write_all(b"newer")?;
/// dir.copy_access("state", &new)?;
/// new.sync_all()?;
/// dir.replace("state.new", &dir, "state")?;
/// dir.sync()?;
///
/// let mut content = String::new();
/// dir.file("state")?.read_to_string(&mut content)?;
/// assert_eq!(content, "newer");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A tree is built aside, and moved to a place that is free:
///
/// ```
/// use std::fs::File;
/// use std::os::unix::fs::MetadataExt as _;
///
/// use bkstate::dir::Dir;
///
/// let temp = tempfile::tempdir()?;
/// // A handle from elsewhere; the path is for messages.
/// let dir = Dir::from_handle(File::open(temp.path())?.into(), temp.path());
/// assert_eq!(dir.path(), temp.path());
///
/// let aside = dir.create_dir("aside", 0o700)?;
/// let tree = aside.create_dir("tree", 0o755)?;
/// tree.copy_owner(&dir)?;
/// let file = tree.create_file("file", 0o644)?;
/// tree.link_file(&file, "the same")?;
/// assert_eq!(file.metadata()?.nlink(), 2);
///
/// assert!(aside.shares_file_system(&dir)?);
/// aside.rename("tree", &dir, "tree")?;
/// assert!(aside.rename("absent", &dir, "tree").is_err());
/// aside.create_dir("newer", 0o755)?;
/// aside.exchange("newer", &dir, "tree")?;
/// dir.exchange("tree", &aside, "newer")?;
/// aside.remove_dir("newer")?;
/// dir.remove_dir("aside")?;
/// dir.sync_file_system()?;
///
/// // A handle stays on the directory that was opened.
/// let another = tree.try_clone()?;
/// another.remove_file("the same")?;
/// assert_eq!(dir.dir("tree")?.entries()?.len(), 1);
/// dir.remove_tree("tree")?;
/// assert!(dir.entries()?.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    path: PathBuf,
    /// The user and group to whom everything is given that is created here and below.
    for_owner: Option<(u32, u32)>,
}

const READ_DIR: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Dir {
    /// Opens the directory at a path from the user; links in it are followed.
    ///
    /// # Errors
    /// Returns an error if it is not a directory, or we may not read it.
    pub fn open(path: &Path) -> Result<Self, DirError> {
        let flags = READ_DIR.difference(OFlags::NOFOLLOW);
        let fd = open_quietly(fs::CWD, path, flags).map_err(|error| DirError {
            action: "open the directory",
            path: path.to_owned(),
            source: error.into(),
        })?;
        Ok(Self { fd, path: path.to_owned(), for_owner: None })
    }

    /// Creates an empty directory that has no name and nobody else can reach. `path` is its name in messages.
    ///
    /// # Errors
    /// Returns an error if no temporary directory can be created.
    pub(crate) fn unnamed(path: &Path) -> Result<Self, DirError> {
        let failed = |source| DirError {
            action: "make a temporary directory in the place of",
            path: path.to_owned(),
            source,
        };
        let temporary = tempfile::tempdir().map_err(failed)?;
        let fd = Self::open(temporary.path())?.fd;
        temporary.close().map_err(failed)?;
        Ok(Self { fd, path: path.to_owned(), for_owner: None })
    }

    /// Opens for reading the directory behind `place`, a handle that may be `O_PATH`.
    ///
    /// # Errors
    /// Returns an error if we may not read it.
    pub(crate) fn of_place(place: OwnedFd, path: &Path) -> Result<Self, DirError> {
        let fd = open_quietly(place, c".", READ_DIR).map_err(|error| DirError {
            action: "open the directory",
            path: path.to_owned(),
            source: error.into(),
        })?;
        Ok(Self { fd, path: path.to_owned(), for_owner: None })
    }

    /// Takes a directory that is already open; `path` is its name in messages.
    pub fn from_handle(fd: OwnedFd, path: &Path) -> Self {
        Self { fd, path: path.to_owned(), for_owner: None }
    }

    /// Returns its path; for messages only.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns another handle of the same directory.
    ///
    /// # Errors
    /// Returns an error if the system has no more handles.
    pub fn try_clone(&self) -> Result<Self, DirError> {
        let fd = self.fd.try_clone().map_err(|source| DirError {
            action: "open another handle of",
            path: self.path.clone(),
            source,
        })?;
        Ok(Self { fd, path: self.path.clone(), for_owner: self.for_owner })
    }

    /// Opens the directory once more. Unlike a clone, the handle has locks of its own.
    pub(crate) fn reopen(&self) -> Result<OwnedFd, DirError> {
        open_quietly(&self.fd, c".", READ_DIR).map_err(|error| DirError {
            action: "open the directory",
            path: self.path.clone(),
            source: error.into(),
        })
    }

    fn error(
        &self,
        action: &'static str,
        name: &CStr,
    ) -> impl FnOnce(rustix::io::Errno) -> DirError {
        let path = self.path.join(OsStr::from_bytes(name.to_bytes()));
        move |error| DirError { action, path, source: error.into() }
    }

    /// Opens the directory `name`.
    ///
    /// # Errors
    /// Returns an error if it is not a directory (a link is not), or we may not read it.
    pub fn dir(&self, name: impl Name) -> Result<Self, DirError> {
        let name = &*name.c_name(self)?;
        let fd = open_quietly(&self.fd, name, READ_DIR)
            .map_err(self.error("open the directory", name))?;
        let path = self.path.join(OsStr::from_bytes(name.to_bytes()));
        Ok(Self { fd, path, for_owner: self.for_owner })
    }

    /// Creates the directory `name` with exactly the permissions `mode` and opens it.
    ///
    /// # Errors
    /// Returns an error if it exists or cannot be created. Nothing is left then.
    pub fn create_dir(&self, name: impl Name, mode: u32) -> Result<Self, DirError> {
        let name = &*name.c_name(self)?;
        let dir = self.create_private_dir(name)?;
        self.finish_creating(&dir.fd, name, mode).inspect_err(|_| {
            // The first error is the one to report.
            let _ = fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR);
        })?;
        Ok(dir)
    }

    /// Creates the file `name`, which must not exist, with exactly the permissions `mode`, open for reading
    /// and writing.
    ///
    /// # Errors
    /// Returns an error if it exists or cannot be created. Nothing is left then.
    pub fn create_file(&self, name: impl Name, mode: u32) -> Result<File, DirError> {
        let name = &*name.c_name(self)?;
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = fs::openat(&self.fd, name, flags, Mode::from_raw_mode(0o600))
            .map_err(self.error("make the file", name))?;
        self.finish_creating(&fd, name, mode).inspect_err(|_| {
            // The first error is the one to report.
            let _ = fs::unlinkat(&self.fd, name, AtFlags::empty());
        })?;
        Ok(fd.into())
    }

    /// Gives `file`, which was made as `name`, its owner and its mode. The mode comes last, as a change of the
    /// owner can change it, and not when it is made, as the umask would apply.
    fn finish_creating(&self, file: &OwnedFd, name: &CStr, mode: u32) -> Result<(), DirError> {
        self.give(file, name)?;
        fs::fchmod(file, Mode::from_raw_mode(mode)).map_err(self.error("set the mode of", name))
    }

    /// Gives the open file `file` the additional name `name`, which must not exist.
    ///
    /// # Errors
    /// Returns an error if the kernel refuses, as between file systems.
    pub fn link_file(&self, file: &File, name: impl Name) -> Result<(), DirError> {
        let name = &*name.c_name(self)?;
        // By the handle, not by a path, which could lead to another file by now. An empty path requires a
        // capability, or Linux 6.10.
        match fs::linkat(file, c"", &self.fd, name, AtFlags::EMPTY_PATH) {
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::PERM) => {
                let handle = format!("/proc/self/fd/{}", file.as_raw_fd());
                fs::linkat(fs::CWD, handle, &self.fd, name, AtFlags::SYMLINK_FOLLOW)
            }
            linked => linked,
        }
        .map_err(self.error("make the hard link", name))
    }

    /// Creates the symbolic link `name`, which must not exist, to `target`.
    ///
    /// ```
    /// use bkstate::dir::Dir;
    ///
    /// let temp = tempfile::tempdir()?;
    /// let dir = Dir::open(temp.path())?;
    /// dir.create_link("link", "../elsewhere")?;
    /// assert_eq!(dir.link_target("link")?, b"../elsewhere");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Returns an error if it exists or cannot be created.
    pub fn create_link(&self, name: impl Name, target: &str) -> Result<(), DirError> {
        let name = &*name.c_name(self)?;
        fs::symlinkat(target, &self.fd, name).map_err(self.error("make the link", name))
    }

    /// Returns the target of the symbolic link `name`, which is not followed.
    ///
    /// ```
    /// use bkstate::dir::Dir;
    ///
    /// let temp = tempfile::tempdir()?;
    /// let dir = Dir::open(temp.path())?;
    /// dir.create_link("link", "/etc")?;
    /// assert_eq!(dir.link_target("link")?, b"/etc");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Returns an error if it is not a link, or does not exist.
    pub fn link_target(&self, name: impl Name) -> Result<Vec<u8>, DirError> {
        let name = &*name.c_name(self)?;
        let target = fs::readlinkat(&self.fd, name, Vec::new());
        Ok(target.map_err(self.error("read the link", name))?.into_bytes())
    }

    /// Opens the regular file `name` for reading.
    ///
    /// # Errors
    /// Returns an error if it is not a regular file, or we may not read it.
    pub fn file(&self, name: impl Name) -> Result<File, DirError> {
        let name = &*name.c_name(self)?;
        // NONBLOCK, so that a FIFO does not make us wait for a writer.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = open_quietly(&self.fd, name, flags).map_err(self.error("open the file", name))?;
        let stat = fs::fstat(&fd).map_err(self.error("look at", name))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(self.error("read as a file", name)(rustix::io::Errno::INVAL));
        }
        Ok(fd.into())
    }

    /// Opens the regular file `name` for reading and writing.
    ///
    /// # Errors
    /// Returns an error if it is not a regular file, or we may not write it.
    pub(crate) fn file_to_change(&self, name: impl Name) -> Result<File, DirError> {
        let name = &*name.c_name(self)?;
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = fs::openat(&self.fd, name, flags, Mode::empty())
            .map_err(self.error("open the file", name))?;
        let stat = fs::fstat(&fd).map_err(self.error("look at", name))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(self.error("change as a file", name)(rustix::io::Errno::INVAL));
        }
        Ok(fd.into())
    }

    /// Opens the file `name` for locking, and creates it if it is missing.
    ///
    /// # Errors
    /// Returns an error if it can be neither opened nor created.
    pub fn lock_file(&self, name: impl Name) -> Result<OwnedFd, DirError> {
        let name = &*name.c_name(self)?;
        // NONBLOCK, so that a FIFO does not make us wait for a writer.
        let flags = OFlags::RDONLY
            | OFlags::CREATE
            | OFlags::NOFOLLOW
            | OFlags::NONBLOCK
            | OFlags::NOCTTY
            | OFlags::CLOEXEC;
        let open = |flags| fs::openat(&self.fd, name, flags, Mode::from_raw_mode(0o600));
        if self.for_owner.is_some() {
            match open(flags | OFlags::EXCL) {
                Err(rustix::io::Errno::EXIST) => {}
                made => {
                    let file = made.map_err(self.error("open the lock file", name))?;
                    self.give(&file, name)?;
                    return Ok(file);
                }
            }
        }
        open(flags).map_err(self.error("open the lock file", name))
    }

    /// Moves `name` to `new` in `target`, where `new` must not exist.
    ///
    /// # Errors
    /// Returns an error if the kernel refuses.
    pub fn rename(&self, name: impl Name, target: &Self, new: impl Name) -> Result<(), DirError> {
        let name = &*name.c_name(self)?;
        let new = &*new.c_name(target)?;
        fs::renameat_with(&self.fd, name, &target.fd, new, fs::RenameFlags::NOREPLACE)
            .map_err(self.error("move into place", name))
    }

    /// Moves the file `name` to `new` in `target`, and replaces a file there.
    ///
    /// # Errors
    /// Returns an error if the kernel refuses.
    pub fn replace(&self, name: impl Name, target: &Self, new: impl Name) -> Result<(), DirError> {
        let name = &*name.c_name(self)?;
        let new = &*new.c_name(target)?;
        fs::renameat(&self.fd, name, &target.fd, new).map_err(target.error("put into place", new))
    }

    /// Exchanges `name` and `other` in `target` atomically: neither is ever missing.
    ///
    /// # Errors
    /// Returns an error if one of them is missing, or the kernel refuses, as some file systems do.
    pub fn exchange(
        &self,
        name: impl Name,
        target: &Self,
        other: impl Name,
    ) -> Result<(), DirError> {
        let name = &*name.c_name(self)?;
        let other = &*other.c_name(target)?;
        fs::renameat_with(&self.fd, name, &target.fd, other, fs::RenameFlags::EXCHANGE)
            .map_err(target.error("exchange", other))
    }

    /// Gives `file` the owner and the permissions of the file `name`, if that exists.
    ///
    /// # Errors
    /// Returns an error if they cannot be read or changed.
    pub fn copy_access(&self, name: impl Name, file: &File) -> Result<(), DirError> {
        let name = &*name.c_name(self)?;
        let stat = match fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(rustix::io::Errno::NOENT) => return Ok(()),
            Err(error) => return Err(self.error("look at", name)(error)),
        };
        let mine = fs::fstat(file).map_err(self.error("look at what replaces", name))?;
        if (mine.st_uid, mine.st_gid) != (stat.st_uid, stat.st_gid) {
            let owner = Some(Uid::from_raw(stat.st_uid));
            fs::fchown(file, owner, Some(Gid::from_raw(stat.st_gid)))
                .map_err(self.error("set the owner of what replaces", name))?;
        }
        fs::fchmod(file, Mode::from_raw_mode(stat.st_mode))
            .map_err(self.error("set the mode of what replaces", name))
    }

    /// Gives the directory the owner of `other`.
    ///
    /// # Errors
    /// Returns an error if it cannot be read or changed.
    pub fn copy_owner(&self, other: &Self) -> Result<(), DirError> {
        let stat = fs::fstat(&other.fd).map_err(other.error("look at", c"."))?;
        let mine = fs::fstat(&self.fd).map_err(self.error("look at", c"."))?;
        if (mine.st_uid, mine.st_gid) == (stat.st_uid, stat.st_gid) {
            return Ok(());
        }
        let owner = Some(Uid::from_raw(stat.st_uid));
        fs::fchown(&self.fd, owner, Some(Gid::from_raw(stat.st_gid)))
            .map_err(self.error("set the owner of", c"."))
    }

    /// Returns whether files can be moved between this directory and `other`: both are on one file system.
    ///
    /// # Errors
    /// Returns an error if one of them cannot be examined.
    pub fn shares_file_system(&self, other: &Self) -> Result<bool, DirError> {
        let stat = fs::fstat(&other.fd).map_err(other.error("look at", c"."))?;
        let mine = fs::fstat(&self.fd).map_err(self.error("look at", c"."))?;
        Ok(mine.st_dev == stat.st_dev)
    }

    /// Waits until the names in this directory are on disk. It does not sync the files.
    ///
    /// # Errors
    /// Returns an error if they cannot be written.
    pub fn sync(&self) -> Result<(), DirError> {
        fs::fsync(&self.fd).map_err(self.error("write out the directory", c"."))
    }

    /// Waits until everything written to the file system that holds this directory is on disk.
    ///
    /// # Errors
    /// Returns an error if any of it cannot be written.
    pub fn sync_file_system(&self) -> Result<(), DirError> {
        fs::syncfs(&self.fd).map_err(self.error("write out the file system of", c"."))
    }
}

/// Opens a file for reading, without changing its access time where we may: only its owner and root may.
fn open_quietly(
    dir: impl AsFd,
    path: impl Arg + Copy,
    flags: OFlags,
) -> rustix::io::Result<OwnedFd> {
    let open = |flags| fs::openat(&dir, path, flags, Mode::empty());
    match open(flags | OFlags::NOATIME) {
        Err(rustix::io::Errno::PERM) => open(flags),
        opened => opened,
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests;
