//! Databases that other programs use, or a daemon that has no lock on its root.
//!
//! A [`State`](super::State) has only what this library knows. So such a file is not written from the state. The difference
//! between what the state had of the file and what it has now is applied to the content of the file; all else
//! stays as it was, such as the namespaces of others, empty buckets, and entries of later releases.

use std::fs::File;

use rustix::fs::{MemfdFlags, memfd_create};

use crate::bolt::{Db, ReadError, Tree};
use crate::decode::DecodeError;
use crate::encode::EncodeError;
use crate::metadata::Metadata;
use crate::records::Records;
use crate::snapshots::Snapshots;
use crate::solver::SolverCache;
use crate::worker::{StateFile, Worker};

/// Why the new content of a database cannot be determined.
#[derive(Debug, thiserror::Error)]
pub(super) enum InPlaceError {
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

impl From<ReadError> for InPlaceError {
    fn from(error: ReadError) -> Self {
        Self::Decode(error.into())
    }
}

/// Returns the content of the database `db`, which is `file` of `worker`, after it gets what `write` writes.
pub(super) fn changed(
    db: &Db,
    file: StateFile,
    worker: &Worker,
    write: impl FnOnce(&File) -> Result<(), EncodeError>,
) -> Result<Tree, InPlaceError> {
    let mut content = Tree::read(&db.root())?;
    let known = encoded(|out| match file {
        StateFile::Solver => Ok(SolverCache::read(db)?.write(out)?),
        StateFile::Records => Ok(Records::read(db)?.write(out)?),
        StateFile::Metadata => Ok(Metadata::read(db, worker)?.write(out)?),
        StateFile::Snapshots => Ok(Snapshots::read(db)?.write(out)?),
        // A state does not have the others.
        _ => Ok::<_, InPlaceError>(()),
    })?;
    content.change(&known, &encoded(write)?);
    Ok(content)
}

/// Returns what `write` writes into an empty file.
fn encoded<E>(write: impl FnOnce(&File) -> Result<(), E>) -> Result<Tree, InPlaceError>
where
    InPlaceError: From<E>,
{
    let failed = |source| ReadError::Io { offset: 0, source };
    let file = memfd_create("database", MemfdFlags::CLOEXEC);
    let file = File::from(file.map_err(|error| failed(error.into()))?);
    write(&file)?;
    if file.metadata().map_err(failed)?.len() == 0 {
        return Ok(Tree::default());
    }
    Ok(Tree::read(&Db::open(file)?.root())?)
}
