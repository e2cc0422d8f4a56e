//! The content of a root.

mod read;
mod tied;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use bkstate::dir::DirError;
use bkstate::ids::{KeyId, RecordId, ResultId, WorkerId};
use bkstate::packed::ImageId;
use bkstate::root::OpenRootError;
use bkstate::snapshots::Kind;
use bkstate::solver::Link;
use bkstate::state::{Damage, VerifyError};
use bkstate::{Digest, Time};

use super::history::{Build, BuildsError};
use crate::degree::Degree;
use crate::inspect::Warmth;
use crate::keys::SourceError;

/// The content of a root. All lists are sorted by id.
#[derive(Debug)]
pub struct Root {
    /// Its path.
    pub path: PathBuf,
    /// Its degree of warmth; `None` if it has no layers.
    pub degree: Option<Degree>,
    /// Its workers. The following fields are of the OCI worker with the overlayfs snapshotter.
    pub workers: Vec<Worker>,
    /// The solver's keys.
    pub keys: Vec<Key>,
    /// The cache records, including cache mounts.
    pub records: Vec<Record>,
    /// Number of records that daemons since v0.33.1 do not share with images and caches
    /// ([`bkstate::layers`]).
    pub legacy: usize,
    /// Leases of all namespaces.
    pub leases: Vec<Lease>,
    /// The snapshots.
    pub snapshots: Vec<SnapshotOf>,
    /// The blobs of all namespaces.
    pub blobs: Vec<Blob>,
    /// The builds in its history, oldest first.
    pub builds: Vec<Build>,
    /// Its damage, as found by `verify`.
    pub damage: Vec<Damage>,
    /// Parts that cannot be read, and are not needed for the rest.
    pub unread: Vec<Unread>,
}

/// A worker of a root.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Worker {
    /// Its directory, which is named after its executor and snapshotter.
    pub directory: String,
    /// Its id, if it has one.
    pub id: Option<WorkerId>,
    /// Whether it is the inspected one.
    pub is_ours: bool,
}

/// A key of the solver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Its id; for a source its digest.
    pub id: KeyId,
    /// The step in the words of a Dockerfile, if the build history or a key source has it; otherwise the
    /// description of its result's record.
    pub name: Option<String>,
    /// Its warmth.
    pub warmth: Warmth,
    /// Its results.
    pub results: Vec<KeyResult>,
    /// The links to it.
    pub inputs: Vec<KeyLink>,
}

/// A result of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyResult {
    /// The worker and its record; no record for an empty file system.
    pub id: ResultId,
    /// When the step ran.
    pub created_at: Time,
    /// Whether the record exists. Other workers are not examined.
    pub is_there: bool,
}

/// A link to a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyLink {
    /// The source of the link.
    pub from: KeyId,
    /// Op digest, input, output and selector.
    pub link: Link,
}

/// A cache record.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// Its id.
    pub id: RecordId,
    /// The record as it is stored.
    pub stored: bkstate::records::Record,
    /// The key of its snapshot, if that exists.
    pub snapshot: Option<String>,
    /// Whether its unpacked files exist.
    pub is_unpacked: bool,
    /// The keys with it as a result.
    pub keys: Vec<KeyId>,
}

/// A lease.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lease {
    /// Its namespace in containerd.
    pub namespace: String,
    /// Its id, which is the record's id for the lease of a record.
    pub id: String,
    /// Its creation time.
    pub created_at: Option<Time>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The blobs that it keeps.
    pub blobs: BTreeSet<Digest>,
    /// The keys of the snapshots that it keeps.
    pub snapshots: BTreeSet<String>,
    /// The record of this lease.
    pub record: Option<RecordId>,
}

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnapshotOf {
    /// Its key: a record's id, or a chainID.
    pub key: String,
    /// The key of the snapshot below it.
    pub parent: Option<String>,
    /// The number of its directory; `None` if the snapshotter does not have it.
    pub id: Option<u64>,
    /// Its kind.
    pub kind: Option<Kind>,
    /// Size of its own layer on disk in bytes, if known.
    pub bytes: Option<i64>,
    /// Inodes of its own layer, if known.
    pub inodes: Option<i64>,
    /// Whether its directory exists, or the link to it.
    pub is_there: bool,
    /// The image that its tree is in, if it is packed.
    pub packed: Option<ImageId>,
    /// The records that use it.
    pub records: Vec<RecordId>,
}

/// A blob.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Blob {
    /// Its namespace in containerd.
    pub namespace: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes, as stored in the database.
    pub bytes: i64,
    /// When it was stored.
    pub created_at: Option<Time>,
    /// The digest of the uncompressed layer.
    pub diff_id: Option<String>,
    /// Whether its file exists.
    pub is_there: bool,
}

/// A part that cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unread {
    /// The names of steps.
    #[error("cannot read the names of steps from the root")]
    Names(#[from] SourceError),
    /// The builds.
    #[error("cannot read the build history")]
    Builds(#[from] BuildsError),
}

/// Why a root cannot be inspected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// It cannot be opened, is not a root, or is in use.
    #[error(transparent)]
    Open(#[from] OpenRootError),
    /// It has no state, or one of an unknown format.
    #[error(transparent)]
    State(#[from] VerifyError),
    /// A directory cannot be read.
    #[error("cannot look into the root")]
    Dir(#[from] DirError),
    /// A database cannot be read.
    #[error(
        "cannot read all databases of {}; the first damage: {}",
        root.display(), damage.first().map(ToString::to_string).unwrap_or_default()
    )]
    Damaged {
        /// The root.
        root: PathBuf,
        /// The damage.
        damage: Vec<Damage>,
    },
}

impl Record {
    /// Returns whether it is a cache mount (`RUN --mount=type=cache`).
    pub fn is_cache_mount(&self) -> bool {
        self.stored.is_cache_mount()
    }

    /// Returns its type, in BuildKit's words.
    pub fn kind(&self) -> &str {
        self.stored.record_type.as_deref().unwrap_or("regular")
    }

    /// Returns the layers and records below it.
    pub fn parents(&self) -> impl Iterator<Item = &RecordId> {
        let Self { stored, .. } = self;
        let single = [&stored.parent, &stored.lower_diff_parent, &stored.upper_diff_parent];
        single.into_iter().flatten().chain(stored.merge_parents.iter().flatten())
    }

    /// Returns the size of its files on disk in bytes, or if unknown, that of its blob.
    pub fn bytes(&self) -> Option<u64> {
        known(self.stored.size).or_else(|| known(self.stored.blob_size))
    }
}

/// Returns a number of a database, where negative means unknown.
pub(super) fn known(number: Option<i64>) -> Option<u64> {
    number.and_then(|number| u64::try_from(number).ok())
}

impl Root {
    /// Returns the record with this id.
    pub fn record(&self, id: &str) -> Option<&Record> {
        let at = self.records.binary_search_by(|record| record.id.as_str().cmp(id)).ok()?;
        self.records.get(at)
    }
}
