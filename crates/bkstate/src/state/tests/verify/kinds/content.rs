//! Damage to blobs: their rows in `containerdmeta.db` and their files.

use super::*;
use crate::metadata::LABEL_UNCOMPRESSED;

pub(super) const CASES: &[Case] = &[
    (
        "a blob without its row",
        &["blob-without-row"],
        Entries(METADATA, |tree| {
            let path = ["v1", NAMESPACE, "content", "blob"];
            remove(tree, &path, &blob("top").to_string());
        }),
    ),
    (
        "a layer that a result needs and a registry has",
        &["blob-without-row"],
        Model(|state| {
            let result = result(state, "remote");
            state.solver.add_result(&key("top"), result, NOW);
        }),
    ),
    (
        "a size in the record",
        &["record-blob-size"],
        Model(|state| {
            record_mut(state, "top").blob_size = Some(99);
        }),
    ),
    (
        "a diffID in the row",
        &["record-diff-id"],
        Model(|state| {
            let row = namespace_mut(state).content.get_mut(&blob("top")).unwrap();
            row.labels.insert(LABEL_UNCOMPRESSED.to_owned(), Digest::of("another").to_string());
        }),
    ),
    (
        "a blob without its file",
        &["blob-without-file"],
        Files(|root| {
            fs::remove_file(root.blob(&blob("top"))).unwrap();
        }),
    ),
    (
        "all blobs gone",
        &["blob-without-file"; 3],
        Files(|root| {
            fs::remove_dir_all(root.worker("content/blobs")).unwrap();
        }),
    ),
    (
        "a file in the place of all blobs",
        &["unreadable-file"],
        Files(|root| {
            fs::remove_dir_all(root.worker("content/blobs")).unwrap();
            fs::write(root.worker("content/blobs"), "").unwrap();
        }),
    ),
    (
        "a blob that is cut off",
        &["blob-file-size"],
        Files(|root| {
            // Only root may write to the file, which is read-only.
            fs::remove_file(root.blob(&blob("top"))).unwrap();
            fs::write(root.blob(&blob("top")), "x").unwrap();
        }),
    ),
    (
        "a blob that is a link",
        &["blob-not-a-file"],
        Files(|root| {
            let path = root.blob(&blob("top"));
            fs::rename(&path, root.path().join("elsewhere")).unwrap();
            std::os::unix::fs::symlink("../../../../elsewhere", path).unwrap();
        }),
    ),
    (
        "a blob that is a directory",
        &["blob-not-a-file"],
        Files(|root| {
            fs::remove_file(root.blob(&blob("top"))).unwrap();
            fs::create_dir(root.blob(&blob("top"))).unwrap();
        }),
    ),
    (
        "a blob that is a FIFO",
        &["blob-not-a-file"],
        Files(|root| {
            use rustix::fs::{CWD, FileType, Mode, mknodat};
            let path = root.blob(&blob("top"));
            fs::remove_file(&path).unwrap();
            mknodat(CWD, &path, FileType::Fifo, Mode::RUSR, 0).unwrap();
        }),
    ),
    (
        "a blob of nothing",
        &["stray-blob"],
        Files(|root| {
            fs::write(root.blob(&blob("of nothing")), "x").unwrap();
        }),
    ),
    (
        "a file among the blobs",
        &["stray-blob"],
        Files(|root| {
            fs::write(root.worker("content/blobs/sha256/notes"), "x").unwrap();
        }),
    ),
];
