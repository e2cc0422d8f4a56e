//! Applies the entries of a layer, one after the other, as containerd's applier does (containerd
//! v2.3.3 `pkg/archive/tar.go` `applyNaive`).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufRead;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::rc::Rc;

use bkstate::Digest;
use bkstate::worker::{OverlayMarks, TreeForm, Worker};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timestamps};
use rustix::io::Errno;

use super::Placement;
use super::allowance::Allowance;
use super::create::{Attributes, Given, leaves_group_to_kernel, mode};
use super::error::{EntryName, Refusal};
use super::implied::ImpliedParents;
use super::paths::{
    Directories, Directory, LayerLookups, Lookups, OPEN_DIRECTORY, clean, open_plain, split,
};
use super::remove::{Removed, remove_all};
use super::tar::{Entry, Kind, OLD_SPARSE, Reader};
use super::times::{self, Deferred};
use super::tree::SOCKET;
use super::whiteout::{self, Whiteout};
use super::witness::Candidates;
use crate::limits::Limits;

const CREATE_FILE: OFlags = OFlags::WRONLY
    .union(OFlags::CREATE)
    .union(OFlags::EXCL)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);
/// Permissions that new files and directories may have at creation: setuid and similar bits are set last.
const PERMISSIONS: Mode = Mode::RWXU.union(Mode::RWXG).union(Mode::RWXO);

/// Labels for a snapshot.
type Labels = BTreeMap<String, String>;

/// How the names in an archive are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rules {
    /// As those of a layer, some of which are whiteouts.
    Layer(Placement),
    /// As those of a tree ([`super::tree`]).
    Tree,
    /// The same, with what only a snapshot has ([`super::tree::copy_snapshot`]).
    Snapshot,
}

/// A layer being applied.
pub(super) struct Applier<'a> {
    directories: Directories<'a>,
    rules: Rules,
    marks: OverlayMarks,
    /// Whether the marks stay in the tree.
    keeps_marks: bool,
    /// Whether the daemon is in a user namespace.
    is_rootless: bool,
    /// Whether a daemon removes what a whiteout names before it makes a directory with that name.
    forgets_nothing: bool,
    attributes: Attributes<'a>,
    /// Number of entries that were left out.
    left_out: u64,
    implied: ImpliedParents,
    deferred: Deferred,
    candidates: Candidates,
    limits: Limits,
}

impl<'a> Applier<'a> {
    pub(super) fn new(
        fs: BorrowedFd<'_>,
        rules: Rules,
        worker: &'a Worker,
        layer: Digest,
        allowance: &'a Allowance,
    ) -> Result<Self, Refusal> {
        let (marks, new) = (worker.form().marks(), worker.owners().root_on_disk());
        let lookups = LayerLookups::new(allowance.limits.layer_lookups);
        Ok(Self {
            directories: Directories::new(fs, new, Lookups::new(lookups, &allowance.lookups))?,
            rules,
            marks,
            keeps_marks: matches!(worker.form(), TreeForm::Overlay(_)),
            is_rootless: worker.is_rootless(),
            forgets_nothing: worker.form() != TreeForm::Overlay(OverlayMarks::Trusted),
            attributes: Attributes::new(worker.owners(), marks, rules == Rules::Snapshot),
            left_out: 0,
            implied: ImpliedParents::new(layer, marks, lookups),
            deferred: Deferred::default(),
            candidates: Candidates::default(),
            limits: allowance.limits,
        })
    }

