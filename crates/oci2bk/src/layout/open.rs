//! Opens only regular files, relative to a directory handle.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use rustix::io::Errno;

/// The kind of file found instead of a regular file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileKind {
    /// A symbolic link, as the last or an earlier part of the path.
    Symlink,
    /// A directory.
    Directory,
    /// A FIFO (named pipe).
    Fifo,
    /// A Unix domain socket.
    Socket,
    /// A character or block device.
    Device,
    /// A hard link to another member of an archive.
    HardLink,
    /// A sparse file in an archive, whose content is not stored contiguously.
    Sparse,
    /// Anything else, such as a file where a directory of the path should be.
    Other,
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Symlink => "a symbolic link",
            Self::Directory => "a directory",
            Self::Fifo => "a FIFO",
            Self::Socket => "a socket",
            Self::Device => "a device",
            Self::HardLink => "a hard link",
            Self::Sparse => "a sparse file",
            Self::Other => "not a file",
        })
    }
}

/// Why a regular file cannot be opened; the callers add the name.
#[derive(Debug)]
pub(super) enum OpenError {
    Missing,
    NotRegular(FileKind),
    Io(io::Error),
}

/// Opens the regular file `path` below `dir` for reading, and returns its size in bytes.
///
/// No symbolic link in `path` is followed. A device or FIFO is recognised through an `O_PATH` handle, without
/// opening it: opening a device can have side effects.
pub(super) fn regular_file(dir: &OwnedFd, path: &str) -> Result<(File, u64), OpenError> {
    open(dir, path, OFlags::PATH).and_then(|handle| regular_size(&handle))?;
    // The path may have been replaced in the meantime, hence O_NONBLOCK and a second check of the opened
    // file.
    let file = open(dir, path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
    let size = regular_size(&file)?;
    Ok((File::from(file), size))
}

/// Opens the directory `path` below `dir` to list it, as [`regular_file`] opens files.
pub(super) fn directory(dir: &OwnedFd, path: &str) -> Result<OwnedFd, OpenError> {
    open(dir, path, OFlags::RDONLY | OFlags::DIRECTORY)
}

fn open(dir: &OwnedFd, path: &str, flags: OFlags) -> Result<OwnedFd, OpenError> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    openat2(dir, path, flags, Mode::empty(), resolve).map_err(|error| match error {
        Errno::NOENT => OpenError::Missing,
        Errno::LOOP => OpenError::NotRegular(FileKind::Symlink),
        Errno::NOTDIR => OpenError::NotRegular(FileKind::Other),
        error => OpenError::Io(error.into()),
    })
}

/// Returns the size of a regular file in bytes.
pub(super) fn regular_size(file: &OwnedFd) -> Result<u64, OpenError> {
    let stat = fstat(file).map_err(|error| OpenError::Io(error.into()))?;
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => return Ok(stat.st_size.cast_unsigned()),
        FileType::Directory => FileKind::Directory,
        FileType::Symlink => FileKind::Symlink,
        FileType::Fifo => FileKind::Fifo,
        FileType::Socket => FileKind::Socket,
        FileType::CharacterDevice | FileType::BlockDevice => FileKind::Device,
        FileType::Unknown => FileKind::Other,
    };
    Err(OpenError::NotRegular(kind))
}
