//! Removes an entry and everything below it.

use std::os::fd::AsFd;
use std::rc::Rc;

use rustix::fs::{AtFlags, Dir, FileType};
use rustix::io::Errno;

use super::error::Refusal;
use super::paths::{OPEN_DIRECTORY, join, open_plain};

/// The kind of the removed file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Removed {
    Nothing,
    Directory,
    Other,
}

/// Removes `name` from `parent`, and everything below it; no symbolic link is followed.
pub(super) fn remove_all(parent: &impl AsFd, name: &[u8]) -> Result<Removed, Refusal> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) => Ok(Removed::Other),
        Err(Errno::NOENT) => Ok(Removed::Nothing),
        Err(Errno::ISDIR) => {
            remove_tree(parent, name).map_err(failed)?;
            Ok(Removed::Directory)
        }
        Err(errno) => Err(failed(errno)),
    }
}

fn failed(errno: Errno) -> Refusal {
    Refusal::io("remove what the entry replaces")(errno)
}

/// A directory to remove, by the path of its parent.
struct Step {
    above: Rc<[u8]>,
    name: Vec<u8>,
    /// Whether all of its content is removed.
    emptied: bool,
}

/// Trees may be thousands of levels deep and directories millions of entries wide, so there is
/// neither recursion nor a handle per level, and each directory is read once.
fn remove_tree(parent: &impl AsFd, name: &[u8]) -> Result<(), Errno> {
    let above: Rc<[u8]> = Rc::from([]);
    let mut steps = vec![Step { above, name: name.to_vec(), emptied: false }];
    while let Some(step) = steps.pop() {
        if step.emptied {
            let above = open_plain(parent, &step.above, OPEN_DIRECTORY)?;
            rustix::fs::unlinkat(above, &step.name, AtFlags::REMOVEDIR)?;
            continue;
        }
        let path: Rc<[u8]> = join(&step.above, &step.name).into();
        let children = clear(parent, &path)?;
        steps.push(Step { emptied: true, ..step });
        steps.extend(children.into_iter().map(|name| Step {
            above: Rc::clone(&path),
            name,
            emptied: false,
        }));
    }
    Ok(())
}

/// Removes everything that can be removed directly; returns the names of non-empty directories.
fn clear(parent: &impl AsFd, path: &[u8]) -> Result<Vec<Vec<u8>>, Errno> {
    let fd = open_plain(parent, path, OPEN_DIRECTORY)?;
    let mut children = Vec::new();
    let mut entries = Dir::read_from(&fd)?;
    while let Some(entry) = entries.read() {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        // Some file systems do not report the type; then the kernel's error says that it is a directory.
        let known = entry.file_type() == FileType::Directory;
        let flags = if known { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        match rustix::fs::unlinkat(&fd, name, flags) {
            Ok(()) => {}
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::ISDIR) => {
                children.push(name.to_bytes().to_vec());
            }
            Err(errno) => return Err(errno),
        }
    }
    Ok(children)
}