    /// Applies `entry`, the current entry of `archive`.
    pub(super) fn apply<R: BufRead>(
        &mut self,
        archive: &mut Reader<R>,
        entry: &Entry,
    ) -> Result<(), Refusal> {
        // First, because the entries after it cannot be found.
        if entry.kind == Kind::OldSparse {
            return Err(unsupported(OLD_SPARSE));
        }
        let placement = match self.rules {
            Rules::Layer(placement) => placement,
            Rules::Tree | Rules::Snapshot => {
                self.check_limits(entry)?;
                return self.apply_to_tree(archive, entry);
            }
        };
        if self.is_rootless && matches!(entry.kind, Kind::CharDevice | Kind::BlockDevice) {
            self.left_out += 1;
            return Ok(());
        }
        self.check_limits(entry)?;
        let name = clean(&entry.name);
        let (parent, base) = split(&name);
        // The layer must not change the snapshot's root directory.
        if base.is_empty() {
            return Ok(());
        }
        let implied = &mut self.implied;
        let parent = self.directories.open_or_create(parent, |path| implied.created(path))?;
        if let Some(whiteout) = Whiteout::of(base)? {
            return self.hide(&parent, whiteout, entry, placement);
        }
        if placement == Placement::Overlay
            && leaves_group_to_kernel(entry)
            && self.implied.is_unnamed(&parent.path)
        {
            return Err(Refusal::GroupOfImpliedDirectory);
        }
        match entry.kind {
            Kind::CharDevice => self.node(FileType::CharacterDevice, &parent, base, entry),
            Kind::BlockDevice => self.node(FileType::BlockDevice, &parent, base, entry),
            // Nothing is created, but containerd removes an existing file first.
            Kind::GlobalHeader => self.remove(&parent, base),
            _ => self.make(archive, &name, &parent, entry),
        }
    }

    /// Makes the file `name` in `parent` that `entry` describes.
    fn make<R: BufRead>(
        &mut self,
        archive: &mut Reader<R>,
        name: &[u8],
        parent: &Rc<Directory>,
        entry: &Entry,
    ) -> Result<(), Refusal> {
        let (_, base) = split(name);
        match entry.kind {
            Kind::Regular => self.file(archive, parent, base, entry),
            Kind::Directory => {
                let fd = self.directory(parent, base, entry)?;
                self.directories.entered(name, parent, base, fd);
                self.deferred.add(name, times::of(entry));
                Ok(())
            }
            Kind::Symlink => self.symlink(parent, base, entry),
            Kind::HardLink => self.hard_link(parent, base, entry),
            Kind::Fifo => self.node(FileType::Fifo, parent, base, entry),
            Kind::CharDevice if self.rules == Rules::Snapshot => {
                self.node(FileType::CharacterDevice, parent, base, entry)
            }
            Kind::BlockDevice if self.rules == Rules::Snapshot => {
                self.node(FileType::BlockDevice, parent, base, entry)
            }
            Kind::Other(SOCKET) if self.rules == Rules::Snapshot => {
                self.node(FileType::Socket, parent, base, entry)
            }
            Kind::OldSparse => Err(unsupported(OLD_SPARSE)),
            Kind::Other(typeflag) => Err(unsupported(typeflag)),
            Kind::CharDevice | Kind::BlockDevice | Kind::GlobalHeader => Err(Refusal::Device),
        }
    }

    /// Returns whether the archive is that of a tree.
    pub(super) fn is_tree(&self) -> bool {
        self.rules == Rules::Tree
    }

    /// Returns the number of entries that were left out.
    pub(super) fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Applies an entry of the archive of a tree: every path is as it is written, without links.
    fn apply_to_tree<R: BufRead>(
        &mut self,
        archive: &mut Reader<R>,
        entry: &Entry,
    ) -> Result<(), Refusal> {
        if entry.kind == Kind::GlobalHeader {
            return Ok(());
        }
        stays_in_tree(&entry.name)?;
        let name = clean(&entry.name);
        let (parent, base) = split(&name);
        if base.is_empty() {
            return self.top(entry);
        }
        let implied = &mut self.implied;
        let opened = self.directories.open_or_create(parent, |path| implied.created(path))?;
        if opened.path != parent {
            return Err(Refusal::ThroughLink);
        }
        if entry.kind == Kind::HardLink {
            stays_in_tree(&entry.link)?;
            let target = clean(&entry.link);
            let (above, _) = split(&target);
            if self.directories.resolve(above)? != above {
                return Err(Refusal::ThroughLink);
            }
        }
        self.make(archive, &name, &opened, entry)
    }

    /// Gives the tree's own directory the attributes of its entry.
    fn top(&mut self, entry: &Entry) -> Result<(), Refusal> {
        if entry.kind != Kind::Directory {
            return Err(Refusal::TopNotDirectory);
        }
        let top = self.directories.root();
        let open = rustix::fs::openat(&**top, ".", OPEN_DIRECTORY, Mode::empty());
        let top = open.map_err(Refusal::io("open the tree's own directory"))?;
        self.attributes.set(&top, entry, Given::of(&top)?)?;
        self.directories.directory_changed();
        self.deferred.add(&[], times::of(entry));
        Ok(())
    }

