//! Every kind of damage is found, and nothing else is taken for damage.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use super::*;
use crate::bolt::{self, Db, Node, Tree};

fn damage_of(root: &Root) -> Vec<Damage> {
    verify(&root.dir).unwrap()
}

/// The damage in the state that `change` makes of a sound one.
fn after(change: impl FnOnce(&mut State)) -> Vec<Damage> {
    let mut state = sound();
    change(&mut state);
    damage_of(&Root::with(&state))
}

fn assert_damages(damage: &[Damage], count: usize) {
    assert_eq!(damage.len(), count, "{damage:#?}");
}

/// Asserts that exactly one thing is damaged, and that it is `$pattern`.
macro_rules! assert_damage {
    ($damage:expr, $pattern:pat $(if $guard:expr)?) => {{
        let damage = $damage;
        let [$pattern] = damage.as_slice() else { panic!("{damage:?}") };
        $(assert!($guard, "{damage:?}");)?
    }};
}

/// Rewrites a database with other entries.
fn edit(path: &Path, change: impl FnOnce(&mut Tree)) {
    let mut tree = Tree::read(&Db::open(File::open(path).unwrap()).unwrap().root()).unwrap();
    change(&mut tree);
    fs::remove_file(path).unwrap();
    let file = File::create_new(path).unwrap();
    bolt::write(&file, |root| tree.write(root)).unwrap();
}

fn bucket<'t>(tree: &'t mut Tree, name: &str) -> &'t mut Tree {
    let Some(Node::Bucket(bucket)) = tree.entries.get_mut(name.as_bytes()) else {
        panic!("no bucket {name}")
    };
    bucket
}

#[test]
fn a_sound_state_has_no_damage() {
    assert_damages(&damage_of(&Root::with(&sound())), 0);
    assert_damages(&damage_of(&Root::with(&State::without_anything())), 0);
}

#[test]
fn a_page_that_is_overwritten_is_damage_of_its_database() {
    for name in ["cache.db", "runc-overlayfs/snapshots/metadata.db"] {
        let root = Root::with(&sound());
        let path = root.path().join(name);
        let file = File::options().write(true).open(&path).unwrap();
        let size = file.metadata().unwrap().len();
        // Everything but the two meta pages.
        let noise = vec![0xff; usize::try_from(size).unwrap() - 2 * 4096];
        file.write_all_at(&noise, 2 * 4096).unwrap();
        let damage = damage_of(&root);
        assert!(!damage.is_empty(), "{name}");
        for damage in &damage {
            assert!(
                matches!(damage, Damage::Database { path, .. } if path.ends_with(name)),
                "{damage}"
            );
        }
    }
}

#[test]
fn one_torn_meta_page_is_no_damage_but_two_are_no_database() {
    let root = Root::with(&sound());
    let file = File::options().write(true).open(root.path().join(CACHE_DB)).unwrap();
    file.write_all_at(&[0xff; 16], 24).unwrap();
    assert_damages(&damage_of(&root), 0);
    fs::remove_dir_all(root.snapshot(2)).unwrap();
    assert_damages(&damage_of(&root), 1);
    file.write_all_at(&[0xff; 16], 4096 + 24).unwrap();
    assert!(matches!(verify(&root.dir), Err(ReadStateError::Database { .. })));
}

#[test]
fn a_result_without_its_record() {
    let damage = after(|state| {
        let result = result(state, "unknown");
        state.solver.add_result(&key("top"), result, NOW);
    });
    assert_damage!(damage, Damage::ResultWithoutRecord { key: at, result }
        if *at == key("top") && result.record == Some(id("unknown")));
}

#[test]
fn a_result_of_another_worker() {
    let damage = after(|state| {
        let worker = WorkerId::derive("another");
        state.solver.add_result(&key("top"), ResultId { worker, record: Some(id("top")) }, NOW);
    });
    assert_damage!(damage, Damage::ResultWithoutRecord { result, .. }
        if result.worker == WorkerId::derive("another"));
}

#[test]
fn a_key_with_results_that_does_not_exist() {
    let damage = after(|state| {
        let result = result(state, "top");
        state.solver.add_result(&key("invisible"), result, NOW);
    });
    assert_damage!(damage, Damage::InvisibleKey { key: at } if *at == key("invisible"));
}

#[test]
fn a_link_without_its_backlink() {
    let damage = after(|state| {
        state.solver.backlinks.remove(&key("top"));
    });
    assert_damage!(damage, Damage::MissingBacklink { from, to }
        if *from == key("root") && *to == key("top"));
}

