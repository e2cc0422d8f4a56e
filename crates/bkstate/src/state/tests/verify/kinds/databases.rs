//! What is wrong with the files of databases and of the worker id.

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
        &["no-database"],
        Files(|root| {
            fs::write(root.worker(METADATA_DB), "").unwrap();
        }),
    ),
    (
        "a database that is cut off",
        &["no-database"],
        Files(|root| {
            let file = File::options().write(true).open(root.worker(RECORDS_DB)).unwrap();
            file.set_len(file.metadata().unwrap().len() - 4096).unwrap();
        }),
    ),
    (
        "a page that says it is another",
        &["damaged-page"],
        Files(|root| {
            use std::os::unix::fs::FileExt as _;
            let file = File::options().write(true).open(root.path().join("cache.db")).unwrap();
            // The freelist's own number.
            file.write_all_at(&[9], 2 * 4096).unwrap();
        }),
    ),
];
