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

mod existing;
mod holders;
mod lock;
mod mounts;
mod publish;
mod read;
mod staging;
#[cfg(test)]
mod tests;
mod verify;

pub use existing::{Existing, ExistingError};
pub use holders::Holder;
pub use lock::{LockError, RootLock};
pub use publish::Written;
pub use read::ReadStateError;
pub use staging::{Staging, StagingError};
pub use verify::{
    ContentDamage, Damage, DatabaseDamage, DirectoryDamage, History, LeaseDamage, Parts,
    RecordDamage, SnapshotDamage, SolverDamage, Verified, VerifyError, WorkerName, verify,
};

use std::collections::BTreeSet;

use crate::ids::WorkerId;
use crate::metadata::Metadata;
use crate::records::Records;
use crate::snapshots::Snapshots;
use crate::solver::SolverCache;

/// The snapshotter whose state we write, as it is named in leases and directories.
pub const SNAPSHOTTER: &str = "overlayfs";

const LOCK: &str = "buildkitd.lock";
const CACHE_DB: &str = "cache.db";
const WORKER: &str = "runc-overlayfs";
const WORKER_ID: &str = "workerid";
const RECORDS_DB: &str = "metadata_v2.db";
const METADATA_DB: &str = "containerdmeta.db";
/// The first form of [`RECORDS_DB`]; see `docs/format/state.md`.
const OLD_RECORDS_DB: &str = "metadata.db";
const SNAPSHOTS: &str = "snapshots";
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
    pub fn named_snapshots(&self) -> BTreeSet<&str> {
        let namespaces = self.metadata.namespaces.values();
        let tables = namespaces.filter_map(|namespace| namespace.snapshots.get(SNAPSHOTTER));
        tables.flat_map(|table| table.rows.values()).map(|row| row.name.as_str()).collect()
    }
}
