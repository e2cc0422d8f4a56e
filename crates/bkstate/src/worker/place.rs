//! The places of the parts of a state.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Executor, Worker, snapshotter};
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

/// A directory from which parts of a state are reached. Everything below one base is on one file system.
///
/// ```
/// use bkstate::worker::{Base, Part, Worker};
///
/// assert_eq!(Worker::of_containerd(None).base(Part::Snapshotter), Base::Snapshotter);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Base {
    /// The root of the daemon.
    Root,
    /// The directory of containerd's metadata, which other programs use too.
    Metadata,
    /// The directory of containerd's content store.
    Content,
    /// The directory of containerd's snapshotter.
    Snapshotter,
}

/// The open bases of a state. Without those of a containerd, everything is below the root of the daemon.
///
/// ```
/// use bkstate::dir::Dir;
/// use bkstate::worker::{Base, Bases, Part, Worker};
///
/// let temp = tempfile::tempdir()?;
/// let bases = Bases::from(Dir::open(temp.path())?);
/// assert_eq!(bases.root().path(), temp.path());
/// assert!(bases.get(Base::Content).is_none());
/// // The OCI worker has its content store below the root of the daemon.
/// assert_eq!(Worker::default().base(Part::Content), Base::Root);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Bases {
    root: Dir,
    others: BTreeMap<Base, Dir>,
}

impl From<Dir> for Bases {
    /// Returns the bases of a worker with everything below `root`.
    fn from(root: Dir) -> Self {
        Self { root, others: BTreeMap::new() }
    }
}

impl Bases {
    /// Returns the root of the daemon.
    pub fn root(&self) -> &Dir {
        &self.root
    }

    /// Returns `base`, if it exists.
    pub fn get(&self, base: Base) -> Option<&Dir> {
        match base {
            Base::Root => Some(&self.root),
            other => self.others.get(&other),
        }
    }

    /// Returns all that exist.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Dir> {
        std::iter::once(&self.root).chain(self.others.values())
    }

    /// Adds the bases of `worker` that exist in `containerd`, the root of a containerd.
    ///
    /// ```
    /// use bkstate::dir::Dir;
    /// use bkstate::worker::{Base, Bases, Part, Worker};
    ///
    /// let temp = tempfile::tempdir()?;
    /// let (root, containerd) = (temp.path().join("buildkit"), temp.path().join("containerd"));
    /// std::fs::create_dir_all(&root)?;
    /// std::fs::create_dir_all(containerd.join("io.containerd.content.v1.content"))?;
    ///
    /// let worker = Worker::of_containerd(None);
    /// let mut bases = Bases::from(Dir::open(&root)?);
    /// bases.add_containerd(&Dir::open(&containerd)?, &worker)?;
    /// assert!(worker.open(&bases, Part::Content)?.is_some());
    /// assert!(bases.get(Base::Metadata).is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Returns an error if one of them cannot be opened, or is not a directory.
    pub fn add_containerd(&mut self, containerd: &Dir, worker: &Worker) -> Result<(), DirError> {
        for (base, name, _) in worker.bases_of_containerd() {
            if let Some(dir) = if_there(containerd.dir(name.as_str()))? {
                self.add(base, dir);
            }
        }
        Ok(())
    }

    /// Adds a base of a containerd.
    pub(crate) fn add(&mut self, base: Base, dir: Dir) {
        self.others.insert(base, dir);
    }

    /// Returns bases that `make` makes of these, such as directories in them.
    pub(crate) fn map(
        &self,
        mut make: impl FnMut(&Dir) -> Result<Dir, DirError>,
    ) -> Result<Self, DirError> {
        let others = self.others.iter().map(|(base, dir)| Ok((*base, make(dir)?)));
        let others = others.collect::<Result<_, DirError>>()?;
        Ok(Self { root: make(&self.root)?, others })
    }
}

/// A file of a state with a fixed place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum StateFile {
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
    /// The records in the format of daemons before v0.8; see [`docs/format/state.md`].
    ///
    /// [`docs/format/state.md`]: https://github.com/oci2bk/oci2bk/blob/main/docs/format/state.md
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
#[non_exhaustive]
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

/// The directories of containerd's plugins in its root, with the permissions with which it creates them
/// (containerd v2.4.2 `cmd/containerd/server/server.go`, `plugins/content/local/plugin/plugin.go`).
pub(crate) const CONTAINERD_METADATA: (&str, u32) = ("io.containerd.metadata.v1.bolt", 0o711);
const CONTAINERD_CONTENT: (&str, u32) = ("io.containerd.content.v1.content", 0o755);
/// Prefix of the directory of a snapshotter, before its name.
const CONTAINERD_SNAPSHOTTER: &str = "io.containerd.snapshotter.v1.";
/// Prefix of the directories of plugins.
pub(crate) const CONTAINERD_PLUGIN: &str = "io.containerd.";

/// The content store, in the directory of an OCI worker (`worker/runc/runc.go`).
const CONTENT: &str = "content";
/// The snapshotter, in the directory of an OCI worker.
const SNAPSHOTS: &str = "snapshots";
/// The directory in that of the snapshotter, for one that has other files beside it.
const NESTED: &str = "snapshotter";

