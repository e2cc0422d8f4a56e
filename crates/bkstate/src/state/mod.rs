//! A whole state directory of a buildkitd with the OCI worker on overlayfs.
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
//! # Whose it is
//! A daemon holds the lock of its root for as long as it runs, and so does everybody here who reads or writes a
//! state that somebody may be using:
//!
//! ```
//! use bkstate::dir::Dir;
//! use bkstate::state::{Holder, LockError, RootLock};
//!
//! let temp = tempfile::tempdir()?;
//! let root = Dir::open(temp.path())?;
//! let lock = RootLock::acquire(&root)?;
//!
//! let refused = RootLock::acquire_existing(&root).unwrap_err();
//! assert!(refused.is_in_use());
//! let LockError::InUse { holder: Holder { pid, .. }, .. } = refused else { panic!() };
//! assert!(pid.is_none_or(|pid| pid == std::process::id()));
//!
//! drop(lock);
//! RootLock::acquire_existing(&root)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # A state of one layer
//! A step is cached if `cache.db` has a result for it, the result is a record, and what the record needs is
//! there and has a lease. Such a state is put together as data, written beside the place where it belongs,
//! checked there, and moved as a whole:
//!
//! ```
//! use std::collections::BTreeMap;
//! use std::io::Write as _;
//!
//! use bkstate::dir::Dir;
//! use bkstate::ids::{KeyId, RecordId, ResultId, WorkerId};
//! use bkstate::metadata::{Content, LABEL_GC_FLAT, Lease, NAMESPACE, Namespace};
//! use bkstate::records::{POLICY_RETAIN, Record};
//! use bkstate::state::{
//!     Existing, RootLock, SNAPSHOTTER, Staging, State, Verified, Written, verify,
//! };
//! use bkstate::{Digest, Time};
//!
//! let now = Time::from_unix_seconds(1_795_299_875);
//! let layer = b"a tar archive that is not compressed";
//! let blob = Digest::of(layer);
//! let id = RecordId::derive(&blob.to_string());
//! let mut state = State::empty(WorkerId::derive("worker"));
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
//! let lease = Lease {
//!     labels: BTreeMap::from([(LABEL_GC_FLAT.to_owned(), now.to_string())]),
//!     content: [blob].into(),
//!     snapshots: BTreeMap::from([(SNAPSHOTTER.to_owned(), [id.to_string()].into())]),
//!     ..Lease::default()
//! };
//! let namespace = Namespace {
//!     content: BTreeMap::from([(blob, Content { size: 36, ..Content::default() })]),
//!     leases: BTreeMap::from([(id.to_string(), lease)]),
//!     ..Namespace::default()
//! };
//! state.records.by_id.insert(id, record);
//! state.metadata.namespaces.insert(NAMESPACE.to_owned(), namespace);
//!
//! let temp = tempfile::tempdir()?;
//! let root = Dir::open(temp.path())?;
//! let lock = RootLock::acquire(&root)?;
//! let existing = Existing::read(&root, &state.worker_id)?;
//! let staging = Staging::begin(&root, &lock, &existing)?;
//! staging.blobs().create_blob(&blob)?.write_all(layer)?;
//! let written: Written = staging.write(&state)?;
//! let expected = staging.parts(&written)?.verify()?;
//! assert!(expected.damage.is_empty(), "{:?}", expected.damage);
//! staging.publish(written)?;
//!
//! let Verified { state: found, damage, leftovers, used } = verify(&root)?;
//! assert_eq!(found, Some(state.clone()));
//! assert!(damage.is_empty() && leftovers.is_empty() && !used);
//!
//! // What is added later is added to what is there by then.
//! let existing = Existing::read(&root, &WorkerId::derive("another"))?;
//! assert!(existing.is_all_of(&state));
//! assert_eq!(existing.blob(&blob)?.metadata()?.len(), 36);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Its parts
//! What is verified need not lie below one root, nor be there as a whole:
//!
//! ```
//! use std::fs;
//!
//! use bkstate::dir::Dir;
//! use bkstate::ids::WorkerId;
//! use bkstate::state::{
//!     Damage, DatabaseDamage, DatabasePlace, Existing, History, Parts, RootLock, Staging, State,
//!     VerifyError, WorkerName, verify,
//! };
//!
//! let temp = tempfile::tempdir()?;
//! let root = Dir::open(temp.path())?;
//! assert!(matches!(Parts::of_root(&root), Err(VerifyError::NoState { .. })));
//!
//! let lock = RootLock::acquire(&root)?;
//! let state = State::empty(WorkerId::derive("worker"));
//! let existing = Existing::nothing(state.worker_id.clone());
//! let staging = Staging::begin(&root, &lock, &existing)?;
//! let written = staging.write(&state)?;
//! staging.publish(written)?;
//!
//! // Another worker, without results: as if there were no `cache.db`.
//! let worker_id = WorkerName::Given(WorkerId::derive("another"));
//! let parts = Parts { solver: None, worker_id, ..Parts::of_root(&root)? };
//! let verified = parts.verify()?;
//! assert!(verified.damage.is_empty());
//! assert_eq!(verified.state.map(|state| state.worker_id), Some(WorkerId::derive("another")));
//!
//! // A daemon opens other databases, too; a file that is not one stops it.
//! fs::write(temp.path().join("history.db"), "no database")?;
//! let Parts { kept, .. } = Parts::of_root(&root)?;
//! let places: Vec<DatabasePlace> = kept;
//! assert_eq!(places.len(), 2, "the other is that of --save-cache-debug");
//! let damage = verify(&root)?.damage;
//! assert!(matches!(&damage[..], [Damage::Database(DatabaseDamage::NotADatabase { .. })]));
//! fs::remove_file(temp.path().join("history.db"))?;
//!
//! // Once a daemon has run on it, what daemons leave behind is no damage.
//! assert_eq!(History::of(&root)?, History::default());
//! root.create_file("history.db", 0o600)?;
//! assert!(History::of(&root)?.daemon);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod databases;
mod existing;
mod holders;
mod lock;
mod mend;
mod mounts;
mod publish;
mod read;
mod staging;
mod strangers;
#[cfg(test)]
mod tests;
mod verify;

