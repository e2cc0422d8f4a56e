//! A layout in a tar archive, or in a directory in one, read where it lies: only the archive's headers are
//! read to begin with, and blobs from where they are in it.

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

/// How much of a compressed archive is read at a time.
const CHUNK: usize = 128 << 10;
/// How many directories of an archive are remembered that may be the layout.
const PREFIXES: usize = 100;
/// How many of them a message lists.
const LISTED: usize = 5;

/// An archive whose members are known.
#[derive(Debug)]
pub(super) struct Archive {
    file: Arc<File>,
    members: Places,
}

/// Why a file is not a usable archive of a layout.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// It is compressed in a way that is not read.
    #[error("it is compressed with {0}, which is not read; decompress it first, with {0} -d")]
    Compressed(&'static str),
    /// What it is compressed to is damaged.
    #[error("cannot decompress it")]
    Decompress(#[source] io::Error),
    /// It has more bytes than it may.
    #[error("it has more than {} bytes, decompressed", limit.value)]
    TooLarge {
        /// How many it may have.
        limit: Bound,
    },
    /// There is no room for what it holds.
    #[error(
        "cannot decompress it into a file in {}; name a directory with room for it in TMPDIR, or \
         decompress it first",
        directory.display()
    )]
    Temporary {
        /// Where temporary files are made.
        directory: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// There are several layouts in it.
    #[error("it has layouts in several directories: {}; make an archive of one of them", .0.join(", "))]
    SeveralLayouts(Vec<String>),
    /// It is not a sound tar archive.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// A file in the old GNU sparse format, after which nothing can be found.
    #[error("it has a sparse file in the old GNU format; make the archive without sparse files")]
    OldSparse,
    /// Two members of the layout have the same name.
    #[error("it has two members {name}")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// There are more members than any layout has.
    #[error("it has more than {limit} members")]
    TooManyMembers {
        /// How many it may have ([`Limits::archive_members`](crate::Limits::archive_members)).
        limit: u64,
    },
    /// It has no `index.json`, and what `docker save` writes in place of one cannot be used.
    #[error(transparent)]
    Docker(#[from] DockerError),
    /// It cannot be read.
    #[error("cannot read it")]
    Io(#[source] io::Error),
}

/// The members of an archive, by the file of the layout that each is.
pub(super) type Places = BTreeMap<Name, Member>;

#[derive(Debug, Clone, Copy)]
pub(super) enum Member {
    /// A regular file: where its content starts, and how long it is.
    File(u64, u64),
    Other(FileKind),
}

impl Archive {
    /// Finds the members of the archive `file`, which has `size` bytes. One that is compressed is
    /// decompressed into a file without a name first, since blobs are read in any order. One of `docker save`
    /// becomes a layout by documents that are made of what it has.
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

/// Where the members of the layout in the directory `prefix` are. In all there may be `limit`.
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

/// The directory that has the layout, if that is not the archive itself: the only one with an
/// `index.json`, or, of several, with an `oci-layout`, too.
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

/// Tells `of` each member, and where its content is, and how long.
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

/// What a member is, unless it is a regular file.
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

/// A file without a name that has what `file` has, decompressed, and its size, which is `limit` at most.
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
