//! One test for the list of all kinds of damage: each is made by breaking a sound state in one way.

use super::*;
use crate::metadata::{LABEL_GC_EXPIRE, LABEL_TEMPORARY, LABEL_UNCOMPRESSED};

/// How a sound state is broken.
enum Break {
    /// In what is written.
    State(fn(&mut State)),
    /// In a database that was written.
    Entries(&'static str, fn(&mut Tree)),
    /// In the files.
    Files(fn(&Root)),
}
use Break::{Entries, Files, State as Model};

const RECORDS: &str = "runc-overlayfs/metadata_v2.db";
const METADATA: &str = "runc-overlayfs/containerdmeta.db";
const SNAPSHOTS: &str = "runc-overlayfs/snapshots/metadata.db";
const ROWS: [&str; 4] = ["v1", NAMESPACE, "snapshots", SNAPSHOTTER];

/// What is done, what has to be found, and how often.
const CASES: &[(&str, &[&str], Break)] = &[
    // cache.db
    (
        "a result of no record",
        &["result-without-record"],
        Model(|state| {
            let result = result(state, "unknown");
            state.solver.add_result(&key("top"), result, NOW);
        }),
    ),
    (
        "a result of another worker",
        &["result-of-unknown-worker"],
        Model(|state| {
            let worker = WorkerId::derive("another");
            state.solver.add_result(&key("top"), ResultId { worker, record: Some(id("top")) }, NOW);
        }),
    ),
    (
        "another worker id",
        &["result-of-unknown-worker"; 3],
        Model(|state| {
            state.worker_id = WorkerId::derive("another");
        }),
    ),
    (
        "a key that does not exist has results",
        &["invisible-key"],
        Model(|state| {
            let result = result(state, "top");
            state.solver.add_result(&key("invisible"), result, NOW);
        }),
    ),
    (
        "a link without its backlink",
        &["missing-backlink"],
        Model(|state| {
            state.solver.backlinks.remove(&key("top"));
        }),
    ),
    (
        "a backlink without its link",
        &["stray-backlink"],
        Model(|state| {
            state.solver.links.insert(key("root"), BTreeSet::new());
        }),
    ),
    (
        "a result that _byresult lacks",
        &["unindexed-result"; 2],
        Model(|state| {
            state.solver.by_result.retain(|result, _| {
                result.record != Some(id("top")) && result.record != Some(id("packed"))
            });
        }),
    ),
    (
        "a result that only _byresult has",
        &["stray-result-index"],
        Model(|state| {
            let result = result(state, "top");
            state.solver.by_result.get_mut(&result).unwrap().insert(key("root"));
        }),
    ),
    (
        "a link in other bytes",
        &["unfindable-link"],
        Entries("cache.db", |tree| {
            let path = ["_links", "root"];
            let link = String::from_utf8(only_key(tree, &path)).unwrap();
            remove(tree, &path, &link);
            put(tree, &path, link.replace("{", "{ "), "");
        }),
    ),
    (
        "a result under another's id",
        &["misnamed-result"],
        Entries("cache.db", |tree| {
            let path = ["_result", "root"];
            let name = only_key(tree, &path);
            put(tree, &path, name, r#"{"CreatedAt":"2026-11-21T20:00:00Z","ID":"other::id"}"#);
        }),
    ),
    (
        "a link that is none",
        &["unknown-content"],
        Entries("cache.db", |tree| {
            put(tree, &["_links", "root"], "no link", "");
        }),
    ),
    // metadata_v2.db
    (
        "a layer without its parent",
        &["missing-parent"],
        Model(|state| {
            record_mut(state, "merged").merge_parents = Some(vec![id("base"), id("gone")]);
        }),
    ),
    (
        "a record that builds on itself",
        &["parent-cycle"],
        Model(|state| {
            record_mut(state, "merged").merge_parents = Some(vec![id("base"), id("merged")]);
        }),
    ),
    (
        "a record that builds on a mutable one",
        &["mutable-parent"],
        Model(|state| {
            record_mut(state, "merged").merge_parents = Some(vec![id("base"), id("mount")]);
        }),
    ),
    (
        "a mutable record without its snapshot",
        &["mutable-without-snapshot"],
        Model(|state| {
            state.add_record("other", "other", Record::default());
            let lease = namespace_mut(state).leases.get_mut(id("other").as_str()).unwrap();
            lease.snapshots.get_mut(SNAPSHOTTER).unwrap().insert(id("other").to_string());
        }),
    ),
    (
        "a twin without the other",
        &["missing-twin"],
        Model(|state| {
            record_mut(state, "files").equal_mutable = Some(id("gone"));
        }),
    ),
    (
        "a layer that only counts as unpacked",
        &["missing-snapshot"],
        Model(|state| {
            record_mut(state, "packed").blob_only = Some(false);
        }),
    ),
    (
        "an immutable record of an active snapshot",
        &["snapshot-kind"],
        Model(|state| {
            record_mut(state, "local").committed = Some(true);
        }),
    ),
    (
        "a mutable record of a committed snapshot",
        &["snapshot-kind"],
        Model(|state| {
            snapshot_mut(state, id("local").as_str()).kind = Kind::Committed;
        }),
    ),
    (
        "a layer without a media type",
        &["incomplete-layer"],
        Model(|state| {
            record_mut(state, "packed").media_type = None;
        }),
    ),
    (
        "a layer without a diffID",
        &["incomplete-layer"],
        Model(|state| {
            record_mut(state, "packed").diff_id = None;
        }),
    ),
    (
        "a layer with another's chain id",
        &["chain-id"],
        Model(|state| {
            record_mut(state, "packed").chain_id = Some(Digest::of("another"));
        }),
    ),
    (
        "a layer with another's blob chain id",
        &["chain-id"],
        Model(|state| {
            record_mut(state, "packed").blob_chain_id = Some(Digest::of("another"));
        }),
    ),
    (
        "an index without a row",
        &["missing-index"],
        Entries(RECORDS, |tree| {
            remove(tree, &["_index"], &format!("cache-dir://cache::{}", id("mount")));
        }),
    ),
    (
        "an index with a row too many",
        &["stray-index"],
        Entries(RECORDS, |tree| {
            put(tree, &["_index"], "chainid:sha256:0::nothing", "");
        }),
    ),
    (
        "an index with a row that names nothing",
        &["endless-index"],
        Entries(RECORDS, |tree| {
            put(tree, &["_index"], "chainid:sha256:0", "");
        }),
    ),
    (
        "hashes of no record",
        &["stray-external"],
        Model(|state| {
            state.records.external.insert(id("gone"), BTreeMap::new());
        }),
    ),
    (
        "a value that is no JSON",
        &["unknown-content"],
        Entries(RECORDS, |tree| {
            put(tree, &["_main", id("top").as_str()], "cache.blob", "no JSON");
        }),
    ),
    // leases
    (
        "a lease without the snapshot",
        &["unleased"],
        Model(|state| {
            namespace_mut(state).leases.get_mut(id("top").as_str()).unwrap().snapshots.clear();
        }),
    ),
    (
        "a lease without the snapshot to come",
        &["unleased"],
        Model(|state| {
            namespace_mut(state).leases.get_mut(id("packed").as_str()).unwrap().snapshots.clear();
        }),
    ),
    (
        "a lease without the blob",
        &["unleased"],
        Model(|state| {
            namespace_mut(state).leases.get_mut(id("top").as_str()).unwrap().content.clear();
        }),
    ),
    (
        "no lease",
        &["unleased"; 2],
        Model(|state| {
            namespace_mut(state).leases.remove(id("top").as_str());
        }),
    ),
    (
        "a temporary lease",
        &["temporary-lease"],
        Model(|state| {
            let lease = namespace_mut(state).leases.get_mut(id("top").as_str()).unwrap();
            lease.labels.insert(LABEL_TEMPORARY.to_owned(), String::new());
        }),
    ),
    (
        "a lease that expires",
        &["expiring-lease"],
        Model(|state| {
            let lease = namespace_mut(state).leases.get_mut(id("top").as_str()).unwrap();
            lease.labels.insert(LABEL_GC_EXPIRE.to_owned(), NOW.to_string());
        }),
    ),
    (
        "a lease of no record",
        &["stray-lease"],
        Model(|state| {
            let lease = namespace(state).leases[id("top").as_str()].clone();
            namespace_mut(state).leases.insert(id("gone").to_string(), lease);
        }),
    ),
    // content
    (
        "a blob without its row",
        &["blob-without-row"],
        Entries(METADATA, |tree| {
            let path = ["v1", NAMESPACE, "content", "blob"];
            remove(tree, &path, &blob("top").to_string());
        }),
    ),
    (
        "a layer that a result needs and a registry has",
        &["blob-without-row"],
        Model(|state| {
            let result = result(state, "remote");
            state.solver.add_result(&key("top"), result, NOW);
        }),
    ),
    (
        "a size in the record",
        &["record-blob-size"],
        Model(|state| {
            record_mut(state, "top").blob_size = Some(99);
        }),
    ),
    (
        "a diffID in the row",
        &["record-diff-id"],
        Model(|state| {
            let row = namespace_mut(state).content.get_mut(&blob("top")).unwrap();
            row.labels.insert(LABEL_UNCOMPRESSED.to_owned(), Digest::of("another").to_string());
        }),
    ),
    (
        "a blob without its file",
        &["blob-without-file"],
        Files(|root| {
            fs::remove_file(root.blob(&blob("top"))).unwrap();
        }),
    ),
    (
        "all blobs gone",
        &["blob-without-file"; 3],
        Files(|root| {
            fs::remove_dir_all(root.worker("content/blobs")).unwrap();
        }),
    ),
    (
        "a blob that is cut off",
        &["blob-file-size"],
        Files(|root| {
            fs::write(root.blob(&blob("top")), "x").unwrap();
        }),
    ),
    (
        "a blob that is a link",
        &["blob-not-a-file"],
        Files(|root| {
            let path = root.blob(&blob("top"));
            fs::rename(&path, root.path().join("elsewhere")).unwrap();
            std::os::unix::fs::symlink("../../../../elsewhere", path).unwrap();
        }),
    ),
    (
        "a blob that is a directory",
        &["blob-not-a-file"],
        Files(|root| {
            fs::remove_file(root.blob(&blob("top"))).unwrap();
            fs::create_dir(root.blob(&blob("top"))).unwrap();
        }),
    ),
    (
        "a blob that is a FIFO",
        &["blob-not-a-file"],
        Files(|root| {
            use rustix::fs::{CWD, FileType, Mode, mknodat};
            let path = root.blob(&blob("top"));
            fs::remove_file(&path).unwrap();
            mknodat(CWD, &path, FileType::Fifo, Mode::RUSR, 0).unwrap();
        }),
    ),
    (
        "a blob of nothing",
        &["stray-blob"],
        Files(|root| {
            fs::write(root.blob(&blob("of nothing")), "x").unwrap();
        }),
    ),
    (
        "a file among the blobs",
        &["stray-blob"],
        Files(|root| {
            fs::write(root.worker("content/blobs/sha256/notes"), "x").unwrap();
        }),
    ),
    // snapshots
    (
        "a sequence of ids below one in use",
        &["snapshot-id"],
        Model(|state| {
            state.snapshots.sequence -= 1;
        }),
    ),
    (
        "a sequence of numbers below one in use",
        &["snapshot-number"],
        Model(|state| {
            table_mut(state).sequence -= 1;
        }),
    ),
    (
        "a snapshot of containerd's only",
        &["snapshot-not-in-snapshotter"],
        Model(|state| {
            let row = SnapshotRow { name: "buildkit/1/ghost".to_owned(), ..SnapshotRow::default() };
            table_mut(state).rows.insert("ghost".to_owned(), row);
        }),
    ),
    (
        "a snapshot of the snapshotter's only",
        &["snapshot-not-in-containerd"],
        Model(|state| {
            state.add_snapshot("ghost", Kind::Committed, None);
            table_mut(state).rows.remove("ghost");
        }),
    ),
    (
        "two rows of one name",
        &["shared-snapshot-name"],
        Model(|state| {
            let row = table_mut(state).rows["a view"].clone();
            table_mut(state).rows.get_mut("top").unwrap().children.insert("another".to_owned());
            table_mut(state).rows.insert("another".to_owned(), row);
        }),
    ),
    (
        "a parent that differs",
        &["snapshot-parent-differs"],
        Model(|state| {
            snapshot_mut(state, "a view").parent = None;
        }),
    ),
    (
        "a parent that is gone",
        &["stray-snapshot-child", "missing-snapshot-parent"],
        Model(|state| {
            table_mut(state).rows.get_mut("a view").unwrap().parent = Some("gone".to_owned());
        }),
    ),
    (
        "a parent that the snapshotter has not",
        &["snapshot-parent-differs", "missing-snapshot-parent"],
        Model(|state| {
            snapshot_mut(state, "a view").parent = Some("buildkit/9/gone".to_owned());
        }),
    ),
    (
        "a parent that is not committed",
        &["snapshot-kind", "snapshot-parent-not-committed"],
        Model(|state| {
            snapshot_mut(state, "top").kind = Kind::Active;
        }),
    ),
    (
        "a parent that forgot its child",
        &["missing-snapshot-child"],
        Model(|state| {
            table_mut(state).rows.get_mut("base").unwrap().children.remove("top");
        }),
    ),
    (
        "a parent of a child that is gone",
        &["stray-snapshot-child"],
        Model(|state| {
            table_mut(state).rows.get_mut("base").unwrap().children.insert("gone".to_owned());
        }),
    ),
    (
        "snapshots on themselves",
        &["snapshot-parent-cycle"; 2],
        Model(|state| {
            let name = table_mut(state).rows["top"].name.clone();
            snapshot_mut(state, "base").parent = Some(name);
            table_mut(state).rows.get_mut("base").unwrap().parent = Some("top".to_owned());
            table_mut(state).rows.get_mut("top").unwrap().children.insert("base".to_owned());
        }),
    ),
    (
        "no index of parents",
        &["missing-parents-entry"; 3],
        Entries(SNAPSHOTS, |tree| {
            bucket(tree, &["v1", "parents"]).entries.clear();
        }),
    ),
    (
        "an index of parents without the zero",
        &["missing-parents-entry", "stray-parents-entry"],
        Entries(SNAPSHOTS, |tree| {
            let parents = bucket(tree, &["v1", "parents"]);
            let name = parents.entries.remove(&b"\x01\x00\x02"[..]).unwrap();
            parents.entries.insert(b"\x01\x02".to_vec(), name);
        }),
    ),
    (
        "two snapshots of one id",
        &["shared-snapshot-id", "missing-parents-entry", "stray-parents-entry", "stray-directory"],
        Entries(SNAPSHOTS, |tree| {
            let snapshots = bucket(tree, &["v1", "snapshots"]);
            let name =
                snapshots.entries.keys().find(|name| name.ends_with(b"a view")).unwrap().clone();
            let Some(Node::Bucket(view)) = snapshots.entries.get_mut(&name) else { panic!() };
            view.entries.insert(b"id".to_vec(), Node::Value(vec![1]));
        }),
    ),
    (
        "a kind of snapshot that there is not",
        &["unknown-content"],
        Entries(SNAPSHOTS, |tree| {
            let snapshots = bucket(tree, &["v1", "snapshots"]);
            let Some(Node::Bucket(first)) = snapshots.entries.values_mut().next() else { panic!() };
            first.entries.insert(b"kind".to_vec(), Node::Value(vec![9]));
        }),
    ),
    (
        "a row without a name",
        &[
            "snapshot-not-in-snapshotter",
            "snapshot-not-in-containerd",
            "snapshot-parent-differs",
            "snapshot-parent-differs",
        ],
        Entries(METADATA, |tree| {
            remove(tree, &[ROWS[0], ROWS[1], ROWS[2], ROWS[3], "base"], "name");
        }),
    ),
    // directories
    (
        "a snapshot without its directory",
        &["missing-directory"],
        Files(|root| {
            fs::remove_dir_all(root.snapshot(2)).unwrap();
        }),
    ),
    (
        "a directory that is a link",
        &["missing-directory"],
        Files(|root| {
            fs::rename(root.snapshot(2), root.path().join("elsewhere")).unwrap();
            std::os::unix::fs::symlink("../../../elsewhere", root.snapshot(2)).unwrap();
        }),
    ),
    (
        "a snapshot without its files",
        &["missing-fs"],
        Files(|root| {
            fs::remove_dir(root.snapshot(1).join("fs")).unwrap();
        }),
    ),
    (
        "files that are one file",
        &["missing-fs"],
        Files(|root| {
            fs::remove_dir(root.snapshot(1).join("fs")).unwrap();
            fs::write(root.snapshot(1).join("fs"), "").unwrap();
        }),
    ),
    (
        "a cache mount that cannot be mounted",
        &["missing-work"],
        Files(|root| {
            fs::remove_dir(root.snapshot(4).join("work")).unwrap();
        }),
    ),
    (
        "a directory of nothing",
        &["stray-directory"],
        Files(|root| {
            fs::create_dir(root.snapshot(99)).unwrap();
        }),
    ),
    (
        "a directory whose name is no id",
        &["stray-directory"],
        Files(|root| {
            fs::create_dir(root.worker("snapshots/snapshots/01")).unwrap();
        }),
    ),
    (
        "all directories gone",
        &["missing-directory"; 5],
        Files(|root| {
            fs::remove_dir_all(root.worker("snapshots/snapshots")).unwrap();
        }),
    ),
    // files
    (
        "no cache.db",
        &["missing-file"],
        Files(|root| {
            fs::remove_file(root.path().join("cache.db")).unwrap();
        }),
    ),
    (
        "no worker id",
        &["missing-file"],
        Files(|root| {
            fs::remove_file(root.worker(WORKER_ID)).unwrap();
        }),
    ),
    (
        "a worker id with a line feed",
        &["worker-id"],
        Files(|root| {
            fs::remove_file(root.worker(WORKER_ID)).unwrap();
            fs::write(root.worker(WORKER_ID), "id\n").unwrap();
        }),
    ),
    (
        "a worker id that is a directory",
        &["unreadable-file"],
        Files(|root| {
            fs::remove_file(root.worker(WORKER_ID)).unwrap();
            fs::create_dir(root.worker(WORKER_ID)).unwrap();
        }),
    ),
    (
        "no worker",
        &["missing-file"],
        Files(|root| {
            fs::remove_dir_all(root.path().join(WORKER)).unwrap();
        }),
    ),
    (
        "a worker that is a link",
        &["unreadable-file"],
        Files(|root| {
            fs::rename(root.path().join(WORKER), root.path().join("elsewhere")).unwrap();
            std::os::unix::fs::symlink("elsewhere", root.path().join(WORKER)).unwrap();
        }),
    ),
    (
        "a database that is a link",
        &["unreadable-file"],
        Files(|root| {
            fs::rename(root.worker(RECORDS_DB), root.worker("elsewhere.db")).unwrap();
            std::os::unix::fs::symlink("elsewhere.db", root.worker(RECORDS_DB)).unwrap();
        }),
    ),
    (
        "a database that is none",
        &["no-database"],
        Files(|root| {
            fs::write(root.worker(METADATA_DB), "not a database").unwrap();
        }),
    ),
    (
        "a database of no bytes",
        &["no-database"],
        Files(|root| {
            fs::write(root.worker(METADATA_DB), "").unwrap();
        }),
    ),
    (
        "a database that is cut off",
        &["no-database"],
        Files(|root| {
            let file = File::options().write(true).open(root.worker(RECORDS_DB)).unwrap();
            file.set_len(file.metadata().unwrap().len() - 4096).unwrap();
        }),
    ),
    (
        "a page that says it is another",
        &["damaged-page"],
        Files(|root| {
            use std::os::unix::fs::FileExt as _;
            let file = File::options().write(true).open(root.path().join("cache.db")).unwrap();
            // The freelist's own number.
            file.write_all_at(&[9], 2 * 4096).unwrap();
        }),
    ),
];

#[test]
fn each_kind_of_damage_is_found_and_no_other() {
    let mut wrong = Vec::new();
    for (what, expected, how) in CASES {
        let mut state = sound();
        if let Model(change) = how {
            change(&mut state);
        }
        let root = Root::with(&state);
        match how {
            Model(_) => {}
            Entries(database, change) => edit(&root.path().join(database), change),
            Files(change) => change(&root),
        }
        let damage = damage_of(&root);
        let mut expected = expected.to_vec();
        let mut found = kinds_of(&damage);
        expected.sort_unstable();
        found.sort_unstable();
        if found != expected {
            wrong.push(format!("{what}: {expected:?}, not {damage:#?}"));
        }
        for damage in damage {
            assert!(!damage.to_string().is_empty() && damage.consequence().len() > 20);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_list_has_enough_kinds() {
    let kinds: BTreeSet<_> = CASES.iter().flat_map(|(_, kinds, _)| *kinds).collect();
    assert!(kinds.len() >= 40, "{}: {kinds:#?}", kinds.len());
}
