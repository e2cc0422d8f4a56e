//! Files that others can change.

use std::os::unix::fs::{PermissionsExt as _, chown};

use super::*;

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
