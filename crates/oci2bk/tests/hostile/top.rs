//! Other kinds of files instead of the required files and directories of a layout.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;

use oci2bk::export::ExportError;
use oci2bk::layout::{BlobError, FileKind, LayoutError};
use oci2bk::manifest::{ManifestError, SelectError};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::*;

pub(super) fn fifo(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
}

/// A kind of file, and a function that creates it at a path.
pub(super) type Kind = (FileKind, fn(&Path));

/// Returns everything that can replace a regular file.
pub(super) fn kinds() -> Vec<Kind> {
    let mut kinds: Vec<Kind> = vec![
        (FileKind::Symlink, |path| symlink("/etc/shadow", path).unwrap()),
        (FileKind::Symlink, |path| symlink(path, path).unwrap()),
        (FileKind::Symlink, |path| symlink("/proc/self/fd/0", path).unwrap()),
        (FileKind::Symlink, |path| symlink("not-there", path).unwrap()),
        (FileKind::Directory, |path| fs::create_dir(path).unwrap()),
        (FileKind::Fifo, fifo),
        (FileKind::Socket, |path| {
            // Names of sockets are short; those of blobs are not.
            let dir = tempfile::tempdir().unwrap();
            let socket = dir.path().join("socket");
            drop(UnixListener::bind(&socket).unwrap());
            fs::rename(socket, path).unwrap();
        }),
    ];
    if rustix::process::geteuid().is_root() {
        // /dev/zero and a disk, which are never opened.
        kinds.push((FileKind::Device, |path| {
            let device = rustix::fs::makedev(1, 5);
            mknodat(CWD, path, FileType::CharacterDevice, Mode::empty(), device).unwrap();
        }));
        kinds.push((FileKind::Device, |path| {
            let device = rustix::fs::makedev(8, 0);
            mknodat(CWD, path, FileType::BlockDevice, Mode::empty(), device).unwrap();
        }));
    }
    kinds
}

#[test]
fn index_json_or_oci_layout_as_something_else_than_a_file() {
    for (expected, make) in kinds() {
        for name in ["index.json", "oci-layout"] {
            let (layout, _) = one_layer();
            let path = layout.path().join(name);
            fs::remove_file(&path).unwrap();
            make(&path);
            let ExportError::Layout(error) = export_error(layout.path()) else { panic!("{name}") };
            assert!(error.to_string().ends_with(", and only regular files are read"), "{error}");
            let LayoutError::NotAFile { path: named, kind } = error else { panic!("{error:?}") };
            assert_eq!((named, kind), (path, expected));
        }
    }
}

#[test]
fn a_directory_of_blobs_that_is_a_link_even_to_the_right_place() {
    for name in ["blobs", "blobs/sha256"] {
        let (layout, _) = one_layer();
        let elsewhere = tempfile::tempdir().unwrap();
        let moved = elsewhere.path().join("moved");
        fs::rename(layout.path().join(name), &moved).unwrap();
        symlink(&moved, layout.path().join(name)).unwrap();
        let error = top_blob_error(layout.path());
        assert!(matches!(error, BlobError::NotAFile { kind: FileKind::Symlink, .. }), "{error}");
        assert!(
            error.to_string().ends_with(
                " is a symbolic link, and only regular files are read; replace it by the \
                 file"
            ),
            "{error}"
        );
    }
}

#[test]
fn a_directory_of_blobs_that_is_none() {
    for name in ["blobs", "blobs/sha256"] {
        for (_, make) in kinds() {
            let (layout, _) = one_layer();
            let path = layout.path().join(name);
            fs::remove_dir_all(&path).unwrap();
            make(&path);
            // An empty directory has no blobs.
            let error = top_blob_error(layout.path());
            let named = matches!(error, BlobError::NotAFile { .. } | BlobError::Missing { .. });
            assert!(named, "{error:?}");
        }
    }
}

/// Returns why the manifest of the layout cannot be read.
fn top_blob_error(path: &Path) -> BlobError {
    let ExportError::Select(error) = export_error(path) else { panic!() };
    let SelectError::Manifest { source, .. } = *error else { panic!("{error:?}") };
    let ManifestError::Blob(error) = *source else { panic!("{source:?}") };
    error
}

#[test]
fn a_layout_that_is_no_directory() {
    for (expected, make) in kinds() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("layout");
        make(&path);
        let ExportError::Layout(error) = export_error(&path) else { panic!("{expected}") };
        match (expected, error) {
            // A link to a layout is fine; these lead elsewhere or are dangling.
            (
                FileKind::Symlink,
                LayoutError::NotFound { .. }
                | LayoutError::Open { .. }
                | LayoutError::NotALayout { .. }
                | LayoutError::Archive { .. },
            )
            | (FileKind::Directory, LayoutError::NoIndex { .. }) => {}
            (_, LayoutError::NotALayout { kind, .. }) if kind == expected => {}
            (_, error) => panic!("{expected}: {error:?}"),
        }
    }
}

#[test]
fn documents_at_the_top_that_are_empty_or_too_large() {
    for name in ["index.json", "oci-layout"] {
        let (layout, _) = one_layer();
        layout.file(name, "");
        let ExportError::Layout(error) = export_error(layout.path()) else { panic!("{name}") };
        assert!(
            matches!(
                error,
                LayoutError::Index { source: Some(_), .. } | LayoutError::Version { .. }
            ),
            "{error:?}"
        );
        let message = match name {
            "index.json" => "/index.json is not an index of manifests",
            _ => "/oci-layout does not state the version of an OCI layout",
        };
        assert!(error.to_string().ends_with(message), "{error}");
        // A terabyte of holes.
        fs::File::create(layout.path().join(name)).unwrap().set_len(1 << 40).unwrap();
        let ExportError::Layout(error) = export_error(layout.path()) else { panic!("{name}") };
        assert!(matches!(error, LayoutError::TooLarge { .. }), "{error:?}");
        assert!(error.to_string().contains(" has more than 16777216 bytes"), "{error}");
    }
}

#[test]
fn another_version_of_the_layout() {
    for version in [r#""2.0.0""#, r#""""#, r#""1.0.0\u0000""#, "1", "null", r#"["1.0.0"]"#] {
        let (layout, _) = one_layer();
        layout.file("oci-layout", format!(r#"{{"imageLayoutVersion":{version}}}"#));
        let ExportError::Layout(error) = export_error(layout.path()) else { panic!("{version}") };
        let named =
            matches!(error, LayoutError::UnknownVersion { .. } | LayoutError::Version { .. });
        assert!(named, "{error:?}");
    }
    let (layout, _) = one_layer();
    let doubled = r#"{"imageLayoutVersion":"1.0.0","imageLayoutVersion":"1.0.0"}"#;
    layout.file("oci-layout", doubled);
    let ExportError::Layout(error) = export_error(layout.path()) else { panic!() };
    assert!(matches!(error, LayoutError::Version { .. }), "{error:?}");
    assert!(error.to_string().ends_with(" does not state the version of an OCI layout"), "{error}");
}
