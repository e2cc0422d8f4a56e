//! The content of a root before something is added to it, and adding to it.

use super::verify::kinds::databases::{OTHERS, cut, write_other};
use super::verify::states::stopped_over;
use super::verify::{kinds_of, use_database};
use super::*;
use crate::bolt::{Node, Tree};

fn read(root: &Root) -> Existing {
    Existing::read(&root.held, &WorkerId::derive("new")).unwrap()
}

fn refusal(root: &Root) -> ExistingError {
    Existing::read(&root.held, &WorkerId::derive("new")).unwrap_err()
}

/// Publishes `state` into `root`, with the new files in it.
fn add(root: &Root, state: &State) {
    let existing = read(root);
    let staging = Staging::begin(&root.held, &existing).unwrap();
    for (digest, content) in &namespace(state).content {
        if !existing.blobs.contains_key(digest) && *digest != blob("remote") {
            let bytes = vec![b'x'; usize::try_from(content.size).unwrap()];
            staging.blobs().create_blob(digest).unwrap().write_all(&bytes).unwrap();
        }
    }
    for snapshot in state.snapshots.by_name.values() {
        if !existing.trees.contains(&snapshot.id) {
            staging.trees().create_snapshot(snapshot.id).unwrap();
        }
    }
    let written = staging.write(state).unwrap();
    staging.publish(written).unwrap();
}

fn sound_and_more() -> State {
    let mut state = sound();
    state.add_layer("more", Some("top"), false);
    state.add_snapshot("more", Kind::Committed, Some("top"));
    let result = result(&state, "more");
    state.solver.add_key(&key("more"));
    state.solver.add_link(&key("top"), link(), &key("more"));
    state.solver.add_result(&key("more"), result, NOW);
    state
}

