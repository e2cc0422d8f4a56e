//! The storage of a layout's files: a directory, an archive, or a mirror of a cache with other names. Files
//! that do not exist can be generated in memory.

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
use super::made::Made;
use super::mirror::Mirror;
use super::open::{FileKind, OpenError, regular_file, regular_size};
use crate::limits::Limits;
use crate::source::Reference;

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
    /// Returns the file of the layout in the directory `prefix`, which ends in a slash or is empty, for a
    /// member of an archive; `None` if it is not relevant.
    pub(super) fn of_member(name: &[u8], prefix: &[u8]) -> Option<Self> {
        let name = std::str::from_utf8(plain(name).strip_prefix(prefix)?).ok()?;
        match name {
            OCI_LAYOUT => Some(Self::OciLayout),
            INDEX => Some(Self::Index),
            _ => format!("sha256:{}", name.strip_prefix(BLOBS)?).parse().map(Self::Blob).ok(),
        }
    }
}

/// Returns the normalised name of a member of an archive. In archives made with `tar -C DIR .` names start
/// with `./`.
pub(super) fn plain(name: &[u8]) -> &[u8] {
    name.strip_prefix(b"./").unwrap_or(name)
}

/// Returns the directory of a possible layout with a member of this name: that of an `index.json`, or of an
/// `oci-layout`.
pub(super) fn prefix_of(name: &[u8], file: Name) -> Option<&[u8]> {
    let prefix = plain(name).strip_suffix(file.to_string().as_bytes())?;
    let is_directory = prefix.is_empty() || prefix.ends_with(b"/");
    let leads_up = prefix.split(|byte| *byte == b'/').any(|part| part == b"..");
    (is_directory && !leads_up).then_some(prefix)
}

/// The files of a layout.
#[derive(Debug)]
pub(super) struct Store {
    files: Files,
    /// Generated documents, which take precedence over files.
    made: Made,
}

#[derive(Debug)]
enum Files {
    Directory(OwnedFd),
    Mirror(Mirror),
    Archive(Archive),
}

impl Store {
    /// Opens the directory or archive at `path`. For a mirror, only the cache of `reference` is needed.
    pub(super) fn open(
        path: &Path,
        reference: &Reference,
        limits: &Limits,
    ) -> Result<Self, LayoutError> {
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
        // Examined first, because opening a device or FIFO can have side effects.
        match regular_size(&open(OFlags::PATH)?) {
            Err(OpenError::NotRegular(FileKind::Directory)) => {
                let dir = open(OFlags::RDONLY | OFlags::DIRECTORY)?;
                return Self::of_directory(dir, path, reference, limits);
            }
            looked_at => looked_at.map_err(refused)?,
        };
        let file = open(OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        let size = regular_size(&file).map_err(refused)?;
        let (archive, made) = Archive::index(File::from(file), size, limits)
            .map_err(|source| LayoutError::Archive { path: path.to_owned(), source })?;
        Ok(Self { files: Files::Archive(archive), made })
    }

    /// Opens a layout if its files exist at the top, otherwise a mirror if it looks like one.
    fn of_directory(
        dir: OwnedFd,
        path: &Path,
        reference: &Reference,
        limits: &Limits,
    ) -> Result<Self, LayoutError> {
        let is_missing = |name: &str| matches!(regular_file(&dir, name), Err(OpenError::Missing));
        if is_missing(INDEX) && is_missing(OCI_LAYOUT) {
            let mirror = Mirror::open(&dir, path, reference, limits);
            let error = |source| LayoutError::Mirror { path: path.to_owned(), source };
            if let Some((mirror, made)) = mirror.map_err(error)? {
                return Ok(Self { files: Files::Mirror(mirror), made });
            }
        }
        Ok(Self { files: Files::Directory(dir), made: Made::default() })
    }

    /// Returns the directory of the layout; `None` for an archive or a mirror.
    pub(super) fn directory(&self) -> Option<&OwnedFd> {
        match &self.files {
            Files::Directory(dir) => Some(dir),
            Files::Mirror(_) | Files::Archive(_) => None,
        }
    }

    pub(super) fn is_mirror(&self) -> bool {
        matches!(self.files, Files::Mirror(_))
    }

    /// Opens a regular file of the layout.
    pub(super) fn file(&self, name: Name) -> Result<BlobFile, OpenError> {
        if let Some(made) = self.made.get(name) {
            return Ok(BlobFile::of_memory(made));
        }
        match (&self.files, name) {
            (Files::Directory(dir), _) => {
                regular_file(dir, &name.to_string()).map(BlobFile::of_file)
            }
            (Files::Mirror(mirror), Name::Blob(digest)) => mirror.blob(digest),
            (Files::Mirror(_), Name::OciLayout | Name::Index) => Err(OpenError::Missing),
            (Files::Archive(archive), _) => archive.open(name),
        }
    }
}

/// A file of a layout open for reading, at its start. Its content is not verified.
///
/// Its length is fixed when it is opened, even if the file grows.
#[derive(Debug)]
pub struct BlobFile {
    content: Content,
    /// The position of the next byte in the content.
    position: u64,
    /// Number of remaining bytes.
    left: u64,
}

#[derive(Debug)]
enum Content {
    /// Read by position only, since the blobs of an archive share it.
    File(Arc<File>),
    Memory(Arc<[u8]>),
}

impl Content {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        match self {
            Self::File(file) => file.read_at(buffer, position),
            Self::Memory(bytes) => {
                let start = usize::try_from(position).unwrap_or(usize::MAX);
                bytes.get(start..).unwrap_or_default().read(buffer)
            }
        }
    }
}

impl BlobFile {
    /// Creates a part of a file.
    pub(super) fn new(file: Arc<File>, start: u64, size: u64) -> Self {
        Self { content: Content::File(file), position: start, left: size }
    }

    /// Creates a whole file, with its size.
    pub(super) fn of_file((file, size): (File, u64)) -> Self {
        Self::new(Arc::new(file), 0, size)
    }

    fn of_memory(bytes: &Arc<[u8]>) -> Self {
        let left = bytes.len() as u64;
        Self { content: Content::Memory(Arc::clone(bytes)), position: 0, left }
    }

    /// Returns the number of remaining bytes: the size, before anything was read.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Returns the file on disk, if nothing was read yet and it contains only this blob: not in an archive,
    /// and not if generated in memory.
    pub fn whole(&self) -> Option<&File> {
        let Content::File(file) = &self.content else { return None };
        let size = file.metadata().ok()?.len();
        (self.position == 0 && self.left == size).then_some(&**file)
    }

    /// Reads at `offset` bytes after the current position, which does not change.
    ///
    /// # Errors
    /// Returns an error if reading fails.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let left = usize::try_from(self.left.saturating_sub(offset)).unwrap_or(usize::MAX);
        let length = left.min(buffer.len());
        // The remaining bytes are in the file, so this cannot overflow unless there are none.
        self.content.read_at(&mut buffer[..length], self.position.saturating_add(offset))
    }

    fn advance(&mut self, length: usize) {
        self.position += length as u64;
        self.left -= length as u64;
    }
}

impl Read for BlobFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let read = self.content.read_at(&mut buffer[..length], self.position)?;
        self.advance(read);
        Ok(read)
    }
}
