//! Conversions that store no blobs, before and after others.

use bkstate::layers;

use super::*;

const WITHOUT: Scope = Scope { extract: true, blobs: false };

#[test]
fn records_without_blobs_name_their_snapshots_and_nothing_else() {
    let (existing, places) = merged_with(&nothing(), &plan(), WITHOUT);
    assert!(places.blobs.is_empty() && !existing.trees.is_empty());
    assert!(namespace(&existing).content.is_empty());
    for (id, record) in &existing.state.records.by_id {
        let named = [record.blob, record.diff_id, record.chain_id, record.blob_chain_id];
        assert_eq!(named, [None; 4], "{id}");
        assert!(record.media_type.is_none() && record.blob_size.is_none(), "{id}");
        assert!(record.blob_only.is_none() && record.snapshot.is_some(), "{id}");
        let lease = &namespace(&existing).leases[id.as_str()];
        assert!(lease.content.is_empty() && !lease.snapshots.is_empty(), "{id}");
    }
    let again = merged_with(&existing, &plan(), WITHOUT);
    assert!(again.0.state == existing.state && again.1.need_no_files());
}

#[test]
fn blobs_that_are_left_out_can_be_added_later() {
    let (without, _) = merged_with(&nothing(), &plan(), WITHOUT);
    let (completed, places) = merged(&without, &plan(), true);
    let (at_once, _) = merged(&nothing(), &plan(), true);
    assert!(!places.need_no_files());
    assert_eq!(completed.state, at_once.state);
    assert_eq!(places.blobs, at_once.blobs.keys().copied().collect());
    assert_whole(&completed, &plan(), &places, true);
}

#[test]
fn blobs_that_are_there_stay_and_new_layers_come_without() {
    let (before, _) = merged(&nothing(), &plan(), true);
    assert_eq!(merged_with(&before, &plan(), WITHOUT).0.state, before.state);

    let mut smaller = plan();
    let top = smaller.layers.pop().unwrap();
    smaller.snapshots.truncate(top.snapshot.0);
    let left = smaller.layers.len();
    smaller.steps.retain(|step| step.results.iter().all(|result| result.layer.0 < left));
    let (before, _) = merged(&nothing(), &smaller, true);
    let (after, places) = merged_with(&before, &plan(), WITHOUT);
    assert!(places.blobs.is_empty());
    let blobless = after.state.records.by_id.values().filter(|record| record.blob.is_none());
    assert_eq!(blobless.count(), 1);
    assert_kept(&before, &after);
}

#[test]
fn what_a_daemon_has_exported_since_is_another_layer() {
    let plan = plan();
    let (mut existing, _) = merged_with(&nothing(), &plan, WITHOUT);
    let below = plan.layers[1].parent.unwrap();
    let packed = record_of(&mut existing, &plan, below.0);
    packed.blob = Some(Digest::of("packed again"));
    packed.diff_id = Some(Digest::of("other times"));
    packed.chain_id = packed.diff_id;
    packed.blob_chain_id = Some(Digest::of("packed again, other times"));
    let places = Places::new(&plan, &existing, scope(true));
    // Its blob is not the cache's, and neither are those above it.
    assert!(places.layers.iter().all(|place| matches!(place, LayerPlace::New(_))), "{places:?}");
    assert!(places.completed.is_empty());
    // The files are the same.
    assert!(places.snapshots.iter().all(|s| matches!(s, SnapshotPlace::Existing { .. })));
}

#[test]
fn a_record_without_a_blob_is_the_layer_only_in_its_place_and_if_a_conversion_made_it() {
    let plan = plan();
    let other = plan.layers[2].record.clone();
    let cases: [&dyn Fn(&mut bkstate::records::Record); 4] = [
        &|record| record.parent = Some(other.clone()),
        &|record| record.parent = None,
        &|record| record.merge_parents = Some(vec![other.clone()]),
        &|record| record.snapshot = Some(layers::legacy_snapshot_key(&Digest::of("its chain"))),
    ];
    for (number, change) in cases.into_iter().enumerate() {
        let (mut existing, places) = merged_with(&nothing(), &plan, WITHOUT);
        assert!(matches!(places.layers[LayerIndex(1)], LayerPlace::New(_)));
        let unchanged = Places::new(&plan, &existing, WITHOUT);
        assert!(
            matches!(unchanged.layers[LayerIndex(1)], LayerPlace::Existing { .. }),
            "{unchanged:?}"
        );
        change(record_of(&mut existing, &plan, 1));
        let places = Places::new(&plan, &existing, WITHOUT);
        assert!(matches!(places.layers[LayerIndex(1)], LayerPlace::New(_)), "{number}: {places:?}");
    }
}
