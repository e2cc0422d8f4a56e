//! The databases of states by a real buildkitd v0.32.2 are read into the model and written again.
//!
//! | state | |
//! |---|---|
//! | `natural` | two builds with COPY, RUN, a cache mount and local sources |
//! | `mid-build` | copied while a RUN was running, after an import and builds with merges, cache mounts of another owner and content, and removed local sources |
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use bkstate::Root;
use bkstate::bolt::{Db, Node, Tree};
use bkstate::metadata::Metadata;
use bkstate::records::Records;
use bkstate::snapshots::{Kind, Snapshots};
use bkstate::solver::SolverCache;
use bkstate::worker::Worker;

fn states() -> [PathBuf; 2] {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    ["natural", "mid-build"].map(|name| data.join(name))
}

fn open(path: &Path) -> Db {
    Db::open(File::open(path).unwrap()).unwrap()
}

/// The whole content of a database, without empty buckets: the daemon leaves some behind, and treats them
/// like missing ones. The solver's keys are the exception.
fn content(db: &Db, keep_empty: bool) -> Tree {
    fn prune(tree: &mut Tree) {
        for node in tree.entries.values_mut() {
            if let Node::Bucket(tree) = node {
                prune(tree);
            }
        }
        tree.entries
            .retain(|_, node| !matches!(node, Node::Bucket(tree) if tree.entries.is_empty()));
    }
    let mut tree = Tree::read(&db.root()).unwrap();
    if !keep_empty {
        prune(&mut tree);
    }
    tree
}

fn rewritten(write: impl FnOnce(&File)) -> Db {
    let file = tempfile::tempfile().unwrap();
    write(&file);
    Db::open(file).unwrap()
}

#[test]
fn cache_db_keeps_its_content() {
    for state in states() {
        let db = open(&state.join("cache.db"));
        let model = SolverCache::read(&db).unwrap();
        let again = rewritten(|file| model.write(file).unwrap());
        assert_eq!(content(&again, true), content(&db, true));
        assert!(!model.links.is_empty() && !model.results.is_empty());
    }
}

#[test]
fn metadata_v2_db_keeps_its_content() {
    for state in states() {
        let db = open(&state.join("runc-overlayfs/metadata_v2.db"));
        let model = Records::read(&db).unwrap();
        let again = rewritten(|file| model.write(file).unwrap());
        assert_eq!(content(&again, false), content(&db, false));
        assert_eq!(Records::read_index(&again).unwrap(), Records::read_index(&db).unwrap());
    }
}

#[test]
fn containerdmeta_db_keeps_its_content() {
    for state in states() {
        let db = open(&state.join("runc-overlayfs/containerdmeta.db"));
        let model = Metadata::read(&db, &Worker::default()).unwrap();
        let again = rewritten(|file| model.write(file).unwrap());
        assert_eq!(content(&again, false), content(&db, false));
    }
}

#[test]
fn snapshots_metadata_db_keeps_its_content() {
    for state in states() {
        let db = open(&state.join("runc-overlayfs/snapshots/metadata.db"));
        let model = Snapshots::read(&db).unwrap();
        let again = rewritten(|file| model.write(file).unwrap());
        assert_eq!(content(&again, false), content(&db, false));
    }
}

/// Creates a state with the files named by its databases, with their sizes but without their content.
fn with_files(state: &Path) -> tempfile::TempDir {
    let temp = tempfile::tempdir().unwrap();
    let worker = temp.path().join("runc-overlayfs");
    let blobs = worker.join("content/blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    fs::create_dir_all(worker.join("snapshots/snapshots")).unwrap();
    for name in [
        "cache.db",
        "runc-overlayfs/workerid",
        "runc-overlayfs/metadata_v2.db",
        "runc-overlayfs/containerdmeta.db",
        "runc-overlayfs/snapshots/metadata.db",
    ] {
        fs::copy(state.join(name), temp.path().join(name)).unwrap();
    }
    let state = Root::open(temp.path()).unwrap().state().unwrap();
    let namespaces = state.metadata.namespaces.values();
    for (digest, content) in namespaces.flat_map(|namespace| &namespace.content) {
        // Several namespaces may have a row for it.
        let file = File::create(blobs.join(digest.hex())).unwrap();
        file.set_len(content.size.cast_unsigned()).unwrap();
    }
    for snapshot in state.snapshots.by_name.values() {
        let directory = worker.join("snapshots/snapshots").join(snapshot.id.to_string());
        fs::create_dir_all(directory.join("fs")).unwrap();
        fs::create_dir(directory.join("work")).unwrap();
    }
    temp
}

#[test]
fn a_natural_state_is_not_taken_for_damaged() {
    for state in states() {
        let root = with_files(&state);
        let found = Root::open(root.path()).unwrap().verify_databases().unwrap();
        assert!(found.damage.is_empty(), "{state:?}: {:#?}", found.damage);
        // A garbage collection left the names of two snapshots in their parents.
        let children = if state.ends_with("mid-build") { 2 } else { 0 };
        let leftovers: Vec<_> = found.leftovers.iter().map(|left| left.kind()).collect();
        assert_eq!(leftovers, vec!["stray-snapshot-child"; children], "{state:?}");
    }
}

#[test]
fn every_field_of_a_natural_record_is_known() {
    for state in states() {
        let state = Root::open(&state).unwrap().state().unwrap();
        for (id, record) in &state.records.by_id {
            // The rest are cleared entries.
            let unknown = record.other.iter().find(|(_, value)| !value.is_empty());
            assert_eq!(unknown, None, "{id}");
        }
    }
}

#[test]
fn the_state_amid_a_build_has_what_a_check_could_trip_over() {
    let [_, state] = states();
    let state = Root::open(&state).unwrap().state().unwrap();
    let known = |id| state.records.by_id.contains_key(id);
    let results = state.solver.by_result.keys().filter_map(|result| result.record.as_ref());
    assert!(results.filter(|record| !known(record)).count() > 0, "results of gone local sources");
    let records = || state.records.by_id.values();
    assert!(records().any(|record| record.equal_mutable.is_some()));
    assert!(records().any(|record| record.merge_parents.is_some()));
    assert!(records().any(|record| record.cache_dir.is_some() && record.parent.is_some()));
    assert!(state.snapshots.by_name.values().any(|snapshot| snapshot.kind == Kind::View));
    let leases = &state.metadata.namespaces["buildkit"].leases;
    assert!(leases.keys().any(|id| id.ends_with("-variants")));
}
