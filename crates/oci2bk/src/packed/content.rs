//! The digest of what a tree has: everything that a build can see of it, in an order of its own.
//!
//! It does not depend on the file system: a directory on disk and the same directory in an image have the same
//! digest. Sizes of directories, numbers of inodes and times other than those of modification are left out, and so
//! are hard links between trees, which an image need not keep.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;

use bkstate::Digest;
use bkstate::dir::Dir;
use codec::digest::Hasher;
use rustix::fs::{FileType, Stat};

use super::PackedError;
use crate::cancel::Cancel;
use crate::unpack::EntryName;
use crate::unpack::paths::{OPEN_DIRECTORY, join, open_plain};
use crate::verify::trees::below::names;
use crate::verify::trees::entry::Entry;

/// Size of a read, in bytes.
const CHUNK: usize = 256 << 10;
/// Releases of mkfs.erofs from 1.7 on add this attribute, without a value, to directories with whiteouts. Without a
/// value overlayfs does not use it (Linux 6.18 `fs/overlayfs/namei.c` `ovl_get_fh`).
const ORIGIN: &[u8] = b"trusted.overlay.origin";

/// Linux' `NAME_MAX`, in bytes.
pub(super) const LONGEST_NAME: usize = 255;

/// The amounts in trees.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Amounts {
    /// Number of entries.
    pub(super) entries: u64,
    /// Total size of the files in bytes, each once.
    pub(super) bytes: u64,
    /// Number of names of 255 bytes, the most that Linux has.
    pub(super) longest_names: u64,
}

/// What a tree has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Content {
    pub(super) digest: Digest,
    pub(super) amounts: Amounts,
}

impl Content {
    /// Reads the tree of the snapshot `id`.
    pub(super) fn of(id: u64, tree: &Dir, cancel: &Cancel) -> Result<Self, PackedError> {
        let mut all = Hasher::new();
        let amounts = each_entry(id, tree, cancel, |_, entry| all.update(entry.hex().as_bytes()))?;
        Ok(Self { digest: all.finish(), amounts })
    }
}

/// Returns the path of the first difference between two trees of the snapshot `id`, if they differ.
pub(super) fn difference(
    id: u64,
    a: &Dir,
    b: &Dir,
    cancel: &Cancel,
) -> Result<Option<EntryName>, PackedError> {
    let read = |tree| -> Result<BTreeMap<Vec<u8>, Digest>, PackedError> {
        let mut entries = BTreeMap::new();
        each_entry(id, tree, cancel, |path, entry| {
            entries.insert(path.to_vec(), entry);
        })?;
        Ok(entries)
    };
    let (a, b) = (read(a)?, read(b)?);
    let paths = a.keys().chain(b.keys().filter(|path| !a.contains_key(*path)));
    let differing = paths.filter(|path| a.get(*path) != b.get(*path)).min();
    Ok(differing.map(|path| EntryName::new(path)))
}

/// Calls `found` for every entry with its path and its digest, always in the same order.
fn each_entry(
    id: u64,
    tree: &Dir,
    cancel: &Cancel,
    mut found: impl FnMut(&[u8], Digest),
) -> Result<Amounts, PackedError> {
    let unreadable = |path: &[u8], source: io::Error| PackedError::Tree {
        path: tree.path().join(EntryName::new(path).to_string()),
        snapshot: id,
        source,
    };
    let mut amounts = Amounts::default();
    let mut links: BTreeMap<(u64, u64), Digest> = BTreeMap::new();
    let mut buffer = vec![0; CHUNK];
    let top = rustix::fs::fstat(tree).map_err(|error| unreadable(b"", error.into()))?;
    found(b"", start(b"", &top).finish());
    // Trees can be deeper than the stack and the limit on open files allow.
    let mut pending = vec![Vec::new()];
    while let Some(path) = pending.pop() {
        let failed = |source| unreadable(&path, source);
        let opened = open_plain(&tree.as_fd(), &path, OPEN_DIRECTORY);
        let directory = opened.map_err(|error| failed(error.into()))?;
        for name in names(&directory).map_err(failed)? {
            cancel.check(PackedError::Cancelled)?;
            let path = join(&path, &name);
            let failed = |source| unreadable(&path, source);
            let entry = Entry::read(&directory, &name).map_err(failed)?;
            amounts.entries += 1;
            amounts.longest_names += u64::from(name.len() == LONGEST_NAME);
            let is_link = entry.stat.st_nlink > 1 && entry.kind() != FileType::Directory;
            if is_link && let Some(first) = links.get(&entry.inode()) {
                let mut line = Hasher::new();
                line.update(b"link");
                line.update(&path);
                line.update(first.hex().as_bytes());
                found(&path, line.finish());
                continue;
            }
            if entry.kind() == FileType::RegularFile {
                amounts.bytes = amounts.bytes.saturating_add(entry.stat.st_size.cast_unsigned());
            }
            let digest = digest(&path, &entry, &mut buffer, cancel).map_err(failed)?;
            if is_link {
                links.insert(entry.inode(), digest);
            }
            found(&path, digest);
            if entry.kind() == FileType::Directory {
                pending.push(path);
            }
        }
    }
    Ok(amounts)
}

/// Begins the digest of an entry with what every kind has.
fn start(path: &[u8], stat: &Stat) -> Hasher {
    let mut line = Hasher::new();
    let Stat { st_mode, st_uid, st_gid, st_mtime, st_mtime_nsec, .. } = stat;
    let device = match FileType::from_raw_mode(*st_mode) {
        FileType::CharacterDevice | FileType::BlockDevice => stat.st_rdev,
        _ => 0,
    };
    let length = path.len();
    let fields =
        format!("{st_mode:o} {st_uid} {st_gid} {st_mtime} {st_mtime_nsec} {device} {length} ");
    line.update(fields.as_bytes());
    line.update(path);
    line
}

fn digest(
    path: &[u8],
    entry: &Entry<'_>,
    buffer: &mut [u8],
    cancel: &Cancel,
) -> io::Result<Digest> {
    let mut line = start(path, &entry.stat);
    for (name, value) in entry.xattrs()? {
        if name != ORIGIN || !value.is_empty() {
            line.update(format!("{} {} ", name.len(), value.len()).as_bytes());
            line.update(&name);
            line.update(&value);
        }
    }
    match entry.kind() {
        FileType::Symlink => line.update(&entry.target()?),
        FileType::RegularFile => {
            line.update(format!("{} ", entry.stat.st_size).as_bytes());
            let mut file = entry.open()?;
            loop {
                let length = file.read(buffer)?;
                if length == 0 || cancel.is_cancelled() {
                    break;
                }
                line.update(&buffer[..length]);
            }
        }
        _ => {}
    }
    Ok(line.finish())
}
