//! Walks two trees side by side.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use bkstate::worker::{OverlayMarks, TreeForm};
use rustix::fs::{FileType, OFlags, Stat};
use rustix::io::Errno;

use super::below::{is_opaque, names, names_below};
use super::entry::{Difference, Entry, same_content};
use super::{Origin, TreeDamage, UnpackedLayer};
use crate::unpack::paths::{Lookups, OPEN_DIRECTORY, join, open_plain};
use crate::unpack::{Allowance, EntryName, ImpliedParents, hidden_names};

/// Maximum number of differences of one tree that are listed; the rest is counted.
const NAMED: usize = 20;

/// The only extended attribute of a step's files that gets into its layer.
const CAPABILITY: &[u8] = b"security.capability";

/// The files that eStargz adds at the top of a layer (containerd/stargz-snapshotter v0.18
/// `estargz/types.go`).
const ESTARGZ: [&[u8]; 3] = [b"stargz.index.json", b".prefetch.landmark", b".no.prefetch.landmark"];

/// A comparison of a tree with its unpacked layer.
pub(super) struct Comparison<'t> {
    pub(super) tree: &'t UnpackedLayer<'t>,
    /// The extended attributes of overlayfs. Only the opaque one affects what is visible.
    pub(super) marks: OverlayMarks,
    implied: &'t ImpliedParents,
    pub(super) lookups: Lookups<'t>,
    damage: Vec<TreeDamage>,
    more: u64,
    /// For files with several names: the file of the tree for each file of the layer.
    links: BTreeMap<(u64, u64), (u64, u64)>,
    /// The same in the other direction.
    links_back: BTreeMap<(u64, u64), (u64, u64)>,
    pub(super) pending: Vec<Pending>,
}

/// A directory to compare.
pub(super) struct Pending {
    pub(super) path: Vec<u8>,
    /// Whether it is in an opaque directory of the tree, so that nothing of the layers below is visible in
    /// it.
    pub(super) covered: bool,
    /// Whether it is in an opaque directory of the layer.
    pub(super) hides: bool,
}

impl<'t> Comparison<'t> {
    pub(super) fn new(
        tree: &'t UnpackedLayer<'t>,
        implied: &'t ImpliedParents,
        allowance: &'t Allowance,
    ) -> Self {
        let root = Pending { path: Vec::new(), covered: false, hides: false };
        Self {
            tree,
            marks: tree.worker.form().marks(),
            implied,
            lookups: implied.lookups(allowance),
            damage: Vec::new(),
            more: 0,
            links: BTreeMap::new(),
            links_back: BTreeMap::new(),
            pending: vec![root],
        }
    }

    /// Compares `found` with `expected`, which must not change in the meantime. For the two root directories
    /// only owner and mode count, and only if the tree was unpacked: layers do not have other attributes of
    /// the root, and a step may have changed attributes that are not in its layer.
    pub(super) fn run(&mut self, expected: BorrowedFd<'_>, found: BorrowedFd<'_>) {
        if self.tree.origin == Origin::Layer
            && let Err(errno) = self.top(expected, found)
        {
            self.unreadable(b"/", errno.into());
        }
        // Trees can be deeper than the stack and the limit on open files allow.
        while let Some(pending) = self.pending.pop() {
            let compared = match self.tree.worker.form() {
                TreeForm::Full(_) => self.full_directory(&pending, expected, found),
                _ => self.directory(&pending, expected, found),
            };
            if let Err(source) = compared {
                self.unreadable(&pending.path, source);
            }
        }
    }

    fn unreadable(&mut self, path: &[u8], source: io::Error) {
        self.damage.push(TreeDamage::Unreadable {
            snapshot: self.tree.snapshot,
            layer: self.tree.work.digest,
            path: EntryName::new(path),
            source,
        });
    }

    fn top(&mut self, expected: BorrowedFd<'_>, found: BorrowedFd<'_>) -> Result<(), Errno> {
        let expected = match self.tree.worker.form() {
            // The daemon copies the tree below, with its root directory.
            TreeForm::Full(_) => match self.tree.lowers().next() {
                Some(Ok(lower)) => rustix::fs::fstat(lower)?,
                Some(Err(_)) | None => rustix::fs::fstat(expected)?,
            },
            _ => rustix::fs::fstat(expected)?,
        };
        self.access(b"/", &expected, &rustix::fs::fstat(found)?);
        Ok(())
    }

    /// Compares mode and owner.
    pub(super) fn access(&mut self, path: &[u8], a: &Stat, b: &Stat) {
        // The kernel sets the mode of a symbolic link.
        let is_link = FileType::from_raw_mode(a.st_mode) == FileType::Symlink;
        if a.st_mode != b.st_mode && !is_link {
            let (found, expected) = (b.st_mode & 0o7777, a.st_mode & 0o7777);
            self.add(path, Difference::Mode { found, expected });
        }
        if (a.st_uid, a.st_gid) != (b.st_uid, b.st_gid) {
            let (found, expected) = ((b.st_uid, b.st_gid), (a.st_uid, a.st_gid));
            self.add(path, Difference::Owner { found, expected });
        }
    }

