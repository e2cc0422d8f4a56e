//! States that are in order, that are none, and that daemons have used.

use super::*;
use crate::state::VerifyError;

#[test]
fn a_sound_state_has_no_damage() {
    assert!(damage_of(&Root::with(&sound())).is_empty());
    assert!(damage_of(&Root::with(&State::without_anything())).is_empty());
}

#[test]
fn a_state_of_a_daemon_that_was_never_asked_for_anything_has_no_damage() {
    let root = Root::with(&State::without_anything());
    fs::remove_dir_all(root.worker("content")).unwrap();
    fs::remove_file(root.worker("snapshots/metadata.db")).unwrap();
    assert!(damage_of(&root).is_empty());
    // With rows of snapshots the file has to be there.
    let root = Root::with(&sound());
    fs::remove_file(root.worker("snapshots/metadata.db")).unwrap();
    assert_eq!(kinds_of(&damage_of(&root)), ["missing-file"]);
}

#[test]
fn everything_that_is_damaged_is_listed() {
    let mut state = sound();
    state.solver.backlinks.remove(&key("top"));
    record_mut(&mut state, "merged").merge_parents = Some(vec![id("gone")]);
    state.snapshots.sequence = 0;
    let damage = damage_of(&Root::with(&state));
    assert_eq!(damage.len(), 2 + sound().snapshots.by_name.len(), "{damage:#?}");
}

#[test]
fn a_root_without_a_state_is_not_taken_for_a_damaged_one() {
    let root = Root::empty();
    let refused = |root: &Root| verify(&root.dir).unwrap_err();
    assert!(matches!(refused(&root), VerifyError::NoState { .. }));
    fs::write(root.path().join("buildkitd.lock"), "").unwrap();
    fs::create_dir_all(root.path().join(".oci2bk-staging/runc-overlayfs")).unwrap();
    fs::write(root.path().join("unrelated"), "").unwrap();
    assert!(matches!(refused(&root), VerifyError::NoState { .. }));
    fs::create_dir(root.path().join("runc-native")).unwrap();
    assert!(
        matches!(refused(&root), VerifyError::OtherWorker { found, .. } if found == "runc-native")
    );

    let root = Root::with(&sound());
    let staging = root.path().join(".oci2bk-staging");
    fs::create_dir(&staging).unwrap();
    fs::rename(root.path().join("cache.db"), staging.join("cache.db")).unwrap();
    assert!(matches!(refused(&root), VerifyError::HalfPublished { .. }));
}

#[test]
fn results_of_another_worker_of_the_root_are_its_own_matter() {
    let mut state = sound();
    let worker = WorkerId::derive("native");
    state.solver.add_result(&key("top"), ResultId { worker, record: Some(id("x")) }, NOW);
    let root = Root::with(&state);
    let native = root.path().join("runc-native");
    fs::create_dir(&native).unwrap();
    assert_eq!(kinds_of(&damage_of(&root)), ["result-of-unknown-worker"]);
    fs::write(native.join("workerid"), WorkerId::derive("native").as_str()).unwrap();
    assert!(damage_of(&root).is_empty());
}

#[test]
fn what_daemons_leave_behind_is_no_damage_once_one_has_used_the_state() {
    let mut state = sound();
    for (at, record) in [("top", "collected"), ("invisible", "top")] {
        let result = result(&state, record);
        state.solver.add_result(&key(at), result, NOW);
    }
    state.solver.backlinks.remove(&key("top"));
    state.records.external.insert(id("collected"), BTreeMap::new());
    table_mut(&mut state).rows.get_mut("base").unwrap().children.insert("collected".to_owned());
    let root = Root::with(&state);
    let leftovers = [
        "result-without-record",
        "invisible-key",
        "missing-backlink",
        "stray-external",
        "stray-snapshot-child",
    ];
    assert_eq!(kinds_of(&damage_of(&root)), leftovers);
    use_database(&root.path().join(CACHE_DB));
    let found = verify(&root.dir).unwrap();
    assert_eq!(
        kinds_of(&found.damage),
        ["result-without-record", "stray-external", "stray-snapshot-child"]
    );
    use_database(&root.worker(RECORDS_DB));
    use_database(&root.worker(METADATA_DB));
    let found = verify(&root.dir).unwrap();
    assert_eq!((kinds_of(&found.damage), kinds_of(&found.leftovers)), (vec![], leftovers.to_vec()));
}

#[test]
fn what_a_daemon_had_yet_to_collect_is_no_damage() {
    let mut state = sound();
    state.snapshots.by_name.insert(
        "buildkit/9/gone".to_owned(),
        Snapshot {
            id: 9,
            kind: Kind::Committed,
            parent: None,
            created_at: None,
            updated_at: None,
            inodes: None,
            size: None,
            labels: BTreeMap::new(),
        },
    );
    state.snapshots.sequence = 9;
    let root = Root::with(&state);
    fs::write(root.blob(&blob("gone")), "").unwrap();
    let strays = ["stray-blob", "snapshot-not-in-containerd"];
    assert_eq!(kinds_of(&damage_of(&root)), strays);
    // With the databases of a daemon it may have been stopped before it removed the files.
    use_database(&root.worker(METADATA_DB));
    let found = verify(&root.dir).unwrap();
    assert_eq!((kinds_of(&found.damage), kinds_of(&found.leftovers)), (vec![], strays.to_vec()));
}

#[test]
fn a_state_in_parts_is_verified_as_one() {
    // As a conversion has it before it publishes: databases in one place, and what the root had
    // already in another.
    let [old, new] = [Root::with(&sound()), Root::with(&sound())];
    for name in ["top", "packed"] {
        fs::remove_file(new.blob(&blob(name))).unwrap();
    }
    fs::remove_dir_all(new.snapshot(1)).unwrap();
    fs::remove_dir_all(old.snapshot(2)).unwrap();
    let mut parts = Parts::of_root(&new.dir).unwrap();
    assert_eq!(parts.verify().unwrap().damage.len(), 3);
    let others = Parts::of_root(&old.dir).unwrap();
    parts.blobs.extend(others.blobs);
    parts.trees.extend(others.trees);
    assert_eq!(kinds_of(&parts.verify().unwrap().damage), Vec::<&str>::new());
}
