//! Roots with sound states, without states, and with states that daemons have used.

use super::kinds::databases::{OTHERS, cut, write_other};
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
    // With rows of snapshots the file must exist.
    let root = Root::with(&sound());
    fs::remove_file(root.worker("snapshots/metadata.db")).unwrap();
    assert_eq!(kinds_of(&damage_of(&root)), ["missing-file"]);
}

#[test]
fn a_daemon_that_was_stopped_in_its_first_start_leaves_no_damage() {
    let root = Root::with(&State::without_anything());
    fs::remove_dir_all(root.worker("content")).unwrap();
    fs::remove_file(root.worker("snapshots/metadata.db")).unwrap();
    // Backwards: each file is empty before it is missing.
    let made = ["cache.db", "runc-overlayfs/metadata_v2.db", "runc-overlayfs/containerdmeta.db"];
    for (at, name) in made.into_iter().enumerate() {
        let path = root.path().join(name);
        let empty = |path: &Path| fs::write(path, "");
        for step in [empty, |path: &Path| fs::remove_file(path)] {
            step(&path).unwrap();
            let found = verify_databases(&root.held);
            match at {
                0 => assert!(found.unwrap().damage.is_empty(), "{name}"),
                _ => {
                    assert!(matches!(found, Err(VerifyError::NoState { .. })), "{name}: {found:?}")
                }
            }
        }
    }
    fs::remove_file(root.worker(WORKER_ID)).unwrap();
    fs::remove_dir_all(root.worker("snapshots")).unwrap();
    let error = verify_databases(&root.held).unwrap_err();
    assert!(matches!(error, VerifyError::NoState { .. }), "{error}");
    assert!(
        error.to_string().ends_with(
            " holds no state: nothing was converted into it, and no buildkitd has built \
             on it"
        ),
        "{error}"
    );

    // A snapshot alone shows that a part is missing.
    let alone = Root::empty();
    fs::create_dir_all(alone.snapshot(1)).unwrap();
    assert!(!damage_of(&alone).is_empty());
    // So does a blob, but not a content store without any.
    let alone = Root::empty();
    let blob = alone.blob(&blob("a"));
    fs::create_dir_all(blob.parent().unwrap()).unwrap();
    fs::create_dir_all(alone.snapshot(1).parent().unwrap()).unwrap();
    let error = verify_databases(&alone.held).unwrap_err();
    assert!(matches!(error, VerifyError::NoState { .. }), "{error}");
    fs::write(blob, "").unwrap();
    assert!(!damage_of(&alone).is_empty());

    // Where something remains, something was lost.
    let root = Root::with(&sound());
    for name in ["cache.db", "runc-overlayfs/metadata_v2.db"] {
        fs::remove_file(root.path().join(name)).unwrap();
    }
    assert_eq!(kinds_of(&damage_of(&root)), ["missing-file"; 2]);
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
    let refused = |root: &Root| verify_databases(&root.held).unwrap_err();
    let has_none = |root: &Root| {
        let error = refused(root);
        assert!(matches!(error, VerifyError::NoState { .. }), "{error}");
        let said =
            " holds no state: nothing was converted into it, and no buildkitd has built on it";
        assert!(error.to_string().ends_with(said), "{error}");
    };
    has_none(&root);
    fs::write(root.path().join("buildkitd.lock"), "").unwrap();
    fs::create_dir_all(root.path().join(".oci2bk-staging/runc-overlayfs")).unwrap();
    fs::write(root.path().join("unrelated"), "").unwrap();
    has_none(&root);
    // Nothing of it was published while the staging directory still has all of it, or nothing.
    let staged = root.path().join(".oci2bk-staging/cache.db");
    fs::write(&staged, "").unwrap();
    has_none(&root);
    fs::remove_file(staged).unwrap();
    fs::remove_dir(root.path().join(".oci2bk-staging/runc-overlayfs")).unwrap();
    has_none(&root);
    fs::create_dir(root.path().join("runc-native")).unwrap();
    let error = refused(&root);
    assert!(
        matches!(&error, VerifyError::OtherWorker { found, .. } if found == "runc-native"),
        "{error}"
    );
    assert!(
        error.to_string().ends_with(
            " holds the state of the worker runc-native, not that of the OCI worker on overlayfs"
        ),
        "{error}"
    );

    let root = Root::with(&sound());
    let staging = root.path().join(".oci2bk-staging");
    fs::create_dir(&staging).unwrap();
    fs::rename(root.path().join("cache.db"), staging.join("cache.db")).unwrap();
    let error = refused(&root);
    assert!(matches!(error, VerifyError::HalfPublished { .. }), "{error}");
    assert!(
        error.to_string().ends_with(
            " holds no state yet: a conversion was stopped while it published one; run \
             it again"
        ),
        "{error}"
    );
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
    fs::create_dir(native.join("workerid")).unwrap();
    assert_eq!(kinds_of(&damage_of(&root)), ["result-of-unknown-worker"]);
    fs::remove_dir(native.join("workerid")).unwrap();
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
    let found = verify_databases(&root.held).unwrap();
    assert_eq!(
        kinds_of(&found.damage),
        ["result-without-record", "stray-external", "stray-snapshot-child"]
    );
    use_database(&root.worker(RECORDS_DB));
    use_database(&root.worker(METADATA_DB));
    let found = verify_databases(&root.held).unwrap();
    assert_eq!((kinds_of(&found.damage), kinds_of(&found.leftovers)), (vec![], leftovers.to_vec()));
}

