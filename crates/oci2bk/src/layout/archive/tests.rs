use std::fs::{self, File};
use std::io::{Read as _, Seek as _, Write as _};

use crate::archives::{self as tar, Member as TarMember, dir, file, pax};
use bkstate::Digest;
use proptest::prelude::*;
use serde_json::json;
use tempfile::NamedTempFile;

use super::*;
use crate::layout::{BlobError, Descriptor, Layout, LayoutError};
use crate::limits::{Bound, Limits};

const INDEX: &str = r#"{"schemaVersion":2,"manifests":[]}"#;

fn written(bytes: &[u8]) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn opened(members: &[TarMember]) -> Result<Layout, LayoutError> {
    Layout::open(written(&tar::archive(members)).path(), &Limits::default())
}

/// Returns the error for an archive of these members.
fn refused(members: &[TarMember]) -> ArchiveError {
    match opened(members) {
        Err(LayoutError::Archive { source, .. }) => source,
        result => panic!("{result:?}"),
    }
}

fn blob_name(content: &str) -> String {
    format!("blobs/sha256/{}", Digest::of(content).hex())
}

fn descriptor(content: &str) -> Descriptor {
    serde_json::from_value(json!({"digest": Digest::of(content), "size": content.len()})).unwrap()
}

fn bound(value: u64) -> Bound {
    Bound { value, name: "manifest" }
}

fn index() -> TarMember {
    file("index.json", INDEX)
}

#[test]
fn blobs_are_read_where_they_lie_whatever_else_is_in_the_archive() {
    let large = "0123456789abcdef".repeat(100_000);
    for prefix in ["", "./"] {
        let name = |name: &str| format!("{prefix}{name}");
        let layout = opened(&[
            dir(name("")),
            file(name("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#),
            file(name("manifest.json"), "what docker load reads"),
            file(name(&blob_name("abc")), "abc"),
            dir(name("blobs/sha256")),
            file(name(&blob_name(&large)), &large),
            file(name("blobs/sha256/not-a-digest"), "?"),
            file(name("index.json"), INDEX),
            file(name(&blob_name("")), ""),
        ])
        .unwrap();
        for content in ["abc", &large, ""] {
            assert_eq!(
                layout.read_blob(&descriptor(content), bound(10 << 20)).unwrap(),
                content.as_bytes()
            );
            layout.verify_blob(&descriptor(content)).unwrap();
            // The rest of the archive is not read.
            let mut buffer = vec![0; content.len() + 1];
            let blob = layout.open_blob(&descriptor(content)).unwrap();
            assert_eq!(blob.read_at(&mut buffer, 0).unwrap(), content.len());
            assert_eq!(&buffer[..content.len()], content.as_bytes());
        }
        assert!(layout.describe_blob(Digest::of("abc")).is_ok());
        let absent = layout.describe_blob(Digest::of("?"));
        let error = absent.unwrap_err();
        assert!(matches!(error, BlobError::Missing { .. }), "{error}");
        assert!(
            error.to_string().ends_with(" is not in the layout; copy or export the cache again"),
            "{error}"
        );
    }
}

#[test]
fn blobs_of_one_archive_are_read_at_the_same_time() {
    let layout = opened(&[file(blob_name("abc"), "abc"), file(blob_name("xyz"), "xyz"), index()]);
    let layout = layout.unwrap();
    let mut files = ["abc", "xyz"].map(|name| layout.open_blob(&descriptor(name)).unwrap());
    let mut text = String::new();
    for turn in [0, 1, 0, 1] {
        let mut two = [0; 2];
        let length = files[turn].read(&mut two).unwrap();
        text += std::str::from_utf8(&two[..length]).unwrap();
    }
    assert_eq!(text, "abxycz");
}

#[test]
fn an_archive_without_an_index_that_is_in_it_is_no_layout() {
    for members in [&[][..], &[file("../index.json", INDEX)], &[file("a/../index.json", INDEX)]] {
        let error = opened(members).unwrap_err();
        assert!(matches!(error, LayoutError::NoIndex { .. }), "{error}");
        assert!(
            error.to_string().contains(
                " is neither an OCI layout (it has no index.json) nor the mirror of a cache "
            ),
            "{error}"
        );
    }
}

#[test]
fn members_of_the_same_name_are_refused() {
    for [one, two] in [
        [file("index.json", INDEX), file("index.json", INDEX)],
        [file("index.json", INDEX), file("./index.json", INDEX)],
        [file(blob_name("abc"), "abc"), tar::symlink(blob_name("abc"), "elsewhere")],
    ] {
        let error = refused(&[one, two]);
        assert!(matches!(error, ArchiveError::Duplicate { .. }), "{error}");
        assert!(error.to_string().starts_with("it has two members "), "{error}");
    }
}

#[test]
fn blobs_that_are_links_or_sparse_are_refused_when_they_are_needed() {
    let name = blob_name("abc");
    let sparse = [
        pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", name.as_bytes()),
            ("GNU.sparse.realsize", b"3"),
        ]),
        file("GNUSparseFile.0/x", [&b"1\n0\n3\n"[..], &[0; 506], b"abc"].concat()),
    ];
    for (members, kind) in [
        (vec![tar::symlink(&name, "../../../etc/passwd")], FileKind::Symlink),
        (vec![tar::hard_link(&name, "index.json")], FileKind::HardLink),
        (vec![dir(&name)], FileKind::Directory),
        (vec![tar::member(b'6', &name)], FileKind::Fifo),
        (vec![tar::member(b'4', &name)], FileKind::Device),
        (sparse.to_vec(), FileKind::Sparse),
    ] {
        let layout = opened(&[members, vec![index()]].concat()).unwrap();
        let error = layout.open_blob(&descriptor("abc")).unwrap_err();
        assert!(matches!(error, BlobError::NotAFile { kind: k, .. } if k == kind), "{error}");
        assert!(
            error
                .to_string()
                .ends_with(", and only regular files are read; replace it by the file"),
            "{error}"
        );
    }
    let error = opened(&[tar::symlink("index.json", "/etc/passwd")]).unwrap_err();
    assert!(matches!(error, LayoutError::NotAFile { kind: FileKind::Symlink, .. }), "{error}");
    assert!(
        error.to_string().ends_with(" is a symbolic link, and only regular files are read"),
        "{error}"
    );
    let error = refused(&[index(), tar::member(b'S', &name).gnu()]);
    assert!(matches!(error, ArchiveError::OldSparse), "{error}");
    assert!(error.to_string().starts_with("it has a sparse file in the old GNU format"), "{error}");
}

