//! Workers: where the parts of a daemon's state lie, and what they are called.
//!
//! A daemon has one state for each of its workers. What runs the steps (the *executor*) and what keeps the
//! files of layers (the *snapshotter*) decide where its files are and what stands in them. A [`Worker`] is
//! the only place that knows: everybody else asks it for a [`Part`], a [`StateFile`] or a name.
//!
//! ```
//! use bkstate::dir::Dir;
//! use bkstate::metadata::{Metadata, Namespace, SnapshotTable};
//! use bkstate::worker::{Executor, Part, StateFile, Worker};
//!
//! let worker = Worker::default();
//! assert_eq!((worker.executor(), worker.snapshotter()), (Executor::Oci, "overlayfs"));
//! assert_eq!(worker.directory(), "runc-overlayfs");
//!
//! // Its files are reached from the directory of the root, without following a link.
//! let temp = tempfile::tempdir()?;
//! let root = Dir::open(temp.path())?;
//! assert!(worker.open(&root, Part::Snapshotter)?.is_none());
//! let snapshotter = worker.create(&root, Part::Snapshotter)?;
//! assert_eq!(snapshotter.path(), temp.path().join("runc-overlayfs/snapshots"));
//! let place = worker.place(StateFile::Records);
//! assert_eq!((place.part, place.name, place.mode), (Part::Worker, "metadata_v2.db", 0o600));
//!
//! // In the metadata of containerd it has a namespace, and in that a table of its snapshots.
//! let mut metadata = Metadata::default();
//! let namespace: &mut Namespace = worker.namespace_entry(&mut metadata);
//! let table: &mut SnapshotTable = worker.table_entry(namespace);
//! table.sequence = 7;
//! assert_eq!(metadata.namespaces["buildkit"].snapshots["overlayfs"].sequence, 7);
//! assert_eq!(worker.snapshot_name(8, "base"), "buildkit/8/base");
//!
//! // The same where neither is made if it is not there.
//! let found = worker.namespace_of(&metadata).and_then(|namespace| worker.table_of(namespace));
//! assert_eq!(found.map(|table| table.sequence), Some(7));
//! let namespace = worker.namespace_of_mut(&mut metadata).ok_or("no namespace")?;
//! worker.table_of_mut(namespace).ok_or("no snapshots")?.rows.clear();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What else depends on it: in which form the files of layers are, whose they are, and how a database is
//! replaced.
//!
//! ```
//! use bkstate::dir::Dir;
//! use bkstate::worker::{Commit, OverlayMarks, Owners, Part, Place, StateFile, TreeForm, Worker};
//!
//! /// Whether a tree can be made without a mount, and its databases be renamed into place.
//! fn is_written_as_files(worker: &Worker) -> bool {
//!     worker.form() == TreeForm::Overlay(OverlayMarks::Trusted)
//!         && worker.owners() == Owners::AsInLayers
//!         && worker.commit() == Commit::Rename
//! }
//!
//! let worker = Worker::default();
//! assert!(is_written_as_files(&worker));
//! let Place { part, name, .. } = worker.place(StateFile::WorkerId);
//! let temp = tempfile::tempdir()?;
//! let absent = worker.open_existing(&Dir::open(temp.path())?, part).unwrap_err();
//! assert!(absent.is_not_found() && part == Part::Worker && name == worker.name(StateFile::WorkerId));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub(crate) mod databases;
mod place;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

pub use databases::DatabasePlace;
pub use place::{Part, Place, StateFile};
pub(crate) use place::{STAGING, is_made};

use crate::dir::{Dir, DirError};
use crate::gc::GcDefaults;
use crate::metadata::{Lease, Metadata, Namespace, SnapshotTable};

/// What runs the steps of a build, and with it whose databases hold the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Executor {
    /// buildkitd itself, by runc or another OCI runtime. All of the state is in the root of the daemon.
    Oci,
    /// containerd. Layers and their metadata are in the root of containerd.
    Containerd,
}

impl Executor {
    const ALL: [Self; 2] = [Self::Oci, Self::Containerd];

    /// What the directory of a worker begins with (BuildKit v0.34.2 `worker/runc/runc.go` and
    /// `worker/containerd/containerd.go` `NewWorkerOpt`).
    fn prefix(self) -> &'static str {
        match self {
            Self::Oci => "runc-",
            Self::Containerd => "containerd-",
        }
    }
}

/// What the directory of a snapshot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TreeForm {
    /// The difference to the snapshot below it, as overlayfs has it: whiteouts are devices 0:0, and opaque
    /// directories have an extended attribute.
    Overlay(OverlayMarks),
}

/// Which extended attributes mark what overlayfs has to know of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OverlayMarks {
    /// `trusted.overlay.*`, as of a daemon that runs as root.
    Trusted,
}

/// Whose files are whose in the trees of snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Owners {
    /// Those that the layers name.
    AsInLayers,
}

/// How a database that changes takes the place of what was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Commit {
    /// A new file is renamed to it. Nobody waits for a lock of the old one, since there is
    /// [`StateFile::Lock`].
    Rename,
}

/// The namespace that daemons take unless they are told another (BuildKit v0.34.2 `worker/runc/runc.go`,
/// `defaults`).
const NAMESPACE: &str = "buildkit";

