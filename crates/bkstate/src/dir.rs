//! Files and directories below an open directory handle.
//!
//! We run as root on trees that archives have shaped. Every name here is a single component that
//! is opened without following a link, so nothing outside the handle can be reached.

use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, FileType, Gid, Mode, OFlags, Uid};
use rustix::path::Arg;

/// An open directory, with the path it was reached by for messages.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    path: PathBuf,
}

/// Why something below a directory could not be done.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", path.display())]
pub struct DirError {
    /// What was tried, as a verb.
    pub action: &'static str,
    /// What it was tried on.
    pub path: PathBuf,
    /// What the kernel answered.
    #[source]
    pub source: io::Error,
}

impl DirError {
    /// Whether the thing does not exist.
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

/// What `result` has, or `None` if that is because there is no such thing.
///
/// # Errors
/// Any other error of `result`.
pub fn if_there<T>(result: Result<T, DirError>) -> Result<Option<T>, DirError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    /// Its name.
    pub name: CString,
    /// Whether it is itself a directory.
    pub is_dir: bool,
}

impl DirEntry {
    /// The name as text, where it is text.
    pub fn to_str(&self) -> Option<&str> {
        self.name.to_str().ok()
    }
}

/// What stands under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// What it is; a link is something else than what it leads to.
    pub kind: FileKind,
    /// Its size in bytes.
    pub size: u64,
}

/// The kinds of files that are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A link, device, FIFO or socket.
    Other,
}

