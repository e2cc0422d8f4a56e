//! The records that a daemon has after it started, and the references to them.
//!
//! Source: BuildKit v0.32.2 `cache/manager.go` `init`, `getRecord`, `parentsOf` and `DiskUsage`.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::RecordId;
use crate::metadata::{Namespace, SnapshotTable};
use crate::records::Record;
use crate::state::State;

/// A record that a starting daemon loads.
#[derive(Debug)]
pub(super) struct Loaded<'s> {
    pub(super) record: &'s Record,
    pub(super) parents: Vec<&'s RecordId>,
    pub(super) mutable: bool,
    /// The mutable record that owns its snapshot.
    pub(super) owner: Option<&'s RecordId>,
    /// The immutable record with the same data; only for a mutable one.
    pub(super) twin: Option<&'s RecordId>,
    /// Whether its layer has to be downloaded, which a daemon cannot do by itself. The record is listed,
    /// records that build on it are not.
    pub(super) lazy: bool,
    /// Number of records that refer to it.
    references: i64,
}

/// A record that `buildctl du` lists.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) in_use: bool,
}

/// Returns the records of a daemon that has just started on `state` and runs no builds.
pub(super) fn load(state: &State) -> BTreeMap<&RecordId, Loaded<'_>> {
    let nothing = Namespace::default();
    let namespace = state.worker.namespace_of(&state.metadata).unwrap_or(&nothing);
    let no_table = SnapshotTable::default();
    let table = state.worker.table_of(namespace).unwrap_or(&no_table);
    let mut loaded: BTreeMap<&RecordId, Loaded<'_>> = BTreeMap::new();
    for (id, record) in in_order(&state.records.by_id) {
        let Some(new) = load_one(id, record, (namespace, table), &loaded) else { continue };
        if !new.lazy {
            for parent in &new.parents {
                loaded.entry(parent).and_modify(|parent| parent.references += 1);
            }
        }
        if let Some(owner) = new.owner.and_then(|owner| loaded.get_mut(owner)) {
            owner.twin = Some(id);
        }
        loaded.insert(id, new);
    }
    loaded
}

fn load_one<'s>(
    id: &'s RecordId,
    record: &'s Record,
    (namespace, table): (&Namespace, &SnapshotTable),
    loaded: &BTreeMap<&'s RecordId, Loaded<'s>>,
) -> Option<Loaded<'s>> {
    let parents = parents(record);
    if !parents.iter().all(|parent| loaded.get(parent).is_some_and(|parent| !parent.lazy)) {
        return None;
    }
    let has_snapshot = |key: &str| table.rows.contains_key(key);
    let plain = Loaded {
        record,
        parents,
        mutable: record.is_mutable(),
        owner: None,
        twin: None,
        lazy: is_lazy(record, namespace),
        references: 0,
    };
    if let Some(owner) = &record.equal_mutable {
        if loaded.contains_key(owner) {
            return Some(Loaded { owner: Some(owner), mutable: false, lazy: false, ..plain });
        }
        // The daemon was stopped while it made this record the owner of its snapshot.
        if !has_snapshot(record.snapshot_key(id)) {
            return None;
        }
    }
    let gone = record.is_removed() || plain.mutable && !has_snapshot(id.as_str());
    (!gone).then_some(plain)
}

/// Returns the parents of a record as a daemon lists them, in its order.
fn parents(record: &Record) -> Vec<&RecordId> {
    match (&record.parent, &record.merge_parents) {
        (Some(parent), _) => vec![parent],
        (None, Some(parents)) if !parents.is_empty() => parents.iter().collect(),
        (None, _) => {
            [&record.lower_diff_parent, &record.upper_diff_parent].into_iter().flatten().collect()
        }
    }
}

fn is_lazy(record: &Record, namespace: &Namespace) -> bool {
    let missing = |blob| !namespace.content.contains_key(blob);
    record.is_packed() && record.blob.as_ref().is_some_and(missing)
}

/// Returns the records in dependency order. Records in a cycle are omitted: no daemon makes one.
pub(super) fn in_order(records: &BTreeMap<RecordId, Record>) -> Vec<(&RecordId, &Record)> {
    let mut needed_by: BTreeMap<&RecordId, Vec<(&RecordId, &Record)>> = BTreeMap::new();
    let mut waits_for: BTreeMap<&RecordId, usize> = BTreeMap::new();
    for (id, record) in records {
        let needs: BTreeSet<_> = record.parents().chain(&record.equal_mutable).collect();
        let needs = needs.into_iter().filter(|need| records.contains_key(need));
        let mut count = 0;
        for need in needs {
            needed_by.entry(need).or_default().push((id, record));
            count += 1;
        }
        waits_for.insert(id, count);
    }
    let mut order: Vec<_> = records.iter().filter(|(id, _)| waits_for[id] == 0).collect();
    let mut next = 0;
    while let Some((id, _)) = order.get(next) {
        next += 1;
        for waiting in needed_by.remove(id).into_iter().flatten() {
            if let Some(count) = waits_for.get_mut(waiting.0) {
                *count -= 1;
                if *count == 0 {
                    order.push(waiting);
                }
            }
        }
    }
    order
}

/// Returns the listed records: of two with the same data, the mutable one unless something builds on the
/// other.
pub(super) fn listed<'s>(
    loaded: &BTreeMap<&'s RecordId, Loaded<'s>>,
) -> BTreeMap<&'s RecordId, Listed> {
    let hidden = |record: &Loaded<'_>| {
        let twin = record.twin.and_then(|twin| loaded.get(twin));
        twin.is_some_and(|twin| twin.references > 0)
            || record.owner.is_some() && record.references == 0
    };
    let shown = loaded.iter().filter(|(_, record)| !hidden(record));
    let mut references: BTreeMap<_, i64> =
        shown.map(|(id, record)| (*id, record.references)).collect();
    // A record that only unused records refer to is unused.
    let mut unused: Vec<_> =
        references.iter().filter(|(_, count)| **count == 0).map(|(id, _)| *id).collect();
    while let Some(id) = unused.pop() {
        let record = &loaded[id];
        // Its twin refers to the same parents.
        let each = if record.twin.is_some() { 2 } else { 1 };
        for parent in &record.parents {
            if let Some(count) = references.get_mut(parent)
                && *count > 0
            {
                *count -= each;
                if *count == 0 {
                    unused.push(parent);
                }
            }
        }
    }
    references.into_iter().map(|(id, count)| (id, Listed { in_use: count > 0 })).collect()
}
