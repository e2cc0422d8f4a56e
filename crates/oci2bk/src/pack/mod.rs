//! Packs a tree into a tar archive: the same tree always gives the same bytes.
//!
//! The first entry is `./`, the tree's own directory. The others follow depth first, the names of a directory
//! in the order of their bytes. Owners are numbers; times of modification have nanoseconds, and other times
//! are left out. A file with several names is stored under the first. [`docs/format/mounts.md`] has all rules.
//!
//! [`docs/format/mounts.md`]: https://github.com/oci2bk/oci2bk/blob/main/docs/format/mounts.md

mod header;
mod holes;

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, OsStr};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::vec;

use bkstate::dir::{Dir, DirEntry, DirError};
use bkstate::worker::{NoSuchOwner, Owners};
use rustix::fs::{AtFlags, FileType, Stat};
use rustix::io::Errno;

use header::Header;
pub(crate) use header::{finish, member, pad};

use crate::unpack::paths::{OPEN_DIRECTORY, join, open_plain};
use crate::unpack::tree::{SOCKET, keeps_attribute, keeps_attribute_of_snapshot};
use crate::unpack::{capability, xattrs};

/// Size of a read, in bytes.
const CHUNK: usize = 256 << 10;

/// Attributes of files that are only a part of what a mount of overlayfs shows. (An opaque directory is whole
/// if nothing is below the tree.)
const PARTIAL: [&[u8]; 4] = [
    b"trusted.overlay.redirect",
    b"trusted.overlay.metacopy",
    b"user.overlay.redirect",
    b"user.overlay.metacopy",
];

/// Follows the work, and can end it.
pub(crate) trait Observer {
    /// A file is to be packed. Its path is relative to the tree.
    fn file(&mut self, path: &[u8]);

    /// This many bytes of files were read.
    fn read(&mut self, bytes: u64);

    /// Returns whether to end the work.
    fn is_cancelled(&self) -> bool;
}

/// The result of packing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Packed {
    /// Number of entries.
    pub(crate) entries: u64,
    /// Files that were left out: sockets and devices.
    pub(crate) left_out: u64,
}

/// Why a tree cannot be packed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
    /// A file or directory cannot be read.
    #[error("cannot read the files")]
    Dir(#[from] DirError),
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
    /// A file became shorter while it was read.
    #[error("{} became shorter while it was read", path.display())]
    Shorter {
        /// The file.
        path: PathBuf,
    },
    /// The content of a file or directory is elsewhere.
    #[error(
        "{} has the attribute {attribute}: its content is elsewhere, where only a daemon finds it",
        path.display()
    )]
    Partial {
        /// The file or directory.
        path: PathBuf,
        /// The extended attribute.
        attribute: &'static str,
    },
    /// The owner of a file does not exist for the rootless daemon.
    #[error("cannot pack {}", path.display())]
    Owner {
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: NoSuchOwner,
    },
    /// A file has capabilities that do not count for the rootless daemon.
    #[error("the capabilities of {} are those of another user namespace", path.display())]
    Capability {
        /// The file.
        path: PathBuf,
    },
    /// The archive cannot be written.
    #[error("cannot write the archive")]
    Write(#[source] io::Error),
    /// The work was cancelled.
    #[error("packing was cancelled")]
    Cancelled,
}

/// How a daemon sees a tree.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) owners: &'a Owners,
    /// The names of files that it does not see.
    pub(crate) hidden: &'a [&'a [u8]],
    /// Whether the tree is that of a snapshot, which is packed as the snapshotter has it: with devices, sockets and
    /// the marks of overlays.
    pub(crate) is_snapshot: bool,
}

impl View<'_> {
    /// As this process sees it.
    pub(crate) const AS_IT_IS: Self =
        Self { owners: &Owners::AsInLayers, hidden: &[], is_snapshot: false };
}

/// Writes the archive of the tree `top` to `out`.
pub(crate) fn pack(
    top: &Dir,
    view: View<'_>,
    out: &mut impl Write,
    observer: &mut dyn Observer,
) -> Result<Packed, PackError> {
    let mut packer = Packer {
        top,
        view,
        out,
        observer,
        packed: Packed::default(),
        links: BTreeMap::new(),
        chunk: vec![0; CHUNK],
    };
    packer.directory(top, b"", &stat(top, c".")?)?;
    let mut levels = vec![Level::new(top.try_clone()?, Vec::new())?];
    while let Some(level) = levels.last_mut() {
        let Some(entry) = level.entries.next() else {
            levels.pop();
            continue;
        };
        let dir = match level.dir.take() {
            Some(dir) => dir,
            // The handle was closed when the work went on in a directory below.
            None => level.reopen(top)?,
        };
        let path = join(&level.path, entry.name.to_bytes());
        if let Some(below) = packer.entry(&dir, &entry.name, &path)? {
            // Only one handle is open, however deep the tree is.
            levels.push(Level::new(below, path)?);
        } else {
            level.dir = Some(dir);
        }
    }
    finish(packer.out).map_err(PackError::Write)?;
    Ok(packer.packed)
}

