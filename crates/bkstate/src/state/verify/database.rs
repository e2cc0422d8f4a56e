//! Checks the files of the databases: whether they exist, are sound, and have known content.

use std::path::{Path, PathBuf};

use crate::bolt::{self, Db, Problem, ReadError};
use crate::decode::DecodeError;
use crate::dir::{Dir, DirError};
use crate::ids::{InvalidId, WorkerId};
use crate::state::read::{WorkerIdError, read_worker_id};
use crate::worker::{DatabasePlace, StateFile, Worker, is_made};

use super::Findings;

/// A file of the state that a daemon could not use, or would use wrongly.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatabaseDamage {
    /// A file or directory of the state is missing.
    #[error("{} is not there", path.display())]
    Missing {
        /// The file or directory.
        path: PathBuf,
    },
    /// It exists but cannot be opened or read, or is not a file. If reading failed, nothing is known about
    /// its content.
    #[error("cannot read {} as a file", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The error of the kernel.
        #[source]
        source: DirError,
    },
    /// The file is empty.
    #[error("{} is empty", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The database is truncated.
    #[error("{}: {source}", path.display())]
    Cut {
        /// The file.
        path: PathBuf,
        /// How much of it is left.
        source: ReadError,
    },
    /// The file is not a database.
    #[error("{}: {source}", path.display())]
    NotADatabase {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: ReadError,
    },
    /// A page is damaged.
    #[error("{}: {problem}", path.display())]
    Page {
        /// The database.
        path: PathBuf,
        /// The problem.
        problem: Problem,
    },
    /// The database is sound, but its content is not what BuildKit writes.
    #[error("{}: {source}", path.display())]
    Content {
        /// The database.
        path: PathBuf,
        /// The unexpected entry and its place.
        source: DecodeError,
    },
    /// The content of the file `workerid` is not a worker id.
    #[error("{}: {source}", path.display())]
    WorkerId {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: InvalidId,
    },
}

impl DatabaseDamage {
    fn path(&self) -> &PathBuf {
        match self {
            Self::Missing { path }
            | Self::Unreadable { path, .. }
            | Self::Empty { path }
            | Self::Cut { path, .. }
            | Self::NotADatabase { path, .. }
            | Self::Page { path, .. }
            | Self::Content { path, .. }
            | Self::WorkerId { path, .. } => path,
        }
    }

    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "missing-file",
            Self::Unreadable { .. } => "unreadable-file",
            Self::Empty { .. } => "empty-file",
            Self::Cut { .. } => "cut-database",
            Self::NotADatabase { .. } => "no-database",
            Self::Page { .. } => "damaged-page",
            Self::Content { .. } => "unknown-content",
            Self::WorkerId { .. } => "worker-id",
        }
    }

    // BuildKit v0.32.2 and v0.34.2 cmd/buildkitd/main.go (those of the root), util/db/boltutil/safe_open.go,
    // worker/runc/runc.go (the worker's), worker/base/worker.go ID; bbolt 1.5.0 db.go Open. SafeOpen recovers
    // from a panic while it opens the file, but not from a fault beyond the end of the mapped file, nor
    // from a panic of bbolt's other threads or of a later transaction.
    pub(super) fn consequence(&self) -> &'static str {
        match (self, StateFile::common(self.path())) {
            (Self::WorkerId { .. }, _) | (Self::Missing { .. }, Some(StateFile::WorkerId)) => {
                NO_WORKER_ID
            }
            (Self::Missing { .. } | Self::Empty { .. }, Some(StateFile::Solver)) => {
                "the daemon makes an empty one and starts cold"
            }
            (Self::Missing { .. } | Self::Empty { .. }, _) => {
                "the daemon makes an empty one; it deletes what refers to the lost content when it \
                 starts, or fails the builds that need it"
            }
            (Self::Unreadable { .. }, _) => {
                "the daemon does not start, or follows a link to where nothing was verified"
            }
            (
                Self::Cut { .. } | Self::NotADatabase { .. } | Self::Page { .. },
                Some(StateFile::Solver),
            ) => {
                "the daemon replaces the file by an empty one and starts cold, or crashes once it \
                 reads what is damaged or missing"
            }
            (
                Self::Cut { .. } | Self::NotADatabase { .. } | Self::Page { .. },
                Some(StateFile::History),
            ) => {
                "the daemon crashes when it starts, or replaces the file by an empty one; without the \
                 file it starts, and only the list of past builds is lost"
            }
            (
                Self::Cut { .. } | Self::NotADatabase { .. } | Self::Page { .. },
                Some(StateFile::SolverDebug),
            ) => {
                "a daemon with --save-cache-debug crashes when it starts, or replaces the file by an \
                 empty one; without the file it makes another"
            }
            (Self::Cut { .. } | Self::NotADatabase { .. } | Self::Page { .. }, _) => {
                "the daemon does not start, or crashes once it reads what is damaged or missing"
            }
            (Self::Content { .. }, _) => {
                "the daemon does not start, or fails once it needs what stands there"
            }
        }
    }
}

const NO_WORKER_ID: &str = "the daemon goes by another id, takes all results for those of a worker that is gone, and \
     deletes them when it starts";

