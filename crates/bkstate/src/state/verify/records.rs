//! `metadata_v2.db`: records, their parents, and the indexes that list them.

use std::collections::{BTreeMap, BTreeSet};

use crate::digest::Digest;
use crate::ids::RecordId;
use crate::metadata::SnapshotTable;
use crate::records::{Record, Records};
use crate::snapshots::{Kind, Snapshots};
use crate::state::State;

use super::keys::SnapshotKeys;
use super::{Findings, Used};

/// Value of an unknown size of a record (BuildKit v0.34.2 `cache/metadata.go` `sizeUnknown`).
const SIZE_UNKNOWN: i64 = -1;

/// An exbibyte, in bytes: more than any file system has.
pub(super) const MOST_BYTES: i64 = 1 << 60;

/// Damage in `metadata_v2.db`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordDamage {
    /// A record builds on a missing record.
    #[error("records: record {record} has the parent {parent}, which is not there")]
    MissingParent {
        /// The record.
        record: RecordId,
        /// Its parent.
        parent: RecordId,
    },
    /// Records build on each other in a cycle.
    #[error("records: record {record} builds on {parent}, which builds on it")]
    ParentCycle {
        /// One record of the cycle.
        record: RecordId,
        /// The parent that closes the cycle.
        parent: RecordId,
    },
    /// A record builds on one that is marked as deleted.
    #[error("records: record {record} has the parent {parent}, which is marked as deleted")]
    RemovedParent {
        /// The record.
        record: RecordId,
        /// Its parent.
        parent: RecordId,
    },
    /// A record builds on one that can still change.
    #[error("records: record {record} has the parent {parent}, which is not committed")]
    MutableParent {
        /// The record.
        record: RecordId,
        /// Its parent.
        parent: RecordId,
    },
    /// A mutable record has no snapshot named like the record.
    #[error("metadata: the mutable record {record} has no snapshot of its name")]
    MutableWithoutSnapshot {
        /// The record.
        record: RecordId,
    },
    /// A record is the twin of a missing mutable one, and does not have its own snapshot.
    #[error("records: record {record} has neither its mutable twin {mutable} nor a snapshot")]
    MissingTwin {
        /// The record.
        record: RecordId,
        /// The mutable one.
        mutable: RecordId,
    },
    /// A record names as its twin one that cannot change, or one with other parents.
    #[error("records: record {record} has the twin {twin}, which {}", if *mutable { "has other parents" } else { "is not mutable" })]
    WrongTwin {
        /// The record.
        record: RecordId,
        /// The named twin.
        twin: RecordId,
        /// Whether the named twin is mutable.
        mutable: bool,
    },
    /// The key of a record's snapshot belongs to another chain or another record.
    #[error("records: record {record} has the snapshot {snapshot}, which is that of {owner}")]
    SnapshotOfOther {
        /// The record.
        record: RecordId,
        /// The key of the snapshot.
        snapshot: String,
        /// Its owner: a chainID, or a record.
        owner: String,
    },
    /// The parents of a record's snapshot belong to other layers than the record's parents.
    #[error(
        "metadata: the snapshot {snapshot} of record {record} lies on {}, the record on {}",
        named(found.as_ref()), named(expected.as_ref())
    )]
    SnapshotOnOther {
        /// The record.
        record: RecordId,
        /// The key of the snapshot.
        snapshot: String,
        /// The key of the snapshot's parent.
        found: Option<String>,
        /// The key of the snapshot of the record's parent.
        expected: Option<String>,
    },
    /// A record names a missing snapshot.
    #[error("metadata: record {record} has no snapshot {snapshot}")]
    MissingSnapshot {
        /// The record.
        record: RecordId,
        /// The key of the snapshot.
        snapshot: String,
    },
    /// A record's snapshot is of a kind that it cannot use.
    #[error(
        "snapshotter: the snapshot {snapshot} of record {record} is {}, not {}",
        kind_name(*found), kind_name(*expected)
    )]
    SnapshotKind {
        /// The record.
        record: RecordId,
        /// The key of the snapshot.
        snapshot: String,
        /// Its kind.
        found: Kind,
        /// The kind that the record needs.
        expected: Kind,
    },
    /// A layer's record lacks an attribute that is needed to use its blob.
    #[error("records: record {record} has the blob {blob} but no {lacks}")]
    IncompleteLayer {
        /// The record.
        record: RecordId,
        /// The blob.
        blob: Digest,
        /// `diffID`, `media type` or `size`.
        lacks: &'static str,
    },
    /// A record has the diffID of a layer but not its blob; daemons write them together.
    #[error("records: record {record} has the diffID {diff_id} but no blob")]
    NoBlob {
        /// The record.
        record: RecordId,
        /// The diffID.
        diff_id: Digest,
    },
    /// The layer identity is not the diffID, as it must be with the overlayfs snapshotter.
    #[error("records: the layer identity of record {record} is {found}, not its diffID {diff_id}")]
    LayerIdentity {
        /// The record.
        record: RecordId,
        /// The layer identity.
        found: Digest,
        /// The diffID.
        diff_id: Digest,
    },
    /// A record has a size beyond any file system.
    #[error("records: record {record} has the size {size}, which no snapshot can have")]
    Size {
        /// The record.
        record: RecordId,
        /// The size in bytes.
        size: i64,
    },
    /// A layer's chain id does not follow from its parent's and its own digests.
    #[error("records: the {what} of record {record} is {found}, but should be {expected}")]
    ChainId {
        /// The record.
        record: RecordId,
        /// `chain id` or `blob chain id`.
        what: &'static str,
        /// The id in the record.
        found: Digest,
        /// The expected id.
        expected: Digest,
    },
    /// An entry of a record names an index that lacks it.
    #[error("records: the index entry {entry:?} is not there")]
    MissingIndex {
        /// The key in `_index`.
        entry: String,
    },
    /// The index has an entry for no record.
    #[error("records: the index entry {entry:?} is of no record")]
    StrayIndex {
        /// The key in `_index`.
        entry: String,
    },
    /// The index has an entry without `::`.
    #[error("records: the index entry {entry:?} names no record")]
    EndlessIndex {
        /// The key in `_index`.
        entry: String,
    },
    /// A daemon was stopped while it made or removed a record that is not needed.
    #[error("records: the record {record} was being made or removed")]
    Abandoned {
        /// The record.
        record: RecordId,
    },
    /// Content hashes of a missing record.
    #[error("records: _external has values of record {record}, which is not there")]
    StrayExternal {
        /// The record.
        record: RecordId,
    },
}