/// A directory that is being packed.
struct Level {
    path: Vec<u8>,
    dir: Option<Dir>,
    entries: vec::IntoIter<DirEntry>,
}

impl Level {
    fn new(dir: Dir, path: Vec<u8>) -> Result<Self, DirError> {
        let entries = dir.entries()?.into_iter();
        Ok(Self { path, dir: Some(dir), entries })
    }

    fn reopen(&self, top: &Dir) -> Result<Dir, PackError> {
        let path = top.path().join(OsStr::from_bytes(&self.path));
        let opened = open_plain(&top.as_fd(), &self.path, OPEN_DIRECTORY);
        let opened = opened.map_err(failed(&path))?;
        Ok(Dir::from_handle(opened, &path))
    }
}

fn failed(path: &std::path::Path) -> impl FnOnce(Errno) -> PackError {
    let path = path.to_owned();
    move |errno| PackError::Read { path, source: errno.into() }
}

fn stat(dir: &Dir, name: &CStr) -> Result<Stat, PackError> {
    let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW);
    stat.map_err(failed(&dir.path().join(OsStr::from_bytes(name.to_bytes()))))
}

/// The first name of a file with several.
struct Linked {
    path: Vec<u8>,
    /// Number of names that were not met yet.
    left: usize,
}

struct Packer<'a, W> {
    top: &'a Dir,
    view: View<'a>,
    out: &'a mut W,
    observer: &'a mut dyn Observer,
    packed: Packed,
    /// By device and inode.
    links: BTreeMap<(u64, u64), Linked>,
    chunk: Vec<u8>,
}

