//! The existing parts of a state, by how they are looked up.

use std::collections::{BTreeMap, BTreeSet};

use bkstate::Digest;
use bkstate::ids::RecordId;
use bkstate::layers;
use bkstate::metadata::{Namespace, SnapshotTable};
use bkstate::records::Record;
use bkstate::snapshots::Kind;
use bkstate::state::Existing;

use crate::plan::Layer;

/// An existing state with its records by their chains.
pub(super) struct Found<'e> {
    existing: &'e Existing,
    namespace: Option<&'e Namespace>,
    table: Option<&'e SnapshotTable>,
    by_blobs: BTreeMap<Digest, Vec<Known<'e>>>,
    by_trees: BTreeMap<Digest, Vec<Known<'e>>>,
}

/// An existing record.
#[derive(Clone, Copy)]
pub(super) struct Known<'e> {
    pub(super) id: &'e RecordId,
    record: &'e Record,
}

impl<'e> Known<'e> {
    /// Returns whether its snapshot is not unpacked yet.
    pub(super) fn is_packed(self) -> bool {
        self.record.is_packed()
    }

    /// Returns whether it has a blob, which the records of merges do not.
    pub(super) fn names_blob(self) -> bool {
        self.record.blob.is_some()
    }

    /// Returns whether only the snapshot of its layer is known, as after a conversion without blobs, or
    /// before a daemon has exported it.
    pub(super) fn is_blobless(self) -> bool {
        let Self { record, .. } = self;
        record.is_lasting()
            && !record.is_composed()
            && record.blob.is_none()
            && record.chain_id.is_none()
            && record.blob_chain_id.is_none()
    }

    /// The key of its snapshot, existing or not.
    fn snapshot_key(self) -> &'e str {
        self.record.snapshot_key(self.id)
    }

    /// Returns whether its snapshot has a key from before v0.33.1. With a blob it would be legacy.
    fn has_legacy_key(self) -> bool {
        layers::legacy_chain_id(self.snapshot_key()).is_some()
    }
}

impl<'e> Found<'e> {
    pub(super) fn new(existing: &'e Existing) -> Self {
        let worker = &existing.state.worker;
        let namespace = worker.namespace_of(&existing.state.metadata);
        let table = namespace.and_then(|namespace| worker.table_of(namespace));
        let mut found = Self {
            existing,
            namespace,
            table,
            by_blobs: BTreeMap::new(),
            by_trees: BTreeMap::new(),
        };
        let legacy = existing.unshared();
        for (id, record) in &existing.state.records.by_id {
            // A daemon since v0.33.1 does not share records that depend on legacy layers, because their trees
            // were not checked. The conversion has renamed those that it checked.
            if !record.is_lasting() || legacy.contains(id) {
                continue;
            }
            if let Some(chain) = record.blob_chain_id {
                found.by_blobs.entry(chain).or_default().push(Known { id, record });
            }
            if let Some(chain) = record.chain_id {
                found.by_trees.entry(chain).or_default().push(Known { id, record });
            }
        }
        for records in found.by_blobs.values_mut() {
            // A separate layer, which stays as it is, comes before merges with the same content.
            records.sort_by_key(|Known { id, record }| (record.is_composed(), *id));
        }
        found
    }

    /// Returns the records of `layer`, the best one first; `below` is that of the layer below.
    pub(super) fn records_of(&self, layer: &Layer, below: Option<Known<'e>>) -> Vec<Known<'e>> {
        if let Some(records) = self.by_blobs.get(&layer.blob_chain_id) {
            return records.clone();
        }
        // A record that a conversion without blobs left can only be recognised by its id, which is unique to
        // us. A daemon that has exported it since has made another layer from it.
        let own = self.existing.state.records.by_id.get_key_value(&layer.record);
        let own = own.map(|(id, record)| Known { id, record }).filter(|own| {
            let same_place = match layer.parent {
                None => own.record.parent.is_none(),
                Some(_) => below.is_some_and(|below| own.record.parent.as_ref() == Some(below.id)),
            };
            own.is_blobless() && same_place && !own.has_legacy_key()
        });
        own.into_iter().collect()
    }

    /// Returns the key and the id of an unpacked snapshot with the files of the chain `chain`, if there is
    /// one; that of one of the records `preferred` if possible.
    pub(super) fn tree_of(&self, chain: &Digest, preferred: &[Known<'e>]) -> Option<(String, u64)> {
        let others = self.by_trees.get(chain).into_iter().flatten();
        let keys = preferred.iter().chain(others).map(|record| record.snapshot_key());
        let mut keys = keys.map(str::to_owned).chain([layers::snapshot_key(chain)]);
        keys.find_map(|key| self.tree(&key).map(|id| (key, id)))
    }

    /// Returns the id of the snapshot `key`, if it is unpacked.
    fn tree(&self, key: &str) -> Option<u64> {
        let row = self.table?.rows.get(key)?;
        let snapshot = self.existing.state.snapshots.by_name.get(&row.name)?;
        let unpacked =
            snapshot.kind == Kind::Committed && self.existing.trees.contains(&snapshot.id);
        unpacked.then_some(snapshot.id)
    }

    /// Returns an unused key for the snapshot of `chain`: that of a record whose snapshot is not made yet,
    /// otherwise the one derived from the chain, as in `GetByBlob`. `given` are those of other chains.
    pub(super) fn free_snapshot(&self, chain: &Digest, given: &mut BTreeSet<String>) -> String {
        let key = self.untaken_key(chain, given);
        given.insert(key.clone());
        key
    }

    fn untaken_key(&self, chain: &Digest, given: &BTreeSet<String>) -> String {
        let taken = |key: &str| {
            given.contains(key) || self.table.is_some_and(|table| table.rows.contains_key(key))
        };
        let records = self.by_trees.get(chain).into_iter().flatten();
        let layers = records.filter(|known| !known.record.is_composed());
        let mut keys = layers.map(|known| known.snapshot_key()).filter(|key| !taken(key));
        if let Some(key) = keys.next() {
            return key.to_owned();
        }
        let mut key = layers::snapshot_key(chain);
        let mut number = 0_u64;
        while taken(&key) {
            number += 1;
            key = RecordId::derive(&format!("snapshot {number} of {chain}")).to_string();
        }
        key
    }

    /// Returns an id for the new record of `layer`.
    pub(super) fn free_record(&self, layer: &Layer, taken: &mut BTreeSet<RecordId>) -> RecordId {
        let mut id = layer.record.clone();
        let mut number = 0_u64;
        // A record with that id is of the same layer, but being removed.
        while self.existing.state.records.by_id.contains_key(&id) || !taken.insert(id.clone()) {
            number += 1;
            id = RecordId::derive(&format!("{} {number}", layer.blob_chain_id));
        }
        id
    }

    /// Returns whether the store has the blob, with its row.
    pub(super) fn has_blob(&self, blob: &Digest) -> bool {
        let row = self.namespace.and_then(|namespace| namespace.content.get(blob));
        row.is_some_and(|row| {
            self.existing.blobs.get(blob).is_some_and(|size| size.cast_signed() == row.size)
        })
    }
}
