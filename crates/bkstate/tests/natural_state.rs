//! The databases of a state that a real buildkitd v0.32.2 left behind (two builds with COPY, RUN,
//! a cache mount and local sources) are read into the model and written again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]

use std::fs::File;
use std::path::{Path, PathBuf};

use bkstate::bolt::{Db, Node, Tree};
use bkstate::dir::Dir;
use bkstate::metadata::Metadata;
use bkstate::records::Records;
use bkstate::snapshots::Snapshots;
use bkstate::solver::SolverCache;
use bkstate::state::State;

fn natural() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/natural")
}

fn open(path: &Path) -> Db {
    Db::open(File::open(path).unwrap()).unwrap()
}

/// The whole content of a database, without buckets that have nothing in them: the daemon leaves
/// some behind, and to it they mean the same as none. The solver's keys are the exception.
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
    let db = open(&natural().join("cache.db"));
    let model = SolverCache::read(&db).unwrap();
    let again = rewritten(|file| model.write(file).unwrap());
    assert_eq!(content(&again, true), content(&db, true));
    assert!(!model.links.is_empty() && !model.results.is_empty());
}

#[test]
fn metadata_v2_db_keeps_its_content() {
    let db = open(&natural().join("runc-overlayfs/metadata_v2.db"));
    let model = Records::read(&db).unwrap();
    let again = rewritten(|file| model.write(file).unwrap());
    assert_eq!(content(&again, false), content(&db, false));
    assert_eq!(Records::read_index(&again).unwrap(), Records::read_index(&db).unwrap());
}

#[test]
fn containerdmeta_db_keeps_its_content() {
    let db = open(&natural().join("runc-overlayfs/containerdmeta.db"));
    let model = Metadata::read(&db).unwrap();
    let again = rewritten(|file| model.write(file).unwrap());
    assert_eq!(content(&again, false), content(&db, false));
}

#[test]
fn snapshots_metadata_db_keeps_its_content() {
    let db = open(&natural().join("runc-overlayfs/snapshots/metadata.db"));
    let model = Snapshots::read(&db).unwrap();
    let again = rewritten(|file| model.write(file).unwrap());
    assert_eq!(content(&again, false), content(&db, false));
}

#[test]
fn the_whole_state_is_read_and_tied_together() {
    let root = Dir::open(&natural()).unwrap();
    let state = State::read(&root).unwrap();
    let results = state.solver.results.values().flat_map(|results| results.keys());
    for result in results {
        assert_eq!(result.worker, state.worker_id);
        assert!(state.records.by_id.contains_key(result.record.as_ref().unwrap()));
    }
    // No field of the natural records is unknown to the model; what is left are cleared entries.
    for (id, record) in &state.records.by_id {
        let unknown = record.other.iter().find(|(_, value)| !value.is_empty());
        assert_eq!(unknown, None, "{id}");
    }
}
