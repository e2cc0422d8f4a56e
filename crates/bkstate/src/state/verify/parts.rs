//! The places of the parts of a state, which can be in several directories while it is being built.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::content::BlobStore;
use crate::dir::{Dir, DirError, FileKind};
use crate::ids::WorkerId;
use crate::root::Root;
use crate::snapshots::Trees;
use crate::state::read::{WorkerIdError, read_worker_id};
use crate::worker::{Bases, DatabasePlace, Part, STAGING, StateFile, Worker, databases, is_made};

use super::DatabaseDamage;

/// The places of the parts of a state.
///
/// A database without a directory is empty, as for a daemon that finds none. Blobs and snapshots can be in
/// several places; the first one that has them counts.
#[derive(Debug)]
#[non_exhaustive]
pub struct Parts {
    /// The worker of the state, which determines the names of the files.
    pub worker: Worker,
    /// The directory with `cache.db`.
    pub solver: Option<Dir>,
    /// The directory with `metadata_v2.db`.
    pub records: Option<Dir>,
    /// The directory with `containerdmeta.db`.
    pub metadata: Option<Dir>,
    /// The directory with the `metadata.db` of the snapshotter.
    pub snapshotter: Option<Dir>,
    /// The id of the worker.
    pub worker_id: WorkerName,
    /// The content stores.
    pub blobs: Vec<BlobStore>,
    /// The directories of snapshots.
    pub trees: Vec<Trees>,
    /// Other workers that results in `cache.db` may refer to.
    pub other_workers: BTreeSet<WorkerId>,
    /// Databases that a daemon opens and that are not part of the state, such as `history.db`: they are
    /// verified as files.
    pub kept: Vec<DatabasePlace>,
    /// Previous users, who can have left things that are not damage.
    pub history: History,
}

/// The id of the worker of a state.
#[derive(Debug)]
pub enum WorkerName {
    /// The content of the file `workerid` in the directory.
    In(Dir),
    /// This id; the file does not exist yet.
    Given(WorkerId),
}

/// Previous users of a state, who can have left things in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct History {
    /// A daemon has run on it, so every database can have leftovers of daemons. A database that shows a
    /// daemon's changes can have them anyway.
    pub daemon: bool,
    /// A conversion into it was stopped; the next one removes its leftovers.
    pub stopped_conversion: bool,
}

impl History {
    /// Returns the history of `root`.
    ///
    /// # Errors
    /// Returns an error if the root cannot be searched.
    pub fn of(root: &Root) -> Result<Self, DirError> {
        Ok(Self {
            // A daemon creates it when it starts (BuildKit v0.32.2 `cmd/buildkitd/main.go`).
            daemon: root.dir().find(root.worker().name(StateFile::History))?.is_some(),
            stopped_conversion: has_staging(root)?,
        })
    }
}

