use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use bkstate::Digest;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::json;

use super::testing::TestLayout;
use super::*;
use crate::limits::{Bound, Limits};

fn descriptor(content: &[u8]) -> Descriptor {
    sized(Digest::of(content), content.len() as u64)
}

fn sized(digest: Digest, size: u64) -> Descriptor {
    serde_json::from_value(json!({"digest": digest, "size": size})).unwrap()
}

/// Creates a layout whose blob `abc` is made by `make`, given its path.
fn with_blob(make: impl FnOnce(&Path)) -> (TestLayout, Layout) {
    let test = TestLayout::new();
    make(&test.blob_path(Digest::of("abc")));
    let layout = test.open();
    (test, layout)
}

fn bound(value: u64) -> Bound {
    Bound { value, name: "manifest" }
}

/// Returns the kind that every way to open the blob `abc` reports.
fn refused_kind(layout: &Layout) -> FileKind {
    let abc = descriptor(b"abc");
    let errors = [
        layout.open_blob(&abc).unwrap_err(),
        layout.read_blob(&abc, bound(100)).unwrap_err(),
        layout.verify_blob(&abc).unwrap_err(),
        layout.describe_blob(abc.digest).unwrap_err(),
    ];
    let kinds = errors.map(|error| match error {
        BlobError::NotAFile { digest, kind } if digest == abc.digest => kind,
        error => panic!("{error}"),
    });
    assert!(kinds.iter().all(|&kind| kind == kinds[0]));
    kinds[0]
}

#[test]
fn a_blob_is_opened_read_verified_and_described() {
    let (_test, layout) = with_blob(|path| fs::write(path, "abc").unwrap());
    let abc = descriptor(b"abc");
    assert_eq!(layout.open_blob(&abc).unwrap().left(), 3);
    assert_eq!(layout.read_blob(&abc, bound(3)).unwrap(), b"abc");
    layout.verify_blob(&abc).unwrap();
    assert_eq!(layout.describe_blob(abc.digest).unwrap(), abc);
}

#[test]
fn a_blob_larger_than_one_chunk_is_verified() {
    let content = vec![7; 1 << 20];
    let (test, layout) = with_blob(|_| ());
    test.blob("", &content);
    layout.verify_blob(&descriptor(&content)).unwrap();
}

#[test]
fn a_missing_blob_is_named() {
    let (_test, layout) = with_blob(|_| ());
    let abc = descriptor(b"abc");
    let error = layout.open_blob(&abc).unwrap_err();
    assert!(matches!(error, BlobError::Missing { digest } if digest == abc.digest), "{error}");
    assert!(
        error.to_string().ends_with(" is not in the layout; copy or export the cache again"),
        "{error}"
    );
    let without_blobs = TestLayout::new();
    fs::remove_dir_all(without_blobs.path().join("blobs")).unwrap();
    let error = without_blobs.open().open_blob(&abc).unwrap_err();
    assert!(matches!(error, BlobError::Missing { .. }), "{error}");
    assert!(
        error.to_string().ends_with(" is not in the layout; copy or export the cache again"),
        "{error}"
    );
}

#[test]
fn a_symlinked_blob_is_refused_even_if_it_leads_to_the_right_content() {
    let (_test, layout) = with_blob(|path| {
        fs::write(path.with_file_name("real"), "abc").unwrap();
        symlink("real", path).unwrap();
    });
    assert_eq!(refused_kind(&layout), FileKind::Symlink);
}

#[test]
fn a_blob_that_is_a_symlink_out_of_the_layout_is_refused() {
    let (_test, layout) = with_blob(|path| symlink("/etc/passwd", path).unwrap());
    assert_eq!(refused_kind(&layout), FileKind::Symlink);
}

#[test]
fn a_symlinked_blobs_directory_is_refused() {
    let (test, layout) = with_blob(|path| fs::write(path, "abc").unwrap());
    let blobs = test.path().join("blobs");
    fs::rename(&blobs, test.path().join("elsewhere")).unwrap();
    symlink("elsewhere", &blobs).unwrap();
    assert_eq!(refused_kind(&layout), FileKind::Symlink);
}

#[test]
fn a_file_in_place_of_the_blobs_directory_is_refused() {
    let (test, layout) = with_blob(|_| ());
    fs::remove_dir_all(test.path().join("blobs")).unwrap();
    test.write("blobs", "");
    assert_eq!(refused_kind(&layout), FileKind::Other);
}

