//! Where the parts of a state are, which need not be below one root while it is being built.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::content::BlobStore;
use crate::dir::{Dir, DirError, FileKind};
use crate::ids::WorkerId;
use crate::snapshots::Trees;
use crate::state::databases::{self, DatabasePlace, HISTORY_DB};
use crate::state::read::{WorkerIdError, read_worker_id};
use crate::state::{CACHE_DB, RECORDS_DB, SNAPSHOTS, STAGING, WORKER, WORKER_ID};

use super::DatabaseDamage;

/// Where the parts of a state are.
///
/// A database without a directory is empty, as it is for a daemon that finds none. Blobs and
/// snapshots may lie in several places; the first that has one counts.
#[derive(Debug)]
pub struct Parts {
    /// The directory with `cache.db`.
    pub solver: Option<Dir>,
    /// The directory with `metadata_v2.db`.
    pub records: Option<Dir>,
    /// The directory with `containerdmeta.db`.
    pub metadata: Option<Dir>,
    /// The directory with the `metadata.db` of the snapshotter.
    pub snapshotter: Option<Dir>,
    /// What the worker is called.
    pub worker_id: WorkerName,
    /// The content stores.
    pub blobs: Vec<BlobStore>,
    /// The directories of snapshots.
    pub trees: Vec<Trees>,
    /// Other workers that results in `cache.db` may be of.
    pub other_workers: BTreeSet<WorkerId>,
    /// Databases that a daemon opens and that are no part of the state, such as `history.db`: they are
    /// verified as files.
    pub kept: Vec<DatabasePlace>,
    /// Who has left things that are no damage.
    pub history: History,
}

/// What the worker of a state is called.
#[derive(Debug)]
pub enum WorkerName {
    /// What the file `workerid` in the directory says.
    In(Dir),
    /// This; there is no such file yet.
    Given(WorkerId),
}

/// Who has worked on a state and may have left things in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct History {
    /// A daemon has run on it, so every database can have what daemons leave. One that shows itself
    /// that a daemon changed it can anyway.
    pub daemon: bool,
    /// A conversion into it was stopped; the next one removes what it left.
    pub stopped_conversion: bool,
}

impl History {
    /// The history of `root`.
    ///
    /// # Errors
    /// If the root cannot be searched.
    pub fn of(root: &Dir) -> Result<Self, DirError> {
        Ok(Self {
            // A daemon makes it when it starts (BuildKit v0.32.2 `cmd/buildkitd/main.go`).
            daemon: root.find(HISTORY_DB)?.is_some(),
            stopped_conversion: root.find(STAGING)?.is_some(),
        })
    }
}

