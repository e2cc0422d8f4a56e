//! The documents of OCI layouts for generated blobs.

use std::fs;
use std::path::Path;

use anyhow::Result;
use bkstate::Digest;
use serde_json::json;

use crate::cache::{Blob, Compression};

/// The creation time of everything; the times in the layers are about the same.
pub(crate) const CREATED: &str = "2025-01-01T00:00:00Z";

/// Returns the media type of a layer.
pub(crate) fn media_type(compression: Compression) -> String {
    format!("application/vnd.oci.image.layer.v1.tar+{}", compression.name())
}

/// Writes the export as BuildKit v0.32 does, in image-manifest style.
pub(crate) fn write_export(
    layout: &Path,
    compression: Compression,
    blobs: &[&Blob],
    records: &[Digest],
) -> Result<()> {
    let config_layers: Vec<_> = blobs
        .iter()
        .zip(-1_i64..)
        .map(|(blob, parent)| json!({"blob": blob.digest, "parent": parent}))
        .collect();
    let config_records: Vec<_> = (0..blobs.len())
        .map(|index| {
            let mut record = json!({
                "digest": records[index],
                "layers": [{"layer": index, "createdAt": CREATED}],
            });
            if index > 0 {
                record["inputs"] = json!([[{"link": index - 1}]]);
            }
            record
        })
        .collect();
    let config = json!({"layers": config_layers, "records": config_records});
    write_layout(layout, "application/vnd.buildkit.cacheconfig.v0", &config, compression, blobs)
}

/// Writes an image of the same blobs.
pub(crate) fn write_image(
    layout: &Path,
    image: &Path,
    compression: Compression,
    blobs: &[&Blob],
) -> Result<()> {
    fs::create_dir_all(image.join("blobs/sha256"))?;
    for blob in blobs {
        let name = Path::new("blobs/sha256").join(blob.digest.hex());
        fs::hard_link(layout.join(&name), image.join(&name))?;
    }
    let diff_ids: Vec<_> = blobs.iter().map(|blob| blob.diff_id).collect();
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    write_layout(image, "application/vnd.oci.image.config.v1+json", &config, compression, blobs)
}

fn write_layout(
    layout: &Path,
    config_type: &str,
    config: &serde_json::Value,
    compression: Compression,
    blobs: &[&Blob],
) -> Result<()> {
    let layers: Vec<serde_json::Value> = blobs
        .iter()
        .map(|blob| {
            json!({
                "mediaType": media_type(compression),
                "digest": blob.digest,
                "size": blob.size,
                "annotations": {
                    "buildkit/createdat": CREATED,
                    "containerd.io/uncompressed": blob.diff_id,
                },
            })
        })
        .collect();
    finish_layout(layout, config_type, &serde_json::to_vec(config)?, &layers)
}

/// Writes all documents of a layout with existing blobs: the config `config`, a manifest with the descriptors
/// `layers`, and the index.
pub(crate) fn finish_layout(
    layout: &Path,
    config_type: &str,
    config: &[u8],
    layers: &[serde_json::Value],
) -> Result<()> {
    let mut config = write_document(layout, config)?;
    config["mediaType"] = config_type.into();
    let manifest_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": manifest_type,
        "config": config,
        "layers": layers,
    });
    let mut manifest = write_document(layout, &serde_json::to_vec(&manifest)?)?;
    manifest["mediaType"] = manifest_type.into();
    manifest["annotations"] = json!({"org.opencontainers.image.ref.name": "latest"});
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [manifest],
    });
    fs::write(layout.join("index.json"), serde_json::to_vec(&index)?)?;
    Ok(fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?)
}

/// Adds a document to the blobs; returns its descriptor without a type.
fn write_document(layout: &Path, document: &[u8]) -> Result<serde_json::Value> {
    let digest = Digest::of(document);
    fs::write(layout.join("blobs/sha256").join(digest.hex()), document)?;
    Ok(json!({"digest": digest, "size": document.len()}))
}
