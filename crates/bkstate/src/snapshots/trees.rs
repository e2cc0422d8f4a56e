//! The directories of snapshots: `<id>/fs` for a layer's files, `<id>/work` for overlayfs.
//!
//! Source: containerd v2.3.3 `plugins/snapshots/overlay/overlay.go`.

use std::collections::BTreeSet;
use std::path::Path;

use crate::dir::{Dir, DirError, FileKind, Found, if_there};

/// The directory of all of them, in that of the snapshotter.
pub(crate) const TREES: &str = "snapshots";
const FS: &str = "fs";
const WORK: &str = "work";

/// The directories of one snapshot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Directories {
    /// `<id>` itself.
    pub top: bool,
    /// `<id>/fs`.
    pub fs: bool,
    /// `<id>/work`.
    pub work: bool,
}

/// The directory `snapshots` beside `metadata.db`.
#[derive(Debug)]
pub struct Trees {
    dir: Dir,
}

impl Trees {
    /// Makes the empty directory in the snapshotter's.
    ///
    /// # Errors
    /// If it exists or cannot be made.
    pub fn create(snapshotter: &Dir) -> Result<Self, DirError> {
        Ok(Self { dir: snapshotter.create_dir(TREES, 0o700)? })
    }

    /// Opens the directory in the snapshotter's.
    ///
    /// # Errors
    /// If it is not there.
    pub fn open(snapshotter: &Dir) -> Result<Self, DirError> {
        Ok(Self { dir: snapshotter.dir(TREES)? })
    }

    /// Opens the directory in the snapshotter's, and makes it if it is not there.
    ///
    /// # Errors
    /// If it can be neither opened nor made.
    pub fn open_or_create(snapshotter: &Dir) -> Result<Self, DirError> {
        match if_there(snapshotter.dir(TREES))? {
            Some(dir) => Ok(Self { dir }),
            None => Self::create(snapshotter),
        }
    }

    /// Moves all directories to `target`, which must not have any of them.
    ///
    /// # Errors
    /// If the kernel refuses; what was moved stays so.
    pub fn move_all(&self, target: &Self) -> Result<(), DirError> {
        for entry in self.dir.entries()? {
            self.dir.rename(&*entry.name, &target.dir, &*entry.name)?;
        }
        target.dir.sync()
    }

    /// Removes the directory `name` with everything in it.
    ///
    /// # Errors
    /// If something cannot be removed.
    pub fn remove(&self, name: &str) -> Result<(), DirError> {
        self.dir.remove_tree(name)
    }

    /// The path of the directory; for messages only.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Whether files can be moved between this directory and `other`.
    ///
    /// # Errors
    /// If one of them cannot be looked at.
    pub fn shares_file_system(&self, other: &Dir) -> Result<bool, DirError> {
        self.dir.shares_file_system(other)
    }

    /// Makes the directories of the snapshot `id` and returns `fs`, where its files belong.
    ///
    /// # Errors
    /// If they exist or cannot be made.
    pub fn create_snapshot(&self, id: u64) -> Result<Dir, DirError> {
        let snapshot = self.dir.create_dir(id.to_string().as_str(), 0o700)?;
        snapshot.create_dir(WORK, 0o711)?;
        snapshot.create_dir(FS, 0o755)
    }

    /// Opens `fs` of the snapshot `id`.
    ///
    /// # Errors
    /// If it is not there.
    pub fn fs(&self, id: u64) -> Result<Dir, DirError> {
        self.dir.dir(id.to_string().as_str())?.dir(FS)
    }

    /// The names of all directories, those of no snapshot included.
    ///
    /// # Errors
    /// If they cannot be listed.
    pub fn names(&self) -> Result<BTreeSet<String>, DirError> {
        let entries = self.dir.entries()?;
        Ok(entries.iter().map(|entry| entry.name.to_string_lossy().into_owned()).collect())
    }

    /// Which directories of the snapshot `id` are there, without following a link.
    ///
    /// # Errors
    /// If they cannot be looked for.
    pub fn find(&self, id: u64) -> Result<Directories, DirError> {
        let is_dir = |found: Option<Found>| found.is_some_and(|f| f.kind == FileKind::Directory);
        let name = id.to_string();
        if !is_dir(self.dir.find(name.as_str())?) {
            return Ok(Directories::default());
        }
        let dir = self.dir.dir(name.as_str())?;
        Ok(Directories { top: true, fs: is_dir(dir.find(FS)?), work: is_dir(dir.find(WORK)?) })
    }
}