impl Worker {
    /// Returns the place of `file`.
    pub fn place(&self, file: StateFile) -> Place {
        let (part, name, mode) = match (file, self.executor) {
            (StateFile::Solver, _) => (Part::Root, "cache.db", 0o600),
            // Docker Engine v29 `daemon/internal/builder-next/controller.go` `newSnapshotterController`.
            (StateFile::History, Executor::Engine) => (Part::Root, "history_c8d.db", 0o600),
            (StateFile::History, _) => (Part::Root, "history.db", 0o600),
            (StateFile::SolverDebug, _) => (Part::Root, "cache-debug.db", 0o600),
            (StateFile::WorkerId, _) => (Part::Worker, "workerid", 0o400),
            (StateFile::Records, _) => (Part::Worker, "metadata_v2.db", 0o600),
            (StateFile::FormerRecords, _) => (Part::Worker, "metadata.db", 0o600),
            (StateFile::Metadata, Executor::Oci) => (Part::Metadata, "containerdmeta.db", 0o644),
            // containerd v2.4.2 `plugins/metadata/plugin.go`.
            (StateFile::Metadata, _) => (Part::Metadata, "meta.db", 0o644),
            (StateFile::Snapshots, _) => (Part::Snapshotter, "metadata.db", 0o600),
        };
        Place { part, name, mode }
    }

    /// Returns the name of `file` in its directory.
    pub fn name(&self, file: StateFile) -> &'static str {
        self.place(file).name
    }

    /// Returns the base from which `part` is reached.
    pub fn base(&self, part: Part) -> Base {
        match (self.executor, part) {
            (Executor::Oci, _) | (_, Part::Root | Part::Worker) => Base::Root,
            (_, Part::Metadata) => Base::Metadata,
            (_, Part::Content) => Base::Content,
            (_, Part::Snapshotter) => Base::Snapshotter,
        }
    }

    /// Returns the bases of the worker apart from the root of its daemon: their names in the root of a
    /// containerd, with the permissions with which it creates each.
    pub(crate) fn bases_of_containerd(&self) -> Vec<(Base, String, u32)> {
        if self.executor == Executor::Oci {
            return Vec::new();
        }
        let named = |base, (name, mode): (&str, u32)| (base, name.to_owned(), mode);
        let snapshotter = format!("{CONTAINERD_SNAPSHOTTER}{}", self.snapshotter);
        vec![
            named(Base::Metadata, CONTAINERD_METADATA),
            named(Base::Content, CONTAINERD_CONTENT),
            named(Base::Snapshotter, (&snapshotter, 0o700)),
        ]
    }

    /// Returns the names that lead from its base to `part`, with the permissions with which a daemon creates
    /// each.
    pub(crate) fn way(&self, part: Part) -> Vec<(&str, u32)> {
        let worker = (self.directory(), 0o700);
        match (self.executor, part) {
            (_, Part::Root) => Vec::new(),
            (_, Part::Worker) | (Executor::Oci, Part::Metadata) => vec![worker],
            (Executor::Oci, Part::Content) => vec![worker, (CONTENT, 0o755)],
            (Executor::Oci, Part::Snapshotter) if snapshotter::is_nested(self.snapshotter()) => {
                vec![worker, (SNAPSHOTS, 0o700), (NESTED, 0o700)]
            }
            (Executor::Oci, Part::Snapshotter) => vec![worker, (SNAPSHOTS, 0o700)],
            (_, Part::Metadata | Part::Content | Part::Snapshotter) => Vec::new(),
        }
    }

    /// Opens `part`, if it exists.
    ///
    /// # Errors
    /// Returns an error if it cannot be opened, or is not a directory.
    pub fn open(&self, bases: &Bases, part: Part) -> Result<Option<Dir>, DirError> {
        let Some(base) = bases.get(self.base(part)) else { return Ok(None) };
        if_there(self.down(base, part))
    }

    /// Opens `part`, which must exist.
    ///
    /// # Errors
    /// Returns an error if it does not exist, or cannot be opened.
    pub fn open_existing(&self, bases: &Bases, part: Part) -> Result<Dir, DirError> {
        self.down(self.required_base(bases, part)?, part)
    }

    /// Opens `part`, and creates missing directories below its base.
    ///
    /// # Errors
    /// Returns an error if it can be neither opened nor created.
    pub fn create(&self, bases: &Bases, part: Part) -> Result<Dir, DirError> {
        let mut dir = self.required_base(bases, part)?.try_clone()?;
        for (name, mode) in self.way(part) {
            dir = match if_there(dir.dir(name))? {
                Some(there) => there,
                None => dir.create_dir(name, mode)?,
            };
        }
        Ok(dir)
    }

    fn down(&self, base: &Dir, part: Part) -> Result<Dir, DirError> {
        let mut dir = base.try_clone()?;
        for (name, _) in self.way(part) {
            dir = dir.dir(name)?;
        }
        Ok(dir)
    }

    fn required_base<'b>(&self, bases: &'b Bases, part: Part) -> Result<&'b Dir, DirError> {
        let base = self.base(part);
        bases.get(base).ok_or_else(|| {
            let named = self.bases_of_containerd().into_iter().find(|(named, ..)| *named == base);
            DirError {
                action: "open the directory",
                path: named.map(|(_, name, _)| name).unwrap_or_default().into(),
                source: std::io::ErrorKind::NotFound.into(),
            }
        })
    }

    /// Returns whether the daemon has an entry with the name of the worker's directory.
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
