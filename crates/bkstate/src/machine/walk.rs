//! Walks along a path. Every link on it must belong to a trusted user.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, Stat, fstat, fstatfs, openat, readlinkat, statat,
};
use rustix::io::Errno;

use super::{ForeignLink, PlaceError, Trusted};
use crate::dir::DirError;

/// Maximum number of links to follow, as in the kernel.
const MOST_LINKS: u32 = 40;
/// The file system of `/proc` (Linux `include/uapi/linux/magic.h` `PROC_SUPER_MAGIC`). The text of its links
/// is not where they lead.
const PROC: u64 = 0x9fa0;

/// The end of a walk.
pub(crate) struct End {
    /// A handle of the last directory that exists.
    pub(crate) place: OwnedFd,
    /// Its path, without links below the top.
    pub(crate) path: PathBuf,
    /// The names behind it. The first is not there, or is not a directory.
    pub(crate) left: Vec<OsString>,
    /// What the kernel says of a name that is not a directory.
    pub(crate) stopped: Option<Errno>,
}

/// Walks from the directory `top`, which is the root of all links and cannot be left, along the absolute path
/// `path`. Each directory is shown to `visit`, the top and the last included.
pub(crate) fn walk(
    top: &Path,
    path: &Path,
    trusted: &Trusted,
    visit: &mut dyn FnMut(&Path, &Stat),
) -> Result<End, PlaceError> {
    let mut left: VecDeque<OsString> = components(path).collect();
    let mut way = Way::new(top, visit)?;
    let mut beyond: Vec<OsString> = Vec::new();
    let mut stopped = None;
    let mut links = 0;
    while let Some(name) = left.pop_front() {
        if name == ".." {
            if beyond.pop().is_none() {
                way.up()?;
            }
            continue;
        }
        if !beyond.is_empty() {
            beyond.push(name);
            continue;
        }
        let next = way.path.join(&name);
        let stat = match statat(&way.place, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(error @ (Errno::NOENT | Errno::NOTDIR)) => {
                stopped = Some(error);
                beyond.push(name);
                continue;
            }
            Err(error) => return Err(failed("open the directory", &next, error).into()),
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                way.enter(&name, OFlags::NOFOLLOW)?;
                continue;
            }
            FileType::Symlink => {}
            _ => {
                stopped = Some(Errno::NOTDIR);
                beyond.push(name);
                continue;
            }
        }
        if is_proc(&way.place) {
            // It can lead out of the top.
            if way.top != Path::new("/") {
                return Err(failed("follow the link", &next, Errno::XDEV).into());
            }
            way.enter(&name, OFlags::empty())?;
            continue;
        }
        let target = readlinkat(&way.place, &name, Vec::new());
        let target = target.map_err(|error| failed("read the link", &next, error))?;
        let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
        if !trusted.has(stat.st_uid) {
            return Err(ForeignLink { link: next, target, owner: stat.st_uid }.into());
        }
        links += 1;
        if links > MOST_LINKS {
            return Err(failed("open the directory", path, Errno::LOOP).into());
        }
        if target.is_absolute() {
            way.restart()?;
        }
        for name in components(&target).collect::<Vec<_>>().into_iter().rev() {
            left.push_front(name);
        }
    }
    Ok(End { place: way.place, path: way.path, left: beyond, stopped })
}

/// Returns the names in a path, and its `..` components.
fn components(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    })
}

/// The position of the walk.
struct Way<'a> {
    top: &'a Path,
    visit: &'a mut dyn FnMut(&Path, &Stat),
    place: OwnedFd,
    path: PathBuf,
}

impl<'a> Way<'a> {
    fn new(top: &'a Path, visit: &'a mut dyn FnMut(&Path, &Stat)) -> Result<Self, DirError> {
        let mut way = Self { top, visit, place: open_top(top)?, path: top.to_owned() };
        way.show()?;
        Ok(way)
    }

    fn restart(&mut self) -> Result<(), DirError> {
        self.place = open_top(self.top)?;
        self.path = self.top.to_owned();
        Ok(())
    }

    /// Goes to the parent. That of the top is the top.
    fn up(&mut self) -> Result<(), DirError> {
        if self.path == self.top {
            return Ok(());
        }
        let next = self.path.parent().unwrap_or(self.top).to_owned();
        self.go("..".as_ref(), OFlags::empty(), next)
    }

    fn enter(&mut self, name: &OsStr, flags: OFlags) -> Result<(), DirError> {
        let next = self.path.join(name);
        self.go(name, flags, next)
    }

    fn go(&mut self, name: &OsStr, flags: OFlags, next: PathBuf) -> Result<(), DirError> {
        self.place = place(&self.place, name, flags)
            .map_err(|error| failed("open the directory", &next, error))?;
        self.path = next;
        self.show()
    }

    fn show(&mut self) -> Result<(), DirError> {
        let stat = fstat(&self.place).map_err(|error| failed("look at", &self.path, error))?;
        (self.visit)(&self.path, &stat);
        Ok(())
    }
}

fn open_top(top: &Path) -> Result<OwnedFd, DirError> {
    place(CWD, top.as_os_str(), OFlags::empty())
        .map_err(|error| failed("open the directory", top, error))
}

/// Opens a handle of a directory that need not be readable.
fn place(dir: impl AsFd, name: &OsStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(dir, name.as_bytes(), flags, Mode::empty())
}

fn is_proc(dir: impl AsFd) -> bool {
    fstatfs(dir).is_ok_and(|found| u64::try_from(found.f_type).is_ok_and(|kind| kind == PROC))
}

pub(crate) fn failed(action: &'static str, path: &Path, error: Errno) -> DirError {
    DirError { action, path: path.to_owned(), source: error.into() }
}
