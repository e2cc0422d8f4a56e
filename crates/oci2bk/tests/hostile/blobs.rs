//! Blobs that are not files of the right size and content.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use bkstate::Digest;
use oci2bk::convert::ConvertError;
use oci2bk::export::ExportError;
use oci2bk::layout::{BlobError, FileKind};
use oci2bk::manifest::{DocumentError, ManifestError, SelectError};
use oci2bk::plan::PlanError;
use oci2bk::unpack::UnpackError;
use serde_json::{Value, json};

use super::layout::{CACHE_CONFIG, config_of, digest};
use super::top::kinds;
use super::*;

/// The damaged blob of a layout.
const BLOBS: [&str; 3] = ["manifest", "config", "layer"];

/// Creates a sound layout; also returns the descriptors of its manifest, config and layer.
fn sound() -> (Layout, [Value; 3]) {
    let (layout, layer) = one_layer();
    let index: Value =
        serde_json::from_slice(&fs::read(layout.path().join("index.json")).unwrap()).unwrap();
    let manifest = index["manifests"][0].clone();
    let content = fs::read(layout.blob_path(&manifest)).unwrap();
    let config = serde_json::from_slice::<Value>(&content).unwrap()["config"].clone();
    (layout, [manifest, config, layer])
}

/// Returns why a blob of the layout is rejected.
fn refused(layout: &Layout) -> BlobError {
    match export_error(layout.path()) {
        ExportError::ConfigBlob { source, .. } | ExportError::LayerBlob { source, .. } => source,
        ExportError::Select(error) => match *error {
            SelectError::Manifest { source, .. } => match *source {
                ManifestError::Blob(error) => error,
                error => panic!("{error:?}"),
            },
            error => panic!("{error:?}"),
        },
        error => panic!("{error:?}"),
    }
}

#[test]
fn that_are_links_fifos_directories_sockets_or_devices() {
    for (expected, make) in kinds() {
        for (name, blob) in BLOBS.into_iter().zip(0..) {
            let (layout, blobs) = sound();
            let path = layout.blob_path(&blobs[blob]);
            fs::remove_file(&path).unwrap();
            make(&path);
            let error = refused(&layout);
            assert!(
                error
                    .to_string()
                    .ends_with(", and only regular files are read; replace it by the file"),
                "{error}"
            );
            let BlobError::NotAFile { digest: named, kind } = error else {
                panic!("{name}: {error:?}")
            };
            assert_eq!((named, kind), (digest(&blobs[blob]), expected), "{name}");
        }
    }
}

