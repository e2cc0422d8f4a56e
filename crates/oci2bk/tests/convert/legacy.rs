//! Conversions into roots whose layers a daemon before BuildKit v0.33.1 unpacked.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use bkstate::layers;
use bkstate::metadata::Namespace;
use bkstate::state::{Staging, State};
use oci2bk::{Root, Verifier};

use super::fixture::{ALL, can_extract};
use super::tree::describe;
use super::{converted, converter, extracting};

fn read(root: &Path) -> State {
    Root::open(root).unwrap().state().unwrap()
}

/// Returns the keys of the snapshots.
fn keys(namespace: &Namespace) -> BTreeSet<String> {
    let table = namespace.snapshots.get("overlayfs");
    table.into_iter().flat_map(|table| table.rows.keys()).cloned().collect()
}

/// Gives the snapshots of a root the names from an older daemon.
fn make_legacy(root: &Path) {
    let worker_id = read(root).worker_id;
    let opened = Root::open_to_write(root).unwrap();
    let existing = opened.existing(&worker_id).unwrap();
    let mut state = existing.state.clone();
    let mut names = BTreeMap::new();
    for record in state.records.by_id.values_mut() {
        let Some(chain_id) = record.chain_id else { continue };
        let legacy = layers::legacy_snapshot_key(&chain_id);
        assert_eq!(record.snapshot, Some(layers::snapshot_key(&chain_id)));
        names.insert(layers::snapshot_key(&chain_id), legacy.clone());
        record.snapshot = Some(legacy);
        record.layer_identity = None;
    }
    let old = |key: String| names.get(&key).cloned().unwrap_or(key);
    let namespace = state.metadata.namespaces.get_mut("buildkit").unwrap();
    for lease in namespace.leases.values_mut() {
        for keys in lease.snapshots.values_mut() {
            *keys = std::mem::take(keys).into_iter().map(old).collect();
        }
    }
    for table in namespace.snapshots.values_mut() {
        let rows = std::mem::take(&mut table.rows).into_iter().map(|(key, mut row)| {
            row.parent = row.parent.map(old);
            row.children = row.children.into_iter().map(old).collect();
            (old(key), row)
        });
        table.rows = rows.collect();
    }
    let staging = Staging::begin(&opened, &existing).unwrap();
    let written = staging.write(&state).unwrap();
    staging.publish(written).unwrap();
    assert!(opened.verify_databases().unwrap().damage.is_empty());
    drop(opened);
    assert_eq!(layers::depend_on_legacy(&read(root).records).len(), state.records.by_id.len());
}

fn legacy(root: &Path) -> usize {
    layers::depend_on_legacy(&read(root).records).len()
}

#[test]
fn layers_that_are_what_the_cache_has_become_those_of_a_new_root() {
    for extract in extracting() {
        for fixture in ALL {
            let root = tempfile::tempdir().unwrap();
            let convert = || {
                converted(&[fixture.export()], &[fixture], root.path(), &converter(extract))
                    .unwrap()
            };
            convert();
            let (new, listed) = (describe(root.path()), keys(namespace(&read(root.path()))));
            make_legacy(root.path());
            let report = convert();
            assert_eq!(report.legacy.different.len(), 0);
            assert!(!report.legacy.mended.is_empty());
            assert_eq!((report.blobs, report.snapshots), (0, 0), "nothing is stored twice");
            assert_eq!(legacy(root.path()), 0);
            assert_eq!(keys(namespace(&read(root.path()))), listed);
            // The names in snapshots/metadata.db are the old ones, too.
            assert!(describe(root.path()) == new, "{} {extract}", fixture.name);
            assert!(convert().legacy.mended.is_empty());
        }
    }
}

fn namespace(state: &State) -> &Namespace {
    &state.metadata.namespaces["buildkit"]
}

