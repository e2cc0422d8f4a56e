//! Commits of a snapshot that a kill of the daemon interrupted.
//!
//! containerd commits in a transaction of `containerdmeta.db`, which replaces the row under the key of the
//! active snapshot by one under the new key, in the leases too. Within it, the snapshotter gives the snapshot
//! its new name and kind, in its own transaction, which ends first (containerd v2.4.2
//! `core/metadata/snapshot.go` `Commit`). In between, the snapshotter does not have the name in the row, and
//! has a committed snapshot with the number that the row was about to draw. At most one such pair exists,
//! because transactions are serial.
//!
//! A starting daemon treats both as lost: it drops the record of the step and those above it. The files are
//! complete, so here the commit is completed.

use std::collections::BTreeSet;

use crate::metadata::{SnapshotRow, SnapshotTable};
use crate::snapshots::{Kind, Snapshots};
use crate::state::State;
use crate::worker::Worker;

use super::SnapshotDamage;

/// Completes an interrupted commit in the metadata of `state`, if there is one.
pub(super) fn complete(state: &mut State) -> Option<SnapshotDamage> {
    let State { worker, metadata, snapshots, .. } = state;
    let namespace = worker.namespace_of_mut(metadata)?;
    let table = worker.table_of_mut(namespace)?;
    let (name, new) = committed(worker, table, snapshots)?;
    let snapshot = snapshots.by_name.get(&name)?;
    let old = {
        let mut without = table.rows.iter().filter(|(_, row)| !has(snapshots, row));
        let (key, row) = without.next()?;
        let below = row.parent.as_ref().map(|parent| table.rows.get(parent));
        let below = below.map(|row| row.map(|row| row.name.as_str()));
        let is_same = match below {
            None => snapshot.parent.is_none(),
            Some(below) => below.is_some() && below == snapshot.parent.as_deref(),
        };
        if without.next().is_some() || !is_same {
            return None;
        }
        key.clone()
    };
    let row = table.rows.remove(&old)?;
    if let Some(below) = row.parent.as_ref().and_then(|parent| table.rows.get_mut(parent)) {
        below.children.remove(&old);
        below.children.insert(new.clone());
    }
    let row = SnapshotRow {
        name: name.clone(),
        parent: row.parent,
        created_at: snapshot.created_at,
        updated_at: snapshot.updated_at,
        ..SnapshotRow::default()
    };
    table.rows.insert(new.clone(), row);
    table.sequence += 1;
    for lease in namespace.leases.values_mut() {
        if let Some(keys) = worker.kept_by_mut(lease)
            && keys.remove(&old)
        {
            keys.insert(new.clone());
        }
    }
    Some(SnapshotDamage::HalfCommitted { name, key: old })
}

/// Returns the committed snapshot that has no row and whose number is the next one, with its intended key.
fn committed(
    worker: &Worker,
    table: &SnapshotTable,
    snapshots: &Snapshots,
) -> Option<(String, String)> {
    let named: BTreeSet<_> = table.rows.values().map(|row| row.name.as_str()).collect();
    let begin = worker.snapshot_name(table.sequence.checked_add(1)?, "");
    let mut found = snapshots.by_name.iter().filter(|(name, snapshot)| {
        snapshot.kind == Kind::Committed && !named.contains(name.as_str())
    });
    let (name, key) =
        found.find_map(|(name, _)| Some((name.clone(), name.strip_prefix(&begin)?.to_owned())))?;
    (!table.rows.contains_key(&key)).then_some((name, key))
}

fn has(snapshots: &Snapshots, row: &SnapshotRow) -> bool {
    snapshots.by_name.contains_key(&row.name)
}