/// A worker of a daemon.
///
/// There is one kind of it: the [`Default`], which is the OCI worker with the overlayfs snapshotter of a
/// daemon that runs as root (BuildKit v0.34.2 `worker/runc/runc.go` `NewWorkerOpt`).
///
/// A lease says for each snapshotter which snapshots it keeps:
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
    commit: Commit,
    gc_defaults: GcDefaults,
}

impl Default for Worker {
    fn default() -> Self {
        Self::new(Executor::Oci, "overlayfs", NAMESPACE)
    }
}

impl Worker {
    /// The worker whose directory in a root has this name, if one has: it is called after its executor and its
    /// snapshotter.
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
        Executor::ALL.into_iter().find_map(|executor| {
            let snapshotter = name.strip_prefix(executor.prefix())?;
            Some(Self::new(executor, snapshotter, NAMESPACE))
        })
    }

    /// The workers that have a directory in `root`.
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
    /// If it cannot be listed.
    pub fn in_root(root: &Dir) -> Result<Vec<Self>, DirError> {
        let entries = root.entries()?;
        let names = entries.iter().filter(|entry| entry.is_dir).filter_map(|entry| entry.to_str());
        Ok(names.filter_map(Self::of_directory).collect())
    }

    /// The worker of `executor` that keeps layers with `snapshotter`, and in containerd's metadata in
    /// `namespace`.
    fn new(executor: Executor, snapshotter: &str, namespace: &str) -> Self {
        Self {
            executor,
            snapshotter: snapshotter.to_owned(),
            namespace: namespace.to_owned(),
            directory: format!("{}{snapshotter}", executor.prefix()),
            form: TreeForm::Overlay(OverlayMarks::Trusted),
            owners: Owners::AsInLayers,
            commit: Commit::Rename,
            gc_defaults: GcDefaults::BUILDKITD,
        }
    }

    /// What runs its steps.
    pub fn executor(&self) -> Executor {
        self.executor
    }

    /// The name of its snapshotter, as leases and the metadata have it.
    pub fn snapshotter(&self) -> &str {
        &self.snapshotter
    }

    /// The namespace of its content, snapshots and leases (BuildKit v0.34.2 `worker/runc/runc.go`).
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The name of its directory in the root.
    pub fn directory(&self) -> &str {
        &self.directory
    }

    /// What the directories of its snapshots hold.
    pub fn form(&self) -> TreeForm {
        self.form
    }

    /// Whose files are whose in them.
    pub fn owners(&self) -> Owners {
        self.owners
    }

    /// How its databases are replaced.
    pub fn commit(&self) -> Commit {
        self.commit
    }

    /// The garbage collection of its daemon where nothing is configured.
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

    /// The namespace of its build history (BuildKit v0.34.2 `cmd/buildkitd/main.go` `newController`).
    ///
    /// ```
    /// assert_eq!(bkstate::worker::Worker::default().history_namespace(), "buildkit_history");
    /// ```
    pub fn history_namespace(&self) -> String {
        format!("{}_history", self.namespace)
    }

    /// What the snapshot that is the `number`th of the namespace and has the key `key` there is called by the
    /// snapshotter (containerd v2.3.3 `core/metadata/snapshot.go` `createKey`).
    pub fn snapshot_name(&self, number: u64, key: &str) -> String {
        format!("{}/{number}/{key}", self.namespace)
    }

    /// The namespace of the worker, if there is one.
    pub fn namespace_of<'m>(&self, metadata: &'m Metadata) -> Option<&'m Namespace> {
        metadata.namespaces.get(&self.namespace)
    }

    /// The same, to be changed.
    pub fn namespace_of_mut<'m>(&self, metadata: &'m mut Metadata) -> Option<&'m mut Namespace> {
        metadata.namespaces.get_mut(&self.namespace)
    }

    /// The namespace of the worker, which is made if it is not there.
    pub fn namespace_entry<'m>(&self, metadata: &'m mut Metadata) -> &'m mut Namespace {
        metadata.namespaces.entry(self.namespace.clone()).or_default()
    }

    /// The snapshots of the worker in `namespace`, if there are any.
    pub fn table_of<'n>(&self, namespace: &'n Namespace) -> Option<&'n SnapshotTable> {
        namespace.snapshots.get(&self.snapshotter)
    }

    /// The same, to be changed.
    pub fn table_of_mut<'n>(&self, namespace: &'n mut Namespace) -> Option<&'n mut SnapshotTable> {
        namespace.snapshots.get_mut(&self.snapshotter)
    }

    /// The snapshots of the worker in `namespace`, whose table is made if it is not there.
    pub fn table_entry<'n>(&self, namespace: &'n mut Namespace) -> &'n mut SnapshotTable {
        namespace.snapshots.entry(self.snapshotter.clone()).or_default()
    }

    /// The keys of the worker's snapshots that `lease` keeps, if it keeps any.
    pub fn kept_by<'l>(&self, lease: &'l Lease) -> Option<&'l BTreeSet<String>> {
        lease.snapshots.get(&self.snapshotter)
    }

    /// The same, to be changed.
    pub fn kept_by_mut<'l>(&self, lease: &'l mut Lease) -> Option<&'l mut BTreeSet<String>> {
        lease.snapshots.get_mut(&self.snapshotter)
    }

    /// The keys of the worker's snapshots that `lease` keeps, of which it may have none yet.
    pub fn kept_by_entry<'l>(&self, lease: &'l mut Lease) -> &'l mut BTreeSet<String> {
        lease.snapshots.entry(self.snapshotter.clone()).or_default()
    }
}
