//! Snapshots: the rows of `containerdmeta.db`, those of `snapshots/metadata.db`, and their consistency.

use std::collections::{BTreeMap, BTreeSet};

use crate::metadata::SnapshotTable;
use crate::records::Records;
use crate::snapshots::{Kind, Snapshots};
use crate::state::State;

use super::super::mend::unused_twins;
use super::records::MOST_BYTES;
use super::{Findings, Used};

/// Damage to a snapshot, which is identified by its name in `snapshots/metadata.db`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotDamage {
    /// The next name can be one in use.
    #[error("metadata: the number of snapshot {name} is above the sequence")]
    NumberAboveSequence {
        /// The name.
        name: String,
    },
    /// The next id will be one in use.
    #[error("snapshotter: the id of snapshot {name} is above the sequence")]
    IdAboveSequence {
        /// The name.
        name: String,
    },
    /// containerd has it, the snapshotter does not.
    #[error("snapshot {name} is in the metadata and not in the snapshotter")]
    NotInSnapshotter {
        /// The name.
        name: String,
    },
    /// A daemon was killed while it committed the snapshot. The next conversion completes the commit.
    #[error("metadata: the commit of snapshot {name}, which was {key}, is not complete")]
    HalfCommitted {
        /// Its new name.
        name: String,
        /// Its key while it was mutable.
        key: String,
    },
    /// The snapshotter has it, containerd does not.
    #[error("snapshot {name} is in the snapshotter and not in the metadata")]
    NotInContainerd {
        /// The name.
        name: String,
    },
    /// A conversion was stopped while it renamed the snapshot. No record uses this key.
    #[error("metadata: the snapshot {name} has the unused key {key} besides its own")]
    UnusedKey {
        /// The name.
        name: String,
        /// The key.
        key: String,
    },
    /// Two rows refer to one snapshot.
    #[error("metadata: more than one row has the name {name}")]
    SharedName {
        /// The name.
        name: String,
    },
    /// The parent of a snapshot is missing.
    #[error("{database}: the parent of snapshot {name} is not there")]
    MissingParent {
        /// The database with the reference.
        database: &'static str,
        /// The name.
        name: String,
    },
    /// The databases differ in the parent.
    #[error("snapshot {name} has another parent in the metadata than in the snapshotter")]
    ParentDiffers {
        /// The name.
        name: String,
    },
    /// The parents of snapshots form a cycle.
    #[error("{database}: snapshot {name} lies on itself")]
    ParentCycle {
        /// The database with the cycle.
        database: &'static str,
        /// The name of one of them.
        name: String,
    },
    /// The parent can still change.
    #[error("snapshotter: the parent of snapshot {name} is not committed")]
    ParentNotCommitted {
        /// The name.
        name: String,
    },
    /// Its row does not list one of its children.
    #[error("metadata: snapshot {name} does not list its child {child}")]
    MissingChild {
        /// The name.
        name: String,
        /// The key of the child.
        child: String,
    },
    /// Its row lists a snapshot that is not its child.
    #[error("metadata: snapshot {name} lists {child}, which is not a child of it")]
    StrayChild {
        /// The name.
        name: String,
        /// The key of the listed snapshot.
        child: String,
    },
    /// Two snapshots have one directory.
    #[error("snapshotter: snapshot {name} has the id {id}, which another has too")]
    SharedId {
        /// The name.
        name: String,
        /// The id.
        id: u64,
    },
    /// Its usage is beyond any file system.
    #[error(
        "snapshotter: snapshot {name} has {size} bytes in {inodes} inodes, which none can have"
    )]
    Usage {
        /// The name.
        name: String,
        /// The bytes.
        size: i64,
        /// The inodes.
        inodes: i64,
    },
    /// The index of parents lacks the snapshot.
    #[error("snapshotter: the bucket parents does not have snapshot {name}")]
    MissingParentIndex {
        /// The name.
        name: String,
    },
    /// The index of parents has an entry for no snapshot.
    #[error("snapshotter: the bucket parents has an entry for {name} that is of no snapshot")]
    StrayParentIndex {
        /// The name in the entry.
        name: String,
    },
}