/// Why a state could not be verified.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// Nothing of a state is there.
    #[error("{} holds no state: nothing was converted into it, and no buildkitd has built on it", root.display())]
    NoState {
        /// The root.
        root: PathBuf,
    },
    /// What is there was left by a conversion that was stopped.
    #[error(
        "{} holds no state yet: a conversion was stopped while it published one; run it again",
        root.display()
    )]
    HalfPublished {
        /// The root.
        root: PathBuf,
    },
    /// The state is that of a worker we do not know.
    #[error(
        "{} holds the state of the worker {found}; only that of the OCI worker with the overlayfs \
         snapshotter can be verified",
        root.display()
    )]
    OtherWorker {
        /// The root.
        root: PathBuf,
        /// The worker's directory.
        found: String,
    },
    /// A directory of it is missing.
    #[error("the state is not whole")]
    Incomplete(#[from] DatabaseDamage),
    /// The system refused to look at a part of it.
    #[error("cannot look at the state")]
    Dir(#[from] DirError),
}

impl Parts {
    /// The parts of the state in `root`.
    ///
    /// # Errors
    /// If there is no state or not all of one, or the system refuses to look for it.
    pub fn of_root(root: &Dir) -> Result<Self, VerifyError> {
        let path = || root.path().to_owned();
        if is_half_published(root)? {
            return Err(VerifyError::HalfPublished { root: path() });
        }
        let others = other_workers(root)?;
        if root.find(WORKER)?.is_none() {
            return match others.into_keys().next() {
                Some(found) => Err(VerifyError::OtherWorker { root: path(), found }),
                None if root.find(CACHE_DB)?.is_none() => {
                    Err(VerifyError::NoState { root: path() })
                }
                None => Err(DatabaseDamage::Missing { path: root.path().join(WORKER) }.into()),
            };
        }
        let worker = required(root, WORKER)?;
        if !is_begun(root, &worker)? {
            return Err(VerifyError::NoState { root: path() });
        }
        let snapshotter = required(&worker, SNAPSHOTS)?;
        // A daemon makes these two when it first needs them.
        let blobs = optional(BlobStore::open(&worker))?;
        let trees = optional(Trees::open(&snapshotter))?;
        Ok(Self {
            solver: Some(root.try_clone()?),
            records: Some(worker.try_clone()?),
            metadata: Some(worker.try_clone()?),
            snapshotter: Some(snapshotter),
            worker_id: WorkerName::In(worker),
            blobs,
            trees,
            other_workers: others.into_values().flatten().collect(),
            kept: databases::kept(root)?,
            history: History::of(root)?,
        })
    }
}

/// The directories of other workers than ours, and the id of each that has one.
pub(in crate::state) fn other_workers(
    root: &Dir,
) -> Result<BTreeMap<String, Option<WorkerId>>, DirError> {
    let mut workers = BTreeMap::new();
    for name in databases::worker_names(root)? {
        if name != WORKER {
            let id = match databases::directory(root, &name)? {
                Some(worker) => id_of_other(&worker)?,
                None => None,
            };
            workers.insert(name, id);
        }
    }
    Ok(workers)
}

/// The id of the worker in `worker`. One without an id of ours has no results.
fn id_of_other(worker: &Dir) -> Result<Option<WorkerId>, DirError> {
    match worker.find(WORKER_ID)? {
        Some(found) if found.kind == FileKind::File => {}
        _ => return Ok(None),
    }
    match read_worker_id(worker) {
        Ok(id) => Ok(Some(id)),
        Err(WorkerIdError::Invalid(_)) => Ok(None),
        Err(WorkerIdError::Dir(error)) => Err(error),
        Err(WorkerIdError::Io(source)) => {
            Err(DirError { action: "read", path: worker.path().join(WORKER_ID), source })
        }
    }
}

/// Whether a conversion was stopped between the two steps of publishing a new state: it has the
/// `cache.db` still with it, and no daemon has made another.
fn is_half_published(root: &Dir) -> Result<bool, DirError> {
    // Anything else of that name is nobody's staging.
    if root.find(STAGING)?.is_none_or(|found| found.kind != FileKind::Directory) {
        return Ok(false);
    }
    let staging = root.dir(STAGING)?;
    let moved = staging.find(CACHE_DB)?.is_some() && staging.find(WORKER)?.is_none();
    Ok(moved && root.find(CACHE_DB)?.is_none())
}

/// Whether a directory of this name in a root is that of a worker, called after its executor and snapshotter
/// (BuildKit v0.34.2 `worker/runc/runc.go`, `worker/containerd/containerd.go`).
pub(crate) fn is_worker(name: &str) -> bool {
    name.starts_with("runc-") || name.starts_with("containerd-")
}

/// Whether the worker has ever had anything. A daemon that is stopped in the middle of its first start has made
/// some of the files: the directories of the worker first, then its databases, `cache.db` last (BuildKit
/// v0.32.2 and v0.34.2 `worker/runc/runc.go` `NewWorkerOpt`, `cmd/buildkitd/main.go` `newController`).
fn is_begun(root: &Dir, worker: &Dir) -> Result<bool, VerifyError> {
    if databases::is_made(root, CACHE_DB)? || databases::is_made(worker, RECORDS_DB)? {
        return Ok(true);
    }
    for blobs in optional(BlobStore::open(worker))? {
        if !blobs.names()?.is_empty() {
            return Ok(true);
        }
    }
    for snapshots in optional(worker.dir(SNAPSHOTS))? {
        for trees in optional(Trees::open(&snapshots))? {
            if !trees.names()?.is_empty() {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// A directory that need not be there.
fn optional<T>(opened: Result<T, DirError>) -> Result<Vec<T>, DatabaseDamage> {
    match opened {
        Ok(opened) => Ok(vec![opened]),
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        Err(source) => Err(DatabaseDamage::Unreadable { path: source.path.clone(), source }),
    }
}

fn required(dir: &Dir, name: &'static str) -> Result<Dir, DatabaseDamage> {
    dir.dir(name).map_err(|source| {
        let path = source.path.clone();
        if source.is_not_found() {
            DatabaseDamage::Missing { path }
        } else {
            DatabaseDamage::Unreadable { path, source }
        }
    })
}
