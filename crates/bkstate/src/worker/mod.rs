//! Workers: the paths and names of the parts of a daemon's state.
//!
//! A daemon has one state for each of its workers. The component that runs the steps (the *executor*) and the
//! one that keeps the files of layers (the *snapshotter*) determine the paths and the content of its files.
//! Only a [`Worker`] knows them: all other code asks it for a [`Part`], a [`StateFile`] or a name.
//!
//! ```
//! use bkstate::dir::Dir;
//! use bkstate::metadata::{Metadata, Namespace, SnapshotTable};
//! use bkstate::worker::{Bases, Executor, Part, StateFile, Worker};
//!
//! let worker = Worker::default();
//! assert_eq!((worker.executor(), worker.snapshotter()), (Executor::Oci, "overlayfs"));
//! assert_eq!(worker.directory(), "runc-overlayfs");
//!
//! // Its files are opened from the directory of the root, without following links.
//! let temp = tempfile::tempdir()?;
//! let bases = Bases::from(Dir::open(temp.path())?);
//! assert!(worker.open(&bases, Part::Snapshotter)?.is_none());
//! let snapshotter = worker.create(&bases, Part::Snapshotter)?;
//! assert_eq!(snapshotter.path(), temp.path().join("runc-overlayfs/snapshots"));
//! let place = worker.place(StateFile::Records);
//! assert_eq!((place.part, place.name, place.mode), (Part::Worker, "metadata_v2.db", 0o600));
//!
//! // In containerd's metadata it has a namespace, and in that a table of its snapshots.
//! let mut metadata = Metadata::default();
//! let namespace: &mut Namespace = worker.namespace_entry(&mut metadata);
//! let table: &mut SnapshotTable = worker.table_entry(namespace);
//! table.sequence = 7;
//! assert_eq!(metadata.namespaces["buildkit"].snapshots["overlayfs"].sequence, 7);
//! assert_eq!(worker.snapshot_name(8, "base"), "buildkit/8/base");
//!
//! // The same, without creating missing ones.
//! let found = worker.namespace_of(&metadata).and_then(|namespace| worker.table_of(namespace));
//! assert_eq!(found.map(|table| table.sequence), Some(7));
//! let namespace = worker.namespace_of_mut(&mut metadata).ok_or("no namespace")?;
//! worker.table_of_mut(namespace).ok_or("no snapshots")?.rows.clear();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! It also determines the form and the ownership of the files of layers, and how a database is replaced.
//!
//! ```
//! use bkstate::dir::Dir;
//! use bkstate::worker::{
//!     Bases, Commit, OverlayMarks, Owners, Part, Place, StateFile, TreeForm, Worker,
//! };
//!
//! /// Whether trees can be made without a mount, and databases can be renamed into place.
//! fn is_written_as_files(worker: &Worker) -> bool {
//!     worker.form() == TreeForm::Overlay(OverlayMarks::Trusted)
//!         && *worker.owners() == Owners::AsInLayers
//!         && worker.commit(StateFile::Metadata) == Commit::Rename
//! }
//!
//! let worker = Worker::default();
//! assert!(is_written_as_files(&worker));
//! let Place { part, name, .. } = worker.place(StateFile::WorkerId);
//! let temp = tempfile::tempdir()?;
//! let absent = worker.open_existing(&Dir::open(temp.path())?.into(), part).unwrap_err();
//! assert!(absent.is_not_found() && part == Part::Worker && name == worker.name(StateFile::WorkerId));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub(crate) mod databases;
mod form;
mod owners;
mod place;
mod snapshotter;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;

pub use databases::DatabasePlace;
pub use form::{OverlayMarks, TreeForm};
pub use owners::{IdMap, IdRange, NoSuchOwner, OwnerMap, Owners, ParseMapError};
pub use place::{Base, Bases, Part, Place, StateFile};
pub(crate) use place::{CONTAINERD_METADATA, CONTAINERD_PLUGIN, STAGING, is_made};
pub use snapshotter::{Snapshotter, UnknownSnapshotter};

use crate::dir::{Dir, DirError};
use crate::gc::GcDefaults;
use crate::metadata::{Lease, Metadata, Namespace, SnapshotTable};

/// The component that runs the steps of a build; its databases have the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Executor {
    /// buildkitd itself, with runc or another OCI runtime. The whole state is in the daemon's root.
    Oci,
    /// containerd. Layers and their metadata are in containerd's root.
    Containerd,
    /// runc, run by Docker Engine. Layers and their metadata are in the root of the engine's containerd, if the
    /// engine uses the containerd image store.
    Engine,
}

impl Executor {
    /// Those of buildkitd.
    const OF_BUILDKITD: [Self; 2] = [Self::Oci, Self::Containerd];

