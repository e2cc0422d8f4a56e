//! The state of a daemon as a whole: the databases and files in a [`Root`], at the places given by its
//! [`Worker`]. For the OCI worker on overlayfs:
//!
//! ```text
//! ROOT/                                  0700
//!   buildkitd.lock                       held while a daemon or we work on the root
//!   cache.db                             0600  solver keys, links and results
//!   runc-overlayfs/                      0700  the worker
//!     workerid                           0400
//!     metadata_v2.db                     0600  cache records
//!     containerdmeta.db                  0644  content, snapshots, leases
//!     content/blobs/sha256/<hex>         0444  layer blobs
//!     snapshots/metadata.db              0600  snapshot directories
//!     snapshots/snapshots/<id>/fs        0755  the layer's files
//!     snapshots/snapshots/<id>/work      0711  for overlayfs
//! ```
//! Source: BuildKit v0.32.2 `worker/runc/runc.go` `NewWorkerOpt`, `cmd/buildkitd/main.go`; modes
//! as a daemon of that release leaves them.
//!
//! # A state of one layer
//! A step is cached if `cache.db` has a result for it, the result is a record, and everything that the record
//! needs exists and has a lease. Such a state is built as data, written to a staging directory, verified
//! there, and moved into place as a whole:
//!
//! ```
//! use std::collections::BTreeMap;
//! use std::io::Write as _;
//!
//! use bkstate::ids::{KeyId, RecordId, ResultId, WorkerId};
//! use bkstate::metadata::{Content, LABEL_GC_FLAT, Lease};
//! use bkstate::records::{POLICY_RETAIN, Record};
//! use bkstate::state::{Existing, Staging, State, Verified, Written};
//! use bkstate::worker::Worker;
//! use bkstate::{Digest, Root, Time};
//!
//! let now = Time::from_unix_seconds(1_795_299_875);
//! let layer = b"a tar archive that is not compressed";
//! let blob = Digest::of(layer);
//! let id = RecordId::derive(&blob.to_string());
//! let mut state = State::empty(Worker::default(), WorkerId::derive("worker"));
//!
//! let step = KeyId::from(Digest::of("COPY . ."));
//! state.solver.add_key(&step);
//! let result = ResultId { worker: state.worker_id.clone(), record: Some(id.clone()) };
//! state.solver.add_result(&step, result, now);
//!
//! let record = Record {
//!     committed: Some(true),
//!     blob: Some(blob),
//!     blob_size: Some(36),
//!     media_type: Some("application/vnd.oci.image.layer.v1.tar".to_owned()),
//!     diff_id: Some(blob),
//!     chain_id: Some(blob),
//!     blob_chain_id: Some(Digest::of(format!("{blob} {blob}"))),
//!     // The daemon unpacks it when a build first needs its files.
//!     blob_only: Some(true),
//!     cache_policy: Some(POLICY_RETAIN),
//!     ..Record::default()
//! };
//! let mut lease = Lease {
//!     labels: BTreeMap::from([(LABEL_GC_FLAT.to_owned(), now.to_string())]),
//!     content: [blob].into(),
//!     ..Lease::default()
//! };
//! state.worker.kept_by_entry(&mut lease).insert(id.to_string());
//! let namespace = state.worker.namespace_entry(&mut state.metadata);
//! namespace.content.insert(blob, Content { size: 36, ..Content::default() });
//! namespace.leases.insert(id.to_string(), lease);
//! state.records.by_id.insert(id, record);
//!
//! let temp = tempfile::tempdir()?;
//! let root = Root::open_to_write(temp.path())?;
//! let existing = root.existing(&state.worker_id)?;
//! let staging = Staging::begin(&root, &existing)?;
//! staging.blobs().create_blob(&blob)?.write_all(layer)?;
//! let written: Written = staging.write(&state)?;
//! let expected = staging.parts(&written)?.verify_databases()?;
//! assert!(expected.damage.is_empty(), "{:?}", expected.damage);
//! staging.publish(written)?;
//!
//! let Verified { state: found, damage, leftovers, used, .. } = root.verify_databases()?;
//! assert_eq!(found, Some(state.clone()));
//! assert!(damage.is_empty() && leftovers.is_empty() && !used);
//!
//! // A later conversion adds to the existing state.
//! let existing = root.existing(&WorkerId::derive("another"))?;
//! assert!(existing.is_all_of(&state));
//! assert_eq!(existing.blob(&blob)?.metadata()?.len(), 36);
//! assert!(existing.store().is_some_and(|store| store.blob(&blob).is_ok()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Its parts
//! A state to be verified need not be below one root, nor be complete:
//!
//! ```
//! use std::fs;
//!
//! use bkstate::Root;
//! use bkstate::ids::WorkerId;
//! use bkstate::state::{
//!     Damage, DatabaseDamage, Existing, History, Parts, Staging, State, VerifyError, WorkerName,
//! };
//! use bkstate::worker::{DatabasePlace, Worker};
//!
//! let temp = tempfile::tempdir()?;
//! let root = Root::open_to_write(temp.path())?;
//! assert!(matches!(root.parts(), Err(VerifyError::NoState { .. })));
//!
//! let state = State::empty(Worker::default(), WorkerId::derive("worker"));
//! let existing = Existing::nothing(state.worker.clone(), state.worker_id.clone());
//! let staging = Staging::begin(&root, &existing)?;
//! let written = staging.write(&state)?;
//! staging.publish(written)?;
//!
//! // Another worker, without results: as if there were no `cache.db`.
//! let worker_id = WorkerName::Given(WorkerId::derive("another"));
//! let mut parts = Parts::of_root(&root)?;
//! parts.solver = None;
//! parts.worker_id = worker_id;
//! let verified = parts.verify_databases()?;
//! assert!(verified.damage.is_empty());
//! assert_eq!(verified.state.map(|state| state.worker_id), Some(WorkerId::derive("another")));
//!
//! // A daemon opens other databases, too; an invalid one stops it.
//! fs::write(temp.path().join("history.db"), "no database")?;
//! let Parts { kept, .. } = root.parts()?;
//! let places: Vec<DatabasePlace> = kept;
//! assert_eq!(places.len(), 2, "the other is that of --save-cache-debug");
//! let damage = root.verify_databases()?.damage;
//! assert!(matches!(&damage[..], [Damage::Database(DatabaseDamage::NotADatabase { .. })]));
//! fs::remove_file(temp.path().join("history.db"))?;
//!
//! // Once a daemon has used the state, its usual leftovers are not damage.
//! assert_eq!(History::of(&root)?, History::default());
//! root.dir().create_file("history.db", 0o600)?;
//! assert!(History::of(&root)?.daemon);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod existing;
mod in_place;
mod mend;
mod publish;
mod read;
mod staging;
#[cfg(test)]
mod tests;
mod verify;