#[test]
fn a_record_without_one_of_its_parents() {
    let damage = after(|state| record_mut(state, "packed").parent = Some(id("gone")));
    assert_damage!(damage, Damage::MissingParent { record, parent }
        if *record == id("packed") && *parent == id("gone"));
    let damage = after(|state| {
        record_mut(state, "merged").merge_parents = Some(vec![id("base"), id("gone")])
    });
    assert_damage!(damage, Damage::MissingParent { record, .. } if *record == id("merged"));
    let damage = after(|state| {
        let diff = Record {
            committed: Some(true),
            lower_diff_parent: Some(id("gone")),
            upper_diff_parent: Some(id("top")),
            ..Record::default()
        };
        state.add_record("diff", id("diff").as_str(), diff);
    });
    assert_damage!(damage, Damage::MissingParent { record, .. } if *record == id("diff"));
    let damage = after(|state| {
        let diff = Record {
            committed: Some(true),
            upper_diff_parent: Some(id("gone")),
            ..Record::default()
        };
        state.add_record("diff", id("diff").as_str(), diff);
    });
    assert_damage!(damage, Damage::MissingParent { record, .. } if *record == id("diff"));
}

#[test]
fn an_index_that_lacks_a_row() {
    let root = Root::with(&sound());
    let missing = format!("cache-dir://cache::{}", id("mount"));
    edit(&root.worker(RECORDS_DB), |tree| {
        bucket(tree, "_index").entries.remove(missing.as_bytes()).unwrap();
    });
    assert_damage!(damage_of(&root), Damage::Index { entry, wrong: "missing" } if *entry == missing);
}

#[test]
fn an_index_with_a_row_too_many() {
    let root = Root::with(&sound());
    let extra = "chainid:sha256:0::nothing";
    edit(&root.worker(RECORDS_DB), |tree| {
        bucket(tree, "_index").entries.insert(extra.into(), Node::Value(Vec::new()));
    });
    assert_damage!(damage_of(&root), Damage::Index { entry, wrong: "left over" } if entry == extra);
}

#[test]
fn a_record_whose_snapshot_or_blob_no_lease_keeps() {
    let lease = |state: &mut State, change: &dyn Fn(&mut Lease)| {
        change(namespace_mut(state).leases.get_mut(id("top").as_str()).unwrap());
    };
    let damage = after(|state| lease(state, &|lease| lease.snapshots.clear()));
    assert_damage!(damage, Damage::Unleased { record, what: "snapshot" } if *record == id("top"));
    let damage = after(|state| lease(state, &|lease| lease.content.clear()));
    assert_damage!(damage, Damage::Unleased { record, what: "blob" } if *record == id("top"));
    let damage = after(|state| {
        namespace_mut(state).leases.remove(id("top").as_str());
    });
    assert_damages(&damage, 2);
    // The daemon takes the snapshot that it will unpack such a record into from the lease.
    let damage = after(|state| {
        namespace_mut(state).leases.get_mut(id("packed").as_str()).unwrap().snapshots.clear();
    });
    assert_damage!(damage, Damage::Unleased { record, what: "snapshot" } if *record == id("packed"));
}

#[test]
fn a_record_whose_blob_is_not_there_as_it_says() {
    let lack_of = |damage: &[Damage]| match damage {
        [Damage::MissingBlob { record, blob: at, lack }] => {
            assert_eq!((record, at), (&id("top"), &blob("top")));
            *lack
        }
        damage => panic!("{damage:?}"),
    };
    let damage = after(|state| record_mut(state, "top").blob_size = Some(99));
    assert_eq!(lack_of(&damage), "its row has not the size in the record");

    let root = Root::with(&sound());
    fs::remove_file(root.blob(&blob("top"))).unwrap();
    assert_eq!(lack_of(&damage_of(&root)), "its file is missing");

    let root = Root::with(&sound());
    fs::write(root.blob(&blob("top")), "another size").unwrap();
    assert_eq!(lack_of(&damage_of(&root)), "its file has not the size of its row");

    let root = Root::with(&sound());
    edit(&root.worker(METADATA_DB), |tree| {
        let content = bucket(bucket(bucket(tree, "v1"), NAMESPACE), "content");
        bucket(content, "blob").entries.remove(blob("top").to_string().as_bytes()).unwrap();
    });
    assert_eq!(lack_of(&damage_of(&root)), "it has no row in containerdmeta.db");
}

#[test]
fn a_layer_that_is_to_be_fetched_is_damage_once_a_result_needs_it() {
    let damage = after(|state| {
        let result = result(state, "remote");
        state.solver.add_result(&key("top"), result, NOW);
    });
    assert_damage!(damage, Damage::MissingBlob { record, .. } if *record == id("remote"));
    let damage = after(|state| {
        record_mut(state, "base").parent = Some(id("remote"));
    });
    assert_damage!(damage, Damage::MissingBlob { record, .. } if *record == id("remote"));
    // And always if it counts as unpacked.
    let damage = after(|state| record_mut(state, "remote").blob_only = None);
    assert_damages(&damage, 2);
}

#[test]
fn a_record_without_its_snapshot() {
    let damage = after(|state| record_mut(state, "packed").blob_only = Some(false));
    assert_damage!(damage, Damage::MissingSnapshot { record, snapshot }
        if *record == id("packed") && snapshot == "packed");
}

#[test]
fn a_mutable_record_whose_snapshot_has_not_its_id() {
    let damage = after(|state| {
        state.add_record("other", "other", Record::default());
        state.add_snapshot("other", Kind::Active, None);
        let lease = namespace_mut(state).leases.get_mut(id("other").as_str()).unwrap();
        lease.snapshots.get_mut(SNAPSHOTTER).unwrap().insert(id("other").to_string());
    });
    assert_damage!(damage, Damage::MissingSnapshot { record, snapshot }
        if *record == id("other") && *snapshot == id("other").as_str());
}