/// Returns the inode of every file and directory below `path`, which changes if a file is written anew.
fn inodes(path: &Path) -> BTreeMap<PathBuf, u64> {
    use std::os::unix::fs::MetadataExt as _;
    let mut inodes = BTreeMap::new();
    let mut pending = vec![path.to_owned()];
    while let Some(path) = pending.pop() {
        let metadata = path.symlink_metadata().unwrap();
        if metadata.is_dir() {
            pending.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        inodes.insert(path, metadata.ino());
    }
    inodes
}

#[test]
fn a_state_is_found_as_it_is() {
    let state = sound();
    let root = Root::with(&state);
    let existing = read(&root);
    assert_eq!(existing.state, state);
    assert!(existing.is_all_of(&state));
    assert!(!existing.is_all_of(&sound_and_more()));
    assert_eq!(existing.trees, state.snapshots.by_name.values().map(|s| s.id).collect());
    let id = |key: &str| {
        let name = &namespace(&state).snapshots[SNAPSHOTTER].rows[key].name;
        state.snapshots.by_name[name].id
    };
    assert_eq!(existing.below(id("top")), Some(id("base")));
    assert_eq!(existing.below(id("base")), None);
    existing.tree(id("top")).unwrap();
    existing.blob(&blob("top")).unwrap();
    let error = existing.blob(&blob("nothing")).unwrap_err();
    assert!(error.is_not_found(), "{error}");
    assert!(error.to_string().starts_with("cannot open the file "), "{error}");
}

#[test]
fn an_empty_root_holds_nothing_and_gets_the_new_worker_id() {
    let root = Root::empty();
    write_other(&root.path().join("history.db"));
    let existing = read(&root);
    assert_eq!(existing.state, State::empty(Worker::default(), WorkerId::derive("new")));
    assert!(!existing.is_all_of(&existing.state), "the databases are not there");
}

#[test]
fn parts_that_are_missing_are_empty_as_they_are_to_a_daemon() {
    let root = Root::with(&sound());
    fs::remove_file(root.path().join(CACHE_DB)).unwrap();
    let existing = read(&root);
    assert_eq!(existing.state, State { solver: SolverCache::default(), ..sound() });

    let root = Root::with(&sound());
    fs::remove_dir_all(root.path().join(WORKER)).unwrap();
    let existing = read(&root);
    assert_eq!(existing.state.solver, sound().solver);
    assert!(existing.state.records.by_id.is_empty());

    // A daemon starts over in an empty file, too.
    let root = Root::with(&sound());
    fs::write(root.path().join(CACHE_DB), "").unwrap();
    assert_eq!(read(&root).state, State { solver: SolverCache::default(), ..sound() });

    // A daemon that was stopped before it did anything.
    let root = Root::empty();
    fs::create_dir(root.path().join(WORKER)).unwrap();
    fs::write(root.worker(WORKER_ID), "drawn").unwrap();
    let existing = read(&root);
    assert_eq!(existing.state, State::empty(Worker::default(), WorkerId::new("drawn").unwrap()));
}

#[test]
fn whatever_is_missing_is_there_after_something_was_added() {
    let mut state = sound_and_more();
    for missing in ["cache.db", "runc-overlayfs/workerid", "runc-overlayfs", ""] {
        let root = if missing.is_empty() { Root::empty() } else { Root::with(&sound()) };
        let path = root.path().join(missing);
        match missing {
            "" => {}
            "runc-overlayfs" => fs::remove_dir_all(path).unwrap(),
            _ => fs::remove_file(path).unwrap(),
        }
        state.worker_id = read(&root).state.worker_id;
        add(&root, &state);
        assert_eq!(State::read(&root.held).unwrap(), state, "{missing}");
        assert_eq!(root.names(), ["buildkitd.lock", "cache.db", "runc-overlayfs"]);
    }
}

#[test]
fn what_does_not_change_is_not_written() {
    let root = Root::with(&sound());
    write_other(&root.path().join("history.db"));
    fs::create_dir(root.worker("executor")).unwrap();
    let before = inodes(root.path());
    let state = sound_and_more();
    add(&root, &state);
    assert_eq!(State::read(&root.held).unwrap(), state);
    assert_eq!(verify_databases(&root.held).unwrap().damage.len(), 0);
    let after = inodes(root.path());
    let changed: Vec<_> = before
        .iter()
        .filter(|(path, inode)| after.get(*path) != Some(inode))
        .map(|(path, _)| path.strip_prefix(root.path()).unwrap().to_str().unwrap())
        .collect();
    assert_eq!(
        changed,
        [
            "cache.db",
            "runc-overlayfs/containerdmeta.db",
            "runc-overlayfs/metadata_v2.db",
            "runc-overlayfs/snapshots/metadata.db"
        ]
    );

    // For example only a use.
    let mut used = state;
    record_mut(&mut used, "top").usage_count = Some(9);
    let before = after;
    add(&root, &used);
    let after = inodes(root.path());
    let changed = before.iter().filter(|(path, inode)| after.get(*path) != Some(inode));
    let changed: Vec<_> = changed.map(|(path, _)| path.file_name().unwrap()).collect();
    assert_eq!(changed, ["metadata_v2.db"]);
}

#[test]
fn a_database_keeps_its_permissions_and_its_group() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let root = Root::with(&sound());
    let path = root.worker(METADATA_DB);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let other_group = rustix::process::geteuid().is_root();
    if other_group {
        std::os::unix::fs::chown(&path, None, Some(34)).unwrap();
    }
    add(&root, &sound_and_more());
    let metadata = path.metadata().unwrap();
    assert_eq!(metadata.mode() & 0o7777, 0o640);
    if other_group {
        assert_eq!(metadata.gid(), 34);
    }
}

#[test]
fn another_workers_root_is_refused_but_one_that_is_shared_is_not() {
    for name in ["runc-native", "containerd-overlayfs"] {
        let root = Root::empty();
        fs::create_dir(root.path().join(name)).unwrap();
        let error = refusal(&root);
        assert!(
            matches!(&error, ExistingError::OtherWorker { found, .. } if found == name),
            "{error}"
        );
        assert!(error.to_string().contains("empty directory"), "{error}");
        let root = Root::with(&sound());
        fs::create_dir(root.path().join(name)).unwrap();
        assert_eq!(read(&root).state, sound());
    }
}

