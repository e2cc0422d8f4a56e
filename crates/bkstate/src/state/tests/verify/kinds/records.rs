//! What is wrong with the records in `metadata_v2.db`.

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
];
