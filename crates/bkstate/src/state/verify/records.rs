//! `metadata_v2.db`: records, what they build on, and the indexes by which they are found.

use std::collections::{BTreeMap, BTreeSet};

use crate::digest::Digest;
use crate::ids::RecordId;
use crate::metadata::Namespace;
use crate::records::{Record, Records};
use crate::snapshots::{Kind, Snapshots};
use crate::state::SNAPSHOTTER;

use super::{Findings, Used};

/// Something wrong in `metadata_v2.db`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordDamage {
    /// A record builds on one that is not there.
    #[error("metadata_v2.db: record {record} has the parent {parent}, which is not there")]
    MissingParent {
        /// The record.
        record: RecordId,
        /// Its parent.
        parent: RecordId,
    },
    /// Records build on each other in a circle.
    #[error("metadata_v2.db: record {record} builds on {parent}, which builds on it")]
    ParentCycle {
        /// One record of the circle.
        record: RecordId,
        /// The one it names, which closes the circle.
        parent: RecordId,
    },
    /// A record builds on one that may still change.
    #[error("metadata_v2.db: record {record} has the parent {parent}, which is not committed")]
    MutableParent {
        /// The record.
        record: RecordId,
        /// Its parent.
        parent: RecordId,
    },
    /// A mutable record has no snapshot that is named as the record.
    #[error("containerdmeta.db: the mutable record {record} has no snapshot of its name")]
    MutableWithoutSnapshot {
        /// The record.
        record: RecordId,
    },
    /// A record is the twin of a mutable one that is gone, and has no snapshot of its own.
    #[error(
        "metadata_v2.db: record {record} has neither its mutable twin {mutable} nor a snapshot"
    )]
    MissingTwin {
        /// The record.
        record: RecordId,
        /// The mutable one.
        mutable: RecordId,
    },
    /// A record names a snapshot that is not there.
    #[error("containerdmeta.db: record {record} has no snapshot {snapshot}")]
    MissingSnapshot {
        /// The record.
        record: RecordId,
        /// The key of the snapshot.
        snapshot: String,
    },
    /// A record's snapshot is of a kind that it cannot use.
    #[error(
        "snapshots/metadata.db: the snapshot {snapshot} of record {record} is {}, not {}",
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
    /// A layer's record lacks what its blob is used by.
    #[error("metadata_v2.db: record {record} has the blob {blob} but no {lacks}")]
    IncompleteLayer {
        /// The record.
        record: RecordId,
        /// The blob.
        blob: Digest,
        /// `diffID` or `media type`.
        lacks: &'static str,
    },
    /// A layer's chain id is not that of its parent's and its own digests.
    #[error("metadata_v2.db: the {what} of record {record} is {found}, but should be {expected}")]
    ChainId {
        /// The record.
        record: RecordId,
        /// `chain id` or `blob chain id`.
        what: &'static str,
        /// What it is.
        found: Digest,
        /// What it should be.
        expected: Digest,
    },
    /// An entry of a record names an index that does not have it.
    #[error("metadata_v2.db: the index entry {entry:?} is not there")]
    MissingIndex {
        /// The key in `_index`.
        entry: String,
    },
    /// The index has an entry that no record names.
    #[error("metadata_v2.db: the index entry {entry:?} is of no record")]
    StrayIndex {
        /// The key in `_index`.
        entry: String,
    },
    /// The index has an entry without `::`.
    #[error("metadata_v2.db: the index entry {entry:?} names no record")]
    EndlessIndex {
        /// The key in `_index`.
        entry: String,
    },
    /// A daemon was stopped while it made or removed a record that nothing needs.
    #[error("metadata_v2.db: the record {record} was being made or removed")]
    Abandoned {
        /// The record.
        record: RecordId,
    },
    /// Content hashes of a record that is not there.
    #[error("metadata_v2.db: _external has values of record {record}, which is not there")]
    StrayExternal {
        /// The record.
        record: RecordId,
    },
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
            Self::MutableParent { .. } => "mutable-parent",
            Self::MutableWithoutSnapshot { .. } => "mutable-without-snapshot",
            Self::MissingTwin { .. } => "missing-twin",
            Self::MissingSnapshot { .. } => "missing-snapshot",
            Self::SnapshotKind { .. } => "snapshot-kind",
            Self::IncompleteLayer { .. } => "incomplete-layer",
            Self::ChainId { .. } => "chain-id",
            Self::MissingIndex { .. } => "missing-index",
            Self::StrayIndex { .. } => "stray-index",
            Self::EndlessIndex { .. } => "endless-index",
            Self::Abandoned { .. } => "abandoned-record",
            Self::StrayExternal { .. } => "stray-external",
        }
    }

    // BuildKit v0.32.2 cache/manager.go init, getRecord, parentsOf, GetByBlob; cache/refs.go mount,
    // ociDesc, unlazyLayer; cache/metadata/metadata.go Search.
    pub(super) fn consequence(&self) -> &'static str {
        match self {
            Self::MissingParent { .. }
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
            Self::MissingSnapshot { .. } => {
                "the daemon takes the layer for unpacked; the first build that needs its files fails"
            }
            Self::SnapshotKind { .. } => "the first build that mounts the snapshot fails",
            Self::IncompleteLayer { .. } => {
                "the daemon cannot unpack the layer, or exports what others cannot unpack"
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
    records: &Records,
    index: &BTreeSet<String>,
    namespace: &Namespace,
    snapshots: &Snapshots,
    abandoned: &BTreeSet<RecordId>,
    used: Used,
    findings: &mut Findings,
) {
    for (id, record) in records.by_id.iter().filter(|(_, record)| !record.is_removed()) {
        check_parents(id, record, records, findings);
        if abandoned.contains(id) {
            findings.leftovers.push(RecordDamage::Abandoned { record: id.clone() }.into());
        } else {
            check_snapshot(id, record, records, namespace, snapshots, findings);
        }
        check_layer(id, record, records, findings);
    }
    check_cycles(records, findings);
    check_index(records, index, findings);
    for record in records.external.keys().filter(|id| !records.by_id.contains_key(id)) {
        // A daemon may store the hashes of a local source when that has been replaced already.
        let damage = RecordDamage::StrayExternal { record: record.clone() };
        findings.add_unless(used.records, damage);
    }
}

fn check_parents(id: &RecordId, record: &Record, records: &Records, findings: &mut Findings) {
    for parent in record.parents() {
        let (record, name) = (id.clone(), parent.clone());
        match records.by_id.get(parent) {
            None => findings.add(RecordDamage::MissingParent { record, parent: name }),
            Some(parent) if parent.is_mutable() => {
                findings.add(RecordDamage::MutableParent { record, parent: name });
            }
            Some(_) => {}
        }
    }
}

fn check_snapshot(
    id: &RecordId,
    record: &Record,
    records: &Records,
    namespace: &Namespace,
    snapshots: &Snapshots,
    findings: &mut Findings,
) {
    let key = record.snapshot_key(id);
    let row = namespace.snapshots.get(SNAPSHOTTER).and_then(|table| table.rows.get(key));
    // An immutable record whose mutable twin still owns the snapshot has none of its own yet.
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
        } else if record.blob_only != Some(true) && !record.is_composed() {
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
    let Some(blob) = record.blob else { return };
    let mut incomplete = |lacks| {
        findings.add(RecordDamage::IncompleteLayer { record: id.clone(), blob, lacks });
    };
    if record.media_type.is_none() {
        incomplete("media type");
    }
    let Some(diff_id) = record.diff_id else {
        return incomplete("diffID");
    };
    // How those of merges and differences come about depends on the build that needed them.
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
        // As the upper side of a difference, a layer gets the id of one on a nameless parent.
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

/// The chain id of `digest` on `below` (opencontainers/image-spec v1.1 `identity.ChainID`).
fn chained(below: Option<Digest>, digest: Digest) -> Digest {
    let below = below.map(|below| below.to_string()).unwrap_or_default();
    Digest::of(format!("{below} {digest}"))
}

/// Follows what records need to load, without recursion: a chain may be as long as the file allows.
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
