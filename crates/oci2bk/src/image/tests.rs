use serde_json::{Value, json};

use super::*;
use crate::layout::testing::{TestLayout, annotated, digest_of};
use crate::limits::{Limits, MAX_INDEX_DEPTH};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const NAME: &str = "io.containerd.image.name";

fn config(variant: &str) -> Value {
    let mut config = json!({
        "os": "linux",
        "architecture": "amd64",
        "rootfs": {"type": "layers", "diff_ids": [Digest::of("a"), Digest::of("b")]},
    });
    if !variant.is_empty() {
        config["variant"] = variant.into();
    }
    config
}

/// Returns a manifest with this config; its layers are missing.
fn manifest(layout: &TestLayout, config: &Value) -> Value {
    let config = layout.json(CONFIGS[0], config);
    let layers = ["a", "b"].map(|name| {
        json!({"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
            "digest": Digest::of(name), "size": 1})
    });
    layout.json(MANIFEST, &json!({"config": config, "layers": layers}))
}

fn read(layout: &TestLayout, name: &str) -> Result<Vec<BaseImage>, ImageError> {
    let path = layout.path().to_str().unwrap();
    BaseImage::read(&format!("{name}{path}").parse().unwrap(), &Limits::default())
}

fn source(key: &str) -> Digest {
    Digest::of(format!("{}@0", Digest::of(format!("buildkit.source.v0:{key}"))))
}

#[test]
fn records_are_those_of_each_digest_and_of_the_layers() {
    let layout = TestLayout::new();
    let manifest = manifest(&layout, &config("v3"));
    let index = layout.json(INDEX, &json!({"manifests": [manifest]}));
    layout.index(&[annotated(index.clone(), NAME, "docker.io/library/base:1")]);
    let images = read(&layout, "").unwrap();
    let [image] = &images[..] else { panic!("{images:?}") };
    assert_eq!(image.repositories, BTreeSet::from(["base".parse().unwrap()]));
    let [platform] = &image.platforms[..] else { panic!("{image:?}") };
    let key = |descriptor: &Value| {
        let digest = digest_of(descriptor);
        let json = format!(r#"{{"Digest":"{digest}","OS":"linux","Arch":"amd64","Variant":"v3"}}"#);
        source(&Digest::of(json).to_string())
    };
    let chain_id = Digest::of(format!("{} {}", Digest::of("a"), Digest::of("b")));
    let expected = [key(&index), key(&manifest), source(&chain_id.to_string())];
    assert_eq!(platform.records, BTreeSet::from(expected));
    assert_eq!(platform.chain_id, Some(chain_id));
    let digests: Vec<_> = platform.documents.iter().map(|document| document.digest).collect();
    assert_eq!(digests[..2], [digest_of(&index), digest_of(&manifest)]);
    assert_eq!(digests[2], Digest::of(config("v3").to_string()));
}

#[test]
fn platforms_that_the_layout_lacks_and_attestations_are_passed_over() {
    let layout = TestLayout::new();
    let here = manifest(&layout, &config(""));
    let absent = json!({"mediaType": MANIFEST, "digest": Digest::of("absent"), "size": 1});
    let attestation = json!({"config": layout.json("application/vnd.oci.empty.v1+json", &json!({})),
        "layers": []});
    let attestation = layout.json(MANIFEST, &attestation);
    let index = layout.json(INDEX, &json!({"manifests": [absent, attestation, here]}));
    layout.index(&[index]);
    let images = read(&layout, "base=").unwrap();
    assert_eq!(images.len(), 1);
    assert_eq!(images[0].platforms.len(), 1);
}

#[test]
fn images_without_a_name_need_one() {
    let layout = TestLayout::new();
    layout.index(&[annotated(
        manifest(&layout, &config("")),
        "org.opencontainers.image.ref.name",
        "latest",
    )]);
    let error = read(&layout, "").unwrap_err();
    assert!(matches!(error, ImageError::Unnamed { .. }), "{error}");
    assert!(
        error.to_string().contains(" tells the name of the image; give it as NAME="),
        "{error}"
    );
    assert!(BaseImage::in_layout(&Arc::new(layout.open())).unwrap().is_empty());
    let image = read(&layout, "reg.example:5000/base=").unwrap().remove(0);
    assert_eq!(image.repositories.first().unwrap().host_name(), "reg.example");
    // A full name in the same annotation, as skopeo writes it, is enough.
    layout.index(&[annotated(
        manifest(&layout, &config("")),
        "org.opencontainers.image.ref.name",
        "reg.example/base:latest",
    )]);
    assert_eq!(BaseImage::in_layout(&Arc::new(layout.open())).unwrap().len(), 1);
}

#[test]
fn what_is_no_image_or_not_there_is_none() {
    let layout = TestLayout::new();
    let error = read(&layout, "base=").unwrap_err();
    assert!(matches!(error, ImageError::None { .. }), "{error}");
    assert!(
        error.to_string().ends_with(" has no image whose manifest and config are there"),
        "{error}"
    );
    let config = json!({"mediaType": CONFIGS[0], "digest": Digest::of("gone"), "size": 4});
    layout.index(&[layout.json(MANIFEST, &json!({"config": config, "layers": []}))]);
    let error = read(&layout, "base=").unwrap_err();
    assert!(matches!(error, ImageError::None { .. }), "{error}");
    assert!(
        error.to_string().ends_with(" has no image whose manifest and config are there"),
        "{error}"
    );
}

#[test]
fn malformed_and_damaged_documents_are_refused() {
    let layout = TestLayout::new();
    layout.index(&[layout.json(MANIFEST, &json!({"manifests": 1}))]);
    let error = read(&layout, "base=").unwrap_err();
    assert!(matches!(error, ImageError::Document { .. }), "{error}");
    assert!(error.to_string().starts_with("the manifest "), "{error}");
    layout.index(&[manifest(&layout, &json!({"rootfs": {"diff_ids": ["../../x"]}}))]);
    let error = read(&layout, "base=").unwrap_err();
    assert!(matches!(error, ImageError::Config { .. }), "{error}");
    assert!(error.to_string().starts_with("the image config "), "{error}");
    let corrupt = manifest(&layout, &config(""));
    std::fs::write(layout.blob_path(digest_of(&corrupt)), "{}").unwrap();
    layout.index(&[corrupt]);
    let error = read(&layout, "base=").unwrap_err();
    assert!(matches!(error, ImageError::Blob { .. }), "{error}");
    assert!(error.to_string().starts_with("cannot read the images in "), "{error}");
}

#[test]
fn indexes_in_circles_or_too_deep_end() {
    let layout = TestLayout::new();
    let mut nested = manifest(&layout, &config(""));
    for _ in 0..MAX_INDEX_DEPTH {
        nested = layout.json(INDEX, &json!({"manifests": [nested, nested]}));
    }
    layout.index(&[nested.clone()]);
    assert_eq!(read(&layout, "base=").unwrap()[0].platforms.len(), 1);
    layout.index(&[layout.json(INDEX, &json!({"manifests": [nested]}))]);
    let error = read(&layout, "base=").unwrap_err();
    assert!(matches!(error, ImageError::None { .. }), "{error}");
    assert!(
        error.to_string().ends_with(" has no image whose manifest and config are there"),
        "{error}"
    );
}
