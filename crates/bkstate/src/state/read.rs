//! Reading the databases of a root.

use std::io::Read as _;
use std::path::PathBuf;

use super::{CACHE_DB, METADATA_DB, RECORDS_DB, SNAPSHOTS, SNAPSHOTS_DB, State, WORKER, WORKER_ID};
use crate::bolt::Db;
use crate::decode::DecodeError;
use crate::dir::{Dir, DirError};
use crate::ids::{InvalidId, WorkerId};
use crate::metadata::Metadata;
use crate::records::Records;
use crate::snapshots::Snapshots;
use crate::solver::SolverCache;

/// Longer worker ids than this are not worker ids; the daemon's have 25 characters.
const MAX_WORKER_ID: u64 = 4096;

/// Why a root could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadStateError {
    /// A file or directory of the state is missing or cannot be read.
    #[error("the root does not hold the state of a buildkitd with the OCI worker on overlayfs")]
    Dir(#[from] DirError),
    /// A database cannot be understood.
    #[error("cannot read {}", path.display())]
    Database {
        /// The database.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: DecodeError,
    },
    /// The worker id cannot be read.
    #[error("cannot read {}", path.display())]
    WorkerIdFile {
        /// The file.
        path: PathBuf,
        /// What the kernel answered.
        #[source]
        source: std::io::Error,
    },
    /// The worker id is none.
    #[error("{} does not hold a worker id", path.display())]
    WorkerId {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: InvalidId,
    },
}

impl State {
    /// Reads the databases of the state in `root`.
    ///
    /// ```
    /// use bkstate::dir::Dir;
    /// use bkstate::state::{ReadStateError, State};
    ///
    /// let temp = tempfile::tempdir()?;
    /// // There is no worker yet.
    /// let Err(ReadStateError::Dir(error)) = State::read(&Dir::open(temp.path())?) else { panic!() };
    /// assert!(error.is_not_found());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// If one of them is missing, damaged or of an unknown form.
    pub fn read(root: &Dir) -> Result<Self, ReadStateError> {
        let worker = root.dir(WORKER)?;
        let snapshots = worker.dir(SNAPSHOTS)?;
        Ok(Self {
            worker_id: read_worker_id(&worker).map_err(|error| error.of(&worker))?,
            solver: read_database(root, CACHE_DB, SolverCache::read)?,
            records: read_database(&worker, RECORDS_DB, Records::read)?,
            metadata: read_database(&worker, METADATA_DB, Metadata::read)?,
            snapshots: read_database(&snapshots, SNAPSHOTS_DB, Snapshots::read)?,
        })
    }
}

/// Opens the database `name` in `dir` and reads it with `read`.
pub(super) fn read_database<T>(
    dir: &Dir,
    name: &str,
    read: impl FnOnce(&Db) -> Result<T, DecodeError>,
) -> Result<T, ReadStateError> {
    let file = dir.file(name)?;
    Db::open(file)
        .map_err(DecodeError::from)
        .and_then(|db| read(&db))
        .map_err(|source| ReadStateError::Database { path: dir.path().join(name), source })
}

/// Why there is no worker id.
pub(super) enum WorkerIdError {
    Dir(DirError),
    Io(std::io::Error),
    Invalid(InvalidId),
}

impl WorkerIdError {
    fn of(self, worker: &Dir) -> ReadStateError {
        let path = worker.path().join(WORKER_ID);
        match self {
            Self::Dir(error) => error.into(),
            Self::Io(source) => ReadStateError::WorkerIdFile { path, source },
            Self::Invalid(source) => ReadStateError::WorkerId { path, source },
        }
    }
}

pub(super) fn read_worker_id(worker: &Dir) -> Result<WorkerId, WorkerIdError> {
    let mut text = String::new();
    let file = worker.file(WORKER_ID).map_err(WorkerIdError::Dir)?;
    file.take(MAX_WORKER_ID).read_to_string(&mut text).map_err(WorkerIdError::Io)?;
    WorkerId::new(text).map_err(WorkerIdError::Invalid)
}
