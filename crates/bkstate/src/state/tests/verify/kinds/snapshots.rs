//! Damage to snapshots, in `containerdmeta.db` and in the snapshotter's own database.

use super::*;

const SNAPSHOTS: &str = "runc-overlayfs/snapshots/metadata.db";
const ROWS: [&str; 4] = ["v1", NAMESPACE, "snapshots", SNAPSHOTTER];

pub(super) const CASES: &[Case] = &[
    (
        "a usage that no file system has",
        &["snapshot-usage"],
        Model(|state| snapshot_mut(state, "top").size = Some(1 << 60)),
    ),
    (
        "a negative usage",
        &["snapshot-usage"],
        Model(|state| snapshot_mut(state, "top").inodes = Some(-1)),
    ),
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
        &["snapshot-parent-cycle", "snapshot-parent-cycle", "snapshot-on-other"],
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
];
