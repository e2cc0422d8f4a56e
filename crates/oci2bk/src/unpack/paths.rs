//! Finds directories inside the snapshot, and never outside.
//!
//! The names of a layer are resolved as in containerd (continuity v0.5 `fs/path.go` `RootPath`): symbolic
//! links in the path are followed with the snapshot as root directory, `..` at the root stays there, and a
//! component that does not exist is kept. The result is a path without any symbolic link, and only such paths
//! are ever opened, by the kernel's `openat2` with `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS`; so even a wrong
//! resolution could not leave the root.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;

use super::allowance::Counter;
use super::create::Given;
use super::error::Refusal;
use crate::limits::{Bound, name};

/// Linux' `PATH_MAX` without the NUL.
const MAX_PATH_BYTES: usize = 4095;
/// Maximum number of symbolic links that containerd follows in one path.
const MAX_LINKS: usize = 255;
/// Maximum number of component lookups for one path, over all rounds. Without this limit a few links in a
/// very deep directory would cost minutes for each entry.
const MAX_LOOKUPS: usize = 8192;
/// The kernel returns EAGAIN if it cannot rule out a race with a rename elsewhere.
const MAX_ATTEMPTS: usize = 64;

/// Flags for opening directories.
pub(crate) const OPEN_DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const PLAIN: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);
const IN_ROOT: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);

/// Cost of a lookup besides walking the path, in bytes of path: a system call takes about as long as the
/// kernel takes for this many.
const COST_OF_CALL: u64 = 256;

/// The limit on lookups for one layer, in bytes of the paths looked up, which the kernel has to walk. Each
/// path has its own limits, but there can be millions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LayerLookups {
    left: u64,
    limit: u64,
}

impl LayerLookups {
    pub(super) fn new(limit: u64) -> Self {
        Self { left: limit, limit }
    }

    /// Returns the rest of it, for a single layer.
    pub(super) fn counter(self) -> Counter {
        Counter::new(Bound { value: self.left, name: name::LAYER_LOOKUPS })
    }
}

/// The remaining lookups for a layer, and for all.
#[derive(Debug)]
pub(crate) struct Lookups<'a> {
    of_layer: Cell<LayerLookups>,
    of_all: &'a Counter,
}

impl<'a> Lookups<'a> {
    pub(super) fn new(of_layer: LayerLookups, of_all: &'a Counter) -> Self {
        Self { of_layer: Cell::new(of_layer), of_all }
    }

    /// Counts one lookup of `path`.
    pub(crate) fn take(&self, path: &[u8]) -> Result<(), Refusal> {
        let LayerLookups { left, limit } = self.of_layer.get();
        let cost = COST_OF_CALL + path.len() as u64;
        let left = left.checked_sub(cost).ok_or(Refusal::TooManyLookups { limit })?;
        self.of_layer.set(LayerLookups { left, limit });
        let reached = |Bound { value: limit, .. }| Refusal::TooManyTotalLookups { limit };
        self.of_all.take(cost).map_err(reached)
    }

    /// Returns the rest for the layer.
    pub(super) fn of_layer(&self) -> LayerLookups {
        self.of_layer.get()
    }
}

/// An open directory inside the snapshot.
#[derive(Debug)]
pub(super) struct Directory {
    /// The path from the root, without symbolic links, dots and outer slashes; empty for the root.
    pub(super) path: Vec<u8>,
    fd: OwnedFd,
    /// The attributes that new files got here, by the permission bits at their creation; `None` is for
    /// symbolic links.
    given: RefCell<BTreeMap<Option<u32>, Given>>,
}

impl Directory {
    fn new(path: Vec<u8>, fd: OwnedFd) -> Self {
        Self { path, fd, given: RefCell::default() }
    }

    /// Returns the attributes that the new file `file`, created here with `permissions`, got. Only the first
    /// of its kind is examined.
    pub(super) fn given_to_file(
        &self,
        file: &impl AsFd,
        permissions: Mode,
    ) -> Result<Given, Refusal> {
        self.given(Some(permissions.as_raw_mode()), || Given::of(file))
    }

