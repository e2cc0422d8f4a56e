//! Lookups in a directory.

use std::ffi::CString;

use rustix::fs::{self, AtFlags, FileType};

use super::{Dir, DirError, Name};

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct DirEntry {
    /// Its name.
    pub name: CString,
    /// Whether it is a directory; false for a link to one.
    pub is_dir: bool,
}

impl DirEntry {
    /// Returns the name, if it is UTF-8.
    pub fn to_str(&self) -> Option<&str> {
        self.name.to_str().ok()
    }
}

/// The file under a name, of any kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Found {
    /// Its kind; a link is not followed.
    pub kind: FileKind,
    /// Its size in bytes.
    pub size: u64,
    /// The id of its owner.
    pub owner: u32,
    /// Its permissions.
    pub mode: u32,
}

impl Found {
    fn of(stat: &fs::Stat) -> Self {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => FileKind::File,
            FileType::Directory => FileKind::Directory,
            FileType::Symlink => FileKind::Link,
            FileType::Fifo | FileType::CharacterDevice => FileKind::Stream,
            _ => FileKind::Other,
        };
        let (size, mode) = (stat.st_size.cast_unsigned(), stat.st_mode & 0o7777);
        Self { kind, size, owner: stat.st_uid, mode }
    }
}

/// The kinds of files that are distinguished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link, whatever it leads to.
    Link,
    /// A file that is read or written as a stream: a FIFO, or a character device such as a terminal.
    Stream,
    /// A block device or a socket.
    Other,
}

impl Dir {
    /// Finds out what `name` is, without following a link; `None` if it does not exist.
    ///
    /// # Errors
    /// Returns an error if the directory cannot be searched.
    pub fn find(&self, name: impl Name) -> Result<Option<Found>, DirError> {
        let name = &*name.c_name(self)?;
        match fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(Found::of(&stat))),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(error) => Err(self.error("look at", name)(error)),
        }
    }

    /// Returns the kind, size and owner of the directory itself.
    ///
    /// # Errors
    /// Returns an error if it cannot be examined.
    pub fn itself(&self) -> Result<Found, DirError> {
        let stat = fs::fstat(&self.fd).map_err(self.error("look at", c"."))?;
        Ok(Found::of(&stat))
    }

    /// Returns the size of `name` in bytes, without following a link; `None` if it does not exist.
    ///
    /// # Errors
    /// Returns an error if the directory cannot be searched.
    pub fn size(&self, name: impl Name) -> Result<Option<u64>, DirError> {
        Ok(self.find(name)?.map(|found| found.size))
    }

    /// Returns the entries of the directory, sorted by name.
    ///
    /// # Errors
    /// Returns an error if it cannot be read.
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
}