    /// Prefix of the name of a worker's directory (BuildKit v0.34.2 `worker/runc/runc.go` and
    /// `worker/containerd/containerd.go` `NewWorkerOpt`; Docker Engine v29
    /// `daemon/internal/builder-next/controller.go`).
    fn prefix(self) -> &'static str {
        match self {
            Self::Oci => "runc-",
            Self::Containerd | Self::Engine => "containerd-",
        }
    }
}

/// How a changed database replaces the old one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Commit {
    /// A new file is renamed to it. The old file's own lock is not needed, since the lock of the daemon is held.
    Rename,
    /// The new content is appended to it, as by a transaction of bbolt. A program that waits for the lock of
    /// the file would otherwise continue with the old file.
    InPlace,
}

/// The default namespace of daemons (BuildKit v0.34.2 `worker/runc/runc.go`, `defaults`).
const NAMESPACE: &str = "buildkit";
/// The default namespace of Docker Engine (v29 `daemon/config/config.go` `DefaultContainersNamespace`).
const ENGINE_NAMESPACE: &str = "moby";
/// The default snapshotter, and that of every worker on a containerd for which a state can be written.
const SNAPSHOTTER: &str = "overlayfs";
/// The lock of buildkitd (BuildKit v0.34.2 `cmd/buildkitd/main.go`).
const LOCK: &str = "buildkitd.lock";

/// A worker of a daemon.
///
/// Those on a containerd have the overlayfs snapshotter. The [`Default`] is the OCI worker of a daemon that runs as
/// root, on overlayfs (BuildKit
/// v0.34.2 `worker/runc/runc.go` `NewWorkerOpt`).
///
/// The builders on a containerd keep their layers in its directories, which other programs use, too:
///
/// ```
/// use bkstate::worker::{Base, Part, Worker};
///
/// let (oci, engine) = (Worker::default(), Worker::of_engine(None));
/// assert_eq!(oci.base(Part::Content), Base::Root);
/// assert_eq!(engine.base(Part::Content), Base::Content);
/// assert!(engine.shares_storage() && !oci.shares_storage());
/// assert_eq!((oci.lock(), engine.lock()), (Some("buildkitd.lock"), None));
/// ```
///
/// A lease lists the snapshots that it keeps per snapshotter:
///
/// ```
/// use bkstate::metadata::Lease;
/// use bkstate::worker::Worker;
///
/// let (worker, mut lease) = (Worker::default(), Lease::default());
/// assert!(worker.kept_by(&lease).is_none());
/// assert!(worker.kept_by_mut(&mut lease).is_none());
/// worker.kept_by_entry(&mut lease).insert("base".to_owned());
/// assert!(worker.kept_by(&lease).is_some_and(|keys| keys.contains("base")));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worker {
    executor: Executor,
    snapshotter: String,
    namespace: String,
    directory: String,
    form: TreeForm,
    owners: Owners,
    gc_defaults: GcDefaults,
}

impl fmt::Display for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let executor = match self.executor {
            Executor::Oci => "the OCI worker",
            Executor::Containerd => "the containerd worker",
            Executor::Engine => "the worker of Docker Engine",
        };
        write!(f, "{executor} on {}", self.snapshotter)
    }
}

impl Default for Worker {
    fn default() -> Self {
        Self::new(Executor::Oci, SNAPSHOTTER, NAMESPACE)
    }
}

impl Worker {
    /// Returns the worker of a buildkitd that uses a containerd (BuildKit v0.34.2
    /// `worker/containerd/containerd.go` `NewWorkerOpt`). Its default namespace is `buildkit`.
    ///
    /// ```
    /// use bkstate::worker::{Commit, Executor, StateFile, Worker};
    ///
    /// let worker = Worker::of_containerd(None);
    /// assert_eq!((worker.executor(), worker.namespace()), (Executor::Containerd, "buildkit"));
    /// assert_eq!(worker.directory(), "containerd-overlayfs");
    /// // The databases of containerd have other users too.
    /// assert_eq!(worker.commit(StateFile::Metadata), Commit::InPlace);
    /// assert_eq!(worker.commit(StateFile::Solver), Commit::Rename);
    /// ```
    pub fn of_containerd(namespace: Option<&str>) -> Self {
        Self::new(Executor::Containerd, SNAPSHOTTER, namespace.unwrap_or(NAMESPACE))
    }

    /// Returns the worker of the builder in a Docker Engine with the containerd image store (Docker Engine v29
    /// `daemon/internal/builder-next/controller.go`). Its default namespace is `moby`.
    ///
    /// ```
    /// use bkstate::worker::{Executor, StateFile, Worker};
    ///
    /// let worker = Worker::of_engine(None);
    /// assert_eq!((worker.executor(), worker.namespace()), (Executor::Engine, "moby"));
    /// assert_eq!(worker.name(StateFile::History), "history_c8d.db");
    /// assert_eq!(worker.lock(), None);
    /// ```
    pub fn of_engine(namespace: Option<&str>) -> Self {
        Self::new(Executor::Engine, SNAPSHOTTER, namespace.unwrap_or(ENGINE_NAMESPACE))
    }