/// What is wrong with a snapshot after `change`.
fn wrong_after(change: impl FnOnce(&mut State)) -> &'static str {
    match after(change).as_slice() {
        [Damage::Snapshot { wrong, .. }] => wrong,
        damage => panic!("{damage:?}"),
    }
}

#[test]
fn a_sequence_below_an_id_in_use() {
    let wrong = wrong_after(|state| state.snapshots.sequence -= 1);
    assert_eq!(wrong, "its id is above the sequence, so the daemon would destroy it");
    let wrong = wrong_after(|state| table_mut(state).sequence -= 1);
    assert_eq!(wrong, "its number is above the sequence in containerdmeta.db");
}

#[test]
fn a_snapshot_that_only_containerdmeta_db_has() {
    let wrong = wrong_after(|state| {
        let row = SnapshotRow { name: "buildkit/1/ghost".to_owned(), ..SnapshotRow::default() };
        table_mut(state).rows.insert("ghost".to_owned(), row);
    });
    assert_eq!(wrong, "it is in containerdmeta.db and not in snapshots/metadata.db");
}

#[test]
fn a_snapshot_that_only_snapshots_metadata_db_has() {
    let damage = after(|state| {
        state.add_snapshot("ghost", Kind::Committed, None);
        table_mut(state).rows.remove("ghost");
    });
    assert_damage!(&damage, Damage::UnnamedSnapshot { name } if name.ends_with("/ghost"));
    assert!(damage[0].is_leftover());
}

#[test]
fn a_snapshot_whose_parent_differs() {
    let wrong = wrong_after(|state| snapshot_mut(state, "a view").parent = None);
    assert_eq!(wrong, "its parent differs between the databases or is missing");
    let wrong = wrong_after(|state| {
        table_mut(state).rows.get_mut("a view").unwrap().parent = Some("base".to_owned());
    });
    assert_eq!(wrong, "its parent differs between the databases or is missing");
    let wrong = wrong_after(|state| {
        table_mut(state).rows.get_mut("a view").unwrap().parent = Some("gone".to_owned());
    });
    assert_eq!(wrong, "its parent differs between the databases or is missing");
}

#[test]
fn a_parent_that_does_not_know_its_child() {
    let damage = after(|state| {
        table_mut(state).rows.get_mut("base").unwrap().children.remove("top");
    });
    assert_damage!(damage, Damage::Snapshot {
        name,
        wrong: "it does not list all its children in containerdmeta.db",
    } if name == "buildkit/1/base");
}

#[test]
fn two_snapshots_with_one_id() {
    let root = Root::with(&sound());
    edit(&root.worker("snapshots/metadata.db"), |tree| {
        let snapshots = bucket(bucket(tree, "v1"), "snapshots");
        let name = snapshots.entries.keys().nth(1).unwrap().clone();
        let Some(Node::Bucket(second)) = snapshots.entries.get_mut(&name) else { panic!() };
        second.entries.insert(b"id".to_vec(), Node::Value(vec![1]));
    });
    let damage = damage_of(&root);
    assert!(
        matches!(damage.as_slice(), [
            Damage::Snapshot { wrong: "another snapshot has the same id", .. },
            Damage::StrayDirectory { name },
        ] if name == "2"),
        "{damage:?}"
    );
}

#[test]
fn a_parent_that_is_not_committed() {
    let wrong = wrong_after(|state| snapshot_mut(state, "top").kind = Kind::Active);
    assert_eq!(wrong, "its parent is not committed");
}

#[test]
fn a_snapshot_without_its_directory() {
    let root = Root::with(&sound());
    fs::remove_dir_all(root.snapshot(2)).unwrap();
    assert_damage!(damage_of(&root), Damage::Snapshot { name, wrong: "its directory is missing" }
        if name == "buildkit/2/top");
    let root = Root::with(&sound());
    fs::remove_dir(root.snapshot(1).join("fs")).unwrap();
    assert_damage!(damage_of(&root), Damage::Snapshot { name, wrong: "its directory is missing" }
        if name == "buildkit/1/base");
}

#[test]
fn a_directory_without_a_snapshot() {
    let root = Root::with(&sound());
    fs::create_dir(root.snapshot(99)).unwrap();
    assert_damage!(damage_of(&root), Damage::StrayDirectory { name } if name == "99");
    // Only one spelling of a number is the directory of a snapshot.
    let root = Root::with(&sound());
    fs::create_dir(root.worker("snapshots/snapshots/01")).unwrap();
    assert_damage!(damage_of(&root), Damage::StrayDirectory { name } if name == "01");
}

#[test]
fn everything_that_is_damaged_is_listed() {
    let damage = after(|state| {
        state.solver.backlinks.remove(&key("top"));
        record_mut(state, "packed").parent = Some(id("gone"));
        state.snapshots.sequence = 0;
    });
    assert_damages(&damage, 2 + sound().snapshots.by_name.len());
}
