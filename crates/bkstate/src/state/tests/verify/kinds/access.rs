//! Files that others can change.

use std::os::unix::fs::{PermissionsExt as _, chown};

use super::*;
use crate::root::Location;
use crate::worker::Snapshotter;

pub(super) const CASES: &[Case] = &[
    ("a root for all", &["writable-by-others"], Files(|root| mode(root.path(), 0o777))),
    (
        "a worker that a group may write to",
        &["writable-by-others"],
        Files(|root| mode(&root.worker("."), 0o770)),
    ),
    (
        "databases that others can reach",
        &["writable-by-others"; 2],
        Files(|root| {
            for path in [root.path().to_owned(), root.worker("."), root.worker("snapshots")] {
                mode(&path, 0o711);
            }
            mode(&root.path().join("cache.db"), 0o666);
            mode(&root.worker("snapshots/metadata.db"), 0o620);
        }),
    ),
    (
        "blobs and directories of snapshots that others can reach",
        &["writable-by-others"; 2],
        Files(|root| {
            for name in [".", "snapshots", "snapshots/snapshots"] {
                mode(&root.worker(name), 0o755);
            }
            mode(&root.blob(&blob("top")), 0o446);
            mode(&root.snapshot(1), 0o777);
        }),
    ),
    ("what is out of reach", &[], Files(|root| mode(&root.worker("content"), 0o777))),
    (
        "trees as layers have them",
        &[],
        Files(|root| {
            mode(&root.snapshot(1).join("fs"), 0o777);
            mode(&root.worker("."), 0o755);
        }),
    ),
];

/// Same as [`CASES`], where we may change the owner of files.
pub(super) const OF_OWNERS: &[Case] = &[
    ("a root of somebody else", &["foreign-owner"], Files(|root| give(root.path()))),
    ("a worker of somebody else", &["foreign-owner"], Files(|root| give(&root.worker(".")))),
    (
        "a database and a blob of somebody else",
        &["foreign-owner"; 2],
        Files(|root| {
            give(&root.worker("containerdmeta.db"));
            give(&root.blob(&blob("top")));
        }),
    ),
    ("a tree as a layer has it", &[], Files(|root| give(&root.snapshot(1).join("fs")))),
];

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn give(path: &Path) {
    chown(path, Some(4242), None).unwrap();
}

#[test]
fn a_whole_tree_has_any_owner_as_long_as_others_cannot_reach_it() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let location = Location::of_oci(temp.path(), Snapshotter::Native);
    let root = crate::Root::open_to_write(location).unwrap();
    let state = State::empty(root.worker().clone(), WorkerId::derive("worker"));
    let nothing = Existing::nothing(state.worker.clone(), state.worker_id.clone());
    let staging = Staging::begin(&root, &nothing).unwrap();
    let written = staging.write(&state).unwrap();
    staging.publish(written).unwrap();
    let trees = temp.path().join("runc-native/snapshots/snapshots");
    fs::create_dir_all(trees.join("1")).unwrap();
    mode(&trees.join("1"), 0o777);
    give(&trees.join("1"));
    let kinds = || {
        let damage = root.verify_databases().unwrap().damage;
        let access = damage.iter().filter(|damage| matches!(damage, Damage::Access(_)));
        access.map(Damage::kind).collect::<Vec<_>>()
    };
    assert_eq!(kinds(), [""; 0]);
    for path in ["runc-native", "runc-native/snapshots", "runc-native/snapshots/snapshots"] {
        mode(&temp.path().join(path), 0o711);
    }
    mode(temp.path(), 0o711);
    assert_eq!(kinds(), ["foreign-owner", "writable-by-others"]);
}