#[test]
fn a_state_is_used_once_a_daemon_has_changed_any_of_its_databases() {
    let root = Root::with(&sound());
    assert!(!verify_databases(&root.held).unwrap().used);
    for database in [root.path().join(CACHE_DB), root.worker(RECORDS_DB), root.worker(METADATA_DB)]
    {
        let before = fs::read(&database).unwrap();
        use_database(&database);
        assert!(verify_databases(&root.held).unwrap().used, "{}", database.display());
        fs::write(&database, before).unwrap();
    }
    assert!(!verify_databases(&root.held).unwrap().used);
}

#[test]
fn other_databases_are_in_order_whether_they_are_there_or_not() {
    let root = Root::with(&sound());
    for name in OTHERS {
        let path = root.path().join(name);
        write_other(&path);
        assert!(damage_of(&root).is_empty(), "{name}");
        // A daemon starts over in an empty file.
        fs::write(&path, "").unwrap();
        assert!(damage_of(&root).is_empty(), "{name}");
    }
}

#[test]
fn what_is_said_of_a_database_is_true_of_that_one() {
    let root = Root::with(&sound());
    let said = |name: &str| {
        let path = root.path().join(name);
        let before = fs::read(&path).ok();
        cut(&path);
        let found = verify_databases(&root.held).unwrap().damage;
        fs::write(&path, before.unwrap()).unwrap();
        found[0].consequence()
    };
    write_other(&root.path().join("history.db"));
    write_other(&root.path().join("cache-debug.db"));
    assert!(said("cache.db").contains("starts cold"));
    assert!(said("history.db").contains("past builds"));
    assert!(said("cache-debug.db").contains("--save-cache-debug"));
    assert!(said("runc-overlayfs/metadata_v2.db").starts_with("the daemon does not start"));
}

/// A state with records that a daemon was making or removing when it stopped, and their ids.
pub(in crate::state::tests) fn stopped_over() -> (State, Vec<RecordId>) {
    let mut state = sound();
    // Released; the snapshot of the second is collected already.
    for name in ["let go", "collected"] {
        state.records.by_id.insert(id(name), Record::default());
        state.records.external.insert(id(name), BTreeMap::new());
    }
    state.add_snapshot(id("let go").as_str(), Kind::Active, None);
    // Its twin has taken over its snapshot.
    let retained = Record { cache_policy: Some(POLICY_RETAIN), ..Record::default() };
    state.add_record("given", id("given").as_str(), retained);
    let twin =
        Record { committed: Some(true), equal_mutable: Some(id("given")), ..Record::default() };
    state.add_record("twin", "twin", twin);
    // Same for these, whose twins do not name them any more. The lease of one still exists.
    let retained = || Record { cache_policy: Some(POLICY_RETAIN), ..Record::default() };
    state.add_record("passed on", id("passed on").as_str(), retained());
    state.records.by_id.insert(id("left behind"), retained());
    state.add_snapshot("twin", Kind::Committed, None);
    // A layer of which only the parent is known.
    let layer = Record { parent: Some(id("top")), ..Record::default() };
    state.add_record("begun", id("begun").as_str(), layer);
    let merge = Record { merge_parents: Some(vec![id("base"), id("top")]), ..Record::default() };
    state.records.by_id.insert(id("begun merge"), merge);
    let names =
        ["let go", "collected", "given", "passed on", "left behind", "begun", "begun merge"];
    let mut ids: Vec<_> = names.map(id).into();
    ids.sort();
    (state, ids)
}

#[test]
fn records_that_a_daemon_was_stopped_over_are_no_damage() {
    let (state, ids) = stopped_over();
    let root = Root::with(&state);
    assert_eq!(damage_of(&root).len(), ids.len() + 2, "no daemon has been here");
    fs::write(root.path().join("history.db"), "").unwrap();
    let found = verify_databases(&root.held).unwrap();
    assert!(found.damage.is_empty(), "{:#?}", found.damage);
    assert_eq!(kinds_of(&found.leftovers), vec!["abandoned-record"; ids.len()]);
    for (leftover, id) in found.leftovers.iter().zip(&ids) {
        assert!(leftover.to_string().contains(&id.to_string()), "{leftover}");
    }
}