impl SnapshotDamage {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::NumberAboveSequence { .. } => "snapshot-number",
            Self::IdAboveSequence { .. } => "snapshot-id",
            Self::NotInSnapshotter { .. } => "snapshot-not-in-snapshotter",
            Self::HalfCommitted { .. } => "half-committed-snapshot",
            Self::NotInContainerd { .. } => "snapshot-not-in-containerd",
            Self::UnusedKey { .. } => "unused-snapshot-key",
            Self::SharedName { .. } => "shared-snapshot-name",
            Self::MissingParent { .. } => "missing-snapshot-parent",
            Self::ParentDiffers { .. } => "snapshot-parent-differs",
            Self::ParentCycle { .. } => "snapshot-parent-cycle",
            Self::ParentNotCommitted { .. } => "snapshot-parent-not-committed",
            Self::MissingChild { .. } => "missing-snapshot-child",
            Self::StrayChild { .. } => "stray-snapshot-child",
            Self::SharedId { .. } => "shared-snapshot-id",
            Self::Usage { .. } => "snapshot-usage",
            Self::MissingParentIndex { .. } => "missing-parents-entry",
            Self::StrayParentIndex { .. } => "stray-parents-entry",
        }
    }

    // containerd v2.3.3 core/metadata/snapshot.go createSnapshot, Remove, garbageCollect;
    // core/snapshots/storage/bolt.go CreateSnapshot, Remove, parents; plugins/snapshots/overlay/overlay.go.
    pub(super) fn consequence(&self) -> &'static str {
        match self {
            Self::NumberAboveSequence { .. } => {
                "the daemon can draw the name of an existing snapshot for a new one; that build fails"
            }
            Self::IdAboveSequence { .. } => {
                "the daemon draws the id for a new snapshot, fails, and removes the directory that \
                 is there: the layer is lost"
            }
            Self::NotInSnapshotter { .. } => {
                "the daemon takes the layer for unpacked; the first build that needs its files fails"
            }
            Self::HalfCommitted { .. } => {
                "the daemon drops the record of the step, and those on it, when it starts; the next \
                 conversion keeps them"
            }
            Self::NotInContainerd { .. } => {
                "the daemon does not know the snapshot and removes it at the next collection that \
                 removes another"
            }
            Self::UnusedKey { .. } => {
                "the daemon keeps the row as long as the layer; the next conversion drops it"
            }
            Self::SharedName { .. } => {
                "when one of the two goes, the collection of garbage takes the files of the other"
            }
            Self::MissingParent { .. } | Self::ParentNotCommitted { .. } => {
                "the first build that mounts the snapshot fails"
            }
            Self::ParentDiffers { .. } => {
                "builds see the layers below that the snapshotter names, and the collection \
                 of garbage keeps those that the metadata names"
            }
            Self::ParentCycle { .. } => {
                "the daemon follows parents without end once a build needs the snapshot, until its \
                 memory is used up"
            }
            Self::MissingChild { .. } | Self::MissingParentIndex { .. } => {
                "nothing keeps the daemon from removing the layer while others lie on it; builds that \
                 need those fail"
            }
            Self::StrayChild { .. } => {
                "whoever removes the snapshot by its key is refused; the collection of garbage does \
                 not look"
            }
            Self::StrayParentIndex { .. } => {
                "the daemon can never remove the snapshot; it costs space"
            }
            Self::Usage { .. } => {
                "the daemon takes it for the size of the record, and collects far more or far less \
                 than it should, to keep to its limits"
            }
            Self::SharedId { .. } => {
                "builds see the files of the other snapshot, and lose their own when it is removed"
            }
        }
    }
}

/// The bucket `parents` of `snapshots/metadata.db`, as stored.
pub(super) type ParentIndex = BTreeMap<Vec<u8>, String>;

pub(super) fn check(
    state: &State,
    table: &SnapshotTable,
    index: &ParentIndex,
    used: Used,
    findings: &mut Findings,
) {
    let State { records, snapshots, .. } = state;
    check_names(table, records, findings);
    check_table(table, snapshots, used, findings);
    check_snapshots(state, findings);
    check_index(snapshots, index, findings);
    let rows = table.rows.iter().map(|(key, row)| (key.as_str(), row.parent.as_deref()));
    for key in cycles(rows.collect()) {
        let name = table.rows[key].name.clone();
        findings.add(SnapshotDamage::ParentCycle { database: "metadata", name });
    }
    let rows = snapshots.by_name.iter().map(|(name, s)| (name.as_str(), s.parent.as_deref()));
    for name in cycles(rows.collect()) {
        let (database, name) = ("snapshotter", name.to_owned());
        findings.add(SnapshotDamage::ParentCycle { database, name });
    }
}

/// Checks for rows with the same name, except those left by a conversion that was stopped while it renamed
/// snapshots.
fn check_names(table: &SnapshotTable, records: &Records, findings: &mut Findings) {
    let unused = unused_twins(table, records);
    let mut named = BTreeSet::new();
    for (key, row) in &table.rows {
        let name = row.name.clone();
        if unused.contains_key(key) {
            findings.add_unless(true, SnapshotDamage::UnusedKey { name, key: key.clone() });
        } else if !named.insert(row.name.as_str()) {
            findings.add(SnapshotDamage::SharedName { name });
        }
    }
}

