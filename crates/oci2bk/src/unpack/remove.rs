//! Removes an entry with everything below it.

use std::os::fd::AsFd;

use rustix::fs::{AtFlags, Dir, FileType, OFlags};
use rustix::io::Errno;

use super::error::Refusal;
use super::paths::open_plain;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Removed {
    Nothing,
    Directory,
    Other,
}

/// Removes `name` from `parent`, with all it contains; no symbolic link is followed.
///
/// Trees may be thousands of levels deep, so there is neither recursion nor a handle per level:
/// the current directory is opened again from `parent` after each level.
pub(super) fn remove_all(parent: &impl AsFd, name: &[u8]) -> Result<Removed, Refusal> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) => return Ok(Removed::Other),
        Err(Errno::NOENT) => return Ok(Removed::Nothing),
        Err(Errno::ISDIR) => {}
        Err(errno) => return Err(failed(errno)),
    }
    let mut path = name.to_vec();
    loop {
        let directory = open_plain(parent, &path, DIRECTORY).map_err(failed)?;
        if let Some(child) = clear_until_directory(directory)? {
            path.push(b'/');
            path.extend_from_slice(&child);
            continue;
        }
        let cut = path.iter().rposition(|byte| *byte == b'/');
        let (above, last) = match cut {
            Some(cut) if cut >= name.len() => (&path[..cut], &path[cut + 1..]),
            _ => {
                rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR).map_err(failed)?;
                return Ok(Removed::Directory);
            }
        };
        let above_fd = open_plain(parent, above, DIRECTORY).map_err(failed)?;
        rustix::fs::unlinkat(&above_fd, last, AtFlags::REMOVEDIR).map_err(failed)?;
        path.truncate(above.len());
    }
}

/// Removes what is no directory; the name of the first subdirectory that is not empty, if any.
fn clear_until_directory(fd: std::os::fd::OwnedFd) -> Result<Option<Vec<u8>>, Refusal> {
    let mut entries = Dir::read_from(&fd).map_err(failed)?;
    while let Some(entry) = entries.read() {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let flags = if entry.file_type() == FileType::Directory {
            AtFlags::REMOVEDIR
        } else {
            AtFlags::empty()
        };
        match rustix::fs::unlinkat(&fd, name, flags) {
            Ok(()) => {}
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::ISDIR) => {
                return Ok(Some(name.to_bytes().to_vec()));
            }
            Err(errno) => return Err(failed(errno)),
        }
    }
    Ok(None)
}

fn failed(errno: Errno) -> Refusal {
    Refusal::io("remove what the entry replaces")(errno)
}