#[test]
fn a_fifo_blob_is_refused_without_waiting_for_a_writer() {
    let make = |path: &Path| mknodat(CWD, path, FileType::Fifo, Mode::RUSR, 0).unwrap();
    let (_test, layout) = with_blob(make);
    assert_eq!(refused_kind(&layout), FileKind::Fifo);
}

#[test]
fn a_directory_blob_is_refused() {
    let (_test, layout) = with_blob(|path| fs::create_dir(path).unwrap());
    assert_eq!(refused_kind(&layout), FileKind::Directory);
}

#[test]
fn a_socket_blob_is_refused() {
    let (test, layout) = with_blob(|_| ());
    // The path of a socket may have 107 characters, which the blob's name alone nearly fills.
    let short = test.path().join("s");
    let _listener = UnixListener::bind(&short).unwrap();
    fs::rename(&short, test.blob_path(Digest::of("abc"))).unwrap();
    assert_eq!(refused_kind(&layout), FileKind::Socket);
}

#[test]
fn a_device_blob_is_refused_without_opening_it() {
    let test = TestLayout::new();
    let path = test.blob_path(Digest::of("abc"));
    // No driver has major number 0 and minor 0: opening it would fail with ENXIO. Only root can
    // make a device.
    let made = mknodat(CWD, &path, FileType::CharacterDevice, Mode::RUSR, 0);
    if made == Err(rustix::io::Errno::PERM) {
        return;
    }
    made.unwrap();
    assert_eq!(refused_kind(&test.open()), FileKind::Device);
}

#[test]
fn a_lie_about_the_size_is_found_in_both_directions() {
    let (_test, layout) = with_blob(|path| fs::write(path, "abc").unwrap());
    for size in [0, 2, 4, u64::MAX] {
        let lie = sized(Digest::of("abc"), size);
        for error in [
            layout.open_blob(&lie).unwrap_err(),
            layout.read_blob(&lie, bound(u64::MAX)).unwrap_err(),
            layout.verify_blob(&lie).unwrap_err(),
        ] {
            assert!(
                matches!(error, BlobError::Size { expected, actual: 3, .. } if expected == size),
                "{error}"
            );
            assert!(
                error.to_string().contains(" has 3 bytes, but its descriptor says "),
                "{error}"
            );
        }
    }
}

#[test]
fn a_digest_mismatch_is_found() {
    let (_test, layout) = with_blob(|path| fs::write(path, "abd").unwrap());
    let abc = descriptor(b"abc");
    for error in
        [layout.read_blob(&abc, bound(3)).unwrap_err(), layout.verify_blob(&abc).unwrap_err()]
    {
        assert!(
            matches!(error, BlobError::Digest { actual, .. } if actual == Digest::of("abd")),
            "{error}"
        );
        assert!(error.to_string().contains(" is damaged: its content has the digest "), "{error}");
    }
}

#[test]
fn a_sparse_blob_of_a_terabyte_is_not_read_into_memory() {
    const SIZE: u64 = 1 << 40;
    let (_test, layout) = with_blob(|path| File::create(path).unwrap().set_len(SIZE).unwrap());
    let error = layout.read_blob(&sized(Digest::of("abc"), SIZE), bound(100)).unwrap_err();
    assert!(
        matches!(error, BlobError::TooLarge { size: SIZE, limit: Bound { value: 100, .. }, .. }),
        "{error}"
    );
    assert!(
        error.to_string().contains(
            " has 1099511627776 bytes, but 100 is all that a document of its kind may \
             have"
        ),
        "{error}"
    );
}