#[test]
fn records_in_their_first_form_are_refused() {
    let root = Root::with(&sound());
    fs::rename(root.worker(RECORDS_DB), root.worker("metadata.db")).unwrap();
    let error = refusal(&root);
    assert!(matches!(error, ExistingError::OldRecords { .. }), "{error}");
    assert!(
        error.to_string().ends_with(
            " is the first form of the records; start a buildkitd of v0.11 to v0.27 on \
             the root once, which migrates them"
        ),
        "{error}"
    );
}

#[test]
fn damage_is_named_and_what_a_daemon_clears_away_is_none() {
    let mut state = sound();
    let forgotten = result(&state, "forgotten");
    state.solver.add_result(&key("top"), forgotten, NOW);
    let root = Root::with(&state);
    let existing = read(&root);
    assert_eq!(existing.state, state);
    let found = verify_databases(&root.held).unwrap();
    assert_eq!(found.damage.len(), 1);
    assert_eq!(existing.new_damage(found).len(), 0);
    fs::create_dir(root.snapshot(99)).unwrap();
    let stray = || verify_databases(&root.held).unwrap();
    assert_eq!(kinds_of(&existing.new_damage(stray())), ["stray-directory"]);
    // A leftover only of a daemon, never of a conversion.
    use_database(&root.worker(METADATA_DB));
    assert_eq!(kinds_of(&stray().leftovers), ["stray-directory"]);
    assert_eq!(kinds_of(&existing.new_damage(stray())), ["stray-directory"]);
    fs::remove_dir(root.snapshot(99)).unwrap();

    fs::remove_file(root.blob(&blob("top"))).unwrap();
    let error = refusal(&root);
    let ExistingError::Damaged { damage, .. } = &error else { panic!("{error}") };
    let [Damage::Content(found @ ContentDamage::NoFile { .. })] = damage.as_slice() else {
        panic!("{damage:?}")
    };
    assert!(found.to_string().ends_with(" has a row but no file"), "{found}");

    let root = Root::with(&sound());
    fs::write(root.worker(METADATA_DB), "no database").unwrap();
    let error = refusal(&root);
    assert!(error.to_string().contains("containerdmeta.db"), "{error}");
}

#[test]
fn leftovers_are_recognised_and_removed() {
    let mut state = sound();
    state.add_snapshot("unnamed", Kind::Committed, None);
    table_mut(&mut state).rows.remove("unnamed");
    let unnamed = state.snapshots.sequence;
    let root = Root::with(&state);
    fs::create_dir_all(root.snapshot(99).join("fs/full")).unwrap();
    fs::create_dir_all(root.worker("snapshots/snapshots/new-123")).unwrap();
    let [stray, foreign, expected] = ["stray", "foreign", "expected"].map(blob);
    for blob in [&stray, &foreign, &expected] {
        fs::write(root.blob(blob), "x").unwrap();
    }
    fs::write(root.worker("content/blobs/sha256/README"), "not a blob").unwrap();
    let history = Namespace {
        content: [(foreign, Content { size: 1, ..Content::default() })].into(),
        ..Namespace::default()
    };
    let value = Node::Value(expected.to_string().into_bytes());
    let ingest = Tree { entries: [(b"expected".to_vec(), value)].into(), ..Tree::default() };
    let ingests =
        Tree { entries: [(b"layer".to_vec(), Node::Bucket(ingest))].into(), ..Tree::default() };
    state.metadata.namespaces.insert("buildkit_history".to_owned(), history);
    namespace_mut(&mut state).ingests = Some(ingests);
    // As a daemon would have left it.
    let write = |file: &fs::File| state.metadata.write(file);
    let path = root.worker(METADATA_DB);
    fs::remove_file(&path).unwrap();
    write(&fs::File::create_new(&path).unwrap()).unwrap();

    let existing = read(&root);
    assert!(!existing.state.snapshots.by_name.keys().any(|name| name.ends_with("unnamed")));
    assert!(existing.blobs.contains_key(&foreign) && !existing.blobs.contains_key(&stray));
    let staging = Staging::begin(&root.held, &existing).unwrap();
    assert!(!root.snapshot(99).exists() && !root.snapshot(unnamed).exists());
    assert!(!root.worker("snapshots/snapshots/new-123").exists());
    assert!(!root.blob(&stray).exists());
    for kept in [root.blob(&foreign), root.blob(&expected), root.blob(&blob("top"))] {
        assert!(kept.exists());
    }
    // Unknown files are not our business.
    let readme = root.worker("content/blobs/sha256/README");
    assert!(readme.exists());
    fs::remove_file(readme).unwrap();
    let written = staging.write(&existing.state).unwrap();
    staging.publish(written).unwrap();
    assert_eq!(verify_databases(&root.held).unwrap().damage.len(), 0);
    assert!(read(&root).is_all_of(&existing.state));
}

