//! A layout in a tar archive, read where it lies: only the archive's headers are read to begin
//! with, and blobs from where they are in it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as MapEntry;
use std::fs::File;
use std::io::{self, BufReader};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use super::open::{FileKind, OpenError};
use super::store::{BlobFile, Name};
use crate::limits::Limits;
use crate::unpack::TarError;
use crate::unpack::tar::{Entry, Kind, Reader};

/// An archive whose members are known.
#[derive(Debug)]
pub(super) struct Archive {
    file: Arc<File>,
    members: BTreeMap<Name, Member>,
}

/// Why a file is not a usable archive of a layout.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// It is compressed as a whole, so that its members have no place in it.
    #[error(
        "it is compressed as a whole; decompress it first, which costs little space since layers \
         are compressed themselves"
    )]
    Compressed,
    /// It is not a sound tar archive.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// A file in the old GNU sparse format, after which nothing can be found.
    #[error("it has a sparse file in the old GNU format; make the archive without --sparse")]
    OldSparse,
    /// Two members of the layout have the same name.
    #[error("it has two members {name}")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// There are more members than any layout has.
    #[error("it has more than {limit} members; allow for more with --limit archive-members")]
    TooManyMembers {
        /// How many it may have.
        limit: u64,
    },
    /// It cannot be read.
    #[error("cannot read it")]
    Io(#[source] io::Error),
}

#[derive(Debug, Clone, Copy)]
enum Member {
    /// A regular file: where its content starts, and how long it is.
    File(u64, u64),
    Other(FileKind),
}

impl Archive {
    /// Finds the members of the archive `file`, which has `size` bytes.
    pub(super) fn index(file: File, size: u64, limits: &Limits) -> Result<Self, ArchiveError> {
        if is_compressed(&file).map_err(ArchiveError::Io)? {
            return Err(ArchiveError::Compressed);
        }
        let members = members(&file, size, limits.archive_members)?;
        Ok(Self { file: Arc::new(file), members })
    }

    pub(super) fn open(&self, name: Name) -> Result<BlobFile, OpenError> {
        match self.members.get(&name) {
            None => Err(OpenError::Missing),
            Some(Member::Other(kind)) => Err(OpenError::NotRegular(*kind)),
            Some(&Member::File(start, size)) => {
                Ok(BlobFile::new(Arc::clone(&self.file), start, size))
            }
        }
    }
}

/// Where the members are, of which there may be `limit`.
fn members(file: &File, size: u64, limit: u64) -> Result<BTreeMap<Name, Member>, ArchiveError> {
    let mut members = BTreeMap::new();
    let mut count = 0;
    let mut archive = Reader::new(BufReader::new(file));
    while let Some(entry) = archive.next()? {
        count += 1;
        if count > limit {
            return Err(ArchiveError::TooManyMembers { limit });
        }
        if entry.kind == Kind::OldSparse {
            return Err(ArchiveError::OldSparse);
        }
        let (start, length) = archive.seek_over_body(size)?;
        let Some(name) = Name::of_member(&entry.name) else { continue };
        let member = other_kind(&entry).map_or(Member::File(start, length), Member::Other);
        match members.entry(name) {
            MapEntry::Vacant(vacant) => vacant.insert(member),
            MapEntry::Occupied(_) => {
                return Err(ArchiveError::Duplicate { name: name.to_string() });
            }
        };
    }
    Ok(members)
}

/// What a member is, unless it is a regular file.
fn other_kind(entry: &Entry) -> Option<FileKind> {
    Some(match entry.kind {
        _ if entry.is_sparse() => FileKind::Sparse,
        Kind::Regular => return None,
        Kind::HardLink => FileKind::HardLink,
        Kind::Symlink => FileKind::Symlink,
        Kind::CharDevice | Kind::BlockDevice => FileKind::Device,
        Kind::Directory => FileKind::Directory,
        Kind::Fifo => FileKind::Fifo,
        Kind::OldSparse | Kind::GlobalHeader | Kind::Other(_) => FileKind::Other,
    })
}

/// Whether a file starts as gzip (RFC 1952), zstd (RFC 8878), xz or bzip2 streams do.
fn is_compressed(file: &File) -> io::Result<bool> {
    const MAGIC: [&[u8]; 4] =
        [&[0x1f, 0x8b], &[0x28, 0xb5, 0x2f, 0xfd], &[0xfd, b'7', b'z', b'X', b'Z', 0], b"BZh"];
    let mut head = [0; 6];
    let length = file.read_at(&mut head, 0)?;
    Ok(MAGIC.iter().any(|magic| head[..length].starts_with(magic)))
}

#[cfg(test)]
mod tests;
