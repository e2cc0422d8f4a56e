//! Layers that are left packed.

use super::*;

#[test]
fn what_is_left_packed_has_no_snapshot_and_takes_no_name() {
    let plan = plan();
    let existing = nothing();
    let mut places = Places::new(&plan, &existing, scope(true));
    let tree = Tree { usage: Usage { size: 4096, inodes: 1 }, labels: BTreeMap::new() };
    let lowest = SnapshotIndex(1);
    let is_left =
        |index: &SnapshotIndex| *index == lowest || plan.snapshots[*index].parent == Some(lowest);
    let (left, whole): (Vec<_>, Vec<_>) = by_index(&plan.snapshots).keys().partition(is_left);
    let trees: BTreeMap<_, _> = whole.into_iter().map(|index| (index, tree.clone())).collect();
    places.leave_packed(&left);
    let state = assemble(&plan, &places, &existing.state, &trees, USED).unwrap();
    let table = &state.metadata.namespaces[NAMESPACE].snapshots[SNAPSHOTTER];
    assert_eq!((table.rows.len(), table.sequence), (trees.len(), trees.len() as u64));
    for layer in &plan.layers {
        let record = &state.records.by_id[&layer.record];
        let is_left = left.contains(&layer.snapshot);
        assert_eq!(record.blob_only, is_left.then_some(true));
        assert_eq!(table.rows.contains_key(record.snapshot.as_ref().unwrap()), !is_left);
        let lease = &state.metadata.namespaces[NAMESPACE].leases[layer.record.as_str()];
        assert!(lease.snapshots[SNAPSHOTTER].contains(record.snapshot.as_ref().unwrap()));
    }
}

#[test]
fn each_blob_is_read_and_unpacked_into_its_snapshot_unless_all_stay_packed() {
    let plan = plan();
    for extract in [true, false] {
        let work = Places::new(&plan, &nothing(), scope(extract)).work(&plan);
        let snapshots = by_index(&plan.snapshots).iter_enumerated();
        let expected = snapshots.map(|(index, snapshot)| {
            (snapshot.blob, if extract { vec![index] } else { Vec::new() })
        });
        assert_eq!(work, expected.collect());
    }
}
