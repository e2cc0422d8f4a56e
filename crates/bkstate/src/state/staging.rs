//! Building a state beside the place it belongs, and moving it there when it is whole.
//!
//! Everything is written below `ROOT/.oci2bk-staging`, on the root's own file system. Publishing
//! is two renames, the worker's directory first: with records and no `cache.db` a daemon starts
//! cold, but soundly; with a `cache.db` and no records it would throw the results away.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::{
    CACHE_DB, METADATA_DB, Parts, RECORDS_DB, RootLock, SNAPSHOTS, SNAPSHOTS_DB, State,
    VerifyError, WORKER, WORKER_ID,
};
use crate::content::BlobStore;
use crate::dir::{Dir, DirError};
use crate::encode::EncodeError;
use crate::snapshots::Trees;

const STAGING: &str = ".oci2bk-staging";

/// A state being built. Dropped before [`publish`](Self::publish), it leaves nothing behind.
#[derive(Debug)]
pub struct Staging<'r> {
    root: &'r Dir,
    top: Dir,
    worker: Dir,
    blobs: BlobStore,
    snapshots: Dir,
    trees: Trees,
    published: bool,
}

/// Why a state could not be built or published.
#[derive(Debug, thiserror::Error)]
pub enum StagingError {
    /// The root has a state already.
    #[error(
        "{} already holds a state ({found}); convert into an empty directory, or remove the old \
         state first",
        root.display()
    )]
    Occupied {
        /// The root.
        root: PathBuf,
        /// The file or directory of the state that was found.
        found: String,
    },
    /// A file or directory could not be made or moved.
    #[error("the state could not be written")]
    Dir(#[from] DirError),
    /// A database could not be written.
    #[error("{} could not be written", path.display())]
    Database {
        /// The database.
        path: PathBuf,
        /// Why.
        #[source]
        source: EncodeError,
    },
    /// A file could not be written.
    #[error("{} could not be written", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the kernel answered.
        #[source]
        source: std::io::Error,
    },
}

impl<'r> Staging<'r> {
    /// Refuses a root that holds a state. What a dead run left does not count.
    ///
    /// # Errors
    /// [`StagingError::Occupied`], or if the root cannot be listed.
    pub fn check_vacant(root: &Dir) -> Result<(), StagingError> {
        let half_published = is_half_published(root)?;
        let state = root.entries()?.into_iter().find_map(|entry| {
            let name = entry.to_str()?.to_owned();
            if half_published && name == WORKER {
                return None;
            }
            let worker = name.starts_with("runc-") || name.starts_with("containerd-");
            (worker || matches!(name.as_str(), CACHE_DB | "history.db" | "cache-debug.db"))
                .then_some(name)
        });
        match state {
            Some(found) => Err(StagingError::Occupied { root: root.path().to_owned(), found }),
            None => Ok(()),
        }
    }

    /// Prepares an empty state in `root`, whose lock the caller holds, and removes what a dead run
    /// left there.
    ///
    /// # Errors
    /// If the root holds a state or cannot be written.
    pub fn begin(root: &'r Dir, _lock: &RootLock) -> Result<Self, StagingError> {
        Self::check_vacant(root)?;
        remove_dead_run(root)?;
        let top = root.create_dir(STAGING, 0o700)?;
        let worker = top.create_dir(WORKER, 0o700)?;
        let blobs = BlobStore::create(&worker)?;
        let snapshots = worker.create_dir(SNAPSHOTS, 0o700)?;
        let trees = Trees::create(&snapshots)?;
        Ok(Self { root, top, worker, blobs, snapshots, trees, published: false })
    }

    /// The path of the root; for messages only.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// The content store, for the blobs.
    pub fn blobs(&self) -> &BlobStore {
        &self.blobs
    }

    /// The directories of the snapshots.
    pub fn trees(&self) -> &Trees {
        &self.trees
    }

    /// Writes the databases.
    ///
    /// # Errors
    /// If one could not be written.
    pub fn write(&self, state: &State) -> Result<(), StagingError> {
        write_database(&self.snapshots, SNAPSHOTS_DB, 0o600, |file| state.snapshots.write(file))?;
        write_database(&self.worker, METADATA_DB, 0o644, |file| state.metadata.write(file))?;
        write_database(&self.worker, RECORDS_DB, 0o600, |file| state.records.write(file))?;
        write_database(&self.top, CACHE_DB, 0o600, |file| state.solver.write(file))?;
        self.write_worker_id(state)
    }

    /// Where the parts of the state are that was written, so that it can be verified before it is
    /// published.
    ///
    /// # Errors
    /// If they cannot be opened.
    pub fn parts(&self) -> Result<Parts, VerifyError> {
        Parts::of_root(&self.top)
    }

    /// Waits until all is on disk and moves the state into place.
    ///
    /// # Errors
    /// If it could not be moved; the root then holds no state.
    pub fn publish(mut self) -> Result<(), StagingError> {
        self.root.sync_file_system()?;
        self.top.rename(WORKER, self.root, WORKER)?;
        if let Err(error) = self.top.rename(CACHE_DB, self.root, CACHE_DB) {
            // Whatever hinders this too, the next run knows what it sees.
            let _ = self.root.rename(WORKER, &self.top, WORKER);
            return Err(error.into());
        }
        self.published = true;
        self.root.remove_dir(STAGING)?;
        self.root.sync_file_system()?;
        Ok(())
    }

    fn write_worker_id(&self, state: &State) -> Result<(), StagingError> {
        let mut file = self.worker.create_file(WORKER_ID, 0o400)?;
        file.write_all(state.worker_id.as_str().as_bytes()).map_err(|source| StagingError::File {
            path: self.worker.path().join(WORKER_ID),
            source,
        })
    }
}

/// Removes what a run left that did not end: its staging and, if it was stopped between the two
/// renames of publishing, its worker's directory.
fn remove_dead_run(root: &Dir) -> Result<(), DirError> {
    if is_half_published(root)? {
        root.remove_tree(WORKER)?;
    }
    root.remove_tree(STAGING)
}

/// Whether a run was stopped between the two renames of publishing.
///
/// That the worker's directory is the dead run's and nobody's since follows from the `cache.db`:
/// it is still in the staging, and a daemon that had started on the root would have made another.
pub(super) fn is_half_published(root: &Dir) -> Result<bool, DirError> {
    // Anything else of that name is nobody's staging, and is only removed.
    let Ok(staging) = root.dir(STAGING) else { return Ok(false) };
    let moved = staging.size(CACHE_DB)?.is_some() && staging.size(WORKER)?.is_none();
    Ok(moved && root.size(CACHE_DB)?.is_none())
}

impl Drop for Staging<'_> {
    fn drop(&mut self) {
        if !self.published {
            // The error that brought us here is the one to report; the next run cleans up too.
            let _ = remove_dead_run(self.root);
        }
    }
}

fn write_database(
    dir: &Dir,
    name: &str,
    mode: u32,
    write: impl FnOnce(&File) -> Result<(), EncodeError>,
) -> Result<(), StagingError> {
    let file = dir.create_file(name, mode)?;
    write(&file).map_err(|source| StagingError::Database { path: dir.path().join(name), source })
}
