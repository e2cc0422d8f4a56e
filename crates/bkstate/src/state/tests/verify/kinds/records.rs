//! Damage to the records in `metadata_v2.db`.

use super::*;

const RECORDS: &str = "runc-overlayfs/metadata_v2.db";

pub(super) const CASES: &[Case] = &[
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
        &["snapshot-kind", "wrong-twin"],
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
        "a layer without its blob",
        &["incomplete-layer"],
        Model(|state| {
            record_mut(state, "top").blob = None;
        }),
    ),
    (
        "a layer without a size",
        &["incomplete-layer"],
        Model(|state| {
            record_mut(state, "packed").blob_size = None;
        }),
    ),
    (
        "a layer that counts as another in chains",
        &["layer-identity"],
        Model(|state| {
            record_mut(state, "packed").layer_identity = Some(Digest::of("another"));
        }),
    ),
    (
        "a size that no file system has",
        &["record-size"],
        Model(|state| {
            record_mut(state, "top").size = Some(9_000_000_000_000_000_000);
        }),
    ),
    (
        "a negative size",
        &["record-size"],
        Model(|state| {
            record_mut(state, "top").size = Some(-2);
        }),
    ),
    (
        "a deleted record below live ones",
        &["removed-parent"; 3],
        Model(|state| {
            record_mut(state, "base").deleted = Some(true);
        }),
    ),
    (
        "a twin that cannot change",
        &["wrong-twin"],
        Model(|state| {
            let twin = Record {
                committed: Some(true),
                equal_mutable: Some(id("base")),
                ..Record::default()
            };
            state.records.by_id.insert(id("files too"), twin);
        }),
    ),
    (
        "a twin with another parent",
        &["wrong-twin"],
        Model(|state| {
            record_mut(state, "files").parent = Some(id("base"));
        }),
    ),
    (
        "a record with the snapshot of the one below",
        // The record above it is on another snapshot than it says, too.
        &["snapshot-of-other", "snapshot-of-other"],
        Model(|state| take_snapshot(state, "top", "base")),
    ),
    (
        "a packed layer with the snapshot of another",
        &["snapshot-of-other"; 2],
        Model(|state| take_snapshot(state, "packed", "top")),
    ),
    (
        "a key that is made of another chainID",
        &["snapshot-of-other"],
        Model(|state| {
            take_snapshot(state, "packed", &crate::layers::snapshot_key(&Digest::of("another")));
        }),
    ),
    (
        "an old key that is made of another chainID",
        &["snapshot-of-other"],
        Model(|state| {
            take_snapshot(state, "packed", &Digest::of("another").to_string());
        }),
    ),
    (
        "a merge that has the snapshot of another record",
        &["snapshot-of-other"],
        Model(|state| take_snapshot(state, "merged", "nobody's")),
    ),
    (
        "a snapshot on another than the record",
        &["snapshot-on-other"],
        Model(|state| {
            state.add_layer("other", None, false);
            state.add_snapshot("other", Kind::Committed, None);
            lie_on(state, "top", Some("other"));
        }),
    ),
    (
        "a snapshot on none, of a record with a parent",
        &["snapshot-on-other"],
        Model(|state| lie_on(state, "top", None)),
    ),
    (
        "a cache mount on another layer",
        &["snapshot-on-other"],
        Model(|state| lie_on(state, id("mount").as_str(), Some("top"))),
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
];

/// Gives a record the snapshot `key`, and its lease with it.
fn take_snapshot(state: &mut State, name: &str, key: &str) {
    record_mut(state, name).snapshot = Some(key.to_owned());
    let lease = namespace_mut(state).leases.get_mut(id(name).as_str()).unwrap();
    lease.snapshots.get_mut(SNAPSHOTTER).unwrap().insert(key.to_owned());
}

/// Gives the snapshot `key` another parent, in both databases.
fn lie_on(state: &mut State, key: &str, parent: Option<&str>) {
    let table = table_mut(state);
    for row in table.rows.values_mut() {
        row.children.remove(key);
    }
    let name = parent.map(|parent| {
        let row = table.rows.get_mut(parent).unwrap();
        row.children.insert(key.to_owned());
        row.name.clone()
    });
    table.rows.get_mut(key).unwrap().parent = parent.map(str::to_owned);
    snapshot_mut(state, key).parent = name;
}

/// Returns a sound state, except that the snapshot `top` lies on `other`, which may have a record.
fn on_other(with_record: bool) -> State {
    let mut state = sound();
    if with_record {
        state.add_layer("other", None, false);
    }
    state.add_snapshot("other", Kind::Committed, None);
    lie_on(&mut state, "top", Some("other"));
    state
}

#[test]
fn what_a_snapshot_lies_on_and_what_it_should_lie_on_is_named() {
    let mut state = on_other(true);
    for found in ["other", "nothing"] {
        let damage = damage_of(&Root::with(&state));
        let said = format!(
            "metadata: the snapshot top of record {} lies on {found}, the record on base",
            id("top")
        );
        assert_eq!(damage[0].to_string(), said);
        lie_on(&mut state, "top", None);
    }
}

#[test]
fn the_kind_of_a_snapshot_and_the_one_that_its_record_needs_are_named() {
    for (name, kind, said) in [
        ("local", Kind::Committed, "is committed, not active"),
        ("local", Kind::View, "is a view, not active"),
        ("top", Kind::Active, "is active, not committed"),
    ] {
        let mut state = sound();
        let record = &state.records.by_id[&id(name)];
        let key = record.snapshot_key(&id(name)).to_owned();
        snapshot_mut(&mut state, &key).kind = kind;
        let damage = damage_of(&Root::with(&state));
        let kinds = kinds_of(&damage);
        let at = kinds.iter().position(|kind| *kind == "snapshot-kind").unwrap();
        let said = format!("snapshotter: the snapshot {key} of record {} {said}", id(name));
        assert_eq!(damage[at].to_string(), said);
    }
}

#[test]
fn a_snapshot_may_lie_on_one_whose_record_a_daemon_has_removed_but_on_no_other_layer() {
    for is_damage in [true, false] {
        let root = Root::with(&on_other(is_damage));
        assert_eq!(kinds_of(&damage_of(&root)), ["snapshot-on-other"]);
        use_database(&root.worker(RECORDS_DB));
        let damage = verify_databases(&root.held).unwrap().damage;
        assert_eq!(kinds_of(&damage), vec!["snapshot-on-other"; usize::from(is_damage)]);
    }
}