#[test]
fn members_that_end_beyond_the_archive_are_refused() {
    for size in [513, 1 << 30, (1 << 33) - 1] {
        let bytes = tar::open_archive(&[index(), file(blob_name("abc"), "abc").size(size)]);
        let error = Layout::open(written(&bytes).path(), &Limits::default()).unwrap_err();
        let LayoutError::Archive { source, .. } = error else { panic!("{error}") };
        assert!(matches!(source, ArchiveError::Tar(TarError::Truncated)), "{source}");
        assert_eq!(source.to_string(), "the archive ends in the middle of an entry");
    }
    // The largest size that a header can have, and a negative one, in base 256.
    for (size, message) in [
        ([0x7f; 8], "the archive ends in the middle of an entry"),
        ([0xff; 8], "the entry has a negative size"),
    ] {
        let sign = if size[0] == 0x7f { [0x80, 0, 0, 0] } else { [0xff; 4] };
        let size = [&sign[..], &size].concat();
        let error = refused(&[index(), file(blob_name("abc"), "abc").raw(124, &size)]);
        assert!(
            matches!(error, ArchiveError::Tar(TarError::Truncated | TarError::NegativeSize)),
            "{error}"
        );
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn a_huge_member_in_an_archive_full_of_holes_is_not_read() {
    const SIZE: u64 = 1 << 33;
    let head = file("large", "").size((SIZE - 512).cast_signed()).bytes();
    let archive = written(&head);
    archive.as_file().set_len(head.len() as u64 + SIZE - 512).unwrap();
    archive.as_file().write_all_at(&tar::archive(&[index()]), SIZE).unwrap();
    assert!(Layout::open(archive.path(), &Limits::default()).unwrap().entries().is_empty());
}

#[test]
fn too_many_members_are_refused_even_if_they_are_not_of_the_layout() {
    let bytes = tar::archive(&[index(), file("x", ""), file("x", "")]);
    let archive = written(&bytes);
    let members = |limit| {
        archive.as_file().rewind().unwrap();
        super::members(archive.as_file(), bytes.len() as u64, limit, b"")
    };
    let error = members(2).unwrap_err();
    assert!(matches!(error, ArchiveError::TooManyMembers { limit: 2 }), "{error}");
    assert!(error.to_string().starts_with("it has more than 2 members"), "{error}");
    assert_eq!(members(3).unwrap().len(), 1);
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_compressed_archive_is_decompressed_within_the_limit() {
    let content = "0123456789abcdef".repeat(100_000);
    let archive = tar::archive(&[index(), file(blob_name(&content), &content)]);
    for bytes in [gzipped(&archive), zstd::encode_all(&*archive, 1).unwrap()] {
        let written = written(&bytes);
        let layout = Layout::open(written.path(), &Limits::default()).unwrap();
        layout.verify_blob(&descriptor(&content)).unwrap();
        let open = |archive_size| {
            let limits = Limits { archive_size, ..Limits::default() };
            Layout::open(written.path(), &limits)
        };
        assert!(open(archive.len() as u64).is_ok());
        let error = open(archive.len() as u64 - 1).unwrap_err();
        let LayoutError::Archive { source: ArchiveError::TooLarge { limit }, .. } = error else {
            panic!("{error}")
        };
        assert_eq!(limit.name, "archive-size");
        assert_eq!(limit.value, archive.len() as u64 - 1);

        written.as_file().set_len(bytes.len() as u64 / 2).unwrap();
        let error = Layout::open(written.path(), &Limits::default()).unwrap_err();
        let LayoutError::Archive { source, .. } = error else { panic!("{error}") };
        assert!(matches!(source, ArchiveError::Decompress(_)), "{source}");
        assert_eq!(source.to_string(), "cannot decompress it");
    }
}

#[test]
fn what_compressed_an_archive_that_is_not_read_is_named() {
    for (bytes, name) in
        [(&b"BZh91AY"[..], "bzip2"), (b"\xfd7zXZ\0", "xz"), (&[4, 0x22, 0x4d, 0x18], "lz4")]
    {
        let error = Layout::open(written(bytes).path(), &Limits::default()).unwrap_err();
        let LayoutError::Archive { source, .. } = error else { panic!("{error}") };
        assert!(matches!(source, ArchiveError::Compressed(found) if found == name), "{source}");
        assert!(source.to_string().ends_with(&format!("{name} -d")), "{source}");
    }
}

#[test]
fn a_layout_in_a_directory_of_the_archive_is_found() {
    let in_dir = |dir: &str, with_version: bool| {
        let mut members = vec![
            file(format!("{dir}index.json"), INDEX),
            file(format!("{dir}{}", blob_name("abc")), "abc"),
        ];
        if with_version {
            members.push(file(format!("{dir}oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#));
        }
        members
    };
    for dir in ["cache/", "./cache/", "srv/ci/cache/", "/srv/cache/"] {
        for with_version in [true, false] {
            let layout = opened(&in_dir(dir, with_version)).unwrap();
            layout.verify_blob(&descriptor("abc")).unwrap();
        }
    }
    // The layout at the top takes precedence, or the one that certainly is a layout.
    let rest =
        [file("app/index.json", "{}"), file("index.json.bak", ""), file("my-index.json", "")];
    for dir in ["", "cache/"] {
        let layout = opened(&[&rest, &*in_dir(dir, true)].concat()).unwrap();
        layout.verify_blob(&descriptor("abc")).unwrap();
    }
    for with_version in [true, false] {
        let both = [in_dir("a/", with_version), in_dir("b/", with_version)].concat();
        let error = refused(&both);
        assert!(
            matches!(&error, ArchiveError::SeveralLayouts(names) if *names == ["a/", "b/"]),
            "{error}"
        );
        assert_eq!(
            error.to_string(),
            "it has layouts in several directories: a/, b/; make an archive of one of \
             them"
        );
    }
    let error = opened(&[file("cache/oci-layout", "{}")]).unwrap_err();
    assert!(matches!(error, LayoutError::NoIndex { .. }), "{error}");
    assert!(
        error.to_string().contains(
            " is neither an OCI layout (it has no index.json) nor the mirror of a cache "
        ),
        "{error}"
    );
}

#[test]
fn a_file_that_is_no_archive_and_a_device_are_named() {
    let error = Layout::open(written(b"{}").path(), &Limits::default()).unwrap_err();
    assert!(matches!(error, LayoutError::Archive { .. }), "{error}");
    assert!(
        error.to_string().ends_with(" is not a usable tar archive of an OCI layout"),
        "{error}"
    );
    let error = Layout::open("/dev/null".as_ref(), &Limits::default()).unwrap_err();
    assert!(matches!(error, LayoutError::NotALayout { kind: FileKind::Device, .. }), "{error}");
    assert_eq!(
        error.to_string(),
        "/dev/null is a device; an OCI layout is a directory or a tar archive of one"
    );
}

#[test]
fn a_blob_that_is_cut_off_after_opening_is_found() {
    let content = "abc".repeat(1000);
    let archive = written(&tar::archive(&[index(), file(blob_name(&content), &content)]));
    let layout = Layout::open(archive.path(), &Limits::default()).unwrap();
    let size = fs::metadata(archive.path()).unwrap().len();
    File::options().write(true).open(archive.path()).unwrap().set_len(size - 3000).unwrap();
    let error = layout.verify_blob(&descriptor(&content)).unwrap_err();
    assert!(matches!(error, BlobError::Size { expected: 3000, .. }), "{error}");
    assert!(
        error.to_string().ends_with(
            " has 1096 bytes, but its descriptor says 3000; copy or export the cache \
             again"
        ),
        "{error}"
    );
}

proptest! {
    #[test]
    fn damaged_archives_are_read_or_refused(
        flips in prop::collection::vec((0..8192_usize, any::<u8>()), 0..8),
        cut in 0..8192_usize,
    ) {
        let mut bytes = tar::archive(&[
            file("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#),
            file(blob_name("abc"), "abc"),
            pax(&[("path", blob_name("xyz").as_bytes())]),
            file("long", "xyz"),
            index(),
        ]);
        for (at, value) in flips {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        bytes.truncate(cut);
        if let Ok(layout) = Layout::open(written(&bytes).path(), &Limits::default()) {
            for content in ["abc", "xyz"] {
                let _ = layout.read_blob(&descriptor(content), bound(100));
            }
        }
    }
}