const READ_DIR: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Dir {
    /// Opens the directory at a path that the user gave; links in it are followed.
    ///
    /// # Errors
    /// If it is not a directory that we may read.
    pub fn open(path: &Path) -> Result<Self, DirError> {
        let flags = READ_DIR.difference(OFlags::NOFOLLOW);
        let fd = open_quietly(fs::CWD, path, flags).map_err(|error| DirError {
            action: "open the directory",
            path: path.to_owned(),
            source: error.into(),
        })?;
        Ok(Self { fd, path: path.to_owned() })
    }

    /// A directory that is open already; `path` is what messages call it.
    pub fn from_handle(fd: OwnedFd, path: &Path) -> Self {
        Self { fd, path: path.to_owned() }
    }

    /// The path it was reached by; for messages only.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Another handle of the same directory.
    ///
    /// # Errors
    /// If the system gives no more handles.
    pub fn try_clone(&self) -> Result<Self, DirError> {
        let fd = self.fd.try_clone().map_err(|source| DirError {
            action: "open another handle of",
            path: self.path.clone(),
            source,
        })?;
        Ok(Self { fd, path: self.path.clone() })
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
    /// If it is not a directory that we may read; a link is not.
    pub fn dir(&self, name: impl Name) -> Result<Self, DirError> {
        let name = &*name.c_name(self)?;
        let fd = open_quietly(&self.fd, name, READ_DIR)
            .map_err(self.error("open the directory", name))?;
        Ok(Self { fd, path: self.path.join(OsStr::from_bytes(name.to_bytes())) })
    }

    /// Makes the directory `name` with exactly the permissions `mode` and opens it.
    ///
    /// # Errors
    /// If it exists or cannot be made.
    pub fn create_dir(&self, name: impl Name, mode: u32) -> Result<Self, DirError> {
        let name = &*name.c_name(self)?;
        fs::mkdirat(&self.fd, name, Mode::from_raw_mode(0o700))
            .map_err(self.error("make the directory", name))?;
        let dir = self.dir(name)?;
        // Not through mkdir, whose mode the umask would cut.
        fs::fchmod(&dir.fd, Mode::from_raw_mode(mode))
            .map_err(self.error("set the mode of", name))?;
        Ok(dir)
    }

    /// Makes the file `name`, which must not exist, with exactly the permissions `mode`, open for
    /// reading and writing.
    ///
    /// # Errors
    /// If it exists or cannot be made.
    pub fn create_file(&self, name: impl Name, mode: u32) -> Result<File, DirError> {
        let name = &*name.c_name(self)?;
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = fs::openat(&self.fd, name, flags, Mode::from_raw_mode(0o600))
            .map_err(self.error("make the file", name))?;
        fs::fchmod(&fd, Mode::from_raw_mode(mode)).map_err(self.error("set the mode of", name))?;
        Ok(fd.into())
    }

    /// Gives the open file `file` the name `name` too, which must not exist.
    ///
    /// # Errors
    /// If the kernel refuses, as between file systems.
    pub fn link_file(&self, file: &File, name: impl Name) -> Result<(), DirError> {
        let name = &*name.c_name(self)?;
        // By the handle rather than by a path, where another file could be by now. An empty path takes
        // a capability, or Linux 6.10.
        match fs::linkat(file, c"", &self.fd, name, AtFlags::EMPTY_PATH) {
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::PERM) => {
                let handle = format!("/proc/self/fd/{}", file.as_raw_fd());
                fs::linkat(fs::CWD, handle, &self.fd, name, AtFlags::SYMLINK_FOLLOW)
            }
            linked => linked,
        }
        .map_err(self.error("make the hard link", name))
    }

    /// Opens the regular file `name` for reading.
    ///
    /// # Errors
    /// If it is anything but a regular file that we may read.
    pub fn file(&self, name: impl Name) -> Result<File, DirError> {
        let name = &*name.c_name(self)?;
        // NONBLOCK so that a FIFO does not make us wait for a writer.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = open_quietly(&self.fd, name, flags).map_err(self.error("open the file", name))?;
        let stat = fs::fstat(&fd).map_err(self.error("look at", name))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(self.error("read as a file", name)(rustix::io::Errno::INVAL));
        }
        Ok(fd.into())
    }

    /// Opens the file `name` for locking, and makes it if it is not there.
    ///
    /// # Errors
    /// If it can be neither opened nor made.
    pub fn lock_file(&self, name: impl Name) -> Result<OwnedFd, DirError> {
        let name = &*name.c_name(self)?;
        // NONBLOCK so that a FIFO does not make us wait for a writer.
        let flags = OFlags::RDONLY
            | OFlags::CREATE
            | OFlags::NOFOLLOW
            | OFlags::NONBLOCK
            | OFlags::NOCTTY
            | OFlags::CLOEXEC;
        fs::openat(&self.fd, name, flags, Mode::from_raw_mode(0o600))
            .map_err(self.error("open the lock file", name))
    }

    /// What `name` is, without following a link; `None` if there is nothing.
    ///
    /// # Errors
    /// If the directory cannot be searched.
    pub fn find(&self, name: impl Name) -> Result<Option<Found>, DirError> {
        let name = &*name.c_name(self)?;
        match fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => {
                let kind = match FileType::from_raw_mode(stat.st_mode) {
                    FileType::RegularFile => FileKind::File,
                    FileType::Directory => FileKind::Directory,
                    _ => FileKind::Other,
                };
                Ok(Some(Found { kind, size: stat.st_size.cast_unsigned() }))
            }
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(error) => Err(self.error("look at", name)(error)),
        }
    }

    /// The size in bytes of what `name` is, without following a link; `None` if there is nothing.
    ///
    /// # Errors
    /// If the directory cannot be searched.
    pub fn size(&self, name: impl Name) -> Result<Option<u64>, DirError> {
        Ok(self.find(name)?.map(|found| found.size))
    }

    /// Moves `name` to `new` in `target`, which must not have it.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn rename(&self, name: impl Name, target: &Self, new: impl Name) -> Result<(), DirError> {
        let name = &*name.c_name(self)?;
        let new = &*new.c_name(target)?;
        fs::renameat_with(&self.fd, name, &target.fd, new, fs::RenameFlags::NOREPLACE)
            .map_err(self.error("move into place", name))
    }

    /// Moves the file `name` to `new` in `target`, in place of a file that is there.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn replace(&self, name: impl Name, target: &Self, new: impl Name) -> Result<(), DirError> {
        let name = &*name.c_name(self)?;
        let new = &*new.c_name(target)?;
        fs::renameat(&self.fd, name, &target.fd, new).map_err(target.error("put into place", new))
    }

    /// Gives `file` the owner and the permissions of the file `name`, if that is there.
    ///
    /// # Errors
    /// If they cannot be read or changed.
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
    /// If it cannot be read or changed.
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

    /// Whether files can be moved between this directory and `other`: both are on one file system.
    ///
    /// # Errors
    /// If one of them cannot be looked at.
    pub fn shares_file_system(&self, other: &Self) -> Result<bool, DirError> {
        let stat = fs::fstat(&other.fd).map_err(other.error("look at", c"."))?;
        let mine = fs::fstat(&self.fd).map_err(self.error("look at", c"."))?;
        Ok(mine.st_dev == stat.st_dev)
    }

    /// What is in the directory, sorted by name.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn entries(&self) -> Result<Vec<DirEntry>, DirError> {
        let list = || -> rustix::io::Result<Vec<DirEntry>> {
            let mut entries = Vec::new();
            for entry in fs::Dir::read_from(&self.fd)? {
                let entry = entry?;
                let name = entry.file_name();
                if name == c"." || name == c".." {
                    continue;
                }
                let is_dir = match entry.file_type() {
                    FileType::Unknown => {
                        let stat = fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW)?;
                        FileType::from_raw_mode(stat.st_mode) == FileType::Directory
                    }
                    kind => kind == FileType::Directory,
                };
                entries.push(DirEntry { name: name.to_owned(), is_dir });
            }
            entries.sort();
            Ok(entries)
        };
        list().map_err(self.error("list", c"."))
    }

    /// Removes `name` and everything in it.
    ///
    /// Trees may be deeper than we may have files open or stack to recurse on. So directories are
    /// lifted out of each other to the top of the tree before they are emptied.
    ///
    /// # Errors
    /// If something cannot be removed; what was removed stays so, and the rest is still in `name`.
    pub fn remove_tree(&self, name: impl Name) -> Result<(), DirError> {
        let name = &*name.c_name(self)?;
        let top = match self.dir(name) {
            Ok(top) => top,
            Err(error) if error.is_not_found() => return Ok(()),
            Err(_) => return self.remove_file(name),
        };
        let mut lifted = 0_u64;
        let mut pending = top.remove_files()?;
        while let Some(name) = pending.pop() {
            let dir = top.dir(&*name)?;
            for inner in dir.remove_files()? {
                // Full directories move out; that needs write permission on them, as emptying does.
                let free = loop {
                    let candidate = lifted.to_string();
                    lifted += 1;
                    if top.size(candidate.as_str())?.is_none() {
                        break CString::new(candidate).unwrap_or_default();
                    }
                };
                dir.rename(&*inner, &top, &*free)?;
                pending.push(free);
            }
            top.remove_dir(&*name)?;
        }
        self.remove_dir(name)
    }

    /// Removes what is no directory, and returns the names of the directories.
    fn remove_files(&self) -> Result<Vec<CString>, DirError> {
        let (dirs, files): (Vec<_>, Vec<_>) =
            self.entries()?.into_iter().partition(|entry| entry.is_dir);
        for file in files {
            self.remove_file(&*file.name)?;
        }
        Ok(dirs.into_iter().map(|dir| dir.name).collect())
    }

    /// Removes the file or link `name`.
    ///
    /// # Errors
    /// If it is a directory, or not there.
    pub fn remove_file(&self, name: impl Name) -> Result<(), DirError> {
        let name = &*name.c_name(self)?;
        fs::unlinkat(&self.fd, name, AtFlags::empty()).map_err(self.error("remove", name))
    }

    /// Removes the empty directory `name`.
    ///
    /// # Errors
    /// If it is not empty or not a directory.
    pub fn remove_dir(&self, name: impl Name) -> Result<(), DirError> {
        let name = &*name.c_name(self)?;
        fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR)
            .map_err(self.error("remove the directory", name))
    }

    /// Waits until the names in this directory are on disk. That of the files is their own matter.
    ///
    /// # Errors
    /// If they could not be written.
    pub fn sync(&self) -> Result<(), DirError> {
        fs::fsync(&self.fd).map_err(self.error("write out the directory", c"."))
    }

    /// Waits until everything written to the file system that holds this directory is on disk.
    ///
    /// # Errors
    /// If any of it could not be written.
    pub fn sync_file_system(&self) -> Result<(), DirError> {
        fs::syncfs(&self.fd).map_err(self.error("write out the file system of", c"."))
    }
}