    fn check_limits(&self, entry: &Entry) -> Result<(), Refusal> {
        let Limits { path, xattrs, layer_directories, .. } = self.limits;
        let bytes = entry.name.len().max(entry.link.len()) as u64;
        if bytes > path {
            return Err(Refusal::NameTooLong { bytes, limit: path });
        }
        let bytes = xattr_bytes(entry);
        if bytes > xattrs {
            return Err(Refusal::XattrsTooLarge { bytes, limit: xattrs });
        }
        if self.implied.memory() + self.deferred.memory() > layer_directories {
            return Err(Refusal::TooManyDirectories { limit: layer_directories });
        }
        Ok(())
    }

    /// Sets the times of directories, after the last entry. Those without an entry in the layer, and the
    /// root, get the epoch. Returns the implied directories, and the labels of the snapshot.
    pub(super) fn finish(mut self) -> Result<(ImpliedParents, Labels), (Vec<u8>, Refusal)> {
        for path in self.implied.unnamed() {
            set_untold_times(&self.directories, path)?;
        }
        set_untold_times(&self.directories, &[])?;
        for (name, times) in self.deferred.into_ordered() {
            set_directory_times(&self.directories, &name, &times).map_err(|error| (name, error))?;
        }
        let labels = self.candidates.labels(self.directories.root());
        self.implied.allow(self.directories.lookups());
        Ok((self.implied, labels))
    }

    fn hide(
        &mut self,
        parent: &Rc<Directory>,
        whiteout: Whiteout<'_>,
        entry: &Entry,
        placement: Placement,
    ) -> Result<(), Refusal> {
        match (placement, whiteout) {
            (Placement::Overlay, Whiteout::Opaque) => {
                let mark = self.marks.opaque();
                whiteout::make_opaque(parent, mark)?;
                if self.keeps_marks {
                    self.candidates.attribute(&parent.path, mark.as_bytes());
                }
                Ok(())
            }
            (Placement::Overlay, Whiteout::Of(name)) => {
                let owner = if self.is_rootless {
                    // A rootless daemon removes files in a mount, and the kernel makes the device.
                    self.attributes.of_daemon()
                } else {
                    self.attributes.owner(entry)?
                };
                whiteout::make_device(parent, name, owner)?;
                if self.keeps_marks {
                    self.candidates.whiteout(&parent.join(name));
                }
                Ok(())
            }
            (Placement::Base, Whiteout::Of(name)) => self.remove(parent, name),
            (Placement::Base, Whiteout::Opaque) => {
                // The directory was empty before this layer, so it can only contain entries and implied
                // directories.
                for path in self.implied.unnamed_below(&parent.path) {
                    // It may have been removed with a directory above it.
                    if !self.implied.is_unnamed(&path) {
                        continue;
                    }
                    let (above, base) = split(&path);
                    let above = open_plain(self.directories.root(), above, OPEN_DIRECTORY)
                        .map_err(Refusal::io("open a directory"))?;
                    remove_all(&above, base)?;
                    self.directories.directory_changed();
                    self.implied.removed(&path);
                }
                Ok(())
            }
        }
    }

    fn file<R: BufRead>(
        &mut self,
        archive: &mut Reader<R>,
        parent: &Rc<Directory>,
        base: &[u8],
        entry: &Entry,
    ) -> Result<(), Refusal> {
        let permissions = mode(entry) & PERMISSIONS;
        let fd = self.create(parent, base, "create the file", || {
            rustix::fs::openat(parent, base, CREATE_FILE, permissions)
        })?;
        let given = parent.given_to_file(&fd, permissions)?;
        let file = File::from(fd);
        archive.copy_body(entry, |offset, bytes| {
            file.write_all_at(bytes, offset)
                .map_err(|source| Refusal::Io { operation: "write the file", source })
        })?;
        if entry.fragments.is_some() {
            // After the last fragment is a hole.
            rustix::fs::ftruncate(&file, entry.size)
                .map_err(Refusal::io("set the length of the file"))?;
        }
        self.attributes.set(&OwnedFd::from(file), entry, given)?;
        self.note_attributes(parent, base, entry);
        Ok(())
    }