    pub(super) fn into_damage(mut self) -> Vec<TreeDamage> {
        if self.more > 0 {
            let (snapshot, layer) = (self.tree.snapshot, self.tree.work.digest);
            self.damage.push(TreeDamage::More { snapshot, layer, count: self.more });
        }
        self.damage
    }

    pub(super) fn add(&mut self, path: &[u8], difference: Difference) {
        if self.damage.len() >= NAMED {
            self.more += 1;
            return;
        }
        self.damage.push(TreeDamage::Entry {
            snapshot: self.tree.snapshot,
            layer: self.tree.work.digest,
            path: EntryName::new(path),
            difference,
        });
    }

    fn directory(
        &mut self,
        pending: &Pending,
        expected: BorrowedFd<'_>,
        found: BorrowedFd<'_>,
    ) -> io::Result<()> {
        let path = pending.path.as_slice();
        let expected = open_plain(&expected, path, OPEN_DIRECTORY)?;
        let found = open_directory(found, path)?;
        let covered = pending.covered || is_opaque(&found, self.marks.opaque())?;
        let hides = pending.hides || is_opaque(&expected, self.marks.opaque())?;
        let (expected_names, mut found_names) = (names(&expected)?, names(&found)?);
        found_names.retain(|name| !hidden_names(self.marks).contains(&name.as_slice()));
        let below = self.names_below(path, covered != hides || expected_names != found_names)?;
        // Names of the layers below that only one of the two hides.
        if covered != hides && below.iter().any(|name| !found_names.contains(name)) {
            let name = EntryName::new(self.marks.opaque().as_bytes());
            self.add(path, Difference::Xattr { name });
        }
        for name in expected_names.union(&found_names) {
            let path = join(path, name);
            if !found_names.contains(name) {
                let hid = covered || self.is_applied_in_mount() && !below.contains(name);
                self.missing(&path, hid, &Entry::read(&expected, name)?);
            } else if !expected_names.contains(name) {
                self.unexpected(&path, hides, &Entry::read(&found, name)?)?;
            } else {
                let (expected, found) = (Entry::read(&expected, name)?, Entry::read(&found, name)?);
                self.entry(&path, &expected, &found)?;
                if [&expected, &found].iter().all(|entry| entry.kind() == FileType::Directory) {
                    self.pending.push(Pending { path, covered, hides });
                }
            }
        }
        Ok(())
    }

    /// Returns whether a daemon would have unpacked the layer into a mounted overlay. In a user namespace and with
    /// fuse-overlayfs it does, and the file system makes whiteouts of what is removed: one for each name that an
    /// opaque directory hides, and none for a name that no layer below has.
    fn is_applied_in_mount(&self) -> bool {
        self.tree.origin == Origin::Layer && self.marks != OverlayMarks::Trusted
    }

    /// Returns the names that the layers below show in a directory, if that matters.
    fn names_below(&self, path: &[u8], matters: bool) -> io::Result<BTreeSet<Vec<u8>>> {
        if matters && self.is_applied_in_mount() {
            names_below(self.tree, path, &self.lookups)
        } else {
            Ok(BTreeSet::new())
        }
    }

    /// `hid` is whether nothing of the layers below would be visible without the entry.
    pub(super) fn missing(&mut self, path: &[u8], hid: bool, entry: &Entry<'_>) {
        let is_step = self.tree.origin == Origin::Step;
        let is_needless = entry.is_whiteout() && hid && (is_step || self.is_applied_in_mount());
        let is_of_estargz = is_step && ESTARGZ.contains(&path);
        if !is_needless && !is_of_estargz {
            self.add(path, Difference::Missing);
        }
    }

    /// `hides` is whether the layer hides everything of those below that is there.
    fn unexpected(&mut self, path: &[u8], hides: bool, entry: &Entry<'_>) -> io::Result<()> {
        let left_out = match self.tree.origin {
            Origin::Step => {
                entry.kind() == FileType::Socket
                    || entry.is_whiteout()
                    || self.is_below(path, entry)?
            }
            Origin::Layer => entry.is_whiteout() && hides && self.is_applied_in_mount(),
        };
        if !left_out {
            self.add(path, Difference::Unexpected);
        }
        Ok(())
    }

