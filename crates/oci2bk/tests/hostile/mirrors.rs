//! False mirrors of caches in S3 and Azure, and false archives of `docker save`.

use std::error::Error as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use bkstate::Digest;
use oci2bk::export::ExportError;
use oci2bk::layout::{BlobError, FileKind, LayoutError, MirrorError};
use oci2bk::plan::PlanError;
use serde_json::json;

use super::layout::{TAR, tar_of};
use super::*;

/// Writes a mirror with a cache of one layer into `dir`.
pub(super) fn write(dir: &Path) {
    let tar = tar_of("file", b"content");
    let digest = Digest::of(&tar);
    for name in ["blobs", "manifests"] {
        fs::create_dir_all(dir.join(name)).unwrap();
    }
    let annotations = json!({"mediaType": TAR, "diffID": digest, "size": tar.len()});
    let manifest = json!({
        "layers": [{"blob": digest, "parent": -1, "annotations": annotations}],
        "records": [{"digest": Digest::of("root"), "layers": [{"layer": 0}]}],
    });
    fs::write(dir.join(format!("blobs/{digest}")), tar).unwrap();
    fs::write(dir.join("manifests/buildkit"), manifest.to_string()).unwrap();
}

fn mirror() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path());
    dir
}

/// Returns the path of the only layer.
fn layer(mirror: &Path) -> std::path::PathBuf {
    fs::read_dir(mirror.join("blobs")).unwrap().next().unwrap().unwrap().path()
}

#[test]
fn a_sound_mirror_is_converted() {
    let mirror = mirror();
    converted(mirror.path()).unwrap();
}

#[test]
fn a_manifest_that_is_cut_off_anywhere() {
    let mirror = mirror();
    let path = mirror.path().join("manifests/buildkit");
    let whole = fs::read(&path).unwrap();
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        let error = export_error(mirror.path());
        let ExportError::Layout(LayoutError::Mirror { source, .. }) = error else {
            panic!("{length}: {error:?}")
        };
        assert!(matches!(&source, MirrorError::Json { path: p, .. } if *p == path), "{source:?}");
        assert!(
            source.to_string().ends_with(
                " is not the whole manifest of a cache; fetch it again, or choose \
                 another with :NAME"
            ),
            "{source}"
        );
    }
}

#[test]
fn a_manifest_with_any_byte_changed() {
    let mirror = mirror();
    let path = mirror.path().join("manifests/buildkit");
    let whole = fs::read(&path).unwrap();
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 1 << (at % 7);
        fs::write(&path, changed).unwrap();
        match planned(mirror.path(), &[]) {
            Ok(_) | Err(Fault::Export(_) | Fault::Plan(PlanError::Sparse { .. })) => {}
            Err(fault) => panic!("{at}: {fault:?}"),
        }
    }
}

#[test]
fn a_blob_that_is_not_what_the_manifest_says() {
    let mirror = mirror();
    let path = layer(mirror.path());
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    let error = export_error(mirror.path());
    assert!(
        matches!(&error, ExportError::LayerBlob { source: BlobError::Size { .. }, .. }),
        "{error:?}"
    );
    assert!(error.to_string().starts_with("cannot use a layer of the cache in "), "{error}");
    // With the same size, it is detected when it is read.
    let mut changed = whole.clone();
    changed[0] ^= 1;
    fs::write(&path, changed).unwrap();
    let error = converted(mirror.path()).unwrap_err();
    assert!(matches!(error, Fault::Convert(_)), "{error}");
    // Root unpacks the layer, which is told at the top; any other user copies it, which fails with a cause.
    let cause = error.source().map(ToString::to_string).unwrap_or_default();
    let told = [error.to_string(), cause];
    let advice = "; copy or export the cache again";
    assert!(told.iter().any(|text| text.ends_with(advice)), "{told:?}");
    fs::remove_file(&path).unwrap();
    // It was the only one, so there is nothing to convert.
    let result = converted(mirror.path());
    let error = result.unwrap_err();
    assert!(matches!(error, Fault::Plan(PlanError::Sparse { .. })), "{error}");
    assert!(
        error.to_string().contains(" is a sparse layout: it has none of the layers of the cache "),
        "{error}"
    );
}

#[test]
fn files_that_lead_elsewhere() {
    for name in ["blobs", "manifests"] {
        let mirror = mirror();
        let outside = tempfile::tempdir().unwrap();
        fs::rename(mirror.path().join(name), outside.path().join(name)).unwrap();
        symlink(outside.path().join(name), mirror.path().join(name)).unwrap();
        match converted(mirror.path()) {
            Err(Fault::Export(ExportError::Layout(LayoutError::Mirror {
                source: MirrorError::NotAFile { path, kind: FileKind::Symlink },
                ..
            }))) => assert_eq!((name, path), ("manifests", mirror.path().join("manifests"))),
            Err(Fault::Plan(PlanError::Sparse { .. })) => assert_eq!(name, "blobs"),
            result => panic!("{name}: {result:?}"),
        }
    }
    let mirror = mirror();
    let manifest = mirror.path().join("manifests/buildkit");
    for path in [layer(mirror.path()), manifest] {
        let content = fs::read(&path).unwrap();
        let target = mirror.path().join("elsewhere");
        fs::rename(&path, &target).unwrap();
        symlink(&target, &path).unwrap();
        let error = format!("{:?}", export_error(mirror.path()));
        assert!(error.contains("kind: Symlink"), "{error}");
        fs::remove_file(&path).unwrap();
        fs::write(&path, content).unwrap();
        fs::remove_file(&target).unwrap();
    }
}

#[test]
fn an_archive_of_docker_save_with_any_byte_changed() {
    let tar = tar_of("file", b"content");
    let config = json!({"rootfs": {"diff_ids": [Digest::of(&tar)]}}).to_string();
    let manifest = json!([{"Config": "c.json", "RepoTags": ["a:b"], "Layers": ["x/layer.tar"]}]);
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in [
        ("manifest.json", manifest.to_string().as_bytes()),
        ("c.json", config.as_bytes()),
        ("y/layer.tar", &tar),
    ] {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, content).unwrap();
    }
    let mut link = tar::Header::new_ustar();
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_size(0);
    archive.append_link(&mut link, "x/layer.tar", "../y/layer.tar").unwrap();
    let whole = archive.into_inner().unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let open = |content: &[u8]| {
        fs::write(file.path(), content).unwrap();
        oci2bk::layout::Layout::open(file.path(), &oci2bk::Limits::default())
    };
    assert_eq!(open(&whole).unwrap().entries().len(), 1);
    for at in (0..whole.len()).filter(|at| whole[*at] != 0) {
        let mut changed = whole.clone();
        changed[at] ^= 1 << (at % 8);
        match open(&changed) {
            Ok(_) | Err(LayoutError::Archive { .. } | LayoutError::NoIndex { .. }) => {}
            Err(error) => panic!("{at}: {error:?}"),
        }
        // Truncated there.
        match open(&whole[..at]) {
            Ok(_) | Err(LayoutError::Archive { .. } | LayoutError::NoIndex { .. }) => {}
            Err(error) => panic!("{at}: {error:?}"),
        }
    }
}
