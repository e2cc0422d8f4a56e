//! Records and snapshots that are created again because the existing ones cannot be used.

use super::*;

#[test]
fn a_record_that_will_not_last_is_not_used() {
    let plan = plan();
    let cases: [fn(&mut bkstate::records::Record); 3] = [
        |record| record.deleted = Some(true),
        |record| record.committed = None,
        |record| record.equal_mutable = Some(RecordId::derive("mutable")),
    ];
    for change in cases {
        let (mut existing, _) = merged(&nothing(), &plan, true);
        change(record_of(&mut existing, &plan, 1));
        let (after, places) = merged(&existing, &plan, true);
        let LayerPlace::New(new) = &places.layers[LayerIndex(1)] else { panic!("{places:?}") };
        assert_ne!(*new, plan.layers[1].record);
        assert!(after.state.records.by_id.contains_key(new));
        let (again, _) = merged(&after, &plan, true);
        assert_eq!(again.state, after.state);
    }
}

#[test]
fn an_id_that_two_records_have_taken_is_not_given_to_a_third() {
    let plan = plan();
    let layer = &plan.layers[1];
    let numbered = |n: u64| RecordId::derive(&format!("{} {n}", layer.blob_chain_id));
    let (mut existing, _) = merged(&nothing(), &plan, true);
    record_of(&mut existing, &plan, 1).deleted = Some(true);
    let places = Places::new(&plan, &existing, scope(true));
    assert_eq!(places.layers[LayerIndex(1)], LayerPlace::New(numbered(1)));
    let passing = existing.state.records.by_id[&layer.record].clone();
    existing.state.records.by_id.insert(numbered(1), passing);
    let places = Places::new(&plan, &existing, scope(true));
    assert_eq!(places.layers[LayerIndex(1)], LayerPlace::New(numbered(2)));
}

#[test]
fn what_new_snapshots_lie_on_is_unpacked_whatever_its_record_says() {
    let plan = plan();
    let (mut existing, places) = merged(&nothing(), &plan, true);
    assert!(places.snapshots.iter().all(|place| matches!(place, SnapshotPlace::New { .. })));
    existing.trees.clear();
    // The record of the layer below stays, and does not say that its snapshot is not unpacked yet.
    for layer in &plan.layers[1..] {
        existing.state.records.by_id.remove(&layer.record);
    }
    let places = Places::new(&plan, &existing, scope(true));
    assert!(matches!(places.layers[LayerIndex(0)], LayerPlace::Existing { .. }), "{places:?}");
    let anew = |place: &SnapshotPlace| matches!(place, SnapshotPlace::New { .. });
    assert!(places.snapshots.iter().all(anew), "{places:?}");
}

#[test]
fn a_key_that_two_snapshots_have_taken_is_not_given_to_a_third() {
    let plan = plan();
    let (mut existing, places) = merged(&nothing(), &plan, true);
    let SnapshotPlace::New { id, key, .. } = places.snapshots.raw[1].clone() else { panic!() };
    existing.trees.remove(&id);
    record_of(&mut existing, &plan, 1).blob_only = Some(true);
    let chain = plan.snapshots[1].chain_id;
    for number in 1..3 {
        let numbered = RecordId::derive(&format!("snapshot {number} of {chain}")).to_string();
        let places = Places::new(&plan, &existing, scope(true));
        assert_eq!(places.snapshots.raw[1].key(), numbered);
        let namespace = existing.state.metadata.namespaces.get_mut(NAMESPACE).unwrap();
        let rows = &mut namespace.snapshots.get_mut(SNAPSHOTTER).unwrap().rows;
        rows.insert(numbered, rows[&key].clone());
    }
}

#[test]
fn a_merge_that_was_never_mounted_stays_so_and_its_key_is_given_to_no_layer() {
    let plan = plan();
    let (mut existing, places) = merged(&nothing(), &plan, true);
    let SnapshotPlace::New { id, key, .. } = places.snapshots.raw[2].clone() else { panic!() };
    existing.trees.remove(&id);
    let namespace = existing.state.metadata.namespaces.get_mut(NAMESPACE).unwrap();
    namespace.snapshots.get_mut(SNAPSHOTTER).unwrap().rows.remove(&key);
    let inputs = [0, 1].map(|layer| plan.layers[layer].record.clone());
    let merge = record_of(&mut existing, &plan, 2);
    merge.merge_parents = Some(inputs.into());
    merge.parent = None;
    merge.snapshot = Some("the merge".to_owned());
    let places = Places::new(&plan, &existing, scope(true));
    assert!(matches!(places.layers[LayerIndex(2)], LayerPlace::Existing { .. }), "{places:?}");
    assert_eq!(places.snapshots.raw[2], SnapshotPlace::Packed { key });
}
