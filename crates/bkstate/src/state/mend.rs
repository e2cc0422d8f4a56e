//! Renames checked legacy layers.
//!
//! A daemon since v0.33.1 shares a layer only if neither its snapshot nor one below it has a key in the form
//! of older daemons ([`layers`]). After a layer and all layers below it have been checked, its snapshot can
//! get the new key: in the row, in the leases, in the records, and as parent and child of its neighbours. The
//! name in `snapshots/metadata.db` can stay.
//!
//! The key is in two files, which cannot be replaced atomically. So `containerdmeta.db` has a row under each
//! key until `metadata_v2.db` is replaced. Both rows are of one snapshot, so a daemon that starts in between
//! loses nothing; the next conversion drops the row that no record uses.

use std::collections::{BTreeMap, BTreeSet};

use super::{Existing, State};
use crate::digest::Digest;
use crate::ids::RecordId;
use crate::layers;
use crate::metadata::{Metadata, Namespace, SnapshotTable};
use crate::records::{Record, Records};
use crate::worker::{StateFile, Worker};

/// The new keys of snapshots by their old keys.
pub(super) type Renamed = BTreeMap<String, String>;

impl Existing {
    /// Gives the snapshots of the chains `checked` the keys of daemons since v0.33.1. Returns the renamed
    /// ones. The others depend on a legacy layer that is not in `checked`, or their new key is taken.
    ///
    /// In a containerd other programs use these snapshots by their keys, such as containers. There nothing is
    /// renamed, but a conversion [shares](Self::unshared) the checked layers, as their daemon does.
    ///
    /// The caller has compared each with its layer, or has checked the diffID of a packed one.
    ///
    /// ```
    /// use bkstate::Digest;
    /// use bkstate::ids::{RecordId, WorkerId};
    /// use bkstate::layers;
    /// use bkstate::records::Record;
    /// use bkstate::state::Existing;
    /// use bkstate::worker::Worker;
    ///
    /// let (id, chain_id) = (RecordId::derive("packed"), Digest::of("a layer"));
    /// let packed = Record {
    ///     committed: Some(true),
    ///     blob: Some(Digest::of("its blob")),
    ///     chain_id: Some(chain_id),
    ///     snapshot: Some(layers::legacy_snapshot_key(&chain_id)),
    ///     ..Record::default()
    /// };
    /// let mut existing = Existing::nothing(Worker::default(), WorkerId::derive("worker"));
    /// existing.state.records.by_id.insert(id, packed);
    /// assert!(existing.unpacked().is_none());
    /// assert_eq!(existing.unshared().len(), 1);
    /// assert_eq!(existing.mend(&[chain_id].into()), [chain_id].into());
    /// assert!(existing.unshared().is_empty());
    /// assert!(layers::depend_on_legacy(&existing.state.records).is_empty());
    /// ```
    pub fn mend(&mut self, checked: &BTreeSet<Digest>) -> BTreeSet<Digest> {
        let worker = &self.state.worker;
        let namespace = worker.namespace_of(&self.state.metadata);
        let table = namespace.and_then(|namespace| worker.table_of(namespace));
        let unclean = unclean_keys(&self.state.records, table, checked);
        let taken = |key: &str| {
            let mut records = self.state.records.by_id.values();
            table.is_some_and(|table| table.rows.contains_key(key))
                || records.any(|record| record.snapshot.as_deref() == Some(key))
        };
        let clean = checked
            .iter()
            .filter(|chain| !unclean.contains(&layers::legacy_snapshot_key(chain)))
            .copied();
        if worker.shares_storage() {
            let clean: Vec<_> = clean.collect();
            self.checked.extend(clean);
            return BTreeSet::new();
        }
        let mended: BTreeSet<_> =
            clean.filter(|chain| !taken(&layers::snapshot_key(chain))).collect();
        if mended.is_empty() {
            return mended;
        }
        let keys = |chain| (layers::legacy_snapshot_key(chain), layers::snapshot_key(chain));
        let renamed: Renamed = mended.iter().map(keys).collect();
        rename_in_records(&mut self.state.records, &renamed);
        let State { worker, metadata, .. } = &mut self.state;
        if let Some(namespace) = worker.namespace_of_mut(metadata) {
            rename_in(namespace, worker, &renamed);
        }
        self.renamed.extend(renamed);
        self.stale.extend([StateFile::Metadata, StateFile::Records]);
        mended
    }

    /// Returns the records that a conversion must not share with a cache, because a daemon before v0.33.1
    /// unpacked their layers, or layers below them, and they were not checked since.
    pub fn unshared(&self) -> BTreeSet<&RecordId> {
        let was_checked =
            |record: &Record| record.chain_id.is_some_and(|chain| self.checked.contains(&chain));
        let records = &self.state.records;
        layers::depend_on(records, |record| layers::is_legacy(record) && !was_checked(record))
    }

    /// Drops the rows left by a conversion that was stopped while it renamed snapshots.
    pub(super) fn drop_former_rows(&mut self) {
        let State { worker, metadata, records, .. } = &mut self.state;
        let Some(namespace) = worker.namespace_of_mut(metadata) else { return };
        let Some(table) = worker.table_of(namespace) else { return };
        let dropped = unused_twins(table, records);
        if dropped.is_empty() {
            return;
        }
        if let Some(table) = worker.table_of_mut(namespace) {
            for (key, twin) in &dropped {
                let row = table.rows.remove(key).unwrap_or_default();
                if let Some(twin) = table.rows.get_mut(twin) {
                    twin.children.extend(row.children);
                }
            }
        }
        rename_in(namespace, worker, &dropped);
        self.stale.insert(StateFile::Metadata);
    }
}