    /// Returns whether the nearest layer below with the path has the same entry, so that there was nothing to
    /// put into the layer of the step.
    fn is_below(&self, path: &[u8], entry: &Entry<'_>) -> io::Result<bool> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for lower in self.tree.lowers() {
            self.lookups.take(path).map_err(io::Error::other)?;
            let below = match open_plain(&lower.map_err(io::Error::other)?, path, flags) {
                Ok(below) => rustix::fs::fstat(below)?,
                // A component of the path is missing there, or is not a directory.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                Err(error) => return Err(error.into()),
            };
            let own = &entry.stat;
            let is_dir = entry.kind() == FileType::Directory;
            return Ok(below.st_mode == own.st_mode
                && (below.st_uid, below.st_gid) == (own.st_uid, own.st_gid)
                && (is_dir || (below.st_size, below.st_mtime) == (own.st_size, own.st_mtime)));
        }
        Ok(false)
    }

    pub(super) fn entry(
        &mut self,
        path: &[u8],
        expected: &Entry<'_>,
        found: &Entry<'_>,
    ) -> io::Result<()> {
        let (a, b) = (&expected.stat, &found.stat);
        if expected.kind() != found.kind() {
            self.add(path, Difference::Type);
            return Ok(());
        }
        if a.st_rdev != b.st_rdev {
            self.add(path, Difference::Device);
        }
        // Overlayfs' own whiteouts have an owner that is not in layers.
        if expected.is_whiteout() && found.is_whiteout() {
            return Ok(());
        }
        self.access(path, a, b);
        self.times(path, expected, found);
        self.xattrs(path, expected, found)?;
        match expected.kind() {
            FileType::Symlink if expected.target()? != found.target()? => {
                self.add(path, Difference::Target);
            }
            FileType::RegularFile => self.file(path, expected, found)?,
            _ => {}
        }
        Ok(())
    }

    /// Times of directories that the layer only implies depend on their later entries.
    fn times(&mut self, path: &[u8], expected: &Entry<'_>, found: &Entry<'_>) {
        let (a, b) = (&expected.stat, &found.stat);
        let same = match self.tree.origin {
            Origin::Layer => (a.st_mtime, a.st_mtime_nsec) == (b.st_mtime, b.st_mtime_nsec),
            // Times before 1970 become the epoch when unpacked.
            Origin::Step => a.st_mtime == b.st_mtime.max(0),
        };
        if !same && !self.implied.is_unnamed(path) {
            self.add(path, Difference::ModificationTime);
        }
    }

    pub(super) fn xattrs(
        &mut self,
        path: &[u8],
        expected: &Entry<'_>,
        found: &Entry<'_>,
    ) -> io::Result<()> {
        let (expected, found) = (expected.xattrs()?, found.xattrs()?);
        let (marks, opaque) = (self.marks, self.marks.opaque().as_bytes());
        // What the layer marks, a whole tree does not have.
        let is_whole = matches!(self.tree.worker.form(), TreeForm::Full(_));
        let counts = |name: &[u8]| match self.tree.origin {
            // Of such layers, what opaque directories hide is compared.
            Origin::Layer if is_whole || self.is_applied_in_mount() => !marks.has(name),
            Origin::Layer => name == opaque || !marks.has(name),
            Origin::Step => name == CAPABILITY,
        };
        let names: BTreeSet<_> = expected.keys().chain(found.keys()).collect();
        let differing: Vec<_> = names
            .into_iter()
            .filter(|name| counts(name) && expected.get(*name) != found.get(*name))
            .collect();
        for name in differing {
            self.add(path, Difference::Xattr { name: EntryName::new(name) });
        }
        Ok(())
    }

    fn file(&mut self, path: &[u8], expected: &Entry<'_>, found: &Entry<'_>) -> io::Result<()> {
        let (a, b) = (expected.inode(), found.inode());
        // The file of the tree may have more names because the daemon linked it into the snapshot of a merge.
        if expected.stat.st_nlink > 1 || found.stat.st_nlink > 1 {
            let known = (self.links.get(&a), self.links_back.get(&b));
            if known == (Some(&b), Some(&a)) {
                return Ok(());
            }
            // Unchanged names are not part of a step's layer.
            if known != (None, None) && self.tree.origin == Origin::Layer {
                self.add(path, Difference::HardLink);
                return Ok(());
            }
            self.links.insert(a, b);
            self.links_back.insert(b, a);
        }
        let (a, b) = (expected.stat.st_size, found.stat.st_size);
        if a != b {
            let (found, expected) = (b.cast_unsigned(), a.cast_unsigned());
            self.add(path, Difference::Size { found, expected });
        } else if !same_content(expected.open()?, found.open()?)? {
            self.add(path, Difference::Content);
        }
        Ok(())
    }
}

/// Opens a directory of the tree, without changing its access time where we may.
pub(super) fn open_directory(root: BorrowedFd<'_>, path: &[u8]) -> io::Result<OwnedFd> {
    match open_plain(&root, path, OPEN_DIRECTORY | OFlags::NOATIME) {
        Err(Errno::PERM) => Ok(open_plain(&root, path, OPEN_DIRECTORY)?),
        opened => Ok(opened?),
    }
}