/// A way to make something need a record, and its name.
type Need = (&'static str, fn(&mut State));

#[test]
fn records_that_something_needs_are_not_taken_for_abandoned() {
    let needed: [Need; 5] = [
        ("a result", |state| {
            let result = result(state, "let go");
            state.solver.add_result(&key("top"), result, NOW);
        }),
        ("a record", |state| record_mut(state, "twin").parent = Some(id("let go"))),
        ("a twin without a snapshot", |state| {
            record_mut(state, "twin").equal_mutable = Some(id("let go"));
            table_mut(state).rows.remove("twin");
            state.snapshots.by_name.retain(|name, _| !name.ends_with("/twin"));
        }),
        ("a cache mount", |state| record_mut(state, "let go").cache_dir = Some("c".to_owned())),
        ("one to retain", |state| record_mut(state, "let go").cache_policy = Some(POLICY_RETAIN)),
    ];
    for (what, need) in needed {
        let (mut state, _) = stopped_over();
        need(&mut state);
        let root = Root::with(&state);
        fs::write(root.path().join("history.db"), "").unwrap();
        let found = verify_databases(&root.held).unwrap();
        let about = id("let go").to_string();
        let unleased = found.damage.iter().find(|damage| damage.to_string().contains(&about));
        assert!(unleased.is_some(), "{what}: {:#?}", found.damage);
    }
}

#[test]
fn a_layer_that_shares_a_snapshot_needs_no_blob_of_its_own() {
    let mut state = sound();
    let base = state.records.by_id[&id("base")].clone();
    let diff_id = base.diff_id.unwrap();
    let pair = Digest::of(format!("{} {diff_id}", blob("remote")));
    let other = Record {
        diff_id: Some(diff_id),
        chain_id: base.chain_id,
        blob_chain_id: Some(pair),
        ..state.records.by_id[&id("remote")].clone()
    };
    state.add_record("remote", "base", other);
    let result = result(&state, "remote");
    state.solver.add_result(&key("top"), result, NOW);
    assert_eq!(kinds_of(&damage_of(&Root::with(&state))), Vec::<&str>::new());
}

#[test]
fn a_layer_may_share_the_snapshot_of_a_merge_which_lies_on_one_of_its_inputs() {
    let mut state = sound();
    let key = id("merged").to_string();
    state.add_snapshot(&key, Kind::Committed, Some("top"));
    state.add_layer("whole", None, false);
    let whole = state.records.by_id[&id("whole")].clone();
    record_mut(&mut state, "merged").chain_id = whole.chain_id;
    state.add_record("whole", &key, whole);
    assert_eq!(kinds_of(&damage_of(&Root::with(&state))), Vec::<&str>::new());
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
    // With a daemon's databases: it may have been stopped before it removed the files.
    use_database(&root.worker(METADATA_DB));
    let found = verify_databases(&root.held).unwrap();
    assert_eq!((kinds_of(&found.damage), kinds_of(&found.leftovers)), (vec![], strays.to_vec()));
}

#[test]
fn a_state_in_parts_is_verified_as_one() {
    // As in a conversion before it publishes: databases in one place, and the previous content of the root in
    // another.
    let [old, new] = [Root::with(&sound()), Root::with(&sound())];
    for name in ["top", "packed"] {
        fs::remove_file(new.blob(&blob(name))).unwrap();
    }
    fs::remove_dir_all(new.snapshot(1)).unwrap();
    fs::remove_dir_all(old.snapshot(2)).unwrap();
    let mut parts = Parts::of_root(&new.held).unwrap();
    assert_eq!(parts.verify_databases().unwrap().damage.len(), 3);
    let others = Parts::of_root(&old.held).unwrap();
    parts.blobs.extend(others.blobs);
    parts.trees.extend(others.trees);
    assert_eq!(kinds_of(&parts.verify_databases().unwrap().damage), Vec::<&str>::new());
}

#[test]
fn dates_ahead_are_named_with_what_they_do_and_are_no_damage() {
    let mut state = sound();
    let now = Time::from_unix_seconds(1_800_000_000);
    let ahead = Time::from_unix_seconds(1_800_000_000 + 25 * 3600);
    assert!(dated_ahead(&state, now).is_empty());
    let after = |seconds: i64| Time::from_unix_seconds(1_800_000_000 + seconds);
    assert!(!is_ahead(after(24 * 3600), now) && is_ahead(after(24 * 3600 + 1), now));
    let result = result(&state, "top");
    state.solver.add_key(&key("ahead"));
    state.solver.add_result(&key("ahead"), result, ahead);
    record_mut(&mut state, "top").last_used_at = ahead.unix_nanos();
    let found = dated_ahead(&state, now);
    assert_eq!(kinds_of(&found), ["future-result", "future-use"]);
    for damage in &found {
        assert!(damage.to_string().contains(&ahead.to_string()), "{damage}");
        assert!(damage.consequence().starts_with("until then the daemon "), "{damage}");
    }
    assert_eq!(kinds_of(&damage_of(&Root::with(&state))), [""; 0]);
}