fn named(key: Option<&String>) -> &str {
    key.map_or("nothing", String::as_str)
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::View => "a view",
        Kind::Active => "active",
        Kind::Committed => "committed",
    }
}

impl RecordDamage {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::MissingParent { .. } => "missing-parent",
            Self::ParentCycle { .. } => "parent-cycle",
            Self::RemovedParent { .. } => "removed-parent",
            Self::MutableParent { .. } => "mutable-parent",
            Self::MutableWithoutSnapshot { .. } => "mutable-without-snapshot",
            Self::MissingTwin { .. } => "missing-twin",
            Self::WrongTwin { .. } => "wrong-twin",
            Self::SnapshotOfOther { .. } => "snapshot-of-other",
            Self::SnapshotOnOther { .. } => "snapshot-on-other",
            Self::MissingSnapshot { .. } => "missing-snapshot",
            Self::SnapshotKind { .. } => "snapshot-kind",
            Self::IncompleteLayer { .. } | Self::NoBlob { .. } => "incomplete-layer",
            Self::LayerIdentity { .. } => "layer-identity",
            Self::Size { .. } => "record-size",
            Self::ChainId { .. } => "chain-id",
            Self::MissingIndex { .. } => "missing-index",
            Self::StrayIndex { .. } => "stray-index",
            Self::EndlessIndex { .. } => "endless-index",
            Self::Abandoned { .. } => "abandoned-record",
            Self::StrayExternal { .. } => "stray-external",
        }
    }

    // BuildKit v0.32.2 cache/manager.go init, getRecord, parentsOf, GetByBlob, prune; cache/refs.go mount,
    // ociDesc, unlazyLayer; cache/metadata/metadata.go Search. v0.34.2 cache/blobs.go computeChainMetadata.
    pub(super) fn consequence(&self) -> &'static str {
        match self {
            Self::MissingParent { .. }
            | Self::RemovedParent { .. }
            | Self::MutableWithoutSnapshot { .. }
            | Self::MissingTwin { .. } => {
                "the daemon deletes the record, those that build on it and their results when it \
                 starts"
            }
            Self::ParentCycle { .. } => {
                "the daemon follows parents without end when it starts, and crashes"
            }
            Self::MutableParent { .. } => {
                "the daemon makes a copy of the parent for the record and locks the parent, so that \
                 its own users do not get it"
            }
            Self::WrongTwin { mutable: false, .. } => {
                "the daemon takes the two for one; if others lie on both, it crashes when it collects \
                 garbage, a second after each start"
            }
            Self::WrongTwin { mutable: true, .. } => {
                "the daemon gives the record the files of the twin, which lie on those of other layers"
            }
            Self::SnapshotOfOther { .. } | Self::SnapshotOnOther { .. } => {
                "the daemon never compares the two: what the step made is missing or other files are \
                 there, while the step is cached"
            }
            Self::MissingSnapshot { .. } => {
                "the daemon takes the layer for unpacked; the first build that needs its files fails"
            }
            Self::SnapshotKind { .. } => "the first build that mounts the snapshot fails",
            Self::IncompleteLayer { .. } => {
                "the daemon cannot unpack or export the layer, or exports what others cannot unpack"
            }
            Self::NoBlob { .. } => {
                "the daemon makes another blob of the layer when it exports it, and another cache"
            }
            Self::LayerIdentity { .. } => {
                "the daemon takes what it merges of the layer for other layers"
            }
            Self::Size { .. } => {
                "the daemon collects far more or far less than it should, to keep to its limits"
            }
            Self::ChainId { .. } => {
                "the daemon takes the layer for another when an image or a cache has one of that id, \
                 or fetches again what it has"
            }
            Self::MissingIndex { .. } => {
                "the daemon does not find the record by it: a cache mount starts empty, a layer is \
                 fetched again"
            }
            Self::StrayIndex { .. } => {
                "the daemon finds a record that is not what it looked for, or complains of one that \
                 is gone at each search"
            }
            Self::EndlessIndex { .. } => "the daemon hangs once a search comes across the entry",
            Self::Abandoned { .. } => {
                "nothing needs the record; the daemon collects its snapshot, and drops the record when \
                 it starts without that"
            }
            Self::StrayExternal { .. } => "the values are never removed; they cost space",
        }
    }
}