/// Adds a file to the tree of the lowest snapshot of a root, and returns the number of snapshots on top of
/// it, including itself.
fn spoil(root: &Path) -> usize {
    let state = read(root);
    let lowest = state.snapshots.by_name.values().filter(|it| it.parent.is_none());
    let lowest = lowest.min_by_key(|it| it.id).unwrap().id;
    let fs = root.join(format!("runc-overlayfs/snapshots/snapshots/{lowest}/fs"));
    fs::write(fs.join("planted"), "by a layer that lied").unwrap();
    let by_name = &state.snapshots.by_name;
    let lies_on_it = by_name.values().filter(|it| {
        std::iter::successors(Some(*it), |it| by_name.get(it.parent.as_ref()?))
            .any(|it| it.id == lowest)
    });
    lies_on_it.count()
}

#[test]
fn a_layer_that_is_not_what_the_cache_has_is_stored_beside_it_with_all_above() {
    if !can_extract() {
        return;
    }
    let fixture = &ALL[0];
    let root = tempfile::tempdir().unwrap();
    let convert =
        || converted(&[fixture.export()], &[fixture], root.path(), &converter(true)).unwrap();
    let trees = convert().snapshots;
    make_legacy(root.path());
    let spoiled = spoil(root.path());
    let report = convert();
    assert_eq!(report.legacy.different.len(), 1);
    assert_eq!(report.legacy.mended.len(), trees - spoiled);
    assert_eq!((report.blobs, report.snapshots), (0, spoiled));
    assert_eq!(legacy(root.path()), spoiled);
    let state = read(root.path());
    // Each layer has a record that a newer daemon shares.
    let shared: Vec<_> = {
        let legacy = layers::depend_on_legacy(&state.records);
        let records = state.records.by_id.iter().filter(|(id, _)| !legacy.contains(id));
        records.filter_map(|(_, record)| record.blob_chain_id).collect()
    };
    assert_eq!(shared.len(), trees);
    assert!(Root::open(root.path()).unwrap().verify_databases().unwrap().damage.is_empty());
    // Nothing is left to do.
    assert_eq!(convert().snapshots, 0);
}

#[test]
fn a_root_is_mended_by_what_its_own_blobs_unpack_to() {
    for extract in extracting() {
        let fixture = &ALL[0];
        let root = tempfile::tempdir().unwrap();
        converted(&[fixture.export()], &[fixture], root.path(), &converter(extract)).unwrap();
        let new = describe(root.path());
        make_legacy(root.path());
        let records = legacy(root.path());
        // Comparing trees requires root, but there are none if nothing was unpacked.
        let mend = || Verifier::new().mend(&Root::open(root.path()).unwrap()).unwrap();
        let report = mend();
        assert_eq!((report.counts.legacy, report.damage.len()), (records, 0));
        assert!(report.mended > Some(0) && legacy(root.path()) == 0);
        assert!(describe(root.path()) == new);
        assert_eq!(mend().mended, Some(0));
    }
}

#[test]
fn a_tree_that_differs_is_not_mended_nor_what_lies_on_it() {
    if !can_extract() {
        return;
    }
    let fixture = &ALL[0];
    let root = tempfile::tempdir().unwrap();
    converted(&[fixture.export()], &[fixture], root.path(), &converter(true)).unwrap();
    make_legacy(root.path());
    let (all, spoiled) = (read(root.path()).snapshots.by_name.len(), spoil(root.path()));
    let report = Verifier::new().mend(&Root::open(root.path()).unwrap()).unwrap();
    assert_eq!(report.damage.len(), 1);
    assert_eq!((report.mended, legacy(root.path())), (Some(all - spoiled), spoiled));
}

#[test]
fn a_packed_layer_whose_blob_lost_a_bit_is_not_mended() {
    let fixture = &ALL[0];
    let cache = fixture.copy();
    let root = tempfile::tempdir().unwrap();
    converted(&[cache.export()], &[fixture], root.path(), &converter(false)).unwrap();
    make_legacy(root.path());
    let path =
        root.path().join("runc-overlayfs/content/blobs/sha256").join(cache.top_layer().hex());
    let mut bytes = fs::read(&path).unwrap();
    bytes[20] ^= 1;
    fs::remove_file(&path).unwrap();
    fs::write(&path, bytes).unwrap();
    let before = legacy(root.path());
    let report = Verifier::new().mend(&Root::open(root.path()).unwrap()).unwrap();
    assert_eq!(report.damage.len(), 1);
    assert_eq!((report.mended, legacy(root.path())), (Some(before - 1), 1), "the one on top");
}
