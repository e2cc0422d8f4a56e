//! One entry of a tree, and its differences from another.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::unpack::EntryName;

/// How an entry differs from the one in the layer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Difference {
    /// It is missing in the tree.
    Missing,
    /// It is not in the layer.
    Unexpected,
    /// Its type differs: file, directory, link or device.
    Type,
    /// Its permissions differ.
    Mode {
        /// In the tree.
        found: u32,
        /// In the layer.
        expected: u32,
    },
    /// Its owner or group differs.
    Owner {
        /// In the tree.
        found: (u32, u32),
        /// In the layer.
        expected: (u32, u32),
    },
    /// It is another device.
    Device,
    /// The size of the file differs.
    Size {
        /// In the tree.
        found: u64,
        /// In the layer.
        expected: u64,
    },
    /// The content of the file differs.
    Content,
    /// The target of the symbolic link differs.
    Target,
    /// An extended attribute differs, or exists in only one of the two.
    Xattr {
        /// Its name.
        name: EntryName,
    },
    /// Its modification time differs.
    ModificationTime,
    /// Names that are one file in the layer are several here, or the other way round.
    HardLink,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("is not there"),
            Self::Unexpected => f.write_str("is not in the layer"),
            Self::Type => f.write_str("is of another type"),
            Self::Mode { found, expected } => {
                write!(f, "has the mode {found:o}, not {expected:o}")
            }
            Self::Owner { found, expected } => {
                let (found, expected) = ((found.0, found.1), (expected.0, expected.1));
                write!(f, "belongs to {}:{}, not {}:{}", found.0, found.1, expected.0, expected.1)
            }
            Self::Device => f.write_str("is another device"),
            Self::Size { found, expected } => write!(f, "has {found} bytes, not {expected}"),
            Self::Content => f.write_str("has other content"),
            Self::Target => f.write_str("leads elsewhere"),
            Self::Xattr { name } => write!(f, "differs in the extended attribute {name}"),
            Self::ModificationTime => f.write_str("was modified at another time"),
            Self::HardLink => f.write_str("is hard-linked to other names"),
        }
    }
}

/// An entry, with a handle of its directory.
pub(crate) struct Entry<'d> {
    dir: BorrowedFd<'d>,
    name: &'d [u8],
    pub(crate) stat: Stat,
}

impl<'d> Entry<'d> {
    pub(crate) fn read(dir: &'d OwnedFd, name: &'d [u8]) -> io::Result<Self> {
        let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(Self { dir: dir.as_fd(), name, stat })
    }

    pub(crate) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    /// Returns whether it is a whiteout for overlayfs.
    pub(crate) fn is_whiteout(&self) -> bool {
        self.kind() == FileType::CharacterDevice && self.stat.st_rdev == 0
    }

    pub(crate) fn target(&self) -> io::Result<Vec<u8>> {
        Ok(rustix::fs::readlinkat(self.dir, self.name, Vec::new())?.into_bytes())
    }

    /// Opens a regular file for reading, without changing its access time where we may.
    pub(crate) fn open(&self) -> io::Result<std::fs::File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let open = |flags| rustix::fs::openat(self.dir, self.name, flags, Mode::empty());
        let file = match open(flags | OFlags::NOATIME) {
            Err(Errno::PERM) => open(flags)?,
            opened => opened?,
        };
        Ok(file.into())
    }

    /// Reads the extended attributes; empty if the file system does not support them.
    pub(crate) fn xattrs(&self) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
        // The name in /proc leads to the directory, and its last component is not followed.
        let mut path = format!("/proc/self/fd/{}/", self.dir.as_raw_fd()).into_bytes();
        path.extend_from_slice(self.name);
        // The kernel's limits for the list and for one value, XATTR_LIST_MAX and XATTR_SIZE_MAX.
        let mut names = vec![0; 1 << 16];
        let length = match rustix::fs::llistxattr(path.as_slice(), &mut names[..]) {
            Err(Errno::NOTSUP) => 0,
            length => length?,
        };
        let mut xattrs = BTreeMap::new();
        let mut value = vec![0; if length > 0 { 1 << 16 } else { 0 }];
        for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            let length = rustix::fs::lgetxattr(path.as_slice(), name, &mut value[..])?;
            xattrs.insert(name.to_vec(), value[..length].to_vec());
        }
        Ok(xattrs)
    }

    pub(crate) fn inode(&self) -> (u64, u64) {
        (self.stat.st_dev, self.stat.st_ino)
    }
}

/// Returns whether two files have the same bytes.
pub(crate) fn same_content(a: std::fs::File, b: std::fs::File) -> io::Result<bool> {
    const BLOCK: usize = 128 * 1024;
    let (mut block_a, mut block_b) = (Vec::new(), Vec::new());
    let (mut a, mut b) = (a, b);
    loop {
        block_a.clear();
        block_b.clear();
        a.by_ref().take(BLOCK as u64).read_to_end(&mut block_a)?;
        b.by_ref().take(BLOCK as u64).read_to_end(&mut block_b)?;
        if block_a != block_b {
            return Ok(false);
        }
        if block_a.is_empty() {
            return Ok(true);
        }
    }
}
