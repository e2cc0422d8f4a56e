//! Layouts in tar archives, or in a directory of one, read in place: only the archive's headers are read at
//! first, and blobs later from their offsets.

use std::collections::btree_map::Entry as MapEntry;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufReader, Seek as _};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use super::docker::{self, DockerError};
use super::made::Made;
use super::open::{FileKind, OpenError};
use super::store::{BlobFile, Name, prefix_of};
use crate::limits::{Bound, Limits};
use crate::packing::{self, Packing, SpoolError, spooled};
use crate::unpack::TarError;
use crate::unpack::decompress::{Decoder, Encoding};
use crate::unpack::tar::{Entry, Kind, Reader};

/// Size of reads from a compressed archive.
const CHUNK: usize = 128 << 10;
/// Maximum number of possible layout directories of an archive to remember.
const PREFIXES: usize = 100;
/// Maximum number of them in a message.
const LISTED: usize = 5;

/// An archive with indexed members.
#[derive(Debug)]
pub(super) struct Archive {
    file: Arc<File>,
    members: Places,
}

/// Why a file is not a usable archive of a layout.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// It is compressed in an unsupported format.
    #[error("it is compressed with {0}, which is not read; decompress it first, with {0} -d")]
    Compressed(&'static str),
    /// The compressed data is damaged.
    #[error("cannot decompress it")]
    Decompress(#[source] io::Error),
    /// It exceeds the limit on bytes.
    #[error("it has more than {} bytes, decompressed", limit.value)]
    TooLarge {
        /// The limit.
        limit: Bound,
    },
    /// There is no space for its content.
    #[error(
        "cannot decompress it into a file in {}; name a directory with room for it in TMPDIR, or \
         decompress it first",
        directory.display()
    )]
    Temporary {
        /// The directory of temporary files.
        directory: PathBuf,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
    /// It contains several layouts.
    #[error("it has layouts in several directories: {}; make an archive of one of them", .0.join(", "))]
    SeveralLayouts(Vec<String>),
    /// It is not a sound tar archive.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// It has a file in the old GNU sparse format, after which members cannot be found.
    #[error("it has a sparse file in the old GNU format; make the archive without sparse files")]
    OldSparse,
    /// Two members of the layout have the same name.
    #[error("it has two members {name}")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// It has more members than any layout.
    #[error("it has more than {limit} members")]
    TooManyMembers {
        /// The limit ([`Limits::archive_members`](crate::Limits::archive_members)).
        limit: u64,
    },
    /// It has no `index.json`, and the files of `docker save` in it cannot be used.
    #[error(transparent)]
    Docker(#[from] DockerError),
    /// It cannot be read.
    #[error("cannot read it")]
    Io(#[source] io::Error),
}

/// The members of an archive, by their file in the layout.
pub(super) type Places = BTreeMap<Name, Member>;

#[derive(Debug, Clone, Copy)]
pub(super) enum Member {
    /// A regular file: the offset of its content, and its length.
    File(u64, u64),
    Other(FileKind),
}

impl Archive {
    /// Indexes the members of the archive `file`, which has `size` bytes. A compressed one is decompressed
    /// into an unnamed file first, since blobs are read in any order. One of `docker save` becomes a layout
    /// with generated documents.
    pub(super) fn index(
        file: File,
        size: u64,
        limits: &Limits,
    ) -> Result<(Self, Made), ArchiveError> {
        let (file, size) = match packing(&file).map_err(ArchiveError::Io)? {
            Packing::None => (file, size),
            Packing::Unknown(name) => return Err(ArchiveError::Compressed(name)),
            Packing::Known => decompressed(&file, limits.of_archive(size))?,
        };
        let file = Arc::new(file);
        let limit = limits.archive_members;
        let mut members = members(&file, size, limit, b"")?;
        let mut made = Made::default();
        if !members.contains_key(&Name::Index) {
            if let Some(prefix) = prefix(&file, size, limit)? {
                members = self::members(&file, size, limit, &prefix)?;
            } else if let Some(docker) = docker::read(&file, size, limits)? {
                (members, made) = docker;
            }
        }
        Ok((Self { file, members }, made))
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

/// Finds the members of the layout in the directory `prefix`; at most `limit` in total.
fn members(file: &File, size: u64, limit: u64, prefix: &[u8]) -> Result<Places, ArchiveError> {
    let mut members = Places::new();
    each_member(file, size, limit, |entry, start, length| {
        let Some(name) = Name::of_member(&entry.name, prefix) else { return Ok(()) };
        let member = other_kind(entry).map_or(Member::File(start, length), Member::Other);
        match members.entry(name) {
            MapEntry::Vacant(vacant) => drop(vacant.insert(member)),
            MapEntry::Occupied(_) => {
                return Err(ArchiveError::Duplicate { name: name.to_string() });
            }
        }
        Ok(())
    })?;
    Ok(members)
}

/// Finds the directory of the layout, if it is not the top of the archive: the only one with an `index.json`,
/// or, of several, the only one with an `oci-layout`, too.
fn prefix(file: &File, size: u64, limit: u64) -> Result<Option<Vec<u8>>, ArchiveError> {
    let [mut with_index, mut with_version] = [BTreeSet::new(), BTreeSet::new()];
    each_member(file, size, limit, |entry, _, _| {
        for (name, found) in [(Name::Index, &mut with_index), (Name::OciLayout, &mut with_version)]
        {
            if let Some(prefix) = prefix_of(&entry.name, name).filter(|_| found.len() < PREFIXES) {
                found.insert(prefix.to_owned());
            }
        }
        Ok(())
    })?;
    let with_both: BTreeSet<_> = with_index.intersection(&with_version).cloned().collect();
    let mut found = if with_both.is_empty() { with_index } else { with_both };
    if found.len() > 1 {
        let names = found.iter().map(|prefix| String::from_utf8_lossy(prefix).into_owned());
        return Err(ArchiveError::SeveralLayouts(names.take(LISTED).collect()));
    }
    Ok(found.pop_first())
}

/// Calls `of` with each member, the offset of its content, and its length.
pub(super) fn each_member(
    mut file: &File,
    size: u64,
    limit: u64,
    mut of: impl FnMut(&Entry, u64, u64) -> Result<(), ArchiveError>,
) -> Result<(), ArchiveError> {
    file.rewind().map_err(ArchiveError::Io)?;
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
        of(&entry, start, length)?;
    }
    Ok(())
}

/// Returns the kind of a member, unless it is a regular file.
pub(super) fn other_kind(entry: &Entry) -> Option<FileKind> {
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

fn packing(file: &File) -> io::Result<Packing> {
    let mut head = [0; packing::HEAD];
    let length = file.read_at(&mut head, 0)?;
    Ok(Packing::of(&head[..length]))
}

/// Decompresses `file` into an unnamed file; returns that and its size, which is `limit` at most.
fn decompressed(file: &File, limit: Bound) -> Result<(File, u64), ArchiveError> {
    let stream = Decoder::new(BufReader::with_capacity(CHUNK, file), Encoding::Detect);
    spooled(stream.map_err(ArchiveError::Decompress)?, limit.value).map_err(|error| match error {
        SpoolError::Read(source) => ArchiveError::Decompress(source),
        SpoolError::Write(source) => {
            ArchiveError::Temporary { directory: std::env::temp_dir(), source }
        }
        SpoolError::TooLarge => ArchiveError::TooLarge { limit },
    })
}

#[cfg(test)]
mod tests;
