use super::*;
use crate::layers;
use crate::state::mend::with_former_rows;

/// Layers `base` and `top` that a daemon before v0.33.1 unpacked, `packed` on top of them, not unpacked, and
/// above it the snapshot of a step.
fn upgraded() -> State {
    let mut state = State::without_anything();
    state.add_layer("base", None, false);
    state.add_layer("top", Some("base"), false);
    state.add_layer("packed", Some("top"), true);
    for name in ["base", "top", "packed"] {
        let key = layers::legacy_snapshot_key(&chain(&state, name));
        record_mut(&mut state, name).snapshot = Some(key.clone());
        let lease = namespace_mut(&mut state).leases.get_mut(id(name).as_str()).unwrap();
        lease.snapshots.insert(SNAPSHOTTER.to_owned(), [key].into());
    }
    let [base, top] = ["base", "top"].map(|name| chain(&state, name).to_string());
    state.add_snapshot(&base, Kind::Committed, None);
    state.add_snapshot(&top, Kind::Committed, Some(&base));
    let step = Record { committed: Some(true), parent: Some(id("top")), ..Record::default() };
    state.add_record("step", id("step").as_str(), step);
    state.add_snapshot(id("step").as_str(), Kind::Committed, Some(&top));
    state
}

fn chain(state: &State, name: &str) -> Digest {
    state.records.by_id[&id(name)].chain_id.unwrap()
}

fn chains(state: &State, names: &[&str]) -> BTreeSet<Digest> {
    names.iter().map(|name| chain(state, name)).collect()
}

fn read(root: &Root) -> Existing {
    Existing::read(&root.held, &WorkerId::derive("unused")).unwrap()
}

fn publish(root: &Root, existing: &Existing) {
    let staging = Staging::begin(&root.held, existing).unwrap();
    let written = staging.write(&existing.state).unwrap();
    assert!(
        existing
            .new_damage(staging.parts(&written).unwrap().verify_databases().unwrap())
            .is_empty()
    );
    staging.publish(written).unwrap();
}

const ALL: [&str; 3] = ["base", "top", "packed"];

#[test]
fn layers_that_were_checked_get_the_new_keys_everywhere() {
    let before = upgraded();
    assert_eq!(layers::depend_on_legacy(&before.records).len(), 4);
    let root = Root::with(&before);
    let mut existing = read(&root);
    assert_eq!(existing.mend(&chains(&before, &ALL)), chains(&before, &ALL));
    publish(&root, &existing);

    let after = read(&root).state;
    assert!(layers::depend_on_legacy(&after.records).is_empty());
    let rows = &namespace(&after).snapshots[SNAPSHOTTER].rows;
    for name in ALL {
        let (record, new) =
            (&after.records.by_id[&id(name)], layers::snapshot_key(&chain(&before, name)));
        assert_eq!(record.snapshot.as_ref(), Some(&new));
        assert_eq!(record.layer_identity, record.diff_id);
        let lease = &namespace(&after).leases[id(name).as_str()];
        assert_eq!(lease.snapshots[SNAPSHOTTER], [new.clone()].into());
        assert_eq!(rows.contains_key(&new), name != "packed");
    }
    let [base, top] = ["base", "top"].map(|name| layers::snapshot_key(&chain(&before, name)));
    assert_eq!(rows[&base].children, [top.clone()].into());
    assert_eq!(rows[&top].parent.as_ref(), Some(&base));
    assert_eq!(rows[&top].children, [id("step").to_string()].into());
    assert_eq!(rows[id("step").as_str()].parent.as_ref(), Some(&top));
    // The snapshotter's own names do not matter to others.
    assert_eq!(after.snapshots, before.snapshots);
    assert_eq!(rows.len(), 3);
    assert!(verify_databases(&root.held).unwrap().leftovers.is_empty());
    assert!(read(&root).mend(&chains(&before, &ALL)).is_empty(), "nothing is left to mend");
}

#[test]
fn what_lies_on_an_unchecked_layer_stays_legacy() {
    let before = upgraded();
    for (checked, mended) in [
        (&["top", "packed"][..], &[][..]),
        (&["base", "packed"], &["base"]),
        (&["base", "top"], &["base", "top"]),
        (&[], &[]),
    ] {
        let root = Root::with(&before);
        let mut existing = read(&root);
        assert_eq!(
            existing.mend(&chains(&before, checked)),
            chains(&before, mended),
            "{checked:?}"
        );
        publish(&root, &existing);
        let after = read(&root).state;
        let own = ALL.iter().filter(|name| layers::is_legacy(&after.records.by_id[&id(name)]));
        assert_eq!(own.count(), ALL.len() - mended.len());
    }
}

#[test]
fn a_snapshot_that_lies_on_an_unchecked_one_stays_legacy_whatever_the_records_say() {
    let mut before = upgraded();
    record_mut(&mut before, "top").parent = None;
    record_mut(&mut before, "top").chain_id = Some(Digest::of("top"));
    let key = layers::legacy_snapshot_key(&chain(&upgraded(), "top"));
    let checked: BTreeSet<_> = layers::legacy_chain_id(&key).into_iter().collect();
    let mut existing = nothing();
    existing.state = before;
    assert!(existing.mend(&checked).is_empty());
}

#[test]
fn a_key_that_is_taken_is_not_given_twice() {
    let mut before = upgraded();
    let new = layers::snapshot_key(&chain(&before, "base"));
    before.add_snapshot(&new, Kind::Committed, None);
    let root = Root::with(&before);
    let mut existing = read(&root);
    let checked = chains(&before, &["base"]);
    assert!(existing.mend(&checked).is_empty());
    assert_eq!(existing.state, before);
}

// A run can be stopped when only `containerdmeta.db` was replaced, or also `metadata_v2.db`.
#[test]
fn every_step_of_renaming_is_sound_and_the_next_run_drops_what_is_left() {
    let before = upgraded();
    let mut existing = nothing();
    existing.state = before.clone();
    existing.mend(&chains(&before, &ALL));
    let after = existing.state.clone();
    let either = with_former_rows(&after, &existing.renamed);
    for (records, expected) in [(&before.records, &before), (&after.records, &after)] {
        let half = State { records: records.clone(), metadata: either.clone(), ..before.clone() };
        let root = Root::with(&half);
        let found = verify_databases(&root.held).unwrap();
        assert!(found.damage.is_empty(), "{:?}", found.damage);
        let kinds: Vec<_> = found.leftovers.iter().map(Damage::kind).collect();
        assert_eq!(kinds, ["unused-snapshot-key"; 2]);
        let existing = read(&root);
        let expected = leases_with_both(expected, &half, &existing);
        assert_eq!(existing.state, expected);
        publish(&root, &existing);
        assert!(verify_databases(&root.held).unwrap().leftovers.is_empty());
        assert_eq!(read(&root).state, expected);
    }
}

/// `expected` with both keys of the packed layer, as the lease has them halfway: no row has either key, so
/// both stay.
fn leases_with_both(expected: &State, half: &State, existing: &Existing) -> State {
    let mut expected = expected.clone();
    let packed = id("packed").to_string();
    let lease = namespace(half).leases[&packed].clone();
    assert_eq!(lease.snapshots[SNAPSHOTTER].len(), 2);
    assert_eq!(namespace(&existing.state).leases[&packed], lease);
    namespace_mut(&mut expected).leases.insert(packed, lease);
    expected
}
