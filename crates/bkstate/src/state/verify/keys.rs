//! Checks whether the snapshot of a record belongs to its chain.
//!
//! A daemon finds the files of a record by the key alone and never compares the parents of the snapshot with
//! those of the record. The keys that it assigns (BuildKit v0.12.5 to v0.34.2 `cache/manager.go` `New`,
//! `GetByBlob`, `createMergeRef`, `createDiffRef`; `snapshot/snapshotid.go`):
//!
//! | record | key |
//! |---|---|
//! | of a step, a merge, a difference | its own id |
//! | of a layer | made from its chainID, in the [form](crate::layers) of the release |
//! | of a layer, if a record with its chainID exists | that of the other record, of any form |
//!
//! So records that share a key have one chainID, and the parent of a record's snapshot is that of its parent
//! record, or another one of the parent's chain.

use std::collections::{BTreeMap, BTreeSet};

use crate::digest::Digest;
use crate::ids::RecordId;
use crate::layers;
use crate::metadata::SnapshotTable;
use crate::records::{Record, Records};

use super::{Findings, RecordDamage, Used};

/// Live records by the keys of their snapshots.
pub(super) struct SnapshotKeys<'r> {
    records: &'r Records,
    users: BTreeMap<&'r str, Vec<(&'r RecordId, &'r Record)>>,
}

impl<'r> SnapshotKeys<'r> {
    pub(super) fn of(records: &'r Records) -> Self {
        let mut users: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (id, record) in records.by_id.iter().filter(|(_, record)| !record.is_removed()) {
            users.entry(record.snapshot_key(id)).or_default().push((id, record));
        }
        Self { records, users }
    }

    /// Checks the key of a record and, if the snapshot exists, the snapshot's parent.
    pub(super) fn check(
        &self,
        id: &RecordId,
        record: &Record,
        table: &SnapshotTable,
        used: Used,
        findings: &mut Findings,
    ) {
        let key = record.snapshot_key(id);
        if let Some(owner) = self.other_owner(id, record, key) {
            let (record, snapshot) = (id.clone(), key.to_owned());
            findings.add(RecordDamage::SnapshotOfOther { record, snapshot, owner });
            return;
        }
        // The snapshots of merges and differences depend on their inputs. Until a twin has its own snapshot,
        // it uses that of the mutable record.
        if record.is_composed() || self.is_composed(key) {
            return;
        }
        let Some(row) = table.rows.get(key) else { return };
        let parent = record.parent.as_ref().map(|id| self.records.by_id.get_key_value(id));
        let expected = match parent {
            None => None,
            Some(Some((id, parent))) => Some(parent.snapshot_key(id)),
            // The missing snapshot is reported already.
            Some(None) => return,
        };
        let same = match (row.parent.as_deref(), expected) {
            (None, None) => true,
            (Some(found), Some(expected)) => self.have_one_chain(found, expected, used),
            _ => false,
        };
        if !same {
            findings.add(RecordDamage::SnapshotOnOther {
                record: id.clone(),
                snapshot: key.to_owned(),
                found: row.parent.clone(),
                expected: expected.map(str::to_owned),
            });
        }
    }

    /// Returns the owner of the snapshot according to its key, if that is not the record.
    fn other_owner(&self, id: &RecordId, record: &Record, key: &str) -> Option<String> {
        if key == id.as_str() {
            return None;
        }
        if record.is_composed() {
            return Some("another record".to_owned());
        }
        if let Some(chain) = layers::chain_id_of(key) {
            let own = record.chain_id;
            return own.filter(|own| *own != chain).map(|_| chain.to_string());
        }
        let others = self.users.get(key).into_iter().flatten();
        let mut others = others.filter(|(other, _)| *other != id);
        let differs =
            |other: &Record| record.chain_id.is_none() || other.chain_id != record.chain_id;
        others.find(|(_, other)| differs(other)).map(|(other, _)| format!("record {other}"))
    }

    fn is_composed(&self, key: &str) -> bool {
        self.users.get(key).is_some_and(|users| users.iter().any(|(_, user)| user.is_composed()))
    }

    /// Returns whether two snapshots have the files of one chain, according to records.
    fn have_one_chain(&self, a: &str, b: &str, used: Used) -> bool {
        if a == b {
            return true;
        }
        let (of_a, of_b) = (self.chains_of(a), self.chains_of(b));
        // A daemon may have removed the record for which the snapshot was made.
        let forgotten = used.records && (of_a.is_empty() || of_b.is_empty());
        forgotten || !of_a.is_disjoint(&of_b)
    }

    /// Returns the chainIDs of the records with this key, and the one in the key.
    fn chains_of(&self, key: &str) -> BTreeSet<Digest> {
        let users = self.users.get(key).into_iter().flatten();
        let chains = users.filter_map(|(_, user)| user.chain_id);
        chains.chain(layers::chain_id_of(key)).collect()
    }
}
