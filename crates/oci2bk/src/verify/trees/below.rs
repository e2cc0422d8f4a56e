//! What the layers below show in a directory.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::Dir;
use rustix::io::Errno;

use super::UnpackedLayer;
use super::entry::Entry;
use crate::unpack::paths::{Lookups, OPEN_DIRECTORY, open_plain};

/// Returns the names that the layers below `tree` show in the directory `path`.
pub(super) fn names_below(
    tree: &UnpackedLayer<'_>,
    path: &[u8],
    lookups: &Lookups<'_>,
) -> io::Result<BTreeSet<Vec<u8>>> {
    let mark = tree.worker.form().marks().opaque();
    let mut decided: BTreeMap<Vec<u8>, bool> = BTreeMap::new();
    for lower in tree.lowers() {
        lookups.take(path).map_err(io::Error::other)?;
        let lower = lower.map_err(io::Error::other)?;
        let (directory, is_last) = descend(open_plain(&lower, b"", OPEN_DIRECTORY)?, path, mark)?;
        if let Some(directory) = directory {
            for name in names(&directory)? {
                let is_whiteout = Entry::read(&directory, &name)?.is_whiteout();
                decided.entry(name).or_insert(!is_whiteout);
            }
        }
        if is_last {
            break;
        }
    }
    Ok(decided.into_iter().filter_map(|(name, shown)| shown.then_some(name)).collect())
}

/// Opens the directory `path` below `directory`, if it exists. Returns, too, whether nothing of the layers below
/// is visible in it.
fn descend(mut directory: OwnedFd, path: &[u8], mark: &str) -> io::Result<(Option<OwnedFd>, bool)> {
    let mut hides = is_opaque(&directory, mark)?;
    for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
        directory = match open_plain(&directory, name, OPEN_DIRECTORY) {
            Ok(next) => next,
            Err(Errno::NOENT) => return Ok((None, hides)),
            // Another file, or a whiteout.
            Err(Errno::NOTDIR | Errno::LOOP) => return Ok((None, true)),
            Err(error) => return Err(error.into()),
        };
        hides |= is_opaque(&directory, mark)?;
    }
    Ok((Some(directory), hides))
}

/// Returns whether a directory has the attribute `mark` of opaque ones.
pub(super) fn is_opaque(directory: &OwnedFd, mark: &str) -> io::Result<bool> {
    let mut value = [0; 8];
    match rustix::fs::fgetxattr(directory, mark, &mut value) {
        Ok(length) => Ok(&value[..length] == b"y"),
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Returns the names in a directory, without those of itself and its parent.
pub(crate) fn names(directory: &OwnedFd) -> io::Result<BTreeSet<Vec<u8>>> {
    let mut names = BTreeSet::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            names.insert(name.to_vec());
        }
    }
    Ok(names)
}