/// Why a state cannot be verified.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The root has no part of a state.
    #[error("{} holds no state: nothing was converted into it, and no buildkitd has built on it", root.display())]
    NoState {
        /// The root.
        root: PathBuf,
    },
    /// The root has only leftovers of a stopped conversion.
    #[error(
        "{} holds no state yet: a conversion was stopped while it published one; run it again",
        root.display()
    )]
    HalfPublished {
        /// The root.
        root: PathBuf,
    },
    /// The state is that of an unknown worker.
    #[error(
        "{} holds the state of the worker {found}, not that of {wanted}",
        root.display()
    )]
    OtherWorker {
        /// The root.
        root: PathBuf,
        /// The worker's directory.
        found: String,
        /// The expected worker.
        wanted: Box<Worker>,
    },
    /// A directory of the state is missing.
    #[error("the state is not whole")]
    Incomplete(#[from] DatabaseDamage),
    /// A part of the state cannot be examined.
    #[error("cannot look at the state")]
    Dir(#[from] DirError),
}

impl Parts {
    /// Opens the parts of the state in `root`.
    ///
    /// # Errors
    /// Returns an error if there is no state or only a part of one, or the root cannot be searched.
    pub fn of_root(root: &Root) -> Result<Self, VerifyError> {
        let worker = root.worker();
        let path = || root.path().to_owned();
        if is_half_published(root)? {
            return Err(VerifyError::HalfPublished { root: path() });
        }
        let others = other_workers(root)?;
        if !worker.is_in(root.dir())? {
            return match others.into_keys().next() {
                Some(found) => Err(VerifyError::OtherWorker {
                    root: path(),
                    found,
                    wanted: Box::new(worker.clone()),
                }),
                None if root.dir().find(worker.name(StateFile::Solver))?.is_none() => {
                    Err(VerifyError::NoState { root: path() })
                }
                None => {
                    let path = root.path().join(worker.directory());
                    Err(DatabaseDamage::Missing { path }.into())
                }
            };
        }
        let required = |part| worker.open_existing(root.bases(), part).map_err(absent);
        let of_worker = required(Part::Worker)?;
        if !is_begun(root)? {
            return Err(VerifyError::NoState { root: path() });
        }
        let snapshotter = required(Part::Snapshotter)?;
        Ok(Self {
            worker: worker.clone(),
            solver: Some(root.dir().try_clone()?),
            records: Some(of_worker.try_clone()?),
            metadata: Some(required(Part::Metadata)?),
            // A daemon creates these two when it first needs them.
            blobs: optional(content(root))?,
            trees: optional(root.trees())?.into_iter().flatten().collect(),
            snapshotter: Some(snapshotter),
            worker_id: WorkerName::In(of_worker),
            other_workers: others.into_values().flatten().collect(),
            kept: databases::kept(root.bases(), worker)?,
            history: History::of(root)?,
        })
    }
}

/// Returns the directories of workers other than the one of `root`, and the id of each that has one.
pub(in crate::state) fn other_workers(
    root: &Root,
) -> Result<BTreeMap<String, Option<WorkerId>>, DirError> {
    let mut workers = BTreeMap::new();
    let in_root = Bases::from(root.dir().try_clone()?);
    for worker in Worker::in_root(root.dir())? {
        if worker.directory() != root.worker().directory() {
            let id = match databases::directory(&in_root, &worker, Part::Worker)? {
                Some(dir) => id_of_other(&dir, &worker)?,
                None => None,
            };
            workers.insert(worker.directory().to_owned(), id);
        }
    }
    Ok(workers)
}

/// Reads the id of `worker`, whose directory is `dir`. A worker without a valid id has no results.
fn id_of_other(dir: &Dir, worker: &Worker) -> Result<Option<WorkerId>, DirError> {
    let name = worker.name(StateFile::WorkerId);
    match dir.find(name)? {
        Some(found) if found.kind == FileKind::File => {}
        _ => return Ok(None),
    }
    match read_worker_id(dir, worker) {
        Ok(id) => Ok(Some(id)),
        Err(WorkerIdError::Invalid(_)) => Ok(None),
        Err(WorkerIdError::Dir(error)) => Err(error),
        Err(WorkerIdError::Io(source)) => {
            Err(DirError { action: "read", path: dir.path().join(name), source })
        }
    }
}

/// Returns whether a conversion was stopped before its end.
fn has_staging(root: &Root) -> Result<bool, DirError> {
    for base in root.bases().all() {
        if base.find(STAGING)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns whether a conversion was stopped between the two steps of publishing a new state: `cache.db` is
/// still in the staging directory, and no daemon has created another.
fn is_half_published(root: &Root) -> Result<bool, DirError> {
    let (dir, solver) = (root.dir(), root.worker().name(StateFile::Solver));
    // Anything else with that name is not a staging directory.
    if dir.find(STAGING)?.is_none_or(|found| found.kind != FileKind::Directory) {
        return Ok(false);
    }
    let staging = dir.dir(STAGING)?;
    let moved = staging.find(solver)?.is_some() && !root.worker().is_in(&staging)?;
    Ok(moved && dir.find(solver)?.is_none())
}

/// Returns whether the worker was ever used. A daemon that is stopped during its first start has created some
/// of the files: the directories of the worker first, then its databases, that of the solver last (BuildKit
/// v0.32.2 and v0.34.2 `worker/runc/runc.go` `NewWorkerOpt`, `cmd/buildkitd/main.go` `newController`).
fn is_begun(root: &Root) -> Result<bool, VerifyError> {
    let worker = root.worker();
    for file in [StateFile::Solver, StateFile::Records] {
        let place = worker.place(file);
        if is_made(&worker.open_existing(root.bases(), place.part)?, place.name)? {
            return Ok(true);
        }
    }
    // Those of a containerd can be of others.
    if worker.shares_storage() {
        return Ok(false);
    }
    for blobs in optional(content(root))? {
        if !blobs.names()?.is_empty() {
            return Ok(true);
        }
    }
    for snapshots in optional(worker.open_existing(root.bases(), Part::Snapshotter))? {
        for trees in optional(Trees::open(&snapshots, worker.form()))? {
            if !trees.names()?.is_empty() {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn content(root: &Root) -> Result<BlobStore, DirError> {
    BlobStore::open(&root.worker().open_existing(root.bases(), Part::Content)?)
}

/// Opens a directory that may be missing.
fn optional<T>(opened: Result<T, DirError>) -> Result<Vec<T>, DatabaseDamage> {
    match opened {
        Ok(opened) => Ok(vec![opened]),
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        Err(source) => Err(DatabaseDamage::Unreadable { path: source.path.clone(), source }),
    }
}

/// Returns the damage for a required directory that cannot be opened.
fn absent(source: DirError) -> DatabaseDamage {
    let path = source.path.clone();
    if source.is_not_found() {
        DatabaseDamage::Missing { path }
    } else {
        DatabaseDamage::Unreadable { path, source }
    }
}
