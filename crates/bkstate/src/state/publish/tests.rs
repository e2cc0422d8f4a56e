use super::super::tests::{Root, id, sound, table_mut};
use super::*;
use crate::dir::FileKind;
use crate::ids::WorkerId;

/// Returns `state` with another snapshot for the cache mount, and the ids of the old one and the new one.
fn replaced(state: &State) -> (State, u64, u64) {
    let mut state = state.clone();
    let key = id("mount").to_string();
    let row = table_mut(&mut state).rows[&key].clone();
    let old = state.snapshots.by_name.remove(&row.name);
    let old = old.expect("the mount has a snapshot");
    let number = table_mut(&mut state).sequence + 1;
    table_mut(&mut state).sequence = number;
    let name = state.worker.snapshot_name(number, &key);
    let Some(row) = table_mut(&mut state).rows.get_mut(&key) else { panic!("no row") };
    row.name.clone_from(&name);
    let new = state.snapshots.sequence + 1;
    state.snapshots.sequence = new;
    let id = old.id;
    state.snapshots.by_name.insert(name, crate::snapshots::Snapshot { id: new, ..old });
    (state, id, new)
}

#[test]
fn a_snapshot_is_removed_after_nothing_names_it() {
    let state = sound();
    let (after, old, new) = replaced(&state);
    let mut count = 0;
    for stop in 0.. {
        let root = Root::with(&state);
        let existing = root.held.existing(&WorkerId::derive("worker")).unwrap();
        let staging = Staging::begin(&root.held, &existing).unwrap();
        staging.trees().create_snapshot(new).unwrap();
        let written = staging.write(&after).unwrap();
        let verified = staging.parts(&written).unwrap().verify_databases().unwrap();
        assert_eq!(existing.new_damage(verified).len(), 0);
        let steps = staging.steps(&written);
        if stop > steps.len() {
            break;
        }
        count = steps.len();
        for step in &steps[..stop] {
            staging.take(*step, &written).unwrap();
        }
        // As if the process had been killed.
        std::mem::forget(staging);
        let kept = root.held.existing(&WorkerId::derive("worker"));
        let kept = kept.unwrap_or_else(|error| panic!("after {stop} of {steps:?}: {error}"));
        let mounts = kept.state.cache_mounts();
        let directory = mounts[0].directory.expect("the mount has files");
        assert!([old, new].contains(&directory));
        assert!(root.snapshot(directory).is_dir(), "after {stop} of {steps:?}");
        assert_eq!(directory == new, stop > 3, "after {stop} of {steps:?}");
        assert_eq!(root.snapshot(old).is_dir(), stop < steps.len());
    }
    assert_eq!(count, 9);
}

#[test]
fn the_removed_directory_is_gone_afterwards() {
    let state = sound();
    let (after, old, new) = replaced(&state);
    let root = Root::with(&state);
    let existing = root.held.existing(&WorkerId::derive("worker")).unwrap();
    let staging = Staging::begin(&root.held, &existing).unwrap();
    staging.trees().create_snapshot(new).unwrap();
    let written = staging.write(&after).unwrap();
    staging.publish(written).unwrap();
    assert!(!root.snapshot(old).exists() && root.snapshot(new).is_dir());
    assert_eq!(root.held.verify_databases().unwrap().damage.len(), 0);
    let staging = root.held.dir().find(crate::worker::STAGING).unwrap();
    assert!(staging.is_none_or(|found| found.kind != FileKind::Directory));
}