    /// Returns the attributes that the new symbolic link `name` got here.
    pub(super) fn given_to_symlink(&self, name: &[u8]) -> Result<Given, Refusal> {
        self.given(None, || Given::of_name(self, name))
    }

    fn given(
        &self,
        kind: Option<u32>,
        look: impl FnOnce() -> Result<Given, Refusal>,
    ) -> Result<Given, Refusal> {
        if let Some(known) = self.given.borrow().get(&kind) {
            return Ok(*known);
        }
        let given = look()?;
        self.given.borrow_mut().insert(kind, given);
        Ok(given)
    }

    /// Returns the path of the entry `name` in this directory.
    pub(super) fn join(&self, name: &[u8]) -> Vec<u8> {
        join(&self.path, name)
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Resolves names to directories, and caches the last ones.
#[derive(Debug)]
pub(super) struct Directories<'a> {
    root: Rc<Directory>,
    /// The owner of new directories, if it is not this process.
    owner: Option<(u32, u32)>,
    /// By [`Use`].
    remembered: [Option<Remembered>; USES],
    lookups: Lookups<'a>,
}

#[derive(Debug)]
struct Remembered {
    /// The resolved name.
    name: Vec<u8>,
    directory: Rc<Directory>,
    /// Whether no symbolic link was involved, so that only the removal of a directory can invalidate it.
    plain: bool,
}

/// The purpose of a lookup; each has its own cache.
#[derive(Debug, Clone, Copy)]
enum Use {
    /// The directory of the last entry.
    Parent,
    /// The directory of the last directory entry: usually the next entries are in it.
    Entered,
    /// The directory of the last hard link's target.
    LinkTarget,
}

const USES: usize = 3;

impl<'a> Directories<'a> {
    /// Everything happens inside `root`. New directories get the owner `owner`, if it is not this process.
    pub(super) fn new(
        root: BorrowedFd<'_>,
        owner: Option<(u32, u32)>,
        lookups: Lookups<'a>,
    ) -> Result<Self, Refusal> {
        let fd = rustix::fs::openat(root, ".", OPEN_DIRECTORY, Mode::empty())
            .map_err(Refusal::io("open the snapshot's root directory"))?;
        let root = Rc::new(Directory::new(Vec::new(), fd));
        Ok(Self { root, owner, remembered: [const { None }; USES], lookups })
    }

    /// Returns the remaining lookups for the layer.
    pub(super) fn lookups(&self) -> LayerLookups {
        self.lookups.of_layer()
    }

    /// Returns the snapshot's root directory.
    pub(super) fn root(&self) -> &Rc<Directory> {
        &self.root
    }

    /// Opens the directory `name`, and creates missing ones with mode 0755; `created` is called with the path
    /// of each.
    pub(super) fn open_or_create(
        &mut self,
        name: &[u8],
        created: impl FnMut(&[u8]),
    ) -> Result<Rc<Directory>, Refusal> {
        self.lookup(name, Use::Parent, |directories, path| directories.create(path, created))
    }

    /// Opens the directory `name`, if it exists.
    pub(super) fn open_existing(&mut self, name: &[u8]) -> Result<Option<Rc<Directory>>, Refusal> {
        let mut missing = false;
        let found = self.lookup(name, Use::LinkTarget, |directories, path| {
            match open_plain(&directories.root, path, OPEN_DIRECTORY) {
                Ok(fd) => Ok(Rc::new(Directory::new(path.to_vec(), fd))),
                Err(errno) => {
                    missing = matches!(errno, Errno::NOENT | Errno::NOTDIR);
                    Err(Refusal::io("open a directory")(errno))
                }
            }
        });
        match found {
            Err(_) if missing => Ok(None),
            found => found.map(Some),
        }
    }

    fn lookup(
        &mut self,
        name: &[u8],
        purpose: Use,
        open: impl FnOnce(&Self, &[u8]) -> Result<Rc<Directory>, Refusal>,
    ) -> Result<Rc<Directory>, Refusal> {
        let known = self.remembered.iter().flatten().find(|known| known.name == name);
        if let Some(known) = known {
            return Ok(Rc::clone(&known.directory));
        }
        let path = clean(name);
        if path.is_empty() && !name.contains(&b'.') {
            return Ok(Rc::clone(&self.root));
        }
        let (directory, plain) = match self.open_directly(name)? {
            Some(fd) => (Rc::new(Directory::new(path, fd)), true),
            None => {
                let path = self.resolve(name)?;
                // With `..` a link may have been involved that is not part of the result.
                let plain = path == name;
                (open(self, &path)?, plain)
            }
        };
        self.remember(purpose, name, &directory, plain);
        Ok(directory)
    }