impl<W: Write> Packer<'_, W> {
    /// Packs the entry `name` of `dir`. Returns it if it is a directory.
    fn entry(&mut self, dir: &Dir, name: &CString, path: &[u8]) -> Result<Option<Dir>, PackError> {
        if self.observer.is_cancelled() {
            return Err(PackError::Cancelled);
        }
        if self.view.hidden.contains(&name.to_bytes()) {
            return Ok(None);
        }
        let stat = stat(dir, name)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory {
            let below = dir.dir(&**name)?;
            self.directory(&below, path, &stat)?;
            return Ok(Some(below));
        }
        let typeflag = match kind {
            FileType::Symlink => b'2',
            FileType::CharacterDevice => b'3',
            FileType::BlockDevice => b'4',
            FileType::Socket => SOCKET,
            _ => b'6',
        };
        if matches!(typeflag, b'3' | b'4' | SOCKET) && !self.view.is_snapshot {
            self.packed.left_out += 1;
            return Ok(None);
        }
        self.observer.file(path);
        let first = self.first_name(path, &stat);
        match (kind, first) {
            (FileType::RegularFile, first) => self.file(dir, name, path, &stat, first)?,
            (_, Some(first)) => {
                self.header(b'1', path, &linked(&first), 0, &stat, &BTreeMap::new())?;
            }
            (FileType::Symlink, None) => {
                let target = rustix::fs::readlinkat(dir, &**name, Vec::new());
                let target = target.map_err(failed(&self.place(path)))?;
                let xattrs = self.attributes_of_name(dir, name, path)?;
                self.header(b'2', path, target.to_bytes(), 0, &stat, &xattrs)?;
            }
            (_, None) => {
                let xattrs = self.attributes_of_name(dir, name, path)?;
                self.header(typeflag, path, b"", 0, &stat, &xattrs)?;
            }
        }
        Ok(None)
    }

    /// Returns the name under which the file was packed already, if it has several.
    fn first_name(&mut self, path: &[u8], stat: &Stat) -> Option<Vec<u8>> {
        if stat.st_nlink < 2 {
            return None;
        }
        let inode = (stat.st_dev, stat.st_ino);
        let Some(linked) = self.links.get_mut(&inode) else {
            let left = stat.st_nlink as usize - 1;
            self.links.insert(inode, Linked { path: path.to_vec(), left });
            return None;
        };
        linked.left -= 1;
        let first = linked.path.clone();
        if linked.left == 0 {
            self.links.remove(&inode);
        }
        Some(first)
    }

    fn directory(&mut self, dir: &Dir, path: &[u8], stat: &Stat) -> Result<(), PackError> {
        let xattrs = self.attributes(&dir.as_fd(), path)?;
        self.header(b'5', path, b"", 0, stat, &xattrs)
    }

    fn file(
        &mut self,
        dir: &Dir,
        name: &CString,
        path: &[u8],
        stat: &Stat,
        first: Option<Vec<u8>>,
    ) -> Result<(), PackError> {
        let mut file = dir.file(&**name)?;
        let xattrs = self.attributes(&file.as_fd(), path)?;
        if let Some(first) = first {
            return self.header(b'1', path, &linked(&first), 0, stat, &xattrs);
        }
        let size = stat.st_size.cast_unsigned();
        let parts = if self.view.is_snapshot { holes::parts(&file, stat) } else { None };
        let Some(parts) = parts else {
            self.header(b'0', path, b"", size, stat, &xattrs)?;
            self.copy(&mut file, path, size)?;
            return pad(self.out, size).map_err(PackError::Write);
        };
        let map = holes::map(&parts);
        let data: u64 = parts.iter().map(|(_, length)| length).sum();
        let stored = map.len() as u64 + data;
        self.header_of(b'0', path, b"", stored, Some(size), stat, &xattrs)?;
        self.out.write_all(&map).map_err(PackError::Write)?;
        for (offset, length) in parts {
            let read = |source| PackError::Read { path: self.place(path), source };
            file.seek(SeekFrom::Start(offset)).map_err(read)?;
            self.copy(&mut file, path, length)?;
        }
        pad(self.out, stored).map_err(PackError::Write)
    }

    /// Copies the next bytes of a file.
    fn copy(&mut self, file: &mut std::fs::File, path: &[u8], size: u64) -> Result<(), PackError> {
        let mut left = size;
        while left > 0 {
            if self.observer.is_cancelled() {
                return Err(PackError::Cancelled);
            }
            let length = usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK));
            let read = match file.read(&mut self.chunk[..length]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => {
                    read.map_err(|source| PackError::Read { path: self.place(path), source })?
                }
            };
            if read == 0 {
                return Err(PackError::Shorter { path: self.place(path) });
            }
            self.out.write_all(&self.chunk[..read]).map_err(PackError::Write)?;
            self.observer.read(read as u64);
            left -= read as u64;
        }
        Ok(())
    }

    /// Returns the attributes of a symbolic link, a device or the like, which only a snapshot keeps.
    fn attributes_of_name(
        &self,
        dir: &Dir,
        name: &CString,
        path: &[u8],
    ) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, PackError> {
        if !self.view.is_snapshot {
            return Ok(BTreeMap::new());
        }
        xattrs::of_name(dir, name).map_err(failed(&self.place(path)))
    }

    /// Returns the attributes of a file that a tree keeps.
    fn attributes(
        &self,
        file: &BorrowedFd<'_>,
        path: &[u8],
    ) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, PackError> {
        let mut kept = BTreeMap::new();
        for name in xattrs::names(file).map_err(failed(&self.place(path)))? {
            let partial = PARTIAL.into_iter().find(|partial| *partial == name);
            if let Some(attribute) = partial.filter(|_| !self.view.is_snapshot) {
                let attribute = std::str::from_utf8(attribute).unwrap_or_default();
                return Err(PackError::Partial { path: self.place(path), attribute });
            }
            // A PAX record ends its key at the first `=`.
            let is_kept = match self.view.is_snapshot {
                true => keeps_attribute_of_snapshot(&name),
                false => keeps_attribute(&name),
            };
            if !is_kept || name.contains(&b'=') {
                continue;
            }
            let value = xattrs::value(file, &name).map_err(failed(&self.place(path)))?;
            let Some(value) = value else { continue };
            let value = match self.view.owners.root_on_disk() {
                Some((root, _)) if name == capability::NAME => capability::without(&value, root)
                    .ok_or_else(|| PackError::Capability { path: self.place(path) })?
                    .into_owned(),
                _ => value,
            };
            kept.insert(name, value);
        }
        Ok(kept)
    }

    fn header(
        &mut self,
        typeflag: u8,
        path: &[u8],
        link: &[u8],
        size: u64,
        stat: &Stat,
        xattrs: &BTreeMap<Vec<u8>, Vec<u8>>,
    ) -> Result<(), PackError> {
        self.header_of(typeflag, path, link, size, None, stat, xattrs)
    }

    #[expect(clippy::too_many_arguments, reason = "each is a field of the header")]
    fn header_of(
        &mut self,
        typeflag: u8,
        path: &[u8],
        link: &[u8],
        size: u64,
        sparse: Option<u64>,
        stat: &Stat,
        xattrs: &BTreeMap<Vec<u8>, Vec<u8>>,
    ) -> Result<(), PackError> {
        let slash: &[u8] = if typeflag == b'5' && !path.is_empty() { b"/" } else { b"" };
        let name = [b"./", path, slash].concat();
        // Earlier ones are not set by the unpacker either.
        let seconds = u64::try_from(stat.st_mtime);
        let mtime = seconds.map_or((0, 0), |seconds| (seconds, stat.st_mtime_nsec as u32));
        let mode = stat.st_mode;
        let (uid, gid) = self
            .view
            .owners
            .in_layers(stat.st_uid, stat.st_gid)
            .map_err(|source| PackError::Owner { path: self.place(path), source })?;
        let device = match typeflag {
            b'3' | b'4' => (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)),
            _ => (0, 0),
        };
        let name = &name;
        let header =
            Header { typeflag, name, link, size, sparse, device, mode, uid, gid, mtime, xattrs };
        header.write(self.out).map_err(PackError::Write)?;
        self.packed.entries += 1;
        Ok(())
    }

    /// Returns the path of a file, for messages.
    fn place(&self, path: &[u8]) -> PathBuf {
        self.top.path().join(OsStr::from_bytes(path))
    }
}

/// Returns the name of a file in the archive.
fn linked(path: &[u8]) -> Vec<u8> {
    [b"./", path].concat()
}

#[cfg(test)]
mod tests;
