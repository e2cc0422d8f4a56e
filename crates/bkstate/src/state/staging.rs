//! Builds a state, or additions to one, in a staging directory.
//!
//! Everything is written below `.oci2bk-staging` in the root, and moved into place when it is complete
//! (`publish`). A state on a containerd has such a directory in each of its bases, because those can be on
//! different file systems.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::Existing;
use crate::bolt::CommitError;
use crate::content::BlobStore;
use crate::decode::DecodeError;
use crate::dir::{Dir, DirError, FileKind, if_there};
use crate::encode::EncodeError;
use crate::root::Root;
use crate::snapshots::Trees;
use crate::worker::{Bases, Part, STAGING};

/// The subdirectory for files that are needed before a state is built.
const SCRATCH: &str = "scratch";

/// A state being built. If it is dropped before [`publish`](Self::publish), it leaves nothing behind.
///
/// ```
/// use bkstate::Root;
/// use bkstate::ids::WorkerId;
/// use bkstate::state::{Existing, Staging, StagingError};
/// use bkstate::worker::Worker;
///
/// fn unpack_into(staging: &Staging<'_>) -> Result<(), StagingError> {
///     staging.trees().create_snapshot(1)?.create_file("half a file", 0o644)?;
///     // A second snapshot with this number.
///     staging.trees().create_snapshot(1)?;
///     Ok(())
/// }
///
/// let temp = tempfile::tempdir()?;
/// let root = Root::open_to_write(temp.path())?;
/// let existing = Existing::nothing(Worker::default(), WorkerId::derive("worker"));
/// let staging = Staging::begin(&root, &existing)?;
/// assert_eq!(staging.root(), temp.path());
/// assert!(matches!(unpack_into(&staging), Err(StagingError::Dir(_))));
/// drop(staging);
/// assert_eq!(root.dir().entries()?.len(), 1, "the file of the lock");
///
/// // A killed process cannot clean up; the next run does, or this function.
/// std::mem::forget(Staging::begin(&root, &existing)?);
/// assert_eq!(root.dir().entries()?.len(), 2);
/// Staging::remove_dead_run(&root)?;
/// assert_eq!(root.dir().entries()?.len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Staging<'r> {
    pub(super) root: &'r Root,
    pub(super) existing: &'r Existing,
    /// The staging directories, in which the parts have the same layout as in the bases.
    pub(super) tops: Bases,
    pub(super) blobs: BlobStore,
    pub(super) trees: Trees,
    /// Whether the directory stays: the state is published in part, or its removal was ended.
    pub(super) stays: AtomicBool,
}

/// Why a state cannot be built or published.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StagingError {
    /// A part of the root is on another file system, so nothing can be moved there.
    #[error(
        "{} is on another file system than the rest of the root; move all of the root to one",
        path.display()
    )]
    OtherFileSystem {
        /// The directory.
        path: PathBuf,
    },
    /// A file or directory cannot be created or moved.
    #[error("cannot write the state")]
    Dir(#[from] DirError),
    /// A database cannot be written.
    #[error("cannot write {}", path.display())]
    Database {
        /// The database.
        path: PathBuf,
        /// The cause.
        #[source]
        source: EncodeError,
    },
    /// A database that is changed in place cannot be read.
    #[error("cannot read {}", path.display())]
    Stored {
        /// The database.
        path: PathBuf,
        /// The cause.
        #[source]
        source: DecodeError,
    },
    /// A database cannot be changed in place. It has its old content.
    #[error("cannot change {}", path.display())]
    Commit {
        /// The database.
        path: PathBuf,
        /// The cause.
        #[source]
        source: CommitError,
    },
    /// A file cannot be written.
    #[error("cannot write {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The error of the kernel.
        #[source]
        source: std::io::Error,
    },
}

impl<'r> Staging<'r> {
    /// Prepares to add to `existing` in `root`, and removes the leftovers of interrupted conversions.
    ///
    /// # Errors
    /// Returns an error if the root cannot be written, or spans several file systems.
    pub fn begin(root: &'r Root, existing: &'r Existing) -> Result<Self, StagingError> {
        existing.remove_leftovers()?;
        Self::remove_dead_run(root)?;
        let staging = Self::create(root, existing).inspect_err(|_| {
            // The original error is the one to report.
            let _ = Self::remove_dead_run(root);
        })?;
        staging.check_file_systems()?;
        Ok(staging)
    }

    fn create(root: &'r Root, existing: &'r Existing) -> Result<Self, DirError> {
        let worker = root.worker();
        let tops = root.bases().map(|base| base.create_private_dir(STAGING))?;
        worker.create(&tops, Part::Worker)?;
        worker.create(&tops, Part::Metadata)?;
        let blobs = BlobStore::create(&worker.create(&tops, Part::Content)?)?;
        let trees = Trees::create(&worker.create(&tops, Part::Snapshotter)?, worker.form())?;
        let stays = AtomicBool::new(false);
        Ok(Self { root, existing, tops, blobs, trees, stays })
    }