pub use databases::DatabasePlace;
pub use existing::{Existing, ExistingError};
pub use holders::Holder;
pub use lock::{LockError, RootLock};
pub use publish::Written;
pub use read::ReadStateError;
pub(crate) use staging::STAGING;
pub use staging::{Scratch, Staging, StagingError};
pub(crate) use verify::is_worker;
pub use verify::{
    AccessDamage, ContentDamage, Damage, DatabaseDamage, DirectoryDamage, FutureDate, History,
    LeaseDamage, Parts, RecordDamage, SnapshotDamage, SolverDamage, Verified, VerifyError,
    WorkerName, dated_ahead, is_ahead, verify,
};

use std::collections::BTreeSet;

use crate::ids::WorkerId;
use crate::metadata::Metadata;
use crate::records::Records;
use crate::snapshots::Snapshots;
use crate::solver::SolverCache;

/// The snapshotter whose state we write, as it is named in leases and directories.
pub const SNAPSHOTTER: &str = "overlayfs";

pub(crate) const LOCK: &str = "buildkitd.lock";
const CACHE_DB: &str = "cache.db";
/// The databases beside the directories of workers (BuildKit v0.34.2 `cmd/buildkitd/main.go`).
pub(crate) const DATABASES: [&str; 3] = [CACHE_DB, "history.db", "cache-debug.db"];
const WORKER: &str = "runc-overlayfs";
pub(crate) const WORKER_ID: &str = "workerid";
pub(crate) const RECORDS_DB: &str = "metadata_v2.db";
pub(crate) const METADATA_DB: &str = "containerdmeta.db";
/// The first form of [`RECORDS_DB`]; see `docs/format/state.md`.
const OLD_RECORDS_DB: &str = "metadata.db";
pub(crate) const SNAPSHOTS: &str = "snapshots";
const SNAPSHOTS_DB: &str = "metadata.db";

/// The databases of a root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// The worker that the results in the solver's cache refer to.
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
    /// The state of a worker that has not done anything yet.
    pub fn empty(worker_id: WorkerId) -> Self {
        Self {
            worker_id,
            solver: SolverCache::default(),
            records: Records::default(),
            metadata: Metadata::default(),
            snapshots: Snapshots::default(),
        }
    }

    /// The names of the snapshots that `containerdmeta.db` knows. The daemon removes all others from
    /// `snapshots/metadata.db` (containerd v2.3.3 `core/metadata/snapshot.go` `garbageCollect`).
    ///
    /// ```
    /// use bkstate::ids::WorkerId;
    /// use bkstate::metadata::{Namespace, SnapshotRow, SnapshotTable};
    /// use bkstate::state::{SNAPSHOTTER, State};
    ///
    /// let table = |name: &str| {
    ///     let row = SnapshotRow { name: name.to_owned(), ..SnapshotRow::default() };
    ///     SnapshotTable { sequence: 2, rows: [("base".to_owned(), row)].into() }
    /// };
    /// let snapshots = [(SNAPSHOTTER, "buildkit/1/base"), ("native", "buildkit/2/base")]
    ///     .map(|(snapshotter, name)| (snapshotter.to_owned(), table(name)));
    /// let namespace = Namespace { snapshots: snapshots.into(), ..Namespace::default() };
    /// let mut state = State::empty(WorkerId::derive("worker"));
    /// state.metadata.namespaces.insert("buildkit".to_owned(), namespace);
    ///
    /// // Those of one snapshotter, whatever others there were.
    /// assert_eq!(state.named_snapshots(), ["buildkit/1/base"].into());
    /// ```
    pub fn named_snapshots(&self) -> BTreeSet<&str> {
        let namespaces = self.metadata.namespaces.values();
        let tables = namespaces.filter_map(|namespace| namespace.snapshots.get(SNAPSHOTTER));
        tables.flat_map(|table| table.rows.values()).map(|row| row.name.as_str()).collect()
    }
}