#[test]
fn that_are_links_to_the_right_content() {
    for blob in 0..BLOBS.len() {
        let (layout, blobs) = sound();
        let path = layout.blob_path(&blobs[blob]);
        let elsewhere = layout.path().join("elsewhere");
        fs::rename(&path, &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        let error = refused(&layout);
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
fn that_may_not_be_read() {
    // Root may read everything, so the file is valid.
    let root = rustix::process::geteuid().is_root();
    for blob in 0..BLOBS.len() {
        let (layout, blobs) = sound();
        fs::set_permissions(layout.blob_path(&blobs[blob]), fs::Permissions::from_mode(0o000))
            .unwrap();
        if root {
            converted(layout.path()).unwrap();
        } else {
            let error = refused(&layout);
            assert!(matches!(error, BlobError::Io { .. }), "{error}");
            assert!(error.to_string().starts_with("cannot read blob "), "{error}");
        }
    }
}

#[test]
fn that_are_shorter_or_longer_than_their_descriptor_says() {
    for change in [-1, 1] {
        for blob in 0..BLOBS.len() {
            let (layout, blobs) = sound();
            let file =
                fs::File::options().write(true).open(layout.blob_path(&blobs[blob])).unwrap();
            let size = blobs[blob]["size"].as_u64().unwrap();
            file.set_len(size.checked_add_signed(change).unwrap()).unwrap();
            let error = refused(&layout);
            let BlobError::Size { digest: named, expected, actual } = error else {
                panic!("{error:?}")
            };
            assert_eq!((named, expected), (digest(&blobs[blob]), size));
            assert_eq!(Some(actual), size.checked_add_signed(change));
        }
    }
}

#[test]
fn that_are_empty() {
    for blob in 0..BLOBS.len() {
        let (layout, blobs) = sound();
        fs::write(layout.blob_path(&blobs[blob]), "").unwrap();
        let error = refused(&layout);
        assert!(matches!(error, BlobError::Size { actual: 0, .. }), "{error}");
        assert!(error.to_string().contains(" has 0 bytes, but its descriptor says "), "{error}");
    }
}

#[test]
fn that_are_full_of_holes_up_to_the_largest_size_there_is() {
    for blob in 0..BLOBS.len() {
        let (layout, blobs) = sound();
        let file = fs::File::create(layout.blob_path(&blobs[blob])).unwrap();
        // The maximum of the file system.
        let mut size = u64::MAX >> 1;
        while file.set_len(size).is_err() {
            size /= 2;
        }
        let error = refused(&layout);
        assert!(matches!(error, BlobError::Size { actual, .. } if actual == size), "{error}");
        let said = format!(" has {size} bytes, but its descriptor says ");
        assert!(error.to_string().contains(&said), "{error}");
    }
}

#[test]
fn whose_every_byte_may_be_flipped() {
    let (_, blobs) = sound();
    for (blob, descriptor) in blobs.iter().enumerate() {
        let size = usize::try_from(descriptor["size"].as_u64().unwrap()).unwrap();
        let (layout, blobs) = sound();
        let path = layout.blob_path(&blobs[blob]);
        let content = fs::read(&path).unwrap();
        // The header of the archive, and some of its padding.
        for at in (0..size).filter(|at| blob != 2 || at % 7 == 0) {
            let mut damaged = content.clone();
            damaged[at] ^= 1 << (at % 8);
            fs::write(&path, damaged).unwrap();
            match converted(layout.path()) {
                Err(Fault::Export(ExportError::ConfigBlob {
                    source: BlobError::Digest { .. },
                    ..
                })) if blob == 1 => {}
                Err(Fault::Export(ExportError::Select(error))) if blob == 0 => {
                    let SelectError::Manifest { source, .. } = *error else { panic!("{error:?}") };
                    assert!(
                        matches!(*source, ManifestError::Blob(BlobError::Digest { .. })),
                        "{source}"
                    );
                    assert!(
                        source.to_string().contains(" is damaged: its content has the digest "),
                        "{source}"
                    );
                }
                Err(Fault::Convert(ConvertError::Blob(BlobError::Digest { .. }))) if blob == 2 => {}
                Err(Fault::Convert(ConvertError::Unpack { source, .. })) if blob == 2 => {
                    assert!(source.is_input(), "{source:?}");
                    let _: &UnpackError = &source;
                }
                result => panic!("{blob} at {at}: {result:?}"),
            }
        }
    }
}

#[test]
fn whose_descriptors_have_impossible_sizes() {
    for size in ["-1", "1.5", "1e3", "18446744073709551616", "\"1\"", "null", "true", "[1]", "-0.0"]
    {
        let (layout, _) = one_layer();
        let digest = Digest::of("{}");
        for manifest in [
            format!(r#"{{"config":{{"digest":"{digest}","size":{size}}},"layers":[]}}"#),
            format!(r#"{{"manifests":[{{"digest":"{digest}","size":{size}}}]}}"#),
        ] {
            layout.index(&[layout.blob("", manifest)]);
            let ExportError::Select(error) = export_error(layout.path()) else { panic!("{size}") };
            let SelectError::Manifest { source, .. } = *error else { panic!("{error:?}") };
            assert!(
                matches!(*source, ManifestError::Document { source: DocumentError::Json(_), .. }),
                "{size}: {source:?}"
            );
            assert!(source.to_string().ends_with(" is not a usable manifest or index"), "{source}");
        }
    }
}

#[test]
fn whose_descriptors_have_sizes_that_overflow_when_they_are_added() {
    for size in [u64::MAX, u64::MAX - 1, 1 << 63, (1 << 63) - 1] {
        let layout = Layout::new();
        let mut layers = [layout.layer("a"), layout.layer("b")];
        for layer in &mut layers {
            layer["size"] = size.into();
        }
        layout.cache(&layers, config_of(&layers).to_string());
        let error = refused(&layout);
        assert!(matches!(error, BlobError::Size { expected, .. } if expected == size), "{error}");
        assert!(error.to_string().contains(" has 2048 bytes, but its descriptor says "), "{error}");

        // The sizes of missing layers do not count. Without any layer it is a sparse layout.
        for layer in &layers {
            fs::remove_file(layout.blob_path(layer)).unwrap();
        }
        let result = converted(layout.path());
        let error = result.unwrap_err();
        assert!(matches!(error, Fault::Plan(PlanError::Sparse { .. })), "{error}");
        assert!(
            error
                .to_string()
                .contains(" is a sparse layout: it has none of the layers of the cache "),
            "{error}"
        );
        let all = [&layers[..], &[layout.layer("c")]].concat();
        layout.cache(&all, config_of(&layers).to_string());
        let (plan, report) = converted(layout.path()).unwrap();
        assert_eq!((plan.dropped.len(), report.blobs), (1, 0));

        let mut config = layout.blob(CACHE_CONFIG, "{}");
        config["size"] = size.into();
        layout.manifest(&json!({"config": config, "layers": []}));
        let error = refused(&layout);
        assert!(matches!(error, BlobError::Size { expected, .. } if expected == size), "{error}");
        assert!(error.to_string().contains(" has 2 bytes, but its descriptor says "), "{error}");
    }
}

#[test]
fn whose_descriptors_contradict_each_other() {
    for (member, value) in [
        ("size", json!(1)),
        ("mediaType", "application/vnd.oci.image.layer.v1.tar+gzip".into()),
        ("annotations", json!({layout::DIFF_ID: Digest::of("other")})),
    ] {
        let layout = Layout::new();
        let layer = layout.layer("file");
        let mut other = layer.clone();
        other[member] = value;
        layout.cache(&[layer.clone(), other], config_of(&[layer]).to_string());
        let ExportError::Select(error) = export_error(layout.path()) else { panic!("{member}") };
        let SelectError::Manifest { source, .. } = *error else { panic!("{error:?}") };
        assert!(
            matches!(
                *source,
                ManifestError::Layer { source: oci2bk::manifest::LayerError::Conflict { .. }, .. }
            ),
            "{source}"
        );
        assert!(source.to_string().starts_with("cannot use a layer of cache "), "{source}");
    }
}

#[test]
fn whose_manifest_and_index_disagree_on_the_size() {
    let (layout, [mut manifest, ..]) = sound();
    let right = manifest["size"].as_u64().unwrap();
    manifest["size"] = (right + 1).into();
    layout.index(&[manifest.clone()]);
    let error = refused(&layout);
    assert!(matches!(error, BlobError::Size { actual, .. } if actual == right), "{error}");
    assert!(
        error.to_string().ends_with(
            " has 458 bytes, but its descriptor says 459; copy or export the cache again"
        ),
        "{error}"
    );
}
