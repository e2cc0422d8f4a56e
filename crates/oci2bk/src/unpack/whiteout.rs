//! Whiteouts: entries that mean the removal of something in the layers below.
//!
//! | base name | meaning | overlay snapshot | base layer |
//! |---|---|---|---|
//! | `.wh..wh..opq` | hides everything that the directory has below | xattr `trusted.overlay.opaque=y` on it, or the one of the worker | removes files that this layer did not unpack |
//! | `.wh.NAME` | hides NAME | character device 0:0 NAME | removes NAME |
//!
//! Facts: OCI image specification `layer.md`; containerd v2.3.3 `pkg/archive/tar.go`
//! `validateWhiteout`, `tar_opts_linux.go` `OverlayConvertWhiteout`. containerd has no rule for
//! other names with AUFS' prefix `.wh..wh.`; they hide `.wh.NAME`.

use std::os::fd::AsFd;

use bkstate::worker::OverlayMarks;
use rustix::fs::{AtFlags, FileType, Mode, XattrFlags};
use rustix::io::Errno;

use super::create::{Owner, chown};
use super::error::{EntryName, Refusal};
use super::paths::Directory;
use super::times;

const PREFIX: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// The files with which fuse-overlayfs marks an opaque directory, beside the extended attribute (v1.10 `main.c`). It
/// shows no files of these names.
const OPAQUE_OF_FUSE: [&[u8]; 2] = [b".wh..opq", OPAQUE];

/// Returns the names of files that mark directories in an overlay, and that nobody sees in it.
pub(crate) fn hidden_names(marks: OverlayMarks) -> &'static [&'static [u8]] {
    match marks {
        OverlayMarks::FuseTrusted | OverlayMarks::FuseUser => &OPAQUE_OF_FUSE,
        _ => &[],
    }
}

/// The files that a whiteout hides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whiteout<'a> {
    /// All files of the directory in lower layers.
    Opaque,
    /// One name in the directory.
    Of(&'a [u8]),
}

impl<'a> Whiteout<'a> {
    /// Parses the last component of a name; `None` if it is not a whiteout.
    pub(super) fn of(base: &'a [u8]) -> Result<Option<Self>, Refusal> {
        if base == OPAQUE {
            return Ok(Some(Self::Opaque));
        }
        match base.strip_prefix(PREFIX) {
            None => Ok(None),
            Some(b"" | b"." | b"..") => Err(Refusal::WhiteoutEscapes),
            Some(name) => Ok(Some(Self::Of(name))),
        }
    }
}

/// Marks `directory` as opaque for overlayfs with the attribute `mark`.
pub(super) fn make_opaque(directory: impl AsFd, mark: &str) -> Result<(), Refusal> {
    rustix::fs::fsetxattr(directory, mark, b"y", XattrFlags::empty()).map_err(|errno| {
        Refusal::Xattr { name: EntryName::new(mark.as_bytes()), source: errno.into() }
    })
}

/// Returns whether `name` in `directory` is the device of a whiteout.
pub(super) fn is_device(directory: &Directory, name: &[u8]) -> bool {
    rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
    })
}

/// Creates the device that hides `name` in `directory` for overlayfs.
///
/// containerd leaves the current time on the device; ours is the epoch, so that the same layer gives the same
/// tree.
pub(super) fn make_device(directory: &Directory, name: &[u8], owner: Owner) -> Result<(), Refusal> {
    let made = rustix::fs::mknodat(directory, name, FileType::CharacterDevice, Mode::empty(), 0);
    made.map_err(|errno| match errno {
        Errno::EXIST => Refusal::WhiteoutOfSameLayer,
        errno => Refusal::io("create a whiteout device")(errno),
    })?;
    chown(directory, name, owner)?;
    rustix::fs::utimensat(directory.as_fd(), name, &times::UNTOLD, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(Refusal::io("set the times of a whiteout device"))
}
