//! Conversions into roots with a state.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use bkstate::Root;
use bkstate::metadata::Metadata;
use bkstate::snapshots::Snapshots;
use bkstate::state::State;
use oci2bk::convert::Converter;
use oci2bk::plan::Plan;
use tempfile::TempDir;

use super::fixture::{self, ALL, Fixture};
use super::tree::describe;
use super::{converted, converter, ways};

const WORKER: &str = "runc-overlayfs";
const BLOBS: &str = "runc-overlayfs/content/blobs/sha256";
const TREES: &str = "runc-overlayfs/snapshots/snapshots";
const SNAPSHOTS_DB: &str = "runc-overlayfs/snapshots/metadata.db";
const METADATA_DB: &str = "runc-overlayfs/containerdmeta.db";
const RECORDS_DB: &str = "runc-overlayfs/metadata_v2.db";

fn read(root: &Path) -> State {
    Root::open(root).unwrap().state().unwrap()
}

fn assert_sound(root: &Path) {
    let damage = Root::open(root).unwrap().verify_databases().unwrap().damage;
    assert!(damage.is_empty(), "{damage:#?}");
}

fn names(dir: &Path) -> BTreeSet<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().into()).collect()
}

/// Converts one fixture after the other into a root.
fn one_after_the_other(fixtures: &[&Fixture], converter: &Converter) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for fixture in fixtures {
        converted(&[fixture.export()], &[fixture], root.path(), converter).unwrap();
    }
    root
}

fn copy(root: &Path) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    let from = format!("{}/.", root.display());
    let copied = Command::new("cp").arg("-a").arg(from).arg(copy.path()).status().unwrap();
    assert!(copied.success());
    copy
}

/// Moves files of the directory `name` that `to` lacks to `to`.
fn move_new(from: &Path, to: &Path, name: &str) {
    for entry in names(&from.join(name)).difference(&names(&to.join(name))) {
        fs::rename(from.join(name).join(entry), to.join(name).join(entry)).unwrap();
    }
}

fn move_file(from: &Path, to: &Path, name: &str) {
    fs::rename(from.join(name), to.join(name)).unwrap();
}

#[test]
fn caches_one_after_the_other_make_the_state_of_all_at_once() {
    let fixtures: Vec<_> = ALL.iter().collect();
    for converter in ways() {
        let exports: Vec<_> = ALL.iter().map(Fixture::export).collect();
        let at_once = tempfile::tempdir().unwrap();
        converted(&exports, &fixtures, at_once.path(), &converter).unwrap();
        let merged = one_after_the_other(&fixtures, &converter);
        assert_sound(merged.path());
        let (merged, at_once) = (read(merged.path()), read(at_once.path()));
        let records = |state: &State| state.records.by_id.keys().cloned().collect::<Vec<_>>();
        assert_eq!(records(&merged), records(&at_once));
        assert_eq!(merged.solver.links, at_once.solver.links);
        assert_eq!(merged.snapshots.by_name.len(), at_once.snapshots.by_name.len());
        assert_eq!(merged.snapshots.sequence, at_once.snapshots.sequence);
    }
}

#[test]
fn nothing_is_touched_if_everything_is_there() {
    for converter in ways() {
        let fixtures: Vec<_> = ALL.iter().collect();
        let root = one_after_the_other(&fixtures, &converter);
        let before = stamps(root.path());
        for fixture in ALL {
            let exports = [fixture.export()];
            let report = converted(&exports, &[fixture], root.path(), &converter).unwrap();
            assert_eq!((report.blobs, report.snapshots), (0, 0), "{}", fixture.name);
            assert_eq!(report.shares.steps.added, 0, "{}", fixture.name);
            assert!(report.shares.steps.existing > 0, "{}", fixture.name);
        }
        assert_eq!(stamps(root.path()), before);
    }
}