    /// Caches the directory `fd`, which is `base` in `parent`, for the entries in it. `name` is its clean
    /// name in the archive.
    pub(super) fn entered(&mut self, name: &[u8], parent: &Directory, base: &[u8], fd: OwnedFd) {
        let directory = Rc::new(Directory::new(parent.join(base), fd));
        let plain = directory.path == name;
        self.remember(Use::Entered, name, &directory, plain);
    }

    fn remember(&mut self, purpose: Use, name: &[u8], directory: &Rc<Directory>, plain: bool) {
        let directory = Rc::clone(directory);
        let remembered = Remembered { name: name.to_vec(), directory, plain };
        self.remembered[purpose as usize] = Some(remembered);
    }

    /// Must be called after a symbolic link was created or a file other than a directory was removed.
    pub(super) fn links_changed(&mut self) {
        for slot in &mut self.remembered {
            slot.take_if(|known| !known.plain);
        }
    }

    /// Must be called after a directory was removed, or the attributes of an existing one changed: new files
    /// in it may now get other attributes.
    pub(super) fn directory_changed(&mut self) {
        self.remembered = [const { None }; USES];
    }

    /// The usual case with only one system call: every component exists and is a directory.
    fn open_directly(&self, name: &[u8]) -> Result<Option<OwnedFd>, Refusal> {
        let start = name.iter().position(|byte| *byte != b'/').unwrap_or(name.len());
        match open_plain(&self.root, &name[start..], OPEN_DIRECTORY) {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::NOSYS) => Err(Refusal::NoOpenat2),
            // A link, a missing component, `..` at the root, or an error that resolving will meet.
            Err(_) => Ok(None),
        }
    }

    /// Follows the symbolic links of `name`, including the last component's.
    pub(super) fn resolve(&self, name: &[u8]) -> Result<Vec<u8>, Refusal> {
        resolve(self.root.as_fd(), name, &self.lookups)
    }

    /// Opens a path without symbolic links component by component, and creates missing ones.
    fn create(
        &self,
        path: &[u8],
        mut created: impl FnMut(&[u8]),
    ) -> Result<Rc<Directory>, Refusal> {
        let mut fd = self.root.fd.try_clone().map_err(|source| Refusal::Io {
            operation: "duplicate the handle of the snapshot's root directory",
            source,
        })?;
        let mut end = 0;
        for component in components(path) {
            end += component.len();
            fd = match rustix::fs::openat(&fd, component, OPEN_DIRECTORY, Mode::empty()) {
                Err(Errno::NOENT) => {
                    let child = make_directory(&fd, component, self.owner)?;
                    created(&path[..end]);
                    child
                }
                opened => opened.map_err(parent_error)?,
            };
            end += 1;
        }
        Ok(Rc::new(Directory::new(path.to_vec(), fd)))
    }
}

/// Follows the symbolic links of `name` inside `root`, including the last component's. The result is a clean
/// path, which need not exist.
pub(super) fn resolve(
    root: BorrowedFd<'_>,
    name: &[u8],
    allowance: &Lookups<'_>,
) -> Result<Vec<u8>, Refusal> {
    let (mut links, mut lookups) = (0, 0);
    let mut path = name.to_vec();
    // Each round follows every link in the path by one step, until there are no links.
    loop {
        let before = links;
        if path.len() > 2 * MAX_PATH_BYTES {
            return Err(Refusal::PathTooLong);
        }
        let mut current = Vec::new();
        for component in components(&path) {
            lookups += 1;
            if lookups > MAX_LOOKUPS {
                return Err(Refusal::TooManySymlinks);
            }
            let candidate = clean(&[&current, &b"/"[..], component].concat());
            allowance.take(&candidate)?;
            current = match read_link(root, &candidate)? {
                None => candidate,
                Some(target) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Refusal::TooManySymlinks);
                    }
                    if target.starts_with(b"/") {
                        target
                    } else {
                        clean(&[&current, &b"/"[..], &target].concat())
                    }
                }
            };
        }
        if links == before {
            return Ok(current);
        }
        path = current;
    }
}

