//! Invalid histories, and those whose content is elsewhere.

mod containerds;

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;

use bkstate::bolt::{self, BucketWriter, Db, WriteError};
use tempfile::TempDir;

use super::*;
use crate::keys::{SourceError, read_source};
use crate::limits::Limits;

const BLOBS: &str = "runc-overlayfs/content/blobs/sha256";

/// Creates a root with a history and an empty content store.
fn root(records: &[(&str, Vec<u8>)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join(BLOBS)).unwrap();
    let fill = |root: &mut BucketWriter<'_>| {
        root.bucket(b"_records", |bucket| {
            records.iter().try_for_each(|(key, value)| bucket.put(key.as_bytes(), value))
        })
    };
    let file = File::create_new(dir.path().join("history.db")).unwrap();
    bolt::write::<WriteError>(&file, fill).unwrap();
    dir
}

/// Returns the record of a build with this provenance.
fn record(digest: &str) -> Vec<u8> {
    let kind =
        ("in-toto.io/predicate-type".to_owned(), "https://slsa.dev/provenance/v1".to_owned());
    let descriptor = Descriptor {
        media_type: "application/vnd.in-toto+json".into(),
        digest: digest.into(),
        annotations: BTreeMap::from([kind]),
    };
    let result = BuildResult { attestations: vec![descriptor] };
    Record { result: Some(result), results: BTreeMap::new() }.encode_to_vec()
}

fn read(root: &Path) -> HistoryError {
    match read_source(root, &Limits::default()).unwrap_err() {
        SourceError::History { source, .. } => *source,
        error => panic!("{error:?}"),
    }
}

#[test]
fn a_record_that_is_none_is_refused() {
    let root = root(&[("build", vec![0xff; 9])]);
    let error = read(root.path());
    assert!(
        matches!(&error, HistoryError::Record { reference, .. } if reference == "build"),
        "{error}"
    );
    assert_eq!(error.to_string(), "the record of the build \"build\" is malformed");
}

#[test]
fn a_digest_that_is_a_path_is_refused() {
    for digest in ["sha256:../../../history.db", "", "sha256:ab", "md5:00"] {
        let root = root(&[("build", record(digest))]);
        let error = read(root.path());
        assert!(matches!(error, HistoryError::Digest { .. }), "{digest}");
        assert!(
            error
                .to_string()
                .starts_with("the record of the build \"build\" names a blob that cannot be: \""),
            "{error}"
        );
    }
}

#[test]
fn a_blob_that_is_not_what_its_name_says_is_refused() {
    let digest = Digest::of("right");
    let root = root(&[("build", record(&digest.to_string()))]);
    fs::write(root.path().join(BLOBS).join(digest.hex()), "wrong").unwrap();
    let error = read(root.path());
    assert!(matches!(error, HistoryError::Corrupt { .. }), "{error}");
    assert!(error.to_string().contains(" is damaged: its content has the digest "), "{error}");
}

#[test]
fn no_link_is_followed_to_a_blob() {
    let digest = Digest::of("secret");
    let root = root(&[("build", record(&digest.to_string()))]);
    let elsewhere = root.path().join("elsewhere");
    fs::write(&elsewhere, "secret").unwrap();
    symlink(&elsewhere, root.path().join(BLOBS).join(digest.hex())).unwrap();
    let error = read(root.path());
    assert!(matches!(error, HistoryError::Dir(_)), "{error}");
    assert!(error.to_string().starts_with("cannot open the file "), "{error}");
}

#[test]
fn a_blob_over_the_limit_is_refused() {
    let digest = Digest::of("large");
    let root = root(&[("build", record(&digest.to_string()))]);
    let blob = File::create(root.path().join(BLOBS).join(digest.hex())).unwrap();
    blob.set_len(Limits::default().keys_document + 1).unwrap();
    let error = read(root.path());
    assert!(matches!(error, HistoryError::TooLarge { .. }), "{error}");
    assert!(
        error.to_string().contains(" has more than 67108864 bytes, or all provenance up to it has"),
        "{error}"
    );
}