/// Returns when each file and directory was last changed, content and attributes.
fn stamps(root: &Path) -> BTreeMap<PathBuf, (u64, i64, i64)> {
    use std::os::unix::fs::MetadataExt as _;
    let mut stamps = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(path) = pending.pop() {
        let metadata = path.symlink_metadata().unwrap();
        if metadata.is_dir() {
            pending.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        stamps.insert(path, (metadata.ino(), metadata.ctime(), metadata.ctime_nsec()));
    }
    stamps
}

#[test]
fn a_preview_tells_what_a_conversion_does_and_changes_nothing() {
    for converter in ways() {
        let root = one_after_the_other(&[&ALL[0]], &converter);
        let before = stamps(root.path());
        let exports = [ALL[1].export()];
        let plan = Plan::new(&exports, &fixture::keyring(&exports, &[&ALL[1]])).unwrap();
        let shares = converter.preview(&plan, root.path()).unwrap();
        assert_eq!(stamps(root.path()), before);
        let report = converter.convert(&plan, root.path()).unwrap();
        assert_eq!(report.shares, shares);
        assert_eq!(report.blobs, shares.blobs.added);
        assert_eq!(report.snapshots, shares.snapshots.added);
        assert!(shares.records.added > 0);
        let nowhere = converter.preview(&plan, root.path().join("not/there")).unwrap();
        assert_eq!(nowhere.steps.existing, 0);
    }
}

#[test]
fn layers_that_were_packed_are_unpacked_by_a_later_conversion() {
    let ways: Vec<_> = ways().collect();
    let [packed, unpacked] = ways.as_slice() else { return };
    let root = one_after_the_other(&[&ALL[0]], packed);
    let report = converted(&[ALL[0].export()], &[&ALL[0]], root.path(), unpacked).unwrap();
    assert_eq!((report.blobs, report.shares.snapshots.existing), (0, 0));
    assert!(report.snapshots > 0);
    assert_sound(root.path());
    let at_once = one_after_the_other(&[&ALL[0]], unpacked);
    let trees = |root: &TempDir| {
        let described = describe(root.path());
        let trees = described.lines().filter(|line| line.starts_with(TREES));
        trees.map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(trees(&root) == trees(&at_once));
}

#[test]
fn a_damaged_blob_in_the_root_is_not_blamed_on_the_cache() {
    let ways: Vec<_> = ways().collect();
    let [packed, unpacked] = ways.as_slice() else { return };
    let root = one_after_the_other(&[&ALL[1]], packed);
    let blob = ALL[1].copy().largest_layer();
    let path = root.path().join(BLOBS).join(blob.hex());
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    let before = describe(root.path());
    // If it is checked, it is replaced.
    let trusting = unpacked.clone().trust_blobs(true);
    let error = converted(&[ALL[1].export()], &[&ALL[1]], root.path(), &trusting).unwrap_err();
    assert!(error.to_string().contains(&root.path().display().to_string()), "{error}");
    assert!(!error.is_input());
    assert!(describe(root.path()) == before);
}

/// If a run stops at any point while it adds to a state, the state is sound except for parts that a daemon
/// removes, has everything from before, and is completed by the next run.
#[test]
fn every_prefix_of_publishing_is_a_sound_state_that_the_next_run_completes() {
    for converter in ways() {
        let before = one_after_the_other(&[&ALL[0]], &converter);
        let after = one_after_the_other(&[&ALL[0], &ALL[1]], &converter);
        let whole = read(after.path());
        // In the order of `bkstate::state` publish; each after the previous ones.
        let steps: [fn(&Path, &Path); 8] = [
            |_, _| {},
            reserve,
            |from, to| move_file(from, to, SNAPSHOTS_DB),
            |from, to| move_new(from, to, BLOBS),
            |from, to| move_new(from, to, TREES),
            |from, to| move_file(from, to, METADATA_DB),
            |from, to| move_file(from, to, RECORDS_DB),
            |from, to| move_file(from, to, "cache.db"),
        ];
        for last in 0..steps.len() {
            let (from, to) = (copy(after.path()), copy(before.path()));
            for step in &steps[..=last] {
                step(from.path(), to.path());
            }
            let stopped = read(to.path());
            let damage = Root::open(to.path()).unwrap().verify_databases().unwrap().damage;
            assert!(damage.iter().all(|damage| damage.is_harmless()), "{last}: {damage:#?}");
            assert_has(&stopped, &read(before.path()));

            let report = converted(&[ALL[1].export()], &[&ALL[1]], to.path(), &converter).unwrap();
            assert_sound(to.path());
            let completed = read(to.path());
            assert_eq!(completed.records, whole.records, "{last}");
            assert_eq!(completed.solver, whole.solver, "{last}");
            assert_eq!(completed.snapshots.by_name.len(), whole.snapshots.by_name.len());
            assert_eq!(names(&to.path().join(BLOBS)), names(&after.path().join(BLOBS)));
            assert_eq!(names(&to.path().join(TREES)).len(), names(&after.path().join(TREES)).len());
            // As soon as the rows exist, nothing is stored or unpacked again.
            let rows = last >= 5;
            assert_eq!((report.blobs, report.snapshots) == (0, 0), rows, "{last}: {report:?}");
        }
    }
}

/// The first step of publishing: the sequence of the new state in the old one.
fn reserve(from: &Path, to: &Path) {
    let sequence = |metadata: &Metadata| {
        let tables = &metadata.namespaces["buildkit"].snapshots;
        tables.get("overlayfs").map(|table| table.sequence)
    };
    let Some(new) = sequence(&read(from).metadata) else { return };
    let mut metadata = read(to).metadata;
    let namespace = metadata.namespaces.get_mut("buildkit").unwrap();
    namespace.snapshots.get_mut("overlayfs").unwrap().sequence = new;
    let path = to.join(METADATA_DB);
    fs::remove_file(&path).unwrap();
    metadata.write(&fs::File::create_new(&path).unwrap()).unwrap();
}

/// Checks that `state` has all records, snapshots, keys and results of `before`.
fn assert_has(state: &State, before: &State) {
    assert_eq!(state.worker_id, before.worker_id);
    assert!(before.records.by_id.keys().all(|id| state.records.by_id.contains_key(id)));
    let Snapshots { by_name, .. } = &state.snapshots;
    assert!(before.snapshots.by_name.iter().all(|(name, row)| by_name.get(name) == Some(row)));
    for (key, links) in &before.solver.links {
        assert!(links.iter().all(|link| state.solver.links[key].contains(link)));
    }
    for (key, results) in &before.solver.results {
        assert!(results.keys().all(|id| state.solver.results[key].contains_key(id)));
    }
}

/// A run that died between the two steps of publishing into an empty root.
#[test]
fn records_without_a_cache_db_are_completed_by_the_next_run() {
    for converter in ways() {
        let whole = one_after_the_other(&[&ALL[0]], &converter);
        let stopped = copy(whole.path());
        fs::create_dir(stopped.path().join(".oci2bk-staging")).unwrap();
        fs::rename(
            stopped.path().join("cache.db"),
            stopped.path().join(".oci2bk-staging/cache.db"),
        )
        .unwrap();
        let report = converted(&[ALL[0].export()], &[&ALL[0]], stopped.path(), &converter).unwrap();
        assert_eq!((report.blobs, report.snapshots), (0, 0));
        assert!(describe(stopped.path()) == describe(whole.path()));
    }
}

#[test]
fn other_files_of_a_daemon_stay_as_they_are() {
    let root = one_after_the_other(&[&ALL[0]], &converter(false));
    let others = ["history.db", "cache-debug.db", "runc-overlayfs/executor/runc-log.json"];
    fs::create_dir(root.path().join(WORKER).join("executor")).unwrap();
    for other in others {
        let file = File::create_new(root.path().join(other)).unwrap();
        bkstate::bolt::write(&file, |root| {
            root.bucket(other.as_bytes(), |_| Ok::<_, bkstate::encode::EncodeError>(()))
        })
        .unwrap();
    }
    let content = || others.map(|other| fs::read(root.path().join(other)).unwrap());
    let before = content();
    converted(&[ALL[1].export()], &[&ALL[1]], root.path(), &converter(false)).unwrap();
    assert!(content() == before);
}
