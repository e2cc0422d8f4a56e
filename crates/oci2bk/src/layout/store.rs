//! Where the files of a layout are: below a directory, or in an archive.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use bkstate::Digest;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

use super::LayoutError;
use super::archive::Archive;
use super::open::{FileKind, OpenError, regular_file, regular_size};
use crate::limits::Limits;

/// A file of a layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Name {
    OciLayout,
    Index,
    Blob(Digest),
}

pub(crate) const OCI_LAYOUT: &str = "oci-layout";
pub(crate) const INDEX: &str = "index.json";
const BLOBS: &str = "blobs/sha256/";

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OciLayout => f.write_str(OCI_LAYOUT),
            Self::Index => f.write_str(INDEX),
            Self::Blob(digest) => write!(f, "{BLOBS}{}", digest.hex()),
        }
    }
}

impl Name {
    /// The file that a member of an archive is of the layout in the directory `prefix`, which ends in a
    /// slash or is empty; `None` if it is none of those that matter.
    pub(super) fn of_member(name: &[u8], prefix: &[u8]) -> Option<Self> {
        let name = std::str::from_utf8(plain(name).strip_prefix(prefix)?).ok()?;
        match name {
            OCI_LAYOUT => Some(Self::OciLayout),
            INDEX => Some(Self::Index),
            _ => format!("sha256:{}", name.strip_prefix(BLOBS)?).parse().map(Self::Blob).ok(),
        }
    }
}

/// The name of a member of an archive. Archives made with `tar -C DIR .` have names that start with `./`.
fn plain(name: &[u8]) -> &[u8] {
    name.strip_prefix(b"./").unwrap_or(name)
}

/// Where in an archive a layout may be that has a member of this name: the directory of an `index.json`,
/// or of an `oci-layout`.
pub(super) fn prefix_of(name: &[u8], file: Name) -> Option<&[u8]> {
    let prefix = plain(name).strip_suffix(file.to_string().as_bytes())?;
    let is_directory = prefix.is_empty() || prefix.ends_with(b"/");
    let leads_up = prefix.split(|byte| *byte == b'/').any(|part| part == b"..");
    (is_directory && !leads_up).then_some(prefix)
}

#[derive(Debug)]
pub(super) enum Store {
    Directory(OwnedFd),
    Archive(Archive),
}

impl Store {
    pub(super) fn open(path: &Path, limits: &Limits) -> Result<Self, LayoutError> {
        let io_error = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => LayoutError::NotFound { path: path.to_owned() },
            _ => LayoutError::Open { path: path.to_owned(), source },
        };
        let open = |flags| {
            openat(CWD, path, flags | OFlags::CLOEXEC, Mode::empty())
                .map_err(|error| io_error(error.into()))
        };
        let refused = |error| match error {
            OpenError::NotRegular(kind) => LayoutError::NotALayout { path: path.to_owned(), kind },
            OpenError::Io(source) => io_error(source),
            OpenError::Missing => io_error(Errno::NOENT.into()),
        };
        // Looked at first, because opening a device or FIFO can have effects.
        match regular_size(&open(OFlags::PATH)?) {
            Err(OpenError::NotRegular(FileKind::Directory)) => {
                return open(OFlags::RDONLY | OFlags::DIRECTORY).map(Self::Directory);
            }
            looked_at => looked_at.map_err(refused)?,
        };
        let file = open(OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        let size = regular_size(&file).map_err(refused)?;
        let archive = Archive::index(File::from(file), size, limits);
        archive
            .map(Self::Archive)
            .map_err(|source| LayoutError::Archive { path: path.to_owned(), source })
    }

    /// The directory that the layout is; `None` for an archive.
    pub(super) fn directory(&self) -> Option<&OwnedFd> {
        match self {
            Self::Directory(dir) => Some(dir),
            Self::Archive(_) => None,
        }
    }

    /// Opens a regular file of the layout.
    pub(super) fn file(&self, name: Name) -> Result<BlobFile, OpenError> {
        match self {
            Self::Directory(dir) => {
                let (file, size) = regular_file(dir, &name.to_string())?;
                Ok(BlobFile::new(Arc::new(file), 0, size))
            }
            Self::Archive(archive) => archive.open(name),
        }
    }
}

/// A file of a layout that is open for reading, at its start. Its content has not been verified.
///
/// It ends where it ended when it was opened, even if it grows.
#[derive(Debug)]
pub struct BlobFile {
    /// Read at positions only, since an archive's blobs share it.
    file: Arc<File>,
    /// Where in the file the next byte is.
    position: u64,
    /// How many bytes are left.
    left: u64,
}

impl BlobFile {
    pub(super) fn new(file: Arc<File>, start: u64, size: u64) -> Self {
        Self { file, position: start, left: size }
    }

    /// The bytes from here to its end: its size, while none were read.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// The file on disk, if nothing was read yet and there is nothing else in it: in an archive there is.
    pub fn whole(&self) -> Option<&File> {
        let size = self.file.metadata().ok()?.len();
        (self.position == 0 && self.left == size).then_some(&*self.file)
    }

    /// Reads from `offset` bytes behind where it is, and stays there.
    ///
    /// # Errors
    /// Those of reading.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let left = usize::try_from(self.left.saturating_sub(offset)).unwrap_or(usize::MAX);
        let length = left.min(buffer.len());
        // What is left is in the file, so this cannot overflow unless nothing is.
        self.file.read_at(&mut buffer[..length], self.position.saturating_add(offset))
    }

    fn advance(&mut self, length: usize) {
        self.position += length as u64;
        self.left -= length as u64;
    }
}

impl Read for BlobFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let read = self.file.read_at(&mut buffer[..length], self.position)?;
        self.advance(read);
        Ok(read)
    }
}
