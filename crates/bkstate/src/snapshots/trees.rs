//! The directories of snapshots: `<id>/fs` for a layer's files and `<id>/work` for overlayfs, or `<id>` with all
//! files.
//!
//! Source: containerd v2.3.3 `plugins/snapshots/overlay/overlay.go`, `plugins/snapshots/native/native.go`.

use std::collections::BTreeSet;
use std::path::Path;

use crate::dir::{Dir, DirError, FileKind, Found, if_there};
use crate::worker::TreeForm;

/// Their common directory, in that of the snapshotter.
pub(crate) const TREES: &str = "snapshots";
const FS: &str = "fs";
const WORK: &str = "work";

/// Which directories of a snapshot exist.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
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
    form: TreeForm,
}

impl Trees {
    /// Creates the empty directory in the snapshotter's.
    ///
    /// # Errors
    /// Returns an error if it exists or cannot be created.
    pub fn create(snapshotter: &Dir, form: TreeForm) -> Result<Self, DirError> {
        Ok(Self { dir: snapshotter.create_dir(TREES, 0o700)?, form })
    }

    /// Opens the directory in the snapshotter's.
    ///
    /// # Errors
    /// Returns an error if it does not exist or cannot be opened.
    pub fn open(snapshotter: &Dir, form: TreeForm) -> Result<Self, DirError> {
        Ok(Self { dir: snapshotter.dir(TREES)?, form })
    }

    /// Opens the directory in the snapshotter's, and creates it if it is missing.
    ///
    /// # Errors
    /// Returns an error if it can be neither opened nor created.
    pub fn open_or_create(snapshotter: &Dir, form: TreeForm) -> Result<Self, DirError> {
        match if_there(snapshotter.dir(TREES))? {
            Some(dir) => Ok(Self { dir, form }),
            None => Self::create(snapshotter, form),
        }
    }

    /// Moves all directories to `target`, where none of them may exist.
    ///
    /// # Errors
    /// Returns an error if the kernel refuses. Directories that were moved before stay moved.
    pub fn move_all(&self, target: &Self) -> Result<(), DirError> {
        for entry in self.dir.entries()? {
            self.dir.rename(&*entry.name, &target.dir, &*entry.name)?;
        }
        target.dir.sync()
    }

    /// Removes the directory `name` and everything in it.
    ///
    /// # Errors
    /// Returns an error if something cannot be removed.
    pub fn remove(&self, name: &str) -> Result<(), DirError> {
        self.dir.remove_tree(name)
    }

    /// Returns the path of the directory; for messages only.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Returns whether files can be moved between this directory and `other`.
    ///
    /// # Errors
    /// Returns an error if one of them cannot be examined.
    pub fn shares_file_system(&self, other: &Dir) -> Result<bool, DirError> {
        self.dir.shares_file_system(other)
    }

    /// Creates the directories of the snapshot `id` and returns the one for its files.
    ///
    /// # Errors
    /// Returns an error if they exist or cannot be created.
    pub fn create_snapshot(&self, id: u64) -> Result<Dir, DirError> {
        let name = id.to_string();
        match self.form {
            TreeForm::Overlay(_) => {
                let snapshot = self.dir.create_dir(name.as_str(), 0o700)?;
                snapshot.create_dir(WORK, 0o711)?;
                snapshot.create_dir(FS, 0o755)
            }
            TreeForm::Full(_) => self.dir.create_dir(name.as_str(), 0o755),
        }
    }

    /// Opens the directory with the files of the snapshot `id`.
    ///
    /// # Errors
    /// Returns an error if it does not exist or cannot be opened.
    pub fn fs(&self, id: u64) -> Result<Dir, DirError> {
        let snapshot = self.dir.dir(id.to_string().as_str())?;
        match self.form {
            TreeForm::Overlay(_) => snapshot.dir(FS),
            TreeForm::Full(_) => Ok(snapshot),
        }
    }

    /// Returns the names of all directories, including those that belong to no snapshot.
    ///
    /// # Errors
    /// Returns an error if they cannot be listed.
    pub fn names(&self) -> Result<BTreeSet<String>, DirError> {
        let entries = self.dir.entries()?;
        Ok(entries.iter().map(|entry| entry.name.to_string_lossy().into_owned()).collect())
    }

    /// Returns which directories of the snapshot `id` exist, without following links. One with all files is its
    /// own `fs` and `work`.
    ///
    /// # Errors
    /// Returns an error if they cannot be examined.
    pub fn find(&self, id: u64) -> Result<Directories, DirError> {
        let is_dir = |found: Option<Found>| found.is_some_and(|f| f.kind == FileKind::Directory);
        let name = id.to_string();
        if !is_dir(self.dir.find(name.as_str())?) {
            return Ok(Directories::default());
        }
        if matches!(self.form, TreeForm::Full(_)) {
            return Ok(Directories { top: true, fs: true, work: true });
        }
        let dir = self.dir.dir(name.as_str())?;
        Ok(Directories { top: true, fs: is_dir(dir.find(FS)?), work: is_dir(dir.find(WORK)?) })
    }
}
