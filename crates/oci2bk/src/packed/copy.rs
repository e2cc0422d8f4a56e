//! Copies a tree with everything that a build can see of it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;

use bkstate::dir::Dir;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags,
};

use super::PackedError;
use crate::cancel::Cancel;
use crate::unpack::EntryName;
use crate::unpack::paths::{OPEN_DIRECTORY, join, open_plain};
use crate::verify::trees::below::names;
use crate::verify::trees::entry::Entry;

/// Size of a read, in bytes. A block of it that has only zeros becomes a hole.
const CHUNK: usize = 64 << 10;

/// Copies what is in `from` to the empty directory `to`, as the tree of the snapshot `id`.
pub(super) fn copy_tree(id: u64, from: &Dir, to: &Dir, cancel: &Cancel) -> Result<(), PackedError> {
    let failed = |path: &[u8], source: io::Error| PackedError::Copy {
        path: EntryName::new(path),
        snapshot: id,
        source,
    };
    let mut links: BTreeMap<(u64, u64), Vec<u8>> = BTreeMap::new();
    let mut buffer = vec![0; CHUNK];
    // Their times change as long as something is created in them.
    let mut directories =
        vec![(Vec::new(), rustix::fs::fstat(from).map_err(|e| failed(b"", e.into()))?)];
    let mut pending = vec![Vec::new()];
    while let Some(path) = pending.pop() {
        let open = |top: &Dir| open_plain(&top.as_fd(), &path, OPEN_DIRECTORY);
        let source = open(from).map_err(|error| failed(&path, error.into()))?;
        let target = open(to).map_err(|error| failed(&path, error.into()))?;
        for name in names(&source).map_err(|error| failed(&path, error))? {
            cancel.check(PackedError::Cancelled)?;
            let path = join(&path, &name);
            let entry = Entry::read(&source, &name).map_err(|error| failed(&path, error))?;
            if entry.kind() != FileType::Directory && entry.stat.st_nlink > 1 {
                if let Some(first) = links.get(&entry.inode()) {
                    link(to, first, &target, &name).map_err(|error| failed(&path, error))?;
                    continue;
                }
                links.insert(entry.inode(), path.clone());
            }
            create(&entry, &target, &name, &mut buffer).map_err(|error| failed(&path, error))?;
            if entry.kind() == FileType::Directory {
                directories.push((path.clone(), entry.stat));
                pending.push(path);
            }
        }
    }
    let top = rustix::fs::fstat(from).map_err(|error| failed(b"", error.into()))?;
    let owned = rustix::fs::fchown(to, owner(&top).0, owner(&top).1)
        .and_then(|()| rustix::fs::fchmod(to, mode(&top)));
    owned.map_err(|error| failed(b"", error.into()))?;
    for (path, stat) in directories.iter().rev() {
        let directory = open_plain(&to.as_fd(), path, OPEN_DIRECTORY);
        let set = directory.and_then(|directory| rustix::fs::futimens(directory, &times(stat)));
        set.map_err(|error| failed(path, error.into()))?;
    }
    Ok(())
}

/// Gives the file at `path` of the tree the further name `name` in `target`.
fn link(to: &Dir, path: &[u8], target: &OwnedFd, name: &[u8]) -> io::Result<()> {
    let slash = path.iter().rposition(|byte| *byte == b'/');
    let (above, last) = slash.map_or((&b""[..], path), |at| (&path[..at], &path[at + 1..]));
    let directory = open_plain(&to.as_fd(), above, OPEN_DIRECTORY)?;
    Ok(rustix::fs::linkat(directory, last, target, name, AtFlags::empty())?)
}

fn create(entry: &Entry<'_>, target: &OwnedFd, name: &[u8], buffer: &mut [u8]) -> io::Result<()> {
    let stat = &entry.stat;
    let private = Mode::from_raw_mode(0o600);
    match entry.kind() {
        FileType::Directory => rustix::fs::mkdirat(target, name, Mode::from_raw_mode(0o700))?,
        FileType::Symlink => rustix::fs::symlinkat(entry.target()?, target, name)?,
        FileType::RegularFile => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
            let file = rustix::fs::openat(target, name, flags | OFlags::CLOEXEC, private)?;
            copy_content(&mut entry.open()?, &file.into(), stat, buffer)?;
        }
        kind => rustix::fs::mknodat(target, name, kind, private, stat.st_rdev)?,
    }
    // In this order: a change of the owner takes capabilities and the setuid bit away.
    let (user, group) = owner(stat);
    rustix::fs::chownat(target, name, user, group, AtFlags::SYMLINK_NOFOLLOW)?;
    // The name in /proc leads to the directory, and its last component is not followed.
    let mut path = format!("/proc/self/fd/{}/", target.as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    for (attribute, value) in entry.xattrs()? {
        rustix::fs::lsetxattr(path.as_slice(), attribute, &value, XattrFlags::empty())?;
    }
    if entry.kind() != FileType::Symlink {
        rustix::fs::chmodat(target, name, mode(stat), AtFlags::empty())?;
    }
    if entry.kind() != FileType::Directory {
        rustix::fs::utimensat(target, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(())
}

/// Copies a file. Blocks of zeros become holes.
fn copy_content(from: &mut File, to: &File, stat: &Stat, buffer: &mut [u8]) -> io::Result<()> {
    to.set_len(stat.st_size.cast_unsigned())?;
    let mut at = 0;
    loop {
        let mut length = 0;
        while length < buffer.len() {
            match from.read(&mut buffer[length..])? {
                0 => break,
                read => length += read,
            }
        }
        if length == 0 {
            return Ok(());
        }
        let block = &buffer[..length];
        if block.iter().any(|byte| *byte != 0) {
            to.write_all_at(block, at)?;
        }
        at += length as u64;
    }
}

fn owner(stat: &Stat) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))
}

fn mode(stat: &Stat) -> Mode {
    Mode::from_raw_mode(stat.st_mode & 0o7777)
}

/// Only times of modification are kept; those of access are the same then.
fn times(stat: &Stat) -> Timestamps {
    let nanoseconds = i64::try_from(stat.st_mtime_nsec).unwrap_or_default();
    let time = Timespec { tv_sec: stat.st_mtime, tv_nsec: nanoseconds };
    Timestamps { last_access: time, last_modification: time }
}
