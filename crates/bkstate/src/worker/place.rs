//! The places of the parts of a state.

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

/// A file of a state with a fixed place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum StateFile {
    /// The lock of the daemon.
    Lock,
    /// The cache of the solver: keys, links and results.
    Solver,
    /// The build history.
    History,
    /// The inputs of hashes that a daemon with `--save-cache-debug` records (BuildKit v0.24 and later).
    SolverDebug,
    /// The id of the worker.
    WorkerId,
    /// The records of the cache.
    Records,
    /// The records in the format of daemons before v0.8; see `docs/format/state.md`.
    FormerRecords,
    /// containerd's metadata of content, snapshots and leases.
    Metadata,
    /// The snapshots in the snapshotter's database.
    Snapshots,
}

impl StateFile {
    /// The databases in the root itself (BuildKit v0.34.2 `cmd/buildkitd/main.go`).
    pub(crate) const OF_ROOT: [Self; 3] = [Self::Solver, Self::History, Self::SolverDebug];
    /// The databases of a worker (`worker/runc/runc.go`, `worker/containerd/containerd.go`; containerd
    /// v2.4.2 `plugins/snapshots/overlay/overlay.go`).
    pub(crate) const OF_WORKER: [Self; 3] = [Self::Records, Self::Metadata, Self::Snapshots];

    /// Returns the file at `path`, if it is one that has the same name for every worker.
    pub(crate) fn common(path: &Path) -> Option<Self> {
        let worker = Worker::default();
        let mut files = Self::OF_ROOT.into_iter().chain([Self::WorkerId]);
        files.find(|file| path.ends_with(worker.name(*file)))
    }
}

/// The place of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The directory.
    pub part: Part,
    /// Its name there.
    pub name: &'static str,
    /// The permissions with which a daemon creates it.
    pub mode: u32,
}

/// The directory of unfinished work, in a root.
pub(crate) const STAGING: &str = ".oci2bk-staging";

/// The content store, in the directory of an OCI worker (`worker/runc/runc.go`).
const CONTENT: &str = "content";
/// The snapshotter, in the directory of an OCI worker.
const SNAPSHOTS: &str = "snapshots";

impl Worker {
    /// Returns the place of `file`.
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

    /// Returns the name of `file` in its directory.
    pub fn name(&self, file: StateFile) -> &'static str {
        self.place(file).name
    }

    /// Returns the names that lead from the root to `part`, with the permissions with which a daemon creates
    /// each.
    pub(crate) fn way(&self, part: Part) -> Vec<(&str, u32)> {
        let below = match part {
            Part::Root => return Vec::new(),
            Part::Worker | Part::Metadata => None,
            Part::Content => Some((CONTENT, 0o755)),
            Part::Snapshotter => Some((SNAPSHOTS, 0o700)),
        };
        [(self.directory(), 0o700)].into_iter().chain(below).collect()
    }

    /// Opens `part` below `root`, if it exists.
    ///
    /// # Errors
    /// Returns an error if it cannot be opened, or is not a directory.
    pub fn open(&self, root: &Dir, part: Part) -> Result<Option<Dir>, DirError> {
        if_there(self.open_existing(root, part))
    }

    /// Opens `part` below `root`, which must exist.
    ///
    /// # Errors
    /// Returns an error if it does not exist, or cannot be opened.
    pub fn open_existing(&self, root: &Dir, part: Part) -> Result<Dir, DirError> {
        let mut dir = root.try_clone()?;
        for (name, _) in self.way(part) {
            dir = dir.dir(name)?;
        }
        Ok(dir)
    }

    /// Opens `part` below `root`, and creates missing directories.
    ///
    /// # Errors
    /// Returns an error if it can be neither opened nor created.
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

    /// Returns whether `root` has an entry with the name of the worker's directory.
    pub(crate) fn is_in(&self, root: &Dir) -> Result<bool, DirError> {
        Ok(root.find(self.directory())?.is_some())
    }
}

/// Returns whether `name` exists and is not an empty file. A daemon that was stopped when it created the
/// database leaves an empty file, and the next one starts over.
pub(crate) fn is_made(dir: &Dir, name: &str) -> Result<bool, DirError> {
    let found = dir.find(name)?;
    Ok(found.is_some_and(|found| found.kind != FileKind::File || found.size > 0))
}
