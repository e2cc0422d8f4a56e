//! Damage to the files of databases and to the worker id.

use super::*;

pub(super) const CASES: &[Case] = &[
    (
        "no cache.db",
        &["missing-file"],
        Files(|root| {
            fs::remove_file(root.path().join("cache.db")).unwrap();
        }),
    ),
    (
        "no worker id",
        &["missing-file"],
        Files(|root| {
            fs::remove_file(root.worker(WORKER_ID)).unwrap();
        }),
    ),
    (
        "a worker id with a line feed",
        &["worker-id"],
        Files(|root| {
            fs::remove_file(root.worker(WORKER_ID)).unwrap();
            fs::write(root.worker(WORKER_ID), "id\n").unwrap();
        }),
    ),
    (
        "a worker id that is a directory",
        &["unreadable-file"],
        Files(|root| {
            fs::remove_file(root.worker(WORKER_ID)).unwrap();
            fs::create_dir(root.worker(WORKER_ID)).unwrap();
        }),
    ),
    (
        "no worker",
        &["missing-file"],
        Files(|root| {
            fs::remove_dir_all(root.path().join(WORKER)).unwrap();
        }),
    ),
    (
        "a worker that is a link",
        &["unreadable-file"],
        Files(|root| {
            fs::rename(root.path().join(WORKER), root.path().join("elsewhere")).unwrap();
            std::os::unix::fs::symlink("elsewhere", root.path().join(WORKER)).unwrap();
        }),
    ),
    (
        "a database that is a link",
        &["unreadable-file"],
        Files(|root| {
            fs::rename(root.worker(RECORDS_DB), root.worker("elsewhere.db")).unwrap();
            std::os::unix::fs::symlink("elsewhere.db", root.worker(RECORDS_DB)).unwrap();
        }),
    ),
    (
        "a database that is none",
        &["no-database"],
        Files(|root| {
            fs::write(root.worker(METADATA_DB), "not a database").unwrap();
        }),
    ),
    (
        "a database of no bytes",
        &["empty-file"],
        Files(|root| {
            fs::write(root.worker(METADATA_DB), "").unwrap();
        }),
    ),
    ("a database that is cut off", &["cut-database"], Files(|root| cut(&root.worker(RECORDS_DB)))),
    (
        "databases that are no part of the state, cut off",
        &["cut-database"; 5],
        Files(|root| {
            for name in OTHERS {
                let path = root.path().join(name);
                write_other(&path);
                cut(&path);
            }
        }),
    ),
    (
        "databases that are no part of the state, each with a page of another number",
        &["damaged-page"; 10],
        Files(|root| {
            use std::os::unix::fs::FileExt as _;
            for name in OTHERS {
                let path = root.path().join(name);
                write_other(&path);
                let file = File::options().write(true).open(path).unwrap();
                file.write_all_at(&[9], 3 * 4096).unwrap();
            }
        }),
    ),
    (
        "a build history that is none",
        &["no-database"],
        Files(|root| fs::write(root.path().join("history.db"), "not a database").unwrap()),
    ),
    (
        "a build history that is a link",
        &["unreadable-file"],
        Files(|root| {
            std::os::unix::fs::symlink("elsewhere", root.path().join("history.db")).unwrap();
        }),
    ),
    (
        "a page that says it is another",
        &["damaged-page"],
        Files(|root| {
            use std::os::unix::fs::FileExt as _;
            let file = File::options().write(true).open(root.path().join("cache.db")).unwrap();
            // The freelist page's own number.
            file.write_all_at(&[9], 2 * 4096).unwrap();
        }),
    ),
];

/// Databases that a daemon opens and a conversion does not write.
pub(in crate::state::tests) const OTHERS: [&str; 5] = [
    "history.db",
    "cache-debug.db",
    "runc-native/containerdmeta.db",
    "runc-native/snapshots/metadata.db",
    "containerd-overlayfs/metadata_v2.db",
];

/// Writes a database with one bucket.
pub(in crate::state::tests) fn write_other(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let file = File::create_new(path).unwrap();
    bolt::write(&file, |root| root.bucket(b"bucket", |bucket| bucket.put(b"key", b"value")))
        .unwrap();
}

/// Cuts off the last page of a database.
pub(in crate::state::tests) fn cut(path: &Path) {
    let file = File::options().write(true).open(path).unwrap();
    file.set_len(file.metadata().unwrap().len() - 4096).unwrap();
}