    /// Records that the entry may have extended attributes.
    fn note_attributes(&mut self, parent: &Directory, base: &[u8], entry: &Entry) {
        for name in entry.xattrs.keys() {
            self.candidates.attribute(&parent.join(base), name);
        }
    }

    fn directory(
        &mut self,
        parent: &Rc<Directory>,
        base: &[u8],
        entry: &Entry,
    ) -> Result<OwnedFd, Refusal> {
        let open = || rustix::fs::openat(parent, base, OPEN_DIRECTORY, Mode::empty());
        // Users other than root need all owner bits until the directory is filled.
        let permissions = (mode(entry) & PERMISSIONS) | Mode::RWXU;
        let make = || rustix::fs::mkdirat(parent, base, permissions);
        let fd = match make() {
            Ok(()) => open(),
            // Directories are merged, anything else is replaced.
            Err(Errno::EXIST) => match open() {
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    let hides = self.hides_below(parent, base);
                    self.remove(parent, base)?;
                    let made = make().and_then(|()| open());
                    if hides && let Ok(fd) = &made {
                        whiteout::make_opaque(fd, self.marks.opaque())?;
                    }
                    made
                }
                opened => {
                    self.implied.named(&parent.join(base));
                    self.directories.directory_changed();
                    opened
                }
            },
            Err(errno) => Err(errno),
        };
        let fd = fd.map_err(Refusal::io("create the directory"))?;
        let given = Given::of(&fd)?;
        self.attributes.set(&fd, entry, given)?;
        self.note_attributes(parent, base, entry);
        Ok(fd)
    }

    /// Returns whether `base` is a whiteout that must go on to hide what is below it when a directory replaces
    /// it. In the mount of a rootless daemon or of fuse-overlayfs such a directory becomes opaque, and in a whole
    /// tree what was there is gone; a daemon that runs as root on overlayfs forgets the whiteout.
    fn hides_below(&self, parent: &Directory, base: &[u8]) -> bool {
        self.rules == Rules::Layer(Placement::Overlay)
            && self.forgets_nothing
            && whiteout::is_device(parent, base)
    }

    fn symlink(
        &mut self,
        parent: &Rc<Directory>,
        base: &[u8],
        entry: &Entry,
    ) -> Result<(), Refusal> {
        self.create(parent, base, "create the symbolic link", || {
            rustix::fs::symlinkat(entry.link.as_slice(), parent, base)
        })?;
        self.directories.links_changed();
        self.attributes.set_of_symlink(parent, base, entry, parent.given_to_symlink(base)?)
    }

    fn node(
        &mut self,
        kind: FileType,
        parent: &Rc<Directory>,
        base: &[u8],
        entry: &Entry,
    ) -> Result<(), Refusal> {
        let number = |number: i64| {
            let (major, minor) = (entry.major, entry.minor);
            u32::try_from(number).map_err(|_| Refusal::DeviceNumber { major, minor })
        };
        // The kernel keeps 12 bits of the major and 20 of the minor number.
        let (major, minor) = (number(entry.major)? & 0xFFF, number(entry.minor)? & 0xF_FFFF);
        let device = rustix::fs::makedev(major, minor);
        self.create(parent, base, "create the device or FIFO", || {
            rustix::fs::mknodat(parent, base, kind, mode(entry), device)
        })?;
        let given = Given::of_name(parent, base)?;
        self.attributes.set_at(parent, base, entry, given)
    }

    fn hard_link(
        &mut self,
        parent: &Rc<Directory>,
        base: &[u8],
        entry: &Entry,
    ) -> Result<(), Refusal> {
        // Before the target is looked up, because it may be the replaced file.
        self.remove(parent, base)?;
        let target = || EntryName::new(&entry.link);
        let missing = || Refusal::HardLinkTargetMissing { target: target() };
        let to_directory = || Refusal::HardLinkToDirectory { target: target() };

        // Links in the target's directory are followed, but not a link that is the target itself.
        let (target_parent, target_base) = split(&entry.link);
        let resolved;
        let (target_parent, target_base) = match target_base {
            // A trailing slash or dot: the directory is the target. It can turn out to be a file.
            b"" | b"." | b".." => {
                resolved = self.directories.resolve(&entry.link)?;
                split(&resolved)
            }
            base => (target_parent, base),
        };
        if target_base.is_empty() {
            return Err(to_directory());
        }
        let target_parent = self.directories.open_existing(target_parent)?.ok_or_else(missing)?;
        rustix::fs::linkat(&*target_parent, target_base, parent, base, AtFlags::empty()).map_err(
            |errno| match errno {
                Errno::NOENT => missing(),
                Errno::PERM if is_directory(&target_parent, target_base) => to_directory(),
                errno => Refusal::io("create the hard link")(errno),
            },
        )?;
        // The target may be a symbolic link.
        self.directories.links_changed();
        let given = Given::of_name(parent, base)?;
        self.attributes.set_at(parent, base, entry, given)
    }

    /// Creates something that must not exist; if it does, it is removed first.
    fn create<T>(
        &mut self,
        parent: &Rc<Directory>,
        base: &[u8],
        operation: &'static str,
        make: impl Fn() -> rustix::io::Result<T>,
    ) -> Result<T, Refusal> {
        let made = match make() {
            Err(Errno::EXIST) => {
                self.remove(parent, base)?;
                make()
            }
            made => made,
        };
        made.map_err(Refusal::io(operation))
    }

    fn remove(&mut self, parent: &Rc<Directory>, base: &[u8]) -> Result<(), Refusal> {
        match remove_all(parent, base)? {
            Removed::Nothing => {}
            Removed::Other => self.directories.links_changed(),
            Removed::Directory => {
                self.directories.directory_changed();
                self.implied.removed(&parent.join(base));
            }
        }
        Ok(())
    }
}