pub(super) fn check(
    state: &State,
    index: &BTreeSet<String>,
    table: &SnapshotTable,
    abandoned: &BTreeSet<RecordId>,
    used: Used,
    findings: &mut Findings,
) {
    let State { records, snapshots, .. } = state;
    let keys = SnapshotKeys::of(records);
    for (id, record) in records.by_id.iter().filter(|(_, record)| !record.is_removed()) {
        check_parents(id, record, records, findings);
        check_twin(id, record, records, findings);
        keys.check(id, record, table, used, findings);
        if record.size.is_some_and(|size| !(SIZE_UNKNOWN..MOST_BYTES).contains(&size)) {
            let (record, size) = (id.clone(), record.size.unwrap_or_default());
            findings.add(RecordDamage::Size { record, size });
        }
        if abandoned.contains(id) {
            findings.leftovers.push(RecordDamage::Abandoned { record: id.clone() }.into());
        } else {
            check_snapshot(id, record, records, table, snapshots, findings);
        }
        check_layer(id, record, records, findings);
    }
    check_cycles(records, findings);
    check_index(records, index, findings);
    for record in records.external.keys().filter(|id| !records.by_id.contains_key(id)) {
        // A daemon may store the hashes of a local source that has been replaced already.
        let damage = RecordDamage::StrayExternal { record: record.clone() };
        findings.add_unless(used.records, damage);
    }
}

fn check_parents(id: &RecordId, record: &Record, records: &Records, findings: &mut Findings) {
    for parent in record.parents() {
        let (record, name) = (id.clone(), parent.clone());
        match records.by_id.get(parent) {
            None => findings.add(RecordDamage::MissingParent { record, parent: name }),
            Some(parent) if parent.is_removed() => {
                findings.add(RecordDamage::RemovedParent { record, parent: name });
            }
            Some(parent) if parent.is_mutable() => {
                findings.add(RecordDamage::MutableParent { record, parent: name });
            }
            Some(_) => {}
        }
    }
}

/// Checks that the twin of an immutable record is its mutable original, with the same parents (BuildKit
/// v0.34.2 `cache/refs.go` `commit`).
fn check_twin(id: &RecordId, record: &Record, records: &Records, findings: &mut Findings) {
    let twin = record.equal_mutable.as_ref();
    let Some((twin, mutable)) = twin.and_then(|twin| records.by_id.get_key_value(twin)) else {
        return;
    };
    let is_mutable = mutable.is_mutable();
    // A daemon drops a deleted one when it finds it.
    if mutable.is_removed() || (is_mutable && record.parents().eq(mutable.parents())) {
        return;
    }
    let (record, twin) = (id.clone(), twin.clone());
    findings.add(RecordDamage::WrongTwin { record, twin, mutable: is_mutable });
}

fn check_snapshot(
    id: &RecordId,
    record: &Record,
    records: &Records,
    table: &SnapshotTable,
    snapshots: &Snapshots,
    findings: &mut Findings,
) {
    let key = record.snapshot_key(id);
    let row = table.rows.get(key);
    // An immutable record whose mutable twin still owns the snapshot does not have its own yet.
    if let Some(mutable) = &record.equal_mutable {
        if row.is_none() && !records.by_id.contains_key(mutable) {
            let (record, mutable) = (id.clone(), mutable.clone());
            findings.add(RecordDamage::MissingTwin { record, mutable });
        }
        return;
    }
    let Some(row) = row else {
        if record.is_mutable() {
            findings.add(RecordDamage::MutableWithoutSnapshot { record: id.clone() });
        } else if !record.is_packed() && !record.is_composed() {
            let (record, snapshot) = (id.clone(), key.to_owned());
            findings.add(RecordDamage::MissingSnapshot { record, snapshot });
        }
        return;
    };
    let expected = if record.is_mutable() { Kind::Active } else { Kind::Committed };
    if let Some(found) = snapshots.by_name.get(&row.name).map(|snapshot| snapshot.kind)
        && found != expected
    {
        let (record, snapshot) = (id.clone(), key.to_owned());
        findings.add(RecordDamage::SnapshotKind { record, snapshot, found, expected });
    }
}