#[test]
fn all_blobs_together_may_have_as_many_bytes_as_the_limit() {
    let root = root(&[]);
    let [first, second] = ["[1]", "[2, 3]"].map(|content| {
        let digest = Digest::of(content);
        fs::write(root.path().join(BLOBS).join(digest.hex()), content).unwrap();
        digest
    });
    let dir = Dir::open(root.path()).unwrap();
    let limits = Limits { keys_documents: 3 + 6, ..Limits::default() };
    let mut content = Content::below(dir.try_clone().unwrap(), &limits).unwrap();
    assert_eq!(content.read(&first).unwrap().unwrap(), b"[1]");
    assert_eq!(content.read(&second).unwrap().unwrap(), b"[2, 3]");
    let limits = Limits { keys_documents: 3 + 5, ..Limits::default() };
    let mut content = Content::below(dir.try_clone().unwrap(), &limits).unwrap();
    content.read(&first).unwrap();
    let error = content.read(&second).unwrap_err();
    assert!(matches!(&error, HistoryError::TooLarge { limit, .. } if limit.value == 5), "{error}");
    assert!(
        error.to_string().ends_with(" has more than 5 bytes, or all provenance up to it has"),
        "{error}"
    );
}

// A daemon creates the buckets with the first build.
#[test]
fn a_root_whose_databases_have_no_buckets_has_no_keys() {
    let root = root(&[]);
    let path = root.path().join("history.db");
    fs::remove_file(&path).unwrap();
    let file = File::create_new(path).unwrap();
    bolt::write::<WriteError>(&file, |_| Ok(())).unwrap();
    let error = read_source(root.path(), &Limits::default()).unwrap_err();
    assert!(matches!(error, SourceError::EmptyRoot { .. }), "{error:?}");
    assert!(error.to_string().contains(" has no keys, since it has not built anything"), "{error}");
}

#[test]
fn a_history_without_its_content_says_what_to_give() {
    let root = root(&[("build", record(&Digest::of("gone").to_string()))]);
    let error = read_source(&root.path().join("history.db"), &Limits::default()).unwrap_err();
    assert!(matches!(error, SourceError::EmptyHistory { .. }), "{error:?}");
    assert!(!error.to_string().contains("root directory"));
    let elsewhere = tempfile::tempdir().unwrap();
    let alone = elsewhere.path().join("history.db");
    fs::copy(root.path().join("history.db"), &alone).unwrap();
    let error = read_source(&alone, &Limits::default()).unwrap_err();
    assert!(matches!(error, SourceError::NoContent { .. }), "{error:?}");
    assert!(error.to_string().contains("root directory"));
    let error = read_source(root.path(), &Limits::default()).unwrap_err();
    assert!(matches!(error, SourceError::EmptyRoot { .. }), "{error:?}");
}

#[test]
fn builds_for_several_platforms_are_told_apart_and_other_attestations_passed_over() {
    let digest = Digest::of("p");
    let mut single = Record::decode(record(&digest.to_string()).as_slice()).unwrap();
    let result = single.result.take().unwrap();
    let mut sbom = result.clone();
    sbom.attestations[0]
        .annotations
        .insert("in-toto.io/predicate-type".into(), "https://spdx.dev/Document".into());
    let results = [("linux/386".to_owned(), result), ("linux/amd64".to_owned(), sbom)];
    let several = Record { result: None, results: BTreeMap::from(results) };
    let root = root(&[("build", several.encode_to_vec())]);
    let db = Db::open(File::open(root.path().join("history.db")).unwrap()).unwrap();
    let records = db.root().bucket(b"_records").unwrap().unwrap();
    let builds = builds(&records).unwrap();
    let names: Vec<_> = builds.iter().map(|build| build.name.as_str()).collect();
    assert_eq!(names, ["build linux/386"]);
}