/// Returns the bytes of the names and values of all extended attributes.
fn xattr_bytes(entry: &Entry) -> u64 {
    entry.xattrs.iter().map(|(name, value)| (name.len() + value.len()) as u64).sum()
}

fn unsupported(typeflag: u8) -> Refusal {
    Refusal::UnsupportedType { typeflag }
}

/// Refuses a name in the archive of a tree that could be meant to lead out of it.
fn stays_in_tree(name: &[u8]) -> Result<(), Refusal> {
    let leads_out = name.starts_with(b"/") || name.split(|byte| *byte == b'/').any(|c| c == b"..");
    if leads_out { Err(Refusal::LeavesTree { name: EntryName::new(name) }) } else { Ok(()) }
}

fn is_directory(parent: &impl AsFd, base: &[u8]) -> bool {
    let stat = rustix::fs::statat(parent, base, AtFlags::SYMLINK_NOFOLLOW);
    stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

fn set_untold_times(directories: &Directories<'_>, path: &[u8]) -> Result<(), (Vec<u8>, Refusal)> {
    open_plain(directories.root(), path, OPEN_DIRECTORY)
        .and_then(|fd| rustix::fs::futimens(fd, &times::UNTOLD))
        .map_err(|errno| (path.to_vec(), Refusal::io("set the times of the directory")(errno)))
}

/// Sets the final times of the file behind the directory entry `name`. Usually that is still the directory;
/// containerd looks it up by name again, and so do we.
fn set_directory_times(
    directories: &Directories<'_>,
    name: &[u8],
    times: &Timestamps,
) -> Result<(), Refusal> {
    let failed = Refusal::io("set the times of the directory");
    if let Ok(fd) = open_plain(directories.root(), name, OPEN_DIRECTORY) {
        return rustix::fs::futimens(fd, times).map_err(failed);
    }
    let path = directories.resolve(name)?;
    let (parent, base) = split(&path);
    if base.is_empty() {
        // It has become a link to the root.
        return rustix::fs::futimens(directories.root(), times).map_err(failed);
    }
    open_plain(directories.root(), parent, OPEN_DIRECTORY)
        .and_then(|fd| rustix::fs::utimensat(fd, base, times, AtFlags::SYMLINK_NOFOLLOW))
        .map_err(|errno| match errno {
            Errno::NOENT | Errno::NOTDIR => Refusal::DirectoryGone,
            errno => failed(errno),
        })
}