fn check_table(table: &SnapshotTable, snapshots: &Snapshots, used: Used, findings: &mut Findings) {
    for (key, row) in &table.rows {
        let name = || row.name.clone();
        let number = row.name.split('/').nth(1).and_then(|number| number.parse::<u64>().ok());
        if number.is_some_and(|number| number > table.sequence) {
            findings.add(SnapshotDamage::NumberAboveSequence { name: name() });
        }
        let parent = row.parent.as_ref().map(|parent| table.rows.get(parent));
        match parent {
            Some(None) => {
                let database = "metadata";
                findings.add(SnapshotDamage::MissingParent { database, name: name() });
            }
            Some(Some(parent)) if !parent.children.contains(key) => {
                let (name, child) = (parent.name.clone(), key.clone());
                findings.add(SnapshotDamage::MissingChild { name, child });
            }
            _ => {}
        }
        let lies_on_it = |child: &&String| {
            table.rows.get(*child).is_some_and(|row| row.parent.as_ref() == Some(key))
        };
        for child in row.children.iter().filter(|child| !lies_on_it(child)) {
            // Garbage collection removes rows without changing those of their parents.
            let damage = SnapshotDamage::StrayChild { name: name(), child: child.clone() };
            findings.add_unless(used.metadata, damage);
        }
        match (snapshots.by_name.get(&row.name), parent) {
            (None, _) => findings.add(SnapshotDamage::NotInSnapshotter { name: name() }),
            (Some(_), Some(None)) => {}
            (Some(snapshot), parent) => {
                let parent = parent.flatten().map(|row| &row.name);
                if parent != snapshot.parent.as_ref() {
                    findings.add(SnapshotDamage::ParentDiffers { name: name() });
                }
            }
        }
    }
}

fn check_snapshots(state: &State, findings: &mut Findings) {
    let State { worker, snapshots, .. } = state;
    let named = state.own_snapshots();
    let mut ids = BTreeSet::new();
    for (name, snapshot) in &snapshots.by_name {
        let below = snapshot.parent.as_ref().map(|parent| snapshots.by_name.get(parent));
        let name = || name.clone();
        let is_ours = named.contains(name().as_str());
        if !ids.insert(snapshot.id) {
            findings.add(SnapshotDamage::SharedId { name: name(), id: snapshot.id });
        }
        if !is_ours && worker.shares_storage() {
            continue;
        }
        if !is_ours {
            findings.add(SnapshotDamage::NotInContainerd { name: name() });
        }
        if snapshot.id > snapshots.sequence {
            findings.add(SnapshotDamage::IdAboveSequence { name: name() });
        }
        let usage = |count: Option<i64>| count.unwrap_or_default();
        let (size, inodes) = (usage(snapshot.size), usage(snapshot.inodes));
        if [size, inodes].iter().any(|count| !(0..MOST_BYTES).contains(count)) {
            findings.add(SnapshotDamage::Usage { name: name(), size, inodes });
        }
        match below {
            Some(None) => {
                let database = "snapshotter";
                findings.add(SnapshotDamage::MissingParent { database, name: name() });
            }
            Some(Some(parent)) if parent.kind != Kind::Committed => {
                findings.add(SnapshotDamage::ParentNotCommitted { name: name() });
            }
            _ => {}
        }
    }
}

fn check_index(snapshots: &Snapshots, index: &ParentIndex, findings: &mut Findings) {
    let expected = snapshots.parents();
    for (key, name) in &expected {
        if index.get(key).map(String::as_str) != Some(name) {
            findings.add(SnapshotDamage::MissingParentIndex { name: (*name).to_owned() });
        }
    }
    for (_, name) in index.iter().filter(|(key, _)| !expected.contains_key(*key)) {
        findings.add(SnapshotDamage::StrayParentIndex { name: name.clone() });
    }
}

/// Returns one node of each cycle in the parents.
fn cycles<'a>(parents: BTreeMap<&'a str, Option<&'a str>>) -> Vec<&'a str> {
    let mut found = Vec::new();
    // For each followed node, where that walk started.
    let mut followed: BTreeMap<&str, &str> = BTreeMap::new();
    for &start in parents.keys() {
        let mut next = Some(start);
        while let Some(at) = next {
            match followed.get(at) {
                None => {
                    followed.insert(at, start);
                    next = parents.get(at).copied().flatten();
                }
                Some(&before) => {
                    if before == start {
                        found.push(at);
                    }
                    break;
                }
            }
        }
    }
    found
}
