//! Invalid digests instead of digests (CVE-2026-95839).

use oci2bk::config::ConfigError;
use oci2bk::export::ExportError;
use oci2bk::layout::LayoutError;
use oci2bk::manifest::{DocumentError, LayerError, ManifestError, SelectError};
use serde_json::{Value, json};

use super::layout::{CACHE_CONFIG, DIFF_ID, config_of};
use super::*;

/// Returns texts instead of a descriptor's digest.
fn malformed() -> Vec<String> {
    let hex = "0123456789abcdef".repeat(4);
    let mut malformed: Vec<String> = [
        "",
        "sha256",
        "sha256:",
        "sha256:../../../../../../etc/shadow",
        "../../index.json",
        "/etc/shadow",
        "sha256:\0",
        "sha256:%2e%2e%2findex.json",
    ]
    .map(str::to_owned)
    .into();
    malformed.extend([
        hex.clone(),
        format!("sha256:{}", hex.to_uppercase()),
        format!("SHA256:{hex}"),
        format!("sha256:{}", &hex[1..]),
        format!("sha256:{hex}0"),
        format!("sha256:{}g", &hex[1..]),
        format!("sha256:{}/", &hex[1..]),
        format!("sha256:{}\0", &hex[1..]),
        format!("sha256:{hex}\0"),
        format!("sha256:{hex}\n"),
        format!(" sha256:{hex}"),
        format!("sha256:../{}", &hex[3..]),
        format!("sha256:{}", "é".repeat(32)),
        format!("sha512:{hex}{hex}"),
        format!("sha384:{hex}"),
        format!("md5:{}", &hex[..32]),
        format!("sha256+b64:{hex}"),
        format!("sha256:{}", "0".repeat(1 << 20)),
    ]);
    malformed
}

/// Returns values that are not text.
fn foreign() -> Vec<Value> {
    vec![
        json!(null),
        json!(1),
        json!(-1.5),
        json!(true),
        json!([]),
        json!({}),
        json!([["sha256:"]]),
    ]
}

fn everything() -> impl Iterator<Item = Value> {
    malformed().into_iter().map(Value::from).chain(foreign())
}

#[test]
fn in_an_entry_of_the_index() {
    for digest in everything() {
        let (layout, _) = one_layer();
        layout.index(&[json!({"digest": digest, "size": 2})]);
        let error = export_error(layout.path());
        let ExportError::Layout(LayoutError::Index { path, source: Some(source) }) = error else {
            panic!("{digest}: {error:?}")
        };
        assert_eq!(path, layout.path().join("index.json"));
        assert!(matches!(source, DocumentError::Json(_)), "{digest}: {source:?}");
        assert_eq!(source.to_string(), "the JSON of the document is malformed");
    }
}

#[test]
fn in_a_manifest() {
    for digest in everything() {
        let (layout, layer) = one_layer();
        let config = layout.blob(CACHE_CONFIG, "{}");
        let wrong = json!({"mediaType": CACHE_CONFIG, "digest": digest, "size": 2});
        for manifest in [
            json!({"config": wrong, "layers": []}),
            json!({"config": config, "layers": [layer, wrong]}),
            json!({"config": config, "layers": [], "subject": wrong}),
            json!({"manifests": [config, wrong]}),
        ] {
            layout.manifest(&manifest);
            let error = export_error(layout.path());
            let ExportError::Select(error) = error else { panic!("{digest}: {error:?}") };
            let SelectError::Manifest { source, .. } = *error else {
                panic!("{digest}: {error:?}")
            };
            assert!(
                matches!(*source, ManifestError::Document { source: DocumentError::Json(_), .. }),
                "{digest}: {source:?}"
            );
            assert!(source.to_string().ends_with(" is not a usable manifest or index"), "{source}");
        }
    }
}

#[test]
fn in_the_annotation_with_the_diff_id() {
    for text in malformed() {
        let (layout, mut layer) = one_layer();
        layer["annotations"][DIFF_ID] = text.clone().into();
        layout.cache(&[layer.clone()], config_of(&[layer.clone()]).to_string());
        let ExportError::Select(error) = export_error(layout.path()) else { panic!("{text}") };
        let SelectError::Manifest { source, .. } = *error else { panic!("{text}: {error:?}") };
        let ManifestError::Layer { source, .. } = *source else { panic!("{text}: {source:?}") };
        let LayerError::DiffId { layer: named, source } = source else { panic!("{source:?}") };
        assert_eq!(named, layout::digest(&layer));
        // The message is short even if the text is long.
        assert!(source.to_string().len() < 1000);
    }
}

#[test]
fn in_the_config() {
    for digest in everything() {
        for config in [
            json!({"layers": [{"blob": digest, "parent": -1}]}),
            json!({"records": [{"digest": digest}]}),
        ] {
            let layout = Layout::new();
            layout.cache(&[], config.to_string());
            let error = export_error(layout.path());
            let ExportError::Config { source: ConfigError::Json(_), .. } = error else {
                panic!("{digest}: {error:?}")
            };
        }
    }
}

#[test]
fn in_the_config_of_an_image_with_an_inline_cache() {
    for digest in everything() {
        let layout = Layout::new();
        let layer = layout.layer("file");
        let config = json!({"moby.buildkit.cache.v0": "W10=", "rootfs": {"diff_ids": [digest]}});
        let config = layout.blob("application/vnd.oci.image.config.v1+json", config.to_string());
        layout.manifest(&json!({"config": config, "layers": [layer]}));
        let ExportError::Select(error) = export_error(layout.path()) else { panic!("{digest}") };
        let SelectError::Manifest { source, .. } = *error else { panic!("{digest}: {error:?}") };
        assert!(matches!(*source, ManifestError::ImageConfig { .. }), "{digest}: {source:?}");
        assert!(source.to_string().starts_with("the image config "), "{source}");
    }
}
