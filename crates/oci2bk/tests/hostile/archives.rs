//! Layouts in invalid tar archives.

use std::fs;
use std::io::Write as _;

use oci2bk::export::ExportError;
use oci2bk::layout::{ArchiveError, BlobError, FileKind, LayoutError};
use oci2bk::manifest::{ManifestError, SelectError};
use oci2bk::plan::PlanError;
use tar::EntryType;
use tempfile::NamedTempFile;

use super::*;

/// A member of an archive with an arbitrary header.
#[derive(Clone)]
struct Member {
    name: String,
    kind: EntryType,
    size: u64,
    content: Vec<u8>,
}

impl Member {
    fn file(name: &str, content: impl Into<Vec<u8>>) -> Self {
        let content = content.into();
        let size = content.len() as u64;
        Self { name: name.to_owned(), kind: EntryType::Regular, size, content }
    }

    fn link(name: &str, kind: EntryType) -> Self {
        Self { kind, ..Self::file(name, "") }
    }

    fn write(&self, bytes: &mut Vec<u8>) {
        let mut header = tar::Header::new_ustar();
        let name = self.name.as_bytes();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name);
        header.set_entry_type(self.kind);
        header.set_size(self.size);
        header.set_mode(0o644);
        header.set_link_name("/etc/shadow").unwrap();
        header.set_cksum();
        bytes.extend(header.as_bytes());
        bytes.extend(&self.content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
}

fn archive(members: &[Member]) -> NamedTempFile {
    let mut bytes = Vec::new();
    members.iter().for_each(|member| member.write(&mut bytes));
    bytes.resize(bytes.len() + 1024, 0);
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(&bytes).unwrap();
    file
}

/// Returns the members of a sound archive.
fn sound() -> Vec<Member> {
    let (layout, _) = one_layer();
    let mut members = Vec::new();
    for name in ["oci-layout", "index.json"] {
        members.push(Member::file(name, fs::read(layout.path().join(name)).unwrap()));
    }
    for blob in fs::read_dir(layout.path().join("blobs/sha256")).unwrap() {
        let blob = blob.unwrap();
        let name = format!("blobs/sha256/{}", blob.file_name().to_str().unwrap());
        members.push(Member::file(&name, fs::read(blob.path()).unwrap()));
    }
    members
}

fn refused(file: &NamedTempFile) -> ArchiveError {
    match export_error(file.path()) {
        ExportError::Layout(LayoutError::Archive { source, .. }) => source,
        error => panic!("{error:?}"),
    }
}

#[test]
fn a_sound_archive_is_converted() {
    converted(archive(&sound()).path()).unwrap();
}

#[test]
fn members_that_are_there_twice() {
    let members = sound();
    for twice in &members {
        for other in [
            twice.clone(),
            Member::file(&twice.name, ""),
            Member::link(&twice.name, EntryType::Symlink),
        ] {
            for name in [twice.name.clone(), format!("./{}", twice.name)] {
                let mut members = members.clone();
                members.push(Member { name, ..other.clone() });
                let error = refused(&archive(&members));
                assert!(
                    matches!(&error, ArchiveError::Duplicate { name } if *name == twice.name),
                    "{error:?}"
                );
                assert!(error.to_string().starts_with("it has two members "), "{error}");
            }
        }
    }
}

#[test]
fn members_that_are_links_or_devices() {
    use EntryType as Kind;
    let kinds = [
        (Kind::Symlink, FileKind::Symlink),
        (Kind::Link, FileKind::HardLink),
        (Kind::Directory, FileKind::Directory),
        (Kind::Fifo, FileKind::Fifo),
        (Kind::Char, FileKind::Device),
        (Kind::Block, FileKind::Device),
    ];
    for (kind, expected) in kinds {
        for position in 0..sound().len() {
            let mut members = sound();
            members[position] = Member::link(&members[position].name, kind);
            let found = match export_error(archive(&members).path()) {
                ExportError::Layout(LayoutError::NotAFile { kind, .. }) => kind,
                ExportError::LayerBlob { source: BlobError::NotAFile { kind, .. }, .. }
                | ExportError::ConfigBlob { source: BlobError::NotAFile { kind, .. }, .. } => kind,
                ExportError::Select(error) => match *error {
                    SelectError::Manifest { source, .. } => match *source {
                        ManifestError::Blob(BlobError::NotAFile { kind, .. }) => kind,
                        error => panic!("{error:?}"),
                    },
                    error => panic!("{error:?}"),
                },
                error => panic!("{error:?}"),
            };
            assert_eq!(found, expected);
        }
    }
}

#[test]
fn names_that_lead_elsewhere_are_not_those_of_the_layout() {
    for prefix in ["../", "./../", "x/../", "/../", "blobs/../"] {
        let mut members = sound();
        for member in &mut members {
            member.name = format!("{prefix}{}", member.name);
            member.name.truncate(100);
        }
        let error = export_error(archive(&members).path());
        assert!(matches!(error, ExportError::Layout(LayoutError::NoIndex { .. })), "{error:?}");
        assert!(
            error.to_string().contains(
                " is neither an OCI layout (it has no index.json) nor the mirror of a cache "
            ),
            "{error}"
        );
    }
    let mut members = sound();
    for name in [
        "../../etc/passwd",
        "/etc/passwd",
        "blobs/sha256/../../index.json",
        "index.json/",
        "index.json/x",
    ] {
        members.push(Member::file(name, "x"));
    }
    converted(archive(&members).path()).unwrap();
}

#[test]
fn sizes_beyond_the_archive() {
    for size in [1 << 20, 1 << 32, (1 << 33) - 1, 1 << 40, (1 << 63) - 1, 1 << 63, u64::MAX] {
        let mut members = sound();
        members.push(Member { size, ..Member::file("large", "x") });
        let error = refused(&archive(&members));
        assert!(matches!(error, ArchiveError::Tar(_)), "{size}: {error:?}");
        let truncated = "the archive ends in the middle of an entry";
        let damaged = "the archive has a damaged header block";
        assert!([truncated, damaged].contains(&error.to_string().as_str()), "{size}: {error}");
    }
}

#[test]
fn sparse_members() {
    let mut members = sound();
    members[1].kind = EntryType::GNUSparse;
    let error = refused(&archive(&members));
    assert!(matches!(error, ArchiveError::OldSparse | ArchiveError::Tar(_)), "{error:?}");
    assert!(error.to_string().starts_with("it has a sparse file in the old GNU format"), "{error}");

    let pax = "22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n37 GNU.sparse.realsize=4000000000000\n\
               29 GNU.sparse.name=index.json\n";
    let mut members = sound();
    let mut map = b"0\n".to_vec();
    map.resize(512, 0);
    members[1] = Member::file("x", map);
    members.insert(1, Member { kind: EntryType::XHeader, ..Member::file("pax", pax) });
    match export_error(archive(&members).path()) {
        ExportError::Layout(LayoutError::NotAFile { kind: FileKind::Sparse, .. }) => {}
        ExportError::Layout(LayoutError::Archive { source: ArchiveError::Tar(_), .. }) => {}
        error => panic!("{error:?}"),
    }
}

#[test]
fn cut_off_anywhere() {
    let file = archive(&sound());
    let whole = fs::read(file.path()).unwrap();
    let content = whole.len() - 1024;
    let expected = serde_json::to_value(planned(file.path(), &[]).unwrap().steps).unwrap();
    for length in (0..content).step_by(61) {
        file.as_file().set_len(length as u64).unwrap();
        // Cut between members it is a smaller archive with missing parts.
        match planned(file.path(), &[]) {
            Err(Fault::Export(_) | Fault::Plan(PlanError::Sparse { .. })) => {}
            // Cut in the padding of the last member, nothing is missing.
            Ok(plan) => {
                let same = serde_json::to_value(plan.steps).unwrap() == expected;
                assert!(!plan.dropped.is_empty() || same, "{length}");
            }
            Err(fault) => panic!("{length}: {fault:?}"),
        }
        fs::write(file.path(), &whole).unwrap();
    }
}

#[test]
fn with_any_byte_of_a_header_flipped() {
    let file = archive(&sound());
    let whole = fs::read(file.path()).unwrap();
    for at in (0..whole.len()).filter(|at| at % 512 < 345 && whole[*at] != 0) {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << (at % 8);
        fs::write(file.path(), damaged).unwrap();
        match planned(file.path(), &[]) {
            Err(Fault::Export(_) | Fault::Plan(PlanError::Sparse { .. })) => {}
            // A changed byte of the layer's content is detected when it is read.
            Ok(plan) => assert!(plan.dropped.len() <= 1, "{at}"),
            Err(fault) => panic!("{at}: {fault:?}"),
        }
    }
}

#[test]
fn compressed_or_no_archive_at_all() {
    for (head, is_known) in [
        (&[0x1f, 0x8b, 8][..], true),
        (&[0x28, 0xb5, 0x2f, 0xfd], true),
        (b"\xfd7zXZ\0", false),
        (b"BZh9", false),
    ] {
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(head).unwrap();
        match refused(&file) {
            ArchiveError::Decompress(_) if is_known => {}
            ArchiveError::Compressed(_) if !is_known => {}
            error => panic!("{head:?}: {error:?}"),
        }
    }
    for content in ["", "x", "{}"] {
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(content.as_bytes()).unwrap();
        let error = export_error(file.path());
        let named = matches!(
            error,
            ExportError::Layout(LayoutError::Archive { .. } | LayoutError::NoIndex { .. })
        );
        assert!(named, "{error:?}");
    }
    // Eight exabytes of holes, or the maximum of the file system.
    let file = NamedTempFile::new().unwrap();
    let mut size = u64::MAX >> 1;
    while file.as_file().set_len(size).is_err() {
        size /= 2;
    }
    let error = export_error(file.path());
    assert!(matches!(error, ExportError::Layout(LayoutError::NoIndex { .. })), "{error:?}");
    assert!(
        error.to_string().contains(
            " is neither an OCI layout (it has no index.json) nor the mirror of a cache "
        ),
        "{error}"
    );
}

#[test]
fn that_become_far_larger_than_they_are() {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    let zeros = vec![0; 1 << 20];
    for _ in 0..8 {
        encoder.write_all(&zeros).unwrap();
    }
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(&encoder.finish().unwrap()).unwrap();
    // It has no header, whatever follows.
    let error = export_error(file.path());
    assert!(matches!(error, ExportError::Layout(LayoutError::NoIndex { .. })), "{error}");
    assert!(
        error.to_string().contains(
            " is neither an OCI layout (it has no index.json) nor the mirror of a cache "
        ),
        "{error}"
    );
    let limits = oci2bk::Limits { archive_size: 1 << 20, ..oci2bk::Limits::default() };
    let source = file.path().to_str().unwrap().parse().unwrap();
    let error = oci2bk::CacheExport::read_all(&source, &limits).unwrap_err();
    let ExportError::Layout(LayoutError::Archive { source, .. }) = error else {
        panic!("{error:?}")
    };
    assert!(
        matches!(source, ArchiveError::TooLarge { limit } if limit.name == "archive-size"),
        "{source}"
    );
    assert!(
        source.to_string().starts_with("it has more than 1048576 bytes, decompressed"),
        "{source}"
    );
}
