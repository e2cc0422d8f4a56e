//! Where the parts of a state lie.

use std::path::Path;

use super::Worker;
use crate::dir::{Dir, DirError, FileKind, if_there};

/// A directory of a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Part {
    /// The root itself, with what all workers share.
    Root,
    /// The directory of the worker, with its id and its records.
    Worker,
    /// The directory with the metadata of containerd.
    Metadata,
    /// The content store of containerd, which has `blobs`.
    Content,
    /// The directory of the snapshotter, which has the directories of snapshots.
    Snapshotter,
}

/// A file of a state that has a fixed place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum StateFile {
    /// The lock of the daemon.
    Lock,
    /// The cache of the solver: keys, links and results.
    Solver,
    /// The builds that the daemon remembers.
    History,
    /// What a daemon with `--save-cache-debug` hashed (BuildKit v0.24 and later).
    SolverDebug,
    /// The id of the worker.
    WorkerId,
    /// The records of the cache.
    Records,
    /// The records in the form of daemons before v0.8; see `docs/format/state.md`.
    FormerRecords,
    /// containerd's metadata of content, snapshots and leases.
    Metadata,
    /// The snapshots, as the snapshotter knows them.
    Snapshots,
}

impl StateFile {
    /// The databases that lie in the root itself (BuildKit v0.34.2 `cmd/buildkitd/main.go`).
    pub(crate) const OF_ROOT: [Self; 3] = [Self::Solver, Self::History, Self::SolverDebug];
    /// The databases of a worker (`worker/runc/runc.go`, `worker/containerd/containerd.go`; containerd
    /// v2.4.2 `plugins/snapshots/overlay/overlay.go`).
    pub(crate) const OF_WORKER: [Self; 3] = [Self::Records, Self::Metadata, Self::Snapshots];

    /// Which of the files that are called the same for every worker lies at `path`, if it is one.
    pub(crate) fn common(path: &Path) -> Option<Self> {
        let worker = Worker::default();
        let mut files = Self::OF_ROOT.into_iter().chain([Self::WorkerId]);
        files.find(|file| path.ends_with(worker.name(*file)))
    }
}

/// Where a file lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The directory.
    pub part: Part,
    /// Its name there.
    pub name: &'static str,
    /// The permissions that a daemon makes it with.
    pub mode: u32,
}

/// What is in the making, in a root.
pub(crate) const STAGING: &str = ".oci2bk-staging";

/// The content store, in the directory of an OCI worker (`worker/runc/runc.go`).
const CONTENT: &str = "content";
/// The snapshotter, in the directory of an OCI worker.
const SNAPSHOTS: &str = "snapshots";

impl Worker {
    /// Where `file` lies.
    pub fn place(&self, file: StateFile) -> Place {
        let (part, name, mode) = match file {
            StateFile::Lock => (Part::Root, "buildkitd.lock", 0o600),
            StateFile::Solver => (Part::Root, "cache.db", 0o600),
            StateFile::History => (Part::Root, "history.db", 0o600),
            StateFile::SolverDebug => (Part::Root, "cache-debug.db", 0o600),
            StateFile::WorkerId => (Part::Worker, "workerid", 0o400),
            StateFile::Records => (Part::Worker, "metadata_v2.db", 0o600),
            StateFile::FormerRecords => (Part::Worker, "metadata.db", 0o600),
            StateFile::Metadata => (Part::Metadata, "containerdmeta.db", 0o644),
            StateFile::Snapshots => (Part::Snapshotter, "metadata.db", 0o600),
        };
        Place { part, name, mode }
    }

    /// The name of `file` in its directory.
    pub fn name(&self, file: StateFile) -> &'static str {
        self.place(file).name
    }

    /// The names that lead from the root to `part`, with the permissions that a daemon makes each with.
    pub(crate) fn way(&self, part: Part) -> Vec<(&str, u32)> {
        let below = match part {
            Part::Root => return Vec::new(),
            Part::Worker | Part::Metadata => None,
            Part::Content => Some((CONTENT, 0o755)),
            Part::Snapshotter => Some((SNAPSHOTS, 0o700)),
        };
        [(self.directory(), 0o700)].into_iter().chain(below).collect()
    }

    /// Opens `part` below `root`, if it is there.
    ///
    /// # Errors
    /// If it cannot be opened, or is not a directory.
    pub fn open(&self, root: &Dir, part: Part) -> Result<Option<Dir>, DirError> {
        if_there(self.open_existing(root, part))
    }

    /// Opens `part` below `root`, which has to be there.
    ///
    /// # Errors
    /// If it is not there, or cannot be opened.
    pub fn open_existing(&self, root: &Dir, part: Part) -> Result<Dir, DirError> {
        let mut dir = root.try_clone()?;
        for (name, _) in self.way(part) {
            dir = dir.dir(name)?;
        }
        Ok(dir)
    }

    /// Opens `part` below `root`, and makes what is not there of it.
    ///
    /// # Errors
    /// If it can be neither opened nor made.
    pub fn create(&self, root: &Dir, part: Part) -> Result<Dir, DirError> {
        let mut dir = root.try_clone()?;
        for (name, mode) in self.way(part) {
            dir = match if_there(dir.dir(name))? {
                Some(there) => there,
                None => dir.create_dir(name, mode)?,
            };
        }
        Ok(dir)
    }

    /// Whether something has the name of the worker's directory in `root`.
    pub(crate) fn is_in(&self, root: &Dir) -> Result<bool, DirError> {
        Ok(root.find(self.directory())?.is_some())
    }
}

/// Whether there is something at `name` other than a file without content, in which a daemon begins anew as
/// if it were not there: it was stopped when it made the database.
pub(crate) fn is_made(dir: &Dir, name: &str) -> Result<bool, DirError> {
    let found = dir.find(name)?;
    Ok(found.is_some_and(|found| found.kind != FileKind::File || found.size > 0))
}
