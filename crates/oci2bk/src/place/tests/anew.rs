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
