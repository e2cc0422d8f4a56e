//! Damage to the directories of snapshots.

use super::*;

pub(super) const CASES: &[Case] = &[
    (
        "a snapshot without its directory",
        &["missing-directory"],
        Files(|root| {
            fs::remove_dir_all(root.snapshot(2)).unwrap();
        }),
    ),
    (
        "a directory that is a link",
        &["foreign-link"],
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
];