/// A sound database.
pub(super) struct Sound<T> {
    pub(super) content: T,
    /// Whether a daemon has changed it since it was written as a whole.
    pub(super) used: bool,
}

/// Reads the database `name` in `dir` if it is sound. Without a directory it is empty.
pub(super) fn sound<T: Default>(
    dir: Option<&Dir>,
    name: &str,
    read: impl FnOnce(&Db) -> Result<T, DecodeError>,
    findings: &mut Findings,
) -> Option<Sound<T>> {
    let Some(dir) = dir else { return Some(Sound { content: T::default(), used: false }) };
    let path = dir.path().join(name);
    let db = match open(dir, name) {
        Ok(db) => db,
        Err(damage) => {
            findings.add(damage);
            return None;
        }
    };
    // A daemon that was interrupted in a commit may leave one meta page torn. The other one counts then, as
    // if that commit had never begun, and the next commit repairs the torn one.
    let counts = |problem: &Problem| !matches!(problem, Problem::Meta { .. });
    let problems: Vec<_> = bolt::check(&db).into_iter().filter(counts).collect();
    if !problems.is_empty() {
        // Unreadable pages look unused, and the pages below them are unknown.
        let unread = problems.iter().any(is_unread);
        for problem in problems.into_iter().filter(|problem| !unread || is_unread(problem)) {
            let damage = match problem {
                Problem::Read(error) => self::unread(&path, error).map_err(Problem::Read),
                problem => Err(problem),
            };
            findings.add(damage.unwrap_or_else(|problem| {
                let path = path.clone();
                DatabaseDamage::Page { path, problem }
            }));
        }
        return None;
    }
    match read(&db) {
        Ok(content) => Some(Sound { content, used: db.txid() > bolt::WRITTEN_TXID }),
        Err(error) => {
            let damage = match error {
                DecodeError::Bolt(error) => unread(&path, error).map_err(DecodeError::Bolt),
                error => Err(error),
            };
            findings.add(damage.unwrap_or_else(|source| DatabaseDamage::Content { path, source }));
            None
        }
    }
}

fn open(dir: &Dir, name: &str) -> Result<Db, DatabaseDamage> {
    let path = dir.path().join(name);
    let file = dir.file(name).map_err(|source| absent(path.clone(), source))?;
    let length = file.metadata().map(|metadata| metadata.len());
    let length = length.map_err(|source| {
        let source = DirError { action: "look at", path: path.clone(), source };
        DatabaseDamage::Unreadable { path: path.clone(), source }
    })?;
    if length == 0 {
        return Err(DatabaseDamage::Empty { path });
    }
    Db::open(file).map_err(|error| match unread(&path, error) {
        Ok(damage) => damage,
        Err(source @ ReadError::Truncated { .. }) => DatabaseDamage::Cut { path, source },
        Err(source) => DatabaseDamage::NotADatabase { path, source },
    })
}

/// Checks a database that is not part of a state. A daemon creates missing ones.
pub(super) fn check_kept(place: &DatabasePlace, findings: &mut Findings) -> Result<(), DirError> {
    let DatabasePlace { dir, name } = place;
    if is_made(dir, name)? {
        sound(Some(dir), name, |_| Ok(()), findings);
    }
    Ok(())
}

fn is_unread(problem: &Problem) -> bool {
    matches!(problem, Problem::Read(ReadError::Io { .. }))
}

/// Returns the damage for a file that the system cannot read, if that is the only problem in `error`: its
/// content may be sound.
fn unread(path: &Path, error: ReadError) -> Result<DatabaseDamage, ReadError> {
    match error {
        ReadError::Io { source, .. } => {
            let path = path.to_owned();
            let source = DirError { action: "read", path: path.clone(), source };
            Ok(DatabaseDamage::Unreadable { path, source })
        }
        error => Err(error),
    }
}

/// Reads the worker id.
pub(super) fn worker_id(dir: &Dir, worker: &Worker, findings: &mut Findings) -> Option<WorkerId> {
    let path = dir.path().join(worker.name(StateFile::WorkerId));
    let damage = match read_worker_id(dir, worker) {
        Ok(id) => return Some(id),
        Err(WorkerIdError::Dir(source)) => absent(path, source),
        Err(WorkerIdError::Io(source)) => {
            let source = DirError { action: "read", path: path.clone(), source };
            DatabaseDamage::Unreadable { path, source }
        }
        Err(WorkerIdError::Invalid(source)) => DatabaseDamage::WorkerId { path, source },
    };
    findings.add(damage);
    None
}

fn absent(path: PathBuf, source: DirError) -> DatabaseDamage {
    if source.is_not_found() {
        DatabaseDamage::Missing { path }
    } else {
        DatabaseDamage::Unreadable { path, source }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn what_the_system_cannot_read_is_not_called_damaged() {
        let failed = || ReadError::Io { offset: 0, source: io::Error::other("a bad sector") };
        assert!(is_unread(&Problem::Read(failed())));
        assert!(!is_unread(&Problem::MetaHeader { page: 0 }));
        let damage = unread(Path::new("cache.db"), failed()).unwrap();
        assert!(matches!(damage, DatabaseDamage::Unreadable { .. }), "{damage}");
        assert_eq!(damage.to_string(), "cannot read cache.db as a file");
    }
}
