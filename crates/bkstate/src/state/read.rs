//! Reads the databases of a root.

use std::io::Read as _;
use std::path::PathBuf;

use super::State;
use crate::bolt::Db;
use crate::decode::DecodeError;
use crate::dir::{Dir, DirError};
use crate::ids::{InvalidId, WorkerId};
use crate::metadata::Metadata;
use crate::records::Records;
use crate::root::Root;
use crate::snapshots::Snapshots;
use crate::solver::SolverCache;
use crate::worker::{Part, StateFile, Worker};

/// Maximum size of the file `workerid`, in bytes; the daemon's ids have 25 characters.
const MAX_WORKER_ID: u64 = 4096;

/// Why the state of a root cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadStateError {
    /// A file or directory of the state is missing or cannot be read.
    #[error("the root does not have the state of a builder that can be read")]
    Dir(#[from] DirError),
    /// A database cannot be decoded.
    #[error("cannot read {}", path.display())]
    Database {
        /// The database.
        path: PathBuf,
        /// The cause.
        #[source]
        source: DecodeError,
    },
    /// The worker id cannot be read.
    #[error("cannot read {}", path.display())]
    WorkerIdFile {
        /// The file.
        path: PathBuf,
        /// The error of the kernel.
        #[source]
        source: std::io::Error,
    },
    /// The content of the file is not a worker id.
    #[error("{} does not hold a worker id", path.display())]
    WorkerId {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: InvalidId,
    },
}

impl State {
    /// Reads the databases of the state in `root`.
    ///
    /// ```
    /// use bkstate::Root;
    /// use bkstate::state::{ReadStateError, State};
    ///
    /// let temp = tempfile::tempdir()?;
    /// // No worker yet.
    /// let Err(ReadStateError::Dir(error)) = State::read(&Root::open(temp.path())?) else { panic!() };
    /// assert!(error.is_not_found());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Returns an error if one of them is missing, damaged or of an unknown format.
    pub fn read(root: &Root) -> Result<Self, ReadStateError> {
        let worker = root.worker();
        let id = worker.open_existing(root.bases(), Part::Worker)?;
        Ok(Self {
            worker: worker.clone(),
            worker_id: read_worker_id(&id, worker).map_err(|error| error.of(&id, worker))?,
            solver: read_database(root, StateFile::Solver, SolverCache::read)?,
            records: read_database(root, StateFile::Records, Records::read)?,
            metadata: read_database(root, StateFile::Metadata, |db| Metadata::read(db, worker))?,
            snapshots: read_database(root, StateFile::Snapshots, Snapshots::read)?,
        })
    }
}

/// Opens the database `file` of `root` and reads it with `read`.
fn read_database<T>(
    root: &Root,
    file: StateFile,
    read: impl FnOnce(&Db) -> Result<T, DecodeError>,
) -> Result<T, ReadStateError> {
    let place = root.worker().place(file);
    let dir = root.worker().open_existing(root.bases(), place.part)?;
    Db::open(dir.file(place.name)?)
        .map_err(DecodeError::from)
        .and_then(|db| read(&db))
        .map_err(|source| ReadStateError::Database { path: dir.path().join(place.name), source })
}

/// Why the worker id cannot be read.
pub(super) enum WorkerIdError {
    Dir(DirError),
    Io(std::io::Error),
    Invalid(InvalidId),
}

impl WorkerIdError {
    fn of(self, dir: &Dir, worker: &Worker) -> ReadStateError {
        let path = dir.path().join(worker.name(StateFile::WorkerId));
        match self {
            Self::Dir(error) => error.into(),
            Self::Io(source) => ReadStateError::WorkerIdFile { path, source },
            Self::Invalid(source) => ReadStateError::WorkerId { path, source },
        }
    }
}

/// Reads the id of `worker` in its directory `dir`.
pub(super) fn read_worker_id(dir: &Dir, worker: &Worker) -> Result<WorkerId, WorkerIdError> {
    let mut text = String::new();
    let file = dir.file(worker.name(StateFile::WorkerId)).map_err(WorkerIdError::Dir)?;
    file.take(MAX_WORKER_ID).read_to_string(&mut text).map_err(WorkerIdError::Io)?;
    WorkerId::new(text).map_err(WorkerIdError::Invalid)
}
