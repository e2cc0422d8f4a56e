//! What a root has.

mod read;
mod tied;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use bkstate::dir::DirError;
use bkstate::ids::{KeyId, RecordId, ResultId, WorkerId};
use bkstate::root::OpenRootError;
use bkstate::snapshots::Kind;
use bkstate::solver::Link;
use bkstate::state::{Damage, VerifyError};
use bkstate::{Digest, Time};

use super::history::{Build, BuildsError};
use crate::degree::Degree;
use crate::inspect::Warmth;
use crate::keys::SourceError;

/// What a root has. All lists are in the order of their ids.
#[derive(Debug)]
pub struct Root {
    /// Where it is.
    pub path: PathBuf,
    /// How warm it is; nothing if it has no layers.
    pub degree: Option<Degree>,
    /// Its workers. What follows is of the OCI worker with the overlayfs snapshotter.
    pub workers: Vec<Worker>,
    /// The solver's keys.
    pub keys: Vec<Key>,
    /// The cache records, cache mounts among them.
    pub records: Vec<Record>,
    /// How many of them daemons since v0.33.1 share with no image or cache ([`bkstate::layers`]).
    pub legacy: usize,
    /// Leases of all namespaces.
    pub leases: Vec<Lease>,
    /// The snapshots.
    pub snapshots: Vec<SnapshotOf>,
    /// The blobs of all namespaces.
    pub blobs: Vec<Blob>,
    /// The builds that it remembers, oldest first.
    pub builds: Vec<Build>,
    /// What is wrong with it, as `verify` tells.
    pub damage: Vec<Damage>,
    /// What could not be read, and is not needed to see the rest.
    pub unread: Vec<Unread>,
}

/// A worker of a root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worker {
    /// Its directory, which is named after its executor and snapshotter.
    pub directory: String,
    /// Its id, if it has one.
    pub id: Option<WorkerId>,
    /// Whether it is the one that is looked into.
    pub is_ours: bool,
}

/// A key of the solver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Its id: of a source its digest.
    pub id: KeyId,
    /// The step in the words of a Dockerfile, where the build history or a key source tells; else what
    /// the record of its result says.
    pub name: Option<String>,
    /// What a build will find of it.
    pub warmth: Warmth,
    /// Its results.
    pub results: Vec<KeyResult>,
    /// The links that lead to it.
    pub inputs: Vec<KeyLink>,
}

/// A result of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyResult {
    /// The worker and its record; no record for an empty file system.
    pub id: ResultId,
    /// When the step ran.
    pub created_at: Time,
    /// Whether the record is there. Nothing is known of other workers.
    pub is_there: bool,
}

/// A link to a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyLink {
    /// The key that it leads from.
    pub from: KeyId,
    /// Op digest, input, output and selector.
    pub link: Link,
}

/// A cache record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its id.
    pub id: RecordId,
    /// The record as it is stored.
    pub stored: bkstate::records::Record,
    /// The key of its snapshot, if that is there.
    pub snapshot: Option<String>,
    /// Whether its files are there, unpacked.
    pub is_unpacked: bool,
    /// The keys that result in it.
    pub keys: Vec<KeyId>,
}

/// A lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The namespace of containerd that it is in.
    pub namespace: String,
    /// Its id; that of a record is called as the record.
    pub id: String,
    /// When it was made.
    pub created_at: Option<Time>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The blobs that it keeps.
    pub blobs: BTreeSet<Digest>,
    /// The keys of the snapshots that it keeps.
    pub snapshots: BTreeSet<String>,
    /// The record that it belongs to.
    pub record: Option<RecordId>,
}

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotOf {
    /// Its key: a record's id, or a chainID.
    pub key: String,
    /// The key of the snapshot below it.
    pub parent: Option<String>,
    /// The number of its directory; nothing if the snapshotter does not know it.
    pub id: Option<u64>,
    /// What it can be used for.
    pub kind: Option<Kind>,
    /// Bytes of its own layer on disk, where known.
    pub bytes: Option<i64>,
    /// Inodes of its own layer, where known.
    pub inodes: Option<i64>,
    /// Whether its directory is there.
    pub is_there: bool,
    /// The records that have it.
    pub records: Vec<RecordId>,
}

/// A blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// The namespace of containerd that knows it.
    pub namespace: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes, as it is stored in the database.
    pub bytes: i64,
    /// When it was stored.
    pub created_at: Option<Time>,
    /// The digest of the uncompressed layer.
    pub diff_id: Option<String>,
    /// Whether its file is there.
    pub is_there: bool,
}

/// Something that could not be read.
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

/// Why a root cannot be looked into.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// It cannot be opened, is not a root, or is in use.
    #[error(transparent)]
    Open(#[from] OpenRootError),
    /// It holds no state, or one that is not known.
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
        /// What is wrong with it.
        damage: Vec<Damage>,
    },
}

impl Record {
    /// Whether it is what a `RUN --mount=type=cache` collected.
    pub fn is_cache_mount(&self) -> bool {
        self.stored.is_cache_mount()
    }

    /// What it is, in BuildKit's words.
    pub fn kind(&self) -> &str {
        self.stored.record_type.as_deref().unwrap_or("regular")
    }

    /// The layers and records that it builds on.
    pub fn parents(&self) -> impl Iterator<Item = &RecordId> {
        let Self { stored, .. } = self;
        let single = [&stored.parent, &stored.lower_diff_parent, &stored.upper_diff_parent];
        single.into_iter().flatten().chain(stored.merge_parents.iter().flatten())
    }

    /// The bytes of its files on disk, or if they are not known those of its blob.
    pub fn bytes(&self) -> Option<u64> {
        let known = |bytes: Option<i64>| bytes.and_then(|bytes| u64::try_from(bytes).ok());
        known(self.stored.size).or_else(|| known(self.stored.blob_size))
    }
}

impl Root {
    /// The record of this id.
    pub fn record(&self, id: &str) -> Option<&Record> {
        let at = self.records.binary_search_by(|record| record.id.as_str().cmp(id)).ok()?;
        self.records.get(at)
    }
}