#[test]
fn leases_whose_records_a_dead_run_did_not_publish_are_dropped() {
    let (before, after) = (sound(), sound_and_more());
    let root = Root::with(&after);
    fs::remove_file(root.worker(RECORDS_DB)).unwrap();
    before.records.write(&fs::File::create_new(root.worker(RECORDS_DB)).unwrap()).unwrap();
    before.solver.write(&fs::File::create(root.path().join(CACHE_DB)).unwrap()).unwrap();

    let existing = read(&root);
    assert_eq!(existing.state.records, before.records);
    assert_eq!(namespace(&existing.state).leases, namespace(&before).leases);
    assert!(namespace(&existing.state).content.contains_key(&blob("more")), "to be used again");
    add(&root, &existing.state);
    assert_eq!(State::read(&root.held).unwrap(), existing.state);

    // Leftovers of a working daemon, which it removes when it starts.
    let mut state = sound();
    let labels = [(LABEL_TEMPORARY.to_owned(), String::new())].into();
    let temporary = Lease { labels, ..Lease::default() };
    namespace_mut(&mut state).leases.insert("a-pull".to_owned(), temporary);
    assert_eq!(read(&Root::with(&state)).state, state);
}

#[test]
fn directories_on_another_file_system_are_told_apart() {
    let root = Root::empty();
    // One that exists on every machine.
    let other = Dir::open(Path::new("/proc")).unwrap();
    assert!(!root.held.dir().shares_file_system(&other).unwrap());
    assert!(root.held.dir().shares_file_system(root.held.dir()).unwrap());
}

#[test]
fn records_that_a_daemon_was_stopped_over_are_dropped_with_their_leases() {
    let (state, ids) = stopped_over();
    let root = Root::with(&state);
    write_other(&root.path().join("history.db"));
    let existing = read(&root);
    for id in &ids {
        assert!(!existing.state.records.by_id.contains_key(id));
        assert!(!existing.state.records.external.contains_key(id));
        assert!(!namespace(&existing.state).leases.contains_key(id.as_str()));
    }
    assert!(existing.state.records.by_id.contains_key(&id("twin")));
    let state = existing.state;
    add(&root, &state);
    let found = verify_databases(&root.held).unwrap();
    assert!(found.damage.is_empty() && found.leftovers.is_empty(), "{found:#?}");
    assert_eq!(found.state, Some(state));
}

/// A state in which a daemon was killed while it committed the snapshot of `wrote` as that of `written`, the
/// result of a step: the snapshotter had finished.
fn half_committed() -> State {
    let mut state = sound();
    let (old, new) = (id("wrote").to_string(), id("written").to_string());
    let below = || Some(id("top"));
    state.add_record("wrote", &old, Record { parent: below(), ..Record::default() });
    state.add_snapshot(&old, Kind::Active, Some("top"));
    let twin = Record {
        committed: Some(true),
        parent: below(),
        equal_mutable: Some(id("wrote")),
        ..Record::default()
    };
    state.add_record("written", &new, twin);
    let result = result(&state, "written");
    state.solver.add_key(&key("step"));
    state.solver.add_result(&key("step"), result, NOW);
    let name = table_mut(&mut state).rows[&old].name.clone();
    let mut snapshot = state.snapshots.by_name.remove(&name).unwrap();
    snapshot.kind = Kind::Committed;
    (snapshot.inodes, snapshot.size) = (Some(1), Some(4096));
    let name = format!("{NAMESPACE}/{}/{new}", table_mut(&mut state).sequence + 1);
    state.snapshots.by_name.insert(name, snapshot);
    state
}