#[test]
fn the_layout_file_may_be_absent_but_not_wrong() {
    let test = TestLayout::new();
    fs::remove_file(test.path().join("oci-layout")).unwrap();
    test.open();
    test.write("oci-layout", r#"{"imageLayoutVersion":"2.0.0"}"#);
    let error = Layout::open(test.path(), &Limits::default()).unwrap_err();
    assert!(
        matches!(&error, LayoutError::UnknownVersion { version, .. } if version == "2.0.0"),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .ends_with(" states version \"2.0.0\" of the OCI layout; only 1.0.0 is known"),
        "{error}"
    );
    for wrong in ["", "{}", "[1]", r#"{"imageLayoutVersion":1}"#] {
        test.write("oci-layout", wrong);
        let error = Layout::open(test.path(), &Limits::default()).unwrap_err();
        assert!(matches!(error, LayoutError::Version { .. }), "{wrong}: {error}");
        assert!(
            error.to_string().ends_with(" does not state the version of an OCI layout"),
            "{error}"
        );
    }
}

#[test]
fn a_directory_that_is_no_layout_is_named() {
    let test = TestLayout::new();
    let nowhere = test.path().join("nowhere");
    let error = Layout::open(&nowhere, &Limits::default()).unwrap_err();
    assert!(matches!(&error, LayoutError::NotFound { path } if *path == nowhere), "{error}");
    assert!(error.to_string().ends_with(" is not there"), "{error}");
    let file = test.path().join("index.json");
    let error = Layout::open(&file, &Limits::default()).unwrap_err();
    assert!(matches!(error, LayoutError::Archive { .. }), "{error}");
    assert!(
        error.to_string().ends_with(" is not a usable tar archive of an OCI layout"),
        "{error}"
    );
    fs::remove_file(file).unwrap();
    let error = Layout::open(test.path(), &Limits::default()).unwrap_err();
    assert!(matches!(error, LayoutError::NoIndex { .. }), "{error}");
    assert!(
        error.to_string().contains(" has no index.json, so it is not an OCI layout"),
        "{error}"
    );
}

#[test]
fn the_layout_may_be_reached_through_a_symlink() {
    let test = TestLayout::new();
    let link = test.path().join("link");
    symlink(test.path(), &link).unwrap();
    assert_eq!(Layout::open(&link, &Limits::default()).unwrap().path(), link);
}

#[test]
fn an_index_that_is_not_a_regular_file_is_refused() {
    let test = TestLayout::new();
    let index = test.path().join("index.json");
    fs::rename(&index, test.path().join("real")).unwrap();
    symlink("real", &index).unwrap();
    let error = Layout::open(test.path(), &Limits::default()).unwrap_err();
    assert!(matches!(error, LayoutError::NotAFile { kind: FileKind::Symlink, .. }), "{error}");
    assert!(
        error.to_string().ends_with(" is a symbolic link, and only regular files are read"),
        "{error}"
    );
    fs::remove_file(&index).unwrap();
    mknodat(CWD, &index, FileType::Fifo, Mode::RUSR, 0).unwrap();
    let error = Layout::open(test.path(), &Limits::default()).unwrap_err();
    assert!(matches!(error, LayoutError::NotAFile { kind: FileKind::Fifo, .. }), "{error}");
    assert!(error.to_string().ends_with(" is a FIFO, and only regular files are read"), "{error}");
}

#[test]
fn an_oversized_index_is_not_read() {
    let test = TestLayout::new();
    let file = File::create(test.path().join("index.json")).unwrap();
    file.set_len(1 << 40).unwrap();
    let error = Layout::open(test.path(), &Limits::default()).unwrap_err();
    assert!(matches!(error, LayoutError::TooLarge { .. }), "{error}");
    assert!(error.to_string().contains(" has more than 16777216 bytes"), "{error}");
}

#[test]
fn malformed_indexes_are_refused() {
    let digest = Digest::of("abc");
    let entry = |members: &str| format!(r#"{{"manifests":[{{{members}}}]}}"#);
    for (name, content) in [
        ("empty file", String::new()),
        ("truncated", r#"{"schemaVersion":2,"manifests":[{"mediaType":"#.to_owned()),
        ("trailing bytes", r#"{"manifests":[]}{}"#.to_owned()),
        ("neither kind", "{}".to_owned()),
        ("a manifest", r#"{"layers":[]}"#.to_owned()),
        ("ambiguous", r#"{"manifests":[],"layers":[]}"#.to_owned()),
        ("duplicate keys", r#"{"manifests":[],"manifests":[]}"#.to_owned()),
        ("digest is a path", entry(r#""digest":"sha256:../../../etc/passwd","size":1"#)),
        ("other algorithm", entry(r#""digest":"md5:900150983cd24fb0d6963f7d28e17f72","size":1"#)),
        ("negative size", entry(&format!(r#""digest":"{digest}","size":-1"#))),
        ("no size", entry(&format!(r#""digest":"{digest}""#))),
        ("nested too deeply to parse", "{\"x\":".to_owned() + &"[".repeat(100_000)),
    ] {
        let test = TestLayout::new();
        test.write("index.json", &content);
        let error = Layout::open(test.path(), &Limits::default()).unwrap_err();
        assert!(matches!(error, LayoutError::Index { .. }), "{name}: {error}");
        assert!(error.to_string().ends_with(" is not an index of manifests"), "{error}");
    }
}

#[test]
fn null_members_of_gos_encoder_are_empty() {
    let test = TestLayout::new();
    test.write("index.json", r#"{"schemaVersion":2,"manifests":null}"#);
    assert!(test.open().entries().is_empty());
}