/// Returns the rows that have a twin: of two rows of the same snapshot, one with the legacy key and one with
/// the new key, the one that no record uses, with the key of the other.
pub(super) fn unused_twins(table: &SnapshotTable, records: &Records) -> Renamed {
    let used: BTreeSet<&str> =
        records.by_id.iter().map(|(id, record)| record.snapshot_key(id)).collect();
    let twins = table.rows.iter().filter_map(move |(legacy, row)| {
        let new = layers::snapshot_key(&layers::legacy_chain_id(legacy)?);
        let twin = table.rows.get(&new)?;
        let one = twin.name == row.name;
        match (used.contains(legacy.as_str()), used.contains(new.as_str())) {
            (true, false) if one => Some((new, legacy.clone())),
            (false, _) if one => Some((legacy.clone(), new)),
            _ => None,
        }
    });
    twins.collect()
}

/// Returns the metadata of `state` with an additional row under the former key for each renamed snapshot, and
/// with both keys in the leases.
pub(super) fn with_former_rows(state: &State, renamed: &Renamed) -> Metadata {
    let (worker, mut metadata) = (&state.worker, state.metadata.clone());
    let Some(namespace) = worker.namespace_of_mut(&mut metadata) else { return metadata };
    let former: BTreeMap<&String, &String> = renamed.iter().map(|(old, new)| (new, old)).collect();
    if let Some(table) = worker.table_of_mut(namespace) {
        for (old, new) in renamed {
            let Some(mut row) = table.rows.get(new).cloned() else { continue };
            if let Some(parent) = &mut row.parent {
                *parent = former.get(parent).map_or_else(|| parent.clone(), |old| (*old).clone());
                if let Some(below) = table.rows.get_mut(parent) {
                    below.children.insert(old.clone());
                }
            }
            row.children =
                row.children.iter().filter_map(|key| former.get(key)).copied().cloned().collect();
            table.rows.insert(old.clone(), row);
        }
    }
    for lease in namespace.leases.values_mut() {
        if let Some(keys) = worker.kept_by_mut(lease) {
            let old: Vec<_> =
                keys.iter().filter_map(|key| former.get(key)).copied().cloned().collect();
            keys.extend(old);
        }
    }
    metadata
}

/// Returns the keys that cannot be renamed with `checked`: legacy ones of other chains, and those of
/// snapshots above them, according to rows and records.
fn unclean_keys(
    records: &Records,
    table: Option<&SnapshotTable>,
    checked: &BTreeSet<Digest>,
) -> BTreeSet<String> {
    let unchecked =
        |key: &str| layers::legacy_chain_id(key).is_some_and(|chain| !checked.contains(&chain));
    let mut above: BTreeMap<Node<'_>, Vec<Node<'_>>> = BTreeMap::new();
    let mut next = Vec::new();
    for (key, row) in table.into_iter().flat_map(|table| &table.rows) {
        let node = Node::Key(key);
        if let Some(parent) = &row.parent {
            above.entry(Node::Key(parent)).or_default().push(node);
        }
        next.extend(unchecked(key).then_some(node));
    }
    for (id, record) in &records.by_id {
        let (node, key) = (Node::Record(id), record.snapshot_key(id));
        // A record depends on its snapshot, and the snapshot on each of its records.
        above.entry(node).or_default().push(Node::Key(key));
        above.entry(Node::Key(key)).or_default().push(node);
        for parent in record.parents() {
            above.entry(Node::Record(parent)).or_default().push(node);
        }
        next.extend(unchecked(key).then_some(node));
    }
    let mut seen = BTreeSet::new();
    while let Some(node) = next.pop() {
        if seen.insert(node) {
            next.extend(above.get(&node).into_iter().flatten());
        }
    }
    let keys = seen.into_iter().filter_map(|node| match node {
        Node::Key(key) => Some(key.to_owned()),
        Node::Record(_) => None,
    });
    keys.collect()
}

/// A node of the dependency graph: it depends on what is below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Node<'s> {
    /// A snapshot by its key.
    Key(&'s str),
    /// A record.
    Record(&'s RecordId),
}

fn rename_in_records(records: &mut Records, renamed: &Renamed) {
    for record in records.by_id.values_mut() {
        let Some(new) = record.snapshot.as_ref().and_then(|key| renamed.get(key)) else { continue };
        record.snapshot = Some(new.clone());
        if record.blob.is_some() {
            record.layer_identity = record.diff_id;
        }
    }
}

fn rename_in(namespace: &mut Namespace, worker: &Worker, renamed: &Renamed) {
    let new = |key: String| renamed.get(&key).cloned().unwrap_or(key);
    if let Some(table) = worker.table_of_mut(namespace) {
        let rows = std::mem::take(&mut table.rows);
        let rows = rows.into_iter().map(|(key, mut row)| {
            row.parent = row.parent.map(new);
            row.children = row.children.into_iter().map(new).collect();
            (new(key), row)
        });
        table.rows = rows.collect();
    }
    for lease in namespace.leases.values_mut() {
        if let Some(keys) = worker.kept_by_mut(lease) {
            *keys = std::mem::take(keys).into_iter().map(new).collect();
        }
    }
}
