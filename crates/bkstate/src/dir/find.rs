//! What is in a directory.

use std::ffi::CString;

use rustix::fs::{self, AtFlags, FileType};

use super::{Dir, DirError, Name};

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
    /// The id of the user it belongs to.
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

/// The kinds of files that are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link, whatever it leads to.
    Link,
    /// What is read or written as it comes: a FIFO, or a character device such as a terminal.
    Stream,
    /// A block device or a socket.
    Other,
}

impl Dir {
    /// What `name` is, without following a link; `None` if there is nothing.
    ///
    /// # Errors
    /// If the directory cannot be searched.
    pub fn find(&self, name: impl Name) -> Result<Option<Found>, DirError> {
        let name = &*name.c_name(self)?;
        match fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(Found::of(&stat))),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(error) => Err(self.error("look at", name)(error)),
        }
    }

    /// What the directory itself is.
    ///
    /// # Errors
    /// If it cannot be looked at.
    pub fn itself(&self) -> Result<Found, DirError> {
        let stat = fs::fstat(&self.fd).map_err(self.error("look at", c"."))?;
        Ok(Found::of(&stat))
    }

    /// The size in bytes of what `name` is, without following a link; `None` if there is nothing.
    ///
    /// # Errors
    /// If the directory cannot be searched.
    pub fn size(&self, name: impl Name) -> Result<Option<u64>, DirError> {
        Ok(self.find(name)?.map(|found| found.size))
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
}