/// Opens what is there for reading, without leaving a trace in its access time if we may: that takes
/// its owner or root.
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

/// A single component of a path.
pub trait Name {
    /// The component for the kernel.
    ///
    /// # Errors
    /// If it is not one component: empty, `.`, `..`, with a slash or a zero byte.
    fn c_name(&self, dir: &Dir) -> Result<std::borrow::Cow<'_, CStr>, DirError>;
}

fn is_component(name: &[u8]) -> bool {
    !matches!(name, b"" | b"." | b"..") && !name.contains(&b'/')
}

fn not_a_component(dir: &Dir, name: &[u8]) -> DirError {
    DirError {
        action: "use as a name",
        path: dir.path.join(OsStr::from_bytes(name)),
        source: io::ErrorKind::InvalidInput.into(),
    }
}

impl Name for &CStr {
    fn c_name(&self, dir: &Dir) -> Result<std::borrow::Cow<'_, CStr>, DirError> {
        if is_component(self.to_bytes()) {
            Ok((*self).into())
        } else {
            Err(not_a_component(dir, self.to_bytes()))
        }
    }
}

impl Name for &str {
    fn c_name(&self, dir: &Dir) -> Result<std::borrow::Cow<'_, CStr>, DirError> {
        let name = CString::new(*self).map_err(|_| not_a_component(dir, self.as_bytes()))?;
        if is_component(name.to_bytes()) {
            Ok(name.into())
        } else {
            Err(not_a_component(dir, self.as_bytes()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn temp() -> (tempfile::TempDir, Dir) {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::open(temp.path()).unwrap();
        (temp, dir)
    }

    #[test]
    fn names_are_single_components() {
        let (_temp, dir) = temp();
        for name in ["", ".", "..", "a/b", "/etc", "a\0b"] {
            assert!(dir.create_file(name, 0o600).is_err(), "{name:?}");
        }
    }

    #[test]
    fn links_and_pipes_are_not_opened() {
        let (temp, dir) = temp();
        std::fs::write(temp.path().join("file"), "x").unwrap();
        std::os::unix::fs::symlink("file", temp.path().join("link")).unwrap();
        std::os::unix::fs::symlink("/", temp.path().join("root")).unwrap();
        fs::mknodat(&dir.fd, "fifo", FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        assert!(dir.file("file").is_ok());
        assert!(dir.file("link").is_err());
        assert!(dir.file("fifo").is_err());
        assert!(dir.dir("root").is_err());
    }

    #[test]
    fn modes_are_exact_whatever_the_umask() {
        use std::os::unix::fs::PermissionsExt as _;
        let (_temp, dir) = temp();
        let file = dir.create_file("file", 0o666).unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o7777, 0o666);
        assert!(dir.create_file("file", 0o666).is_err());
    }

    #[test]
    fn a_tree_deeper_than_the_open_file_limit_is_removed() {
        let (_temp, dir) = temp();
        let mut here = dir.create_dir("top", 0o700).unwrap();
        here.create_dir("1", 0o700).unwrap().create_dir("in the way", 0o700).unwrap();
        for _ in 0..3000 {
            here.create_file("file", 0o600).unwrap();
            here = here.create_dir("d", 0o700).unwrap();
        }
        drop(here);
        dir.remove_tree("top").unwrap();
        assert_eq!(dir.entries().unwrap(), []);
        dir.remove_tree("top").unwrap();
    }

    #[test]
    fn removing_a_tree_does_not_follow_links_out_of_it() {
        let (temp, dir) = temp();
        std::fs::create_dir_all(temp.path().join("kept/inside")).unwrap();
        let tree = dir.create_dir("tree", 0o700).unwrap();
        drop(tree);
        std::os::unix::fs::symlink("../kept", temp.path().join("tree/link")).unwrap();
        dir.remove_tree("tree").unwrap();
        assert!(temp.path().join("kept/inside").is_dir());
    }
}
