//! Damaged or false databases of builders: `cache.db`, `cache-debug.db`, `history.db`.

use std::fs::{self, File};
use std::path::Path;

use bkstate::Digest;
use bkstate::bolt::{self, BucketWriter, WriteError};
use oci2bk::keys::{DatabaseError, HistoryError, SourceError};
use tempfile::TempDir;

use super::keys::{file, file_of, refused};
use super::*;

const PAGE: usize = 4096;

/// Creates a database with `fill`, in a new directory.
fn database(
    name: &str,
    fill: impl FnOnce(&mut BucketWriter<'_>) -> Result<(), WriteError>,
) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let file = File::create_new(dir.path().join(name)).unwrap();
    bolt::write::<WriteError>(&file, fill).unwrap();
    dir
}

/// Returns a `cache.db` with links from some keys, on several pages.
fn cache_db() -> Vec<u8> {
    let dir = database("cache.db", |root| {
        root.bucket(b"_links", |links| {
            let mut keys: Vec<_> =
                (0..40).map(|key| Digest::of(key.to_string()).to_string()).collect();
            keys.sort_unstable();
            for key in keys {
                links.bucket(key.as_bytes(), |bucket| {
                    let link = format!(r#"{{"Digest":"{}"}}@{key}"#, Digest::of("op"));
                    bucket.put(link.as_bytes(), b"")
                })?;
            }
            Ok(())
        })
    });
    fs::read(dir.path().join("cache.db")).unwrap()
}

/// Reads a damaged database as a key source, which must not take long.
fn read(layout: &Layout, bytes: &[u8], what: &str) {
    let started = processor_time();
    match planned(layout.path(), &[file(bytes).path()]) {
        Ok(_) => {}
        Err(Fault::Keys(SourceError::Database { source, .. })) => {
            assert!(
                matches!(*source, DatabaseError::Read(_) | DatabaseError::Unknown),
                "{source:?}"
            );
        }
        // Without its magic number it is not a database.
        Err(Fault::Keys(SourceError::Unrecognised { .. })) => {}
        Err(fault) => panic!("{what}: {fault:?}"),
    }
    assert!(
        (processor_time() - started).as_secs() < 10,
        "{what}: {:?}",
        processor_time() - started
    );
}

#[test]
fn cut_off_anywhere() {
    let (layout, _) = one_layer();
    let whole = cache_db();
    for length in (1..whole.len()).step_by(127) {
        match planned(layout.path(), &[file(&whole[..length]).path()]) {
            Err(Fault::Keys(SourceError::Database { .. } | SourceError::Unrecognised { .. })) => {}
            result => panic!("{length}: {result:?}"),
        }
    }
}

#[test]
fn with_bytes_flipped() {
    let (layout, _) = one_layer();
    let whole = cache_db();
    let used = (0..whole.len()).filter(|at| at % PAGE < 64 || (whole[*at] != 0 && at % 5 == 0));
    for at in used {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << (at % 8);
        read(&layout, &damaged, &format!("byte {at}"));
    }
}

// Pages that refer to themselves, to each other, to the meta pages, to the freelist, outside the file.
#[test]
fn with_every_word_leading_to_any_page() {
    let (layout, _) = one_layer();
    let whole = cache_db();
    let pages = (whole.len() / PAGE) as u64;
    for at in (2 * PAGE..whole.len()).step_by(8).filter(|at| at % PAGE < 256) {
        let own = (at / PAGE) as u64;
        for page in [own, own + 1, 0, 2, pages - 1, pages, u64::MAX] {
            let mut damaged = whole.clone();
            damaged[at..at + 8].copy_from_slice(&page.to_le_bytes());
            read(&layout, &damaged, &format!("word {at} is {page}"));
        }
    }
}

#[test]
fn of_another_program() {
    let dir = database("cache.db", |root| root.bucket(b"x", |_| Ok(())));
    match refused(&dir.path().join("cache.db")) {
        SourceError::Database { source, .. } => {
            assert!(matches!(*source, DatabaseError::Unknown), "{source:?}");
            assert_eq!(
                source.to_string(),
                "it has neither _links nor byhash nor _records, so it has no keys; give \
                 the root of the builder, or its cache.db"
            );
        }
        error => panic!("{error:?}"),
    }
}

#[test]
fn a_cache_db_with_links_that_are_none() {
    let nonsense: [&[u8]; 9] = [
        b"@",
        b"x",
        b"{}@",
        b"{\"Digest\":\"\"}@x",
        b"{\"Digest\":1}@x",
        b"{\"Digest\":\"d\",\"Output\":4294967296}@x",
        b"{\"Digest\":\"d\",\"Output\":4294967295}@x",
        b"\xFF\xFE@x",
        b"[[[[[[[[[[@x",
    ];
    let dir = database("cache.db", |root| {
        root.bucket(b"_links", |links| {
            links.put(b"a value", b"")?;
            links.bucket(b"key", |bucket| {
                let mut nonsense = nonsense;
                nonsense.sort_unstable();
                nonsense.iter().try_for_each(|link| bucket.put(link, b""))
            })
        })
    });
    let (layout, _) = one_layer();
    converted_with(layout.path(), &[&dir.path().join("cache.db")]).unwrap();
}

#[test]
fn links_that_claim_billions_of_outputs_do_not_keep_us_hashing() {
    let dir = database("cache.db", |root| {
        root.bucket(b"_links", |links| {
            links.bucket(b"key", |bucket| {
                (1000..2000).try_for_each(|n| {
                    let link = format!(r#"{{"Digest":"{n}","Output":4294967295}}@x"#);
                    bucket.put(link.as_bytes(), b"")
                })
            })
        })
    });
    let (layout, _) = one_layer();
    let started = processor_time();
    planned(layout.path(), &[&dir.path().join("cache.db")]).unwrap();
    assert!((processor_time() - started).as_secs() < 60, "{:?}", processor_time() - started);
}

/// Encodes a protobuf field of bytes, shorter than 128.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, content.len().try_into().unwrap()][..], content].concat()
}

/// Returns the record of a build whose provenance is the blob `digest`.
fn record(digest: &str) -> Vec<u8> {
    let predicate =
        [field(1, b"in-toto.io/predicate-type"), field(2, b"https://slsa.dev/provenance/v1")];
    let descriptor = [
        field(1, b"application/vnd.in-toto+json"),
        field(2, digest.as_bytes()),
        field(5, &predicate.concat()),
    ]
    .concat();
    // Longer than 127 bytes, so their lengths take two.
    let long = |number: u8, content: &[u8]| {
        let length = content.len();
        assert!((128..1 << 14).contains(&length));
        [&[number << 3 | 2, (length & 0x7F) as u8 | 0x80, (length >> 7) as u8][..], content]
            .concat()
    };
    long(10, &long(2, &descriptor))
}

/// Creates a root with a build history with the record `record`.
fn history(record: &[u8]) -> TempDir {
    let dir = database("history.db", |root| {
        root.bucket(b"_records", |records| records.put(b"build", record))
    });
    fs::create_dir_all(dir.path().join("runc-overlayfs/content/blobs/sha256")).unwrap();
    dir
}

fn history_error(path: &Path) -> HistoryError {
    match refused(path) {
        SourceError::History { source, .. } => *source,
        error => panic!("{error:?}"),
    }
}

#[test]
fn a_history_whose_records_are_cut_off_anywhere() {
    let (layout, _) = one_layer();
    let whole = record(&Digest::of("gone").to_string());
    for length in 0..whole.len() {
        let root = history(&whole[..length]);
        match planned(layout.path(), &[root.path()]) {
            Err(Fault::Keys(SourceError::History { source, .. })) => {
                assert!(matches!(*source, HistoryError::Record { .. }), "{length}: {source:?}");
                assert_eq!(source.to_string(), "the record of the build \"build\" is malformed");
            }
            // A record without a build, or of a build whose provenance is missing.
            Err(Fault::Keys(SourceError::EmptyRoot { .. })) => assert!(length == 0),
            result => panic!("{length}: {result:?}"),
        }
    }
}

#[test]
fn a_history_that_names_paths_in_the_place_of_digests() {
    for digest in ["sha256:../../../history.db", "../x", "", "/etc/shadow"] {
        let root = history(&record(&format!("{digest:<40}")));
        let error = history_error(root.path());
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
fn a_history_whose_provenance_is_something_else_than_a_file() {
    for (_, make) in top::kinds() {
        let digest = Digest::of("provenance");
        let root = history(&record(&digest.to_string()));
        make(&root.path().join("runc-overlayfs/content/blobs/sha256").join(digest.hex()));
        let error = history_error(root.path());
        assert!(matches!(error, HistoryError::Dir(_)), "{error:?}");
        assert!(error.to_string().starts_with("cannot "), "{error}");
    }
}

#[test]
fn a_history_whose_provenance_is_damaged_or_nonsense() {
    let digest = Digest::of("{}");
    let root = history(&record(&digest.to_string()));
    let blob = root.path().join("runc-overlayfs/content/blobs/sha256").join(digest.hex());
    fs::write(&blob, "[]").unwrap();
    let error = history_error(root.path());
    assert!(matches!(error, HistoryError::Corrupt { .. }), "{error}");
    assert!(error.to_string().contains(" is damaged: its content has the digest "), "{error}");
    fs::write(&blob, "{}").unwrap();
    let error = refused(root.path());
    assert!(matches!(error, SourceError::Provenance { .. }), "{error}");
    assert!(error.to_string().ends_with(" (build) gives no keys"), "{error}");
}

#[test]
fn roots_whose_databases_are_something_else_than_files() {
    for name in ["cache.db", "history.db", "cache-debug.db"] {
        for (_, make) in top::kinds() {
            let root = tempfile::tempdir().unwrap();
            make(&root.path().join(name));
            let error = refused(root.path());
            let named = matches!(
                error,
                SourceError::Directory(_)
                    | SourceError::NoKnownDirectory { .. }
                    | SourceError::EmptyRoot { .. }
            );
            assert!(named, "{error:?}");
        }
    }
    // A sound file is one key source, in any place.
    let (layout, _) = one_layer();
    converted_with(layout.path(), &[file_of(&[&Digest::of("x").to_string()]).path()]).unwrap();
}