    /// Removes what was staged for as long as `goes_on` returns true. The rest is that of an interrupted
    /// conversion, which [`remove_dead_run`](Self::remove_dead_run) and the next conversion remove.
    ///
    /// ```
    /// use bkstate::ids::WorkerId;
    /// use bkstate::state::Staging;
    /// use bkstate::Root;
    ///
    /// let temp = tempfile::tempdir()?;
    /// let root = Root::open_to_write(temp.path())?;
    /// let existing = root.existing(&WorkerId::derive("worker"))?;
    /// let staging = Staging::begin(&root, &existing)?;
    /// staging.trees().create_snapshot(1)?.create_file("file", 0o644)?;
    /// // There is no time at all.
    /// staging.abandon(&|| false);
    /// assert!(temp.path().join(".oci2bk-staging").exists());
    /// Staging::remove_dead_run(&root)?;
    /// assert!(!temp.path().join(".oci2bk-staging").exists());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn abandon(self, goes_on: &dyn Fn() -> bool) {
        self.stays.store(true, Ordering::Relaxed);
        for base in self.root.bases().all() {
            // Who abandons it has another error to report.
            let _ = base.remove_tree_while(STAGING, goes_on);
        }
    }

    /// Removes the staging directory of an interrupted conversion.
    ///
    /// # Errors
    /// Returns an error if it cannot be removed.
    pub fn remove_dead_run(root: &Root) -> Result<(), DirError> {
        root.bases().all().try_for_each(|base| base.remove_tree(STAGING))
    }

    /// Returns the path of the root; for messages only.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// Returns the content store for the blobs.
    pub fn blobs(&self) -> &BlobStore {
        &self.blobs
    }

    /// Returns the directories of the snapshots.
    pub fn trees(&self) -> &Trees {
        &self.trees
    }

    fn check_file_systems(&self) -> Result<(), StagingError> {
        let other = |path: &Path| Err(StagingError::OtherFileSystem { path: path.to_owned() });
        let worker = self.root.worker();
        for part in [Part::Worker, Part::Metadata, Part::Content, Part::Snapshotter] {
            if let Some(dir) = self.root.open_part(part)?
                && !dir.shares_file_system(&worker.open_existing(&self.tops, part)?)?
            {
                return other(dir.path());
            }
        }
        if let Some(blobs) = self.blobs_there()?
            && !blobs.shares_file_system(&worker.open_existing(&self.tops, Part::Content)?)?
        {
            return other(blobs.path());
        }
        if let Some(trees) = self.trees_there()?
            && !trees.shares_file_system(&worker.open_existing(&self.tops, Part::Snapshotter)?)?
        {
            return other(trees.path());
        }
        Ok(())
    }

    /// Returns the content store of the root, if it has one.
    pub(super) fn blobs_there(&self) -> Result<Option<BlobStore>, DirError> {
        let content = self.root.open_part(Part::Content)?;
        Ok(content.as_ref().map(BlobStore::open).map(if_there).transpose()?.flatten())
    }

    /// Returns the directories of the root's snapshots, if it has any.
    pub(super) fn trees_there(&self) -> Result<Option<Trees>, DirError> {
        self.root.trees()
    }
}

/// A directory in the root for files that are needed before a state is built. It is removed on drop.
///
/// ```
/// use bkstate::Root;
/// use bkstate::state::Scratch;
///
/// let temp = tempfile::tempdir()?;
/// let root = Root::open_to_write(temp.path())?;
/// let scratch = Scratch::create(&root)?;
/// scratch.dir().create_dir("a layer to compare with", 0o755)?;
/// drop(scratch);
/// assert_eq!(root.dir().entries()?.len(), 1, "the file of the lock");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Scratch<'r> {
    /// The base of the snapshotter, on whose file system the trees are.
    base: &'r Dir,
    dir: Dir,
    /// Whether an interrupted conversion had left the staging directory. It tells the next run about the
    /// interruption, so it stays until a [`Staging`] replaces it.
    of_dead_run: bool,
}

impl<'r> Scratch<'r> {
    /// Creates it at the place of the [`Staging`] directory.
    ///
    /// # Errors
    /// Returns an error if the root cannot be written.
    pub fn create(root: &'r Root) -> Result<Self, DirError> {
        let base = root.worker().base(Part::Snapshotter);
        let base = root.bases().get(base).unwrap_or(root.dir());
        let left = base.find(STAGING)?;
        let of_dead_run = left.is_some_and(|found| found.kind == FileKind::Directory);
        if of_dead_run {
            let dir = Self::within(base.dir(STAGING)?)?;
            return Ok(Self { base, dir, of_dead_run });
        }
        // Anything else with that name is not a staging directory.
        base.remove_tree(STAGING)?;
        let dir = base.create_private_dir(STAGING).and_then(Self::within).inspect_err(|_| {
            // The original error is the one to report.
            let _ = base.remove_tree(STAGING);
        })?;
        Ok(Self { base, dir, of_dead_run })
    }

    fn within(staging: Dir) -> Result<Dir, DirError> {
        staging.remove_tree(SCRATCH)?;
        staging.create_dir(SCRATCH, 0o700)
    }

    /// Returns the directory.
    pub fn dir(&self) -> &Dir {
        &self.dir
    }
}

impl Drop for Scratch<'_> {
    fn drop(&mut self) {
        // If this fails, the remaining files look like those of an interrupted conversion.
        let _ = if self.of_dead_run {
            self.base.dir(STAGING).and_then(|staging| staging.remove_tree(SCRATCH))
        } else {
            self.base.remove_tree(STAGING)
        };
    }
}

impl Drop for Staging<'_> {
    fn drop(&mut self) {
        // The remaining files tell the next run, and `verify`, that a conversion was interrupted.
        if !self.stays.load(Ordering::Relaxed) {
            // The original error is the one to report, and the next run cleans up too.
            let _ = Staging::remove_dead_run(self.root);
        }
    }
}