pub use existing::{Existing, ExistingError};
pub use publish::Written;
pub use read::ReadStateError;
pub use staging::{Scratch, Staging, StagingError};
pub use verify::{
    AccessDamage, ContentDamage, Damage, DatabaseDamage, DirectoryDamage, FutureDate, History,
    LeaseDamage, PackedDamage, Parts, RecordDamage, SnapshotDamage, SolverDamage, Verified,
    VerifyError, WorkerName, dated_ahead, is_ahead, verify_databases,
};

use std::collections::BTreeSet;

use crate::ids::WorkerId;
use crate::metadata::Metadata;
use crate::records::Records;
use crate::root::Root;
use crate::snapshots::Snapshots;
use crate::solver::SolverCache;
use crate::worker::Worker;

/// The databases of a root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// The worker of the state.
    pub worker: Worker,
    /// The id of the worker, to which the results in the solver's cache refer.
    pub worker_id: WorkerId,
    /// `cache.db`.
    pub solver: SolverCache,
    /// `metadata_v2.db`.
    pub records: Records,
    /// `containerdmeta.db`.
    pub metadata: Metadata,
    /// `snapshots/metadata.db`.
    pub snapshots: Snapshots,
}

impl State {
    /// Returns the state of a worker that has done nothing yet.
    pub fn empty(worker: Worker, worker_id: WorkerId) -> Self {
        Self {
            worker,
            worker_id,
            solver: SolverCache::default(),
            records: Records::default(),
            metadata: Metadata::default(),
            snapshots: Snapshots::default(),
        }
    }

    /// Returns the names of the snapshots that `containerdmeta.db` knows, in every namespace. The daemon removes all others from
    /// `snapshots/metadata.db` (containerd v2.3.3 `core/metadata/snapshot.go` `garbageCollect`).
    ///
    /// ```
    /// use bkstate::ids::WorkerId;
    /// use bkstate::metadata::{Namespace, SnapshotRow, SnapshotTable};
    /// use bkstate::state::State;
    /// use bkstate::worker::Worker;
    ///
    /// let table = |name: &str| {
    ///     let row = SnapshotRow { name: name.to_owned(), ..SnapshotRow::default() };
    ///     SnapshotTable { sequence: 2, rows: [("base".to_owned(), row)].into() }
    /// };
    /// let snapshots = [("overlayfs", "buildkit/1/base"), ("native", "buildkit/2/base")]
    ///     .map(|(snapshotter, name)| (snapshotter.to_owned(), table(name)));
    /// let namespace = Namespace { snapshots: snapshots.into(), ..Namespace::default() };
    /// let mut state = State::empty(Worker::default(), WorkerId::derive("worker"));
    /// state.metadata.namespaces.insert("buildkit".to_owned(), namespace);
    ///
    /// // Those of one snapshotter only.
    /// assert_eq!(state.named_snapshots(), ["buildkit/1/base"].into());
    /// ```
    pub fn named_snapshots(&self) -> BTreeSet<&str> {
        self.metadata.snapshot_names(&self.worker)
    }

    /// Returns the names of the snapshots that the worker is responsible for: not those of other programs.
    pub(crate) fn own_snapshots(&self) -> BTreeSet<&str> {
        if !self.worker.shares_storage() {
            return self.named_snapshots();
        }
        let namespace = self.worker.namespace_of(&self.metadata);
        let table = namespace.and_then(|namespace| self.worker.table_of(namespace));
        let rows = table.into_iter().flat_map(|table| table.rows.values());
        rows.map(|row| row.name.as_str()).collect()
    }
}

/// Operations on the state in a root.
impl Root {
    /// Reads the databases of the state. To check whether they are sound, [verify](Self::verify_databases) it.
    ///
    /// # Errors
    /// Returns an error if one of them is missing, damaged or of an unknown format.
    pub fn state(&self) -> Result<State, ReadStateError> {
        State::read(self)
    }

    /// Reads and checks the state before something is added. A worker without an id gets `worker_id`.
    ///
    /// # Errors
    /// Same as [`Existing::read`].
    pub fn existing(&self, worker_id: &WorkerId) -> Result<Existing, ExistingError> {
        Existing::read(self, worker_id)
    }

    /// Opens the parts of the state.
    ///
    /// # Errors
    /// Same as [`Parts::of_root`].
    pub fn parts(&self) -> Result<Parts, VerifyError> {
        Parts::of_root(self)
    }

    /// Verifies the state, see [`verify_databases`].
    ///
    /// # Errors
    /// Returns an error if there is no state, or a part of it cannot be examined.
    pub fn verify_databases(&self) -> Result<Verified, VerifyError> {
        verify_databases(self)
    }
}