    /// Returns the worker whose directory in a root has this name, if there is such a worker. The name
    /// consists of executor and snapshotter.
    ///
    /// ```
    /// use bkstate::worker::{Executor, Worker};
    ///
    /// let of_containerd = Worker::of_directory("containerd-native").ok_or("not a worker")?;
    /// assert_eq!(of_containerd.executor(), Executor::Containerd);
    /// assert_eq!(of_containerd.snapshotter(), "native");
    /// assert_eq!(Worker::of_directory("runc-overlayfs"), Some(Worker::default()));
    /// assert_eq!(Worker::of_directory("net"), None);
    /// # Ok::<(), &str>(())
    /// ```
    pub fn of_directory(name: &str) -> Option<Self> {
        Executor::OF_BUILDKITD.into_iter().find_map(|executor| {
            let snapshotter = name.strip_prefix(executor.prefix())?;
            Some(Self::new(executor, snapshotter, NAMESPACE))
        })
    }

    /// Returns the workers that have a directory in `root`.
    ///
    /// ```
    /// use bkstate::dir::Dir;
    /// use bkstate::worker::Worker;
    ///
    /// let temp = tempfile::tempdir()?;
    /// std::fs::create_dir(temp.path().join("runc-overlayfs"))?;
    /// assert_eq!(Worker::in_root(&Dir::open(temp.path())?)?, [Worker::default()]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Returns an error if it cannot be listed.
    pub fn in_root(root: &Dir) -> Result<Vec<Self>, DirError> {
        let entries = root.entries()?;
        let names = entries.iter().filter(|entry| entry.is_dir).filter_map(|entry| entry.to_str());
        Ok(names.filter_map(Self::of_directory).collect())
    }

    /// Returns the worker of `executor` that keeps layers with `snapshotter`, and in containerd's metadata in
    /// `namespace`.
    fn new(executor: Executor, snapshotter: &str, namespace: &str) -> Self {
        Self {
            executor,
            snapshotter: snapshotter.to_owned(),
            namespace: namespace.to_owned(),
            directory: format!("{}{snapshotter}", executor.prefix()),
            form: snapshotter::form(snapshotter),
            owners: Owners::AsInLayers,
            gc_defaults: match executor {
                Executor::Oci | Executor::Containerd => GcDefaults::BUILDKITD,
                Executor::Engine => GcDefaults::ENGINE,
            },
        }
    }

    /// Returns the component that runs its steps.
    pub fn executor(&self) -> Executor {
        self.executor
    }

    /// Returns the name of its snapshotter, as used in leases and metadata.
    pub fn snapshotter(&self) -> &str {
        &self.snapshotter
    }

    /// Returns the namespace of its content, snapshots and leases (BuildKit v0.34.2 `worker/runc/runc.go`).
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Returns the name of its directory in the root.
    pub fn directory(&self) -> &str {
        &self.directory
    }

    /// Returns the form of the files in its snapshots.
    pub fn form(&self) -> TreeForm {
        self.form
    }

    /// Returns the ownership of the files in its snapshots.
    pub fn owners(&self) -> &Owners {
        &self.owners
    }

    /// Returns how the database `file` is replaced. What other programs use, or a daemon without a lock on its
    /// root, is changed in place.
    pub fn commit(&self, file: StateFile) -> Commit {
        match (self.executor, file) {
            (Executor::Oci, _) => Commit::Rename,
            (Executor::Containerd, StateFile::Metadata | StateFile::Snapshots)
            | (Executor::Engine, _) => Commit::InPlace,
            (Executor::Containerd, _) => Commit::Rename,
        }
    }