/// Returns the target if `path` is a symbolic link; `None` if it is anything else or missing.
fn read_link(root: BorrowedFd<'_>, path: &[u8]) -> Result<Option<Vec<u8>>, Refusal> {
    if path.is_empty() {
        return Ok(None);
    }
    if path.len() > MAX_PATH_BYTES {
        return Err(Refusal::PathTooLong);
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = again(|| rustix::fs::openat2(root, path, flags, Mode::empty(), IN_ROOT));
    let fd = match opened {
        Ok(fd) => fd,
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(parent_error(errno)),
    };
    match rustix::fs::readlinkat(&fd, "", Vec::new()) {
        Ok(target) => Ok(Some(target.into_bytes())),
        Err(Errno::NOENT | Errno::INVAL) => Ok(None),
        Err(errno) => Err(Refusal::io("read a symbolic link")(errno)),
    }
}

/// Opens a path without symbolic links.
pub(crate) fn open_plain(
    root: &impl AsFd,
    path: &[u8],
    flags: OFlags,
) -> rustix::io::Result<OwnedFd> {
    let path = if path.is_empty() { b"." } else { path };
    again(|| rustix::fs::openat2(root, path, flags, Mode::empty(), PLAIN))
}

fn again<T>(mut attempt: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    for _ in 1..MAX_ATTEMPTS {
        match attempt() {
            Err(Errno::AGAIN | Errno::INTR) => {}
            outcome => return outcome,
        }
    }
    attempt()
}

fn make_directory(
    parent: &OwnedFd,
    name: &[u8],
    owner: Option<(u32, u32)>,
) -> Result<OwnedFd, Refusal> {
    let mode = Mode::from_raw_mode(0o755);
    rustix::fs::mkdirat(parent, name, mode).map_err(Refusal::io("create a parent directory"))?;
    let fd =
        rustix::fs::openat(parent, name, OPEN_DIRECTORY, Mode::empty()).map_err(parent_error)?;
    if let Some((user, group)) = owner {
        // The kernel gives it the group of a parent with setgid.
        let stat = rustix::fs::fstat(&fd).map_err(Refusal::io("read the attributes"))?;
        let is_ours = stat.st_gid == rustix::process::getegid().as_raw();
        let group = is_ours.then(|| Gid::from_raw(group));
        rustix::fs::fchown(&fd, Some(Uid::from_raw(user)), group)
            .map_err(Refusal::io("set the owner of a parent directory"))?;
    }
    // The process's umask may have removed bits.
    rustix::fs::fchmod(&fd, mode).map_err(Refusal::io("set the mode of a parent directory"))?;
    Ok(fd)
}

fn parent_error(errno: Errno) -> Refusal {
    match errno {
        Errno::NOTDIR => Refusal::ParentNotDirectory,
        Errno::LOOP => Refusal::TooManySymlinks,
        Errno::NAMETOOLONG => Refusal::PathTooLong,
        Errno::NOSYS => Refusal::NoOpenat2,
        errno => Refusal::io("open a parent directory")(errno),
    }
}

/// Returns the components of a path, without empty ones and `.`.
fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|component| !matches!(*component, b"" | b"."))
}

/// Returns the path with `..` resolved lexically, that of the root being the root, without outer slashes.
pub(super) fn clean(path: &[u8]) -> Vec<u8> {
    let mut kept: Vec<&[u8]> = Vec::new();
    for component in components(path) {
        if component == b".." {
            kept.pop();
        } else {
            kept.push(component);
        }
    }
    kept.join(&b'/')
}

/// Returns the path of `name` in the directory `above`, whose path is empty for the root.
pub(crate) fn join(above: &[u8], name: &[u8]) -> Vec<u8> {
    if above.is_empty() { name.to_vec() } else { [above, b"/", name].concat() }
}

/// Splits a clean path into the directory and the last component.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&[], path),
    }
}