fn check_layer(id: &RecordId, record: &Record, records: &Records, findings: &mut Findings) {
    let Some(blob) = record.blob else {
        let bare =
            record.diff_id.map(|diff_id| RecordDamage::NoBlob { record: id.clone(), diff_id });
        return bare.into_iter().for_each(|damage| findings.add(damage));
    };
    let mut incomplete = |lacks| {
        findings.add(RecordDamage::IncompleteLayer { record: id.clone(), blob, lacks });
    };
    if record.media_type.is_none() {
        incomplete("media type");
    }
    if record.blob_size.is_none() {
        incomplete("size");
    }
    let Some(diff_id) = record.diff_id else {
        return incomplete("diffID");
    };
    if let Some(found) = record.layer_identity.filter(|identity| *identity != diff_id) {
        findings.add(RecordDamage::LayerIdentity { record: id.clone(), found, diff_id });
    }
    // How the snapshots of merges and differences are made depends on the build that needed them.
    if record.is_composed() {
        return;
    }
    let parent = match &record.parent {
        None => None,
        Some(parent) => match records.by_id.get(parent) {
            Some(parent) => Some(parent),
            None => return,
        },
    };
    let pair = chained(Some(blob), diff_id);
    for (what, found, own, below) in [
        ("chain id", record.chain_id, diff_id, parent.map(|parent| parent.chain_id)),
        ("blob chain id", record.blob_chain_id, pair, parent.map(|parent| parent.blob_chain_id)),
    ] {
        let expected = match below {
            None => own,
            Some(Some(below)) => chained(Some(below), own),
            Some(None) => continue,
        };
        // As the upper side of a difference, a layer gets the id of a layer on an anonymous parent.
        let alone = parent.map(|_| chained(None, own));
        if let Some(found) = found
            && found != expected
            && alone != Some(found)
        {
            let record = id.clone();
            findings.add(RecordDamage::ChainId { record, what, found, expected });
        }
    }
}

/// Returns the chain id of `digest` on `below` (opencontainers/image-spec v1.1 `identity.ChainID`).
fn chained(below: Option<Digest>, digest: Digest) -> Digest {
    let below = below.map(|below| below.to_string()).unwrap_or_default();
    Digest::of(format!("{below} {digest}"))
}

/// Follows the dependencies of records, without recursion: a chain can be as long as the file allows.
fn check_cycles(records: &Records, findings: &mut Findings) {
    #[derive(PartialEq)]
    enum Visit {
        OnTheWay,
        Done,
    }
    let needs = |id: &RecordId| -> Vec<&RecordId> {
        let record = records.by_id.get(id).filter(|record| !record.is_removed());
        let needs = record.into_iter().flat_map(|r| r.parents().chain(&r.equal_mutable));
        needs.collect()
    };
    let mut visits: BTreeMap<&RecordId, Visit> = BTreeMap::new();
    for start in records.by_id.keys() {
        if visits.contains_key(start) {
            continue;
        }
        visits.insert(start, Visit::OnTheWay);
        let mut way = vec![(start, needs(start))];
        while let Some((id, pending)) = way.last_mut() {
            let id = *id;
            let Some(next) = pending.pop() else {
                visits.insert(id, Visit::Done);
                way.pop();
                continue;
            };
            match visits.get(next) {
                None => {
                    visits.insert(next, Visit::OnTheWay);
                    way.push((next, needs(next)));
                }
                Some(Visit::OnTheWay) => {
                    let (record, parent) = (id.clone(), next.clone());
                    findings.add(RecordDamage::ParentCycle { record, parent });
                }
                Some(Visit::Done) => {}
            }
        }
    }
}

fn check_index(records: &Records, index: &BTreeSet<String>, findings: &mut Findings) {
    let expected = records.index();
    for entry in expected.difference(index) {
        findings.add(RecordDamage::MissingIndex { entry: entry.clone() });
    }
    for entry in index.difference(&expected) {
        let entry = entry.clone();
        findings.add(if entry.contains("::") {
            RecordDamage::StrayIndex { entry }
        } else {
            RecordDamage::EndlessIndex { entry }
        });
    }
}