    /// Returns the name of the lock file that the daemon has in its root, if it has one.
    pub fn lock(&self) -> Option<&'static str> {
        match self.executor {
            Executor::Oci | Executor::Containerd => Some(LOCK),
            Executor::Engine => None,
        }
    }

    /// Returns the permissions with which the daemon creates its root (BuildKit v0.34.2
    /// `cmd/buildkitd/main.go`; Docker Engine v29 `daemon/daemon_unix.go` `setupDaemonRoot`).
    pub(crate) fn root_mode(&self) -> u32 {
        match self.executor {
            Executor::Oci | Executor::Containerd => 0o700,
            Executor::Engine => 0o710,
        }
    }

    /// Returns whether other programs use its content store, its snapshotter and its namespace, so that
    /// things in them may belong to none of its records.
    pub fn shares_storage(&self) -> bool {
        match self.executor {
            Executor::Oci => false,
            Executor::Containerd | Executor::Engine => true,
        }
    }

    /// Returns whether its snapshots can be in a mounted image ([`crate::packed`]): it runs as root, has its layers
    /// in its own root, and overlayfs shows them.
    ///
    /// ```
    /// use bkstate::worker::Worker;
    ///
    /// assert!(Worker::default().can_be_packed());
    /// assert!(!Worker::of_containerd(None).can_be_packed());
    /// ```
    pub fn can_be_packed(&self) -> bool {
        self.executor == Executor::Oci
            && self.snapshotter == SNAPSHOTTER
            && self.form == TreeForm::Overlay(OverlayMarks::Trusted)
            && self.owners == Owners::AsInLayers
    }

    /// Returns whether its daemon takes the images of `FROM` from the image store of its namespace too. The OCI
    /// worker has none (BuildKit v0.34.2 `worker/runc/runc.go` `NewWorkerOpt`).
    ///
    /// ```
    /// use bkstate::worker::Worker;
    ///
    /// assert!(Worker::of_engine(None).has_images() && !Worker::default().has_images());
    /// ```
    pub fn has_images(&self) -> bool {
        match self.executor {
            Executor::Oci => false,
            Executor::Containerd | Executor::Engine => true,
        }
    }

    /// Returns the default garbage collection of its daemon.
    ///
    /// ```
    /// use bkstate::gc::GcDefaults;
    /// use bkstate::worker::Worker;
    ///
    /// assert_eq!(Worker::default().gc_defaults(), GcDefaults::BUILDKITD);
    /// ```
    pub fn gc_defaults(&self) -> GcDefaults {
        self.gc_defaults
    }

    /// Returns the namespace of its build history (BuildKit v0.34.2 `cmd/buildkitd/main.go` `newController`).
    ///
    /// ```
    /// assert_eq!(bkstate::worker::Worker::default().history_namespace(), "buildkit_history");
    /// ```
    pub fn history_namespace(&self) -> String {
        format!("{}_history", self.namespace)
    }

    /// Returns the snapshotter's name for the snapshot with the number `number` and the key `key` in the
    /// namespace (containerd v2.3.3 `core/metadata/snapshot.go` `createKey`).
    pub fn snapshot_name(&self, number: u64, key: &str) -> String {
        format!("{}/{number}/{key}", self.namespace)
    }

    /// Returns whether the content of the namespace `name` is that of the worker or of its build history.
    pub(crate) fn has_namespace(&self, name: &str) -> bool {
        name == self.namespace || name == self.history_namespace()
    }

    /// Returns the namespace of the worker, if it exists.
    pub fn namespace_of<'m>(&self, metadata: &'m Metadata) -> Option<&'m Namespace> {
        metadata.namespaces.get(&self.namespace)
    }

    /// Mutable version of [`namespace_of`](Self::namespace_of).
    pub fn namespace_of_mut<'m>(&self, metadata: &'m mut Metadata) -> Option<&'m mut Namespace> {
        metadata.namespaces.get_mut(&self.namespace)
    }

    /// Returns the namespace of the worker, and creates it if it is missing.
    pub fn namespace_entry<'m>(&self, metadata: &'m mut Metadata) -> &'m mut Namespace {
        metadata.namespaces.entry(self.namespace.clone()).or_default()
    }

    /// Returns the snapshots of the worker in `namespace`, if any.
    pub fn table_of<'n>(&self, namespace: &'n Namespace) -> Option<&'n SnapshotTable> {
        namespace.snapshots.get(&self.snapshotter)
    }

    /// Mutable version of [`table_of`](Self::table_of).
    pub fn table_of_mut<'n>(&self, namespace: &'n mut Namespace) -> Option<&'n mut SnapshotTable> {
        namespace.snapshots.get_mut(&self.snapshotter)
    }

    /// Returns the snapshots of the worker in `namespace`, and creates the table if it is missing.
    pub fn table_entry<'n>(&self, namespace: &'n mut Namespace) -> &'n mut SnapshotTable {
        namespace.snapshots.entry(self.snapshotter.clone()).or_default()
    }

    /// Returns the keys of the worker's snapshots that `lease` keeps, if any.
    pub fn kept_by<'l>(&self, lease: &'l Lease) -> Option<&'l BTreeSet<String>> {
        lease.snapshots.get(&self.snapshotter)
    }

    /// Mutable version of [`kept_by`](Self::kept_by).
    pub fn kept_by_mut<'l>(&self, lease: &'l mut Lease) -> Option<&'l mut BTreeSet<String>> {
        lease.snapshots.get_mut(&self.snapshotter)
    }

    /// Returns the keys of the worker's snapshots that `lease` keeps, and creates the set if it is missing.
    pub fn kept_by_entry<'l>(&self, lease: &'l mut Lease) -> &'l mut BTreeSet<String> {
        lease.snapshots.entry(self.snapshotter.clone()).or_default()
    }
}