#[test]
fn a_commit_that_a_daemon_was_killed_in_is_completed() {
    let root = Root::with(&half_committed());
    let refused = Existing::read(&root.held, &WorkerId::derive("new"));
    let error = refused.unwrap_err();
    let ExistingError::Damaged { damage, .. } = &error else { panic!("{error}") };
    assert_eq!(kinds_of(damage), ["snapshot-not-in-snapshotter"], "no daemon has been here");
    assert!(error.to_string().contains(" is damaged, so nothing was changed"), "{error}");
    write_other(&root.path().join("history.db"));
    let found = verify_databases(&root.held).unwrap();
    assert!(found.damage.is_empty(), "{:#?}", found.damage);
    // The mutable original of the snapshot is of no use any more.
    assert_eq!(kinds_of(&found.leftovers), ["half-committed-snapshot", "abandoned-record"]);
    let existing = read(&root);
    assert!(!existing.is_all_of(&existing.state));
    let state = existing.state;
    assert!(!state.records.by_id.contains_key(&id("wrote")));
    let new = id("written").to_string();
    let row = &namespace(&state).snapshots[SNAPSHOTTER].rows[&new];
    assert_eq!(row.parent.as_deref(), Some("top"));
    assert!(namespace(&state).leases[&new].snapshots[SNAPSHOTTER].contains(&new));
    add(&root, &state);
    let found = verify_databases(&root.held).unwrap();
    assert!(found.damage.is_empty() && found.leftovers.is_empty(), "{found:#?}");
    assert_eq!(found.state, Some(state));
}

#[test]
fn a_row_without_a_snapshot_is_no_half_of_a_commit_unless_the_other_half_is_there() {
    let changes: [fn(&mut State, &str); 5] = [
        // The number is not the next.
        |state, _| table_mut(state).sequence += 1,
        |state, name| {
            state.snapshots.by_name.get_mut(name).unwrap().kind = Kind::Active;
        },
        // It has another parent.
        |state, name| {
            state.snapshots.by_name.get_mut(name).unwrap().parent = None;
        },
        |state, name| drop(state.snapshots.by_name.remove(name)),
        // Another row lacks its snapshot too.
        |state, _| {
            let view = table_mut(state).rows["a view"].name.clone();
            state.snapshots.by_name.remove(&view);
        },
    ];
    for (number, change) in changes.iter().enumerate() {
        let mut state = half_committed();
        let next = format!("{NAMESPACE}/{}/{}", table_mut(&mut state).sequence + 1, id("written"));
        change(&mut state, &next);
        let root = Root::with(&state);
        write_other(&root.path().join("history.db"));
        let kinds = kinds_of(&verify_databases(&root.held).unwrap().damage);
        assert!(kinds.contains(&"snapshot-not-in-snapshotter"), "{number}: {kinds:?}");
    }
}

#[test]
fn nothing_is_added_where_a_daemon_would_not_start() {
    for name in OTHERS {
        for damage in [cut, |path: &Path| fs::write(path, "not a database").unwrap()] {
            let root = Root::with(&sound());
            let path = root.path().join(name);
            write_other(&path);
            damage(&path);
            let refused = Existing::read(&root.held, &WorkerId::derive("new"));
            let Err(ExistingError::Damaged { damage, .. }) = refused else { panic!("{refused:?}") };
            assert_eq!(damage.len(), 1, "{damage:#?}");
            assert!(damage[0].to_string().contains(name), "{}", damage[0]);
        }
    }
}

#[test]
fn the_state_of_a_compaction_goes_with_its_database() {
    let root = Root::with(&sound());
    let beside = |suffix: &str| {
        ["cache.db", "history.db", "runc-overlayfs/containerdmeta.db"]
            .map(|name| root.path().join(format!("{name}{suffix}")))
    };
    for path in beside(".compact").iter().chain(&beside(".compact-state")) {
        fs::write(path, "{}").unwrap();
    }
    assert!(verify_databases(&root.held).unwrap().damage.is_empty());
    add(&root, &sound_and_more());
    assert_eq!(beside(".compact").map(|path| path.exists()), [true; 3]);
    assert_eq!(beside(".compact-state").map(|path| path.exists()), [false, true, false]);
}
