//! A commit of a snapshot that a daemon was killed in the middle of.
//!
//! containerd commits in a transaction of `containerdmeta.db`, in which the row under the key of the active
//! snapshot makes way for one under the new key, and so do the leases. Within it, the snapshotter gives the
//! snapshot its new name and kind, in a transaction of its own, which ends first (containerd v2.4.2
//! `core/metadata/snapshot.go` `Commit`). In between there is a row whose name the snapshotter does not have,
//! and a committed snapshot with the number that the row was about to draw. There is never more than one such
//! pair, as one transaction follows the other.
//!
//! A daemon that starts takes both for lost: it drops the record of the step and those on it. The files are
//! whole, so here the commit is completed.

use std::collections::BTreeSet;

use crate::metadata::{SnapshotRow, SnapshotTable};
use crate::snapshots::{Kind, Snapshots};
use crate::state::State;
use crate::worker::Worker;

use super::SnapshotDamage;

/// Completes the commit in the metadata of `state`, if there is one to be completed.
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

/// The committed snapshot that no row has and whose number is the next, with the key that it was to get.
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
