//! Inline caches: images whose config also has the records of a cache.
//!
//! Source: BuildKit v0.32 `cache/remotecache/inline/inline.go` (the exporter) and
//! `cache/remotecache/import.go` `importInlineCache` (the importer).

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bkstate::{Digest, Time};
use codec::FormatError;
use codec::from_objects;
use serde::Deserialize;

use super::layer::{CREATED_AT, DESCRIPTION, DIFF_ID};
use super::{CacheManifest, Document, ImageManifest, LayerBlob, ManifestError, Style, by_digest};
use crate::json;
use crate::layout::{BlobError, Descriptor, Layout, null_as_default};

/// The config of an OCI image (OCI image-spec 1.1, `media-types.md`).
pub(crate) const OCI_IMAGE_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// The config of a Docker image.
const DOCKER_IMAGE_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// The cache in the config of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct InlineCache {
    /// The image's manifest; its config is that of the image.
    pub manifest: CacheManifest,
    /// The blobs of the image's layers, lowest first.
    pub blobs: Vec<Digest>,
    /// The records, as JSON.
    pub records: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(remote = "Self")]
struct WithCache {
    #[serde(rename = "moby.buildkit.cache.v0", default)]
    cache: Option<String>,
}

#[derive(Deserialize)]
#[serde(remote = "Self")]
struct ImageConfig {
    rootfs: RootFs,
    #[serde(default, deserialize_with = "null_as_default")]
    history: Vec<Step>,
}

#[derive(Deserialize)]
#[serde(remote = "Self")]
struct RootFs {
    #[serde(default, deserialize_with = "null_as_default")]
    diff_ids: Vec<Digest>,
}

#[derive(Deserialize)]
#[serde(remote = "Self")]
struct Step {
    #[serde(default)]
    created: Option<Time>,
    #[serde(default)]
    created_by: String,
    #[serde(default)]
    empty_layer: bool,
}

from_objects!(WithCache, ImageConfig, RootFs, Step);

impl InlineCache {
    /// Reads the cache of the image with the manifest `descriptor`. `None` if it has none, as attestation
    /// manifests and artifacts.
    ///
    /// # Errors
    /// Returns an error if the manifest or the image's config cannot be read, or the cache in it is unusable.
    pub fn read(layout: &Layout, descriptor: &Descriptor) -> Result<Option<Self>, ManifestError> {
        let digest = descriptor.digest;
        let Document::Manifest(manifest) = Document::read(layout, descriptor)? else {
            return Ok(None);
        };
        let Some(config) = manifest.config.filter(may_be_image_config) else { return Ok(None) };
        let content = layout.read_blob(&config, layout.limits().of_config())?;
        let malformed = |source| ManifestError::ImageConfig { digest: config.digest, source };
        let WithCache { cache } = json::parse(&content).map_err(malformed)?;
        let Some(cache) = cache else { return Ok(None) };
        let records = BASE64_STANDARD
            .decode(cache)
            .map_err(FormatError::new)
            .map_err(|source| ManifestError::InlineBase64 { digest: config.digest, source })?;
        json::check(&records, layout.limits())
            .map_err(|source| BlobError::TooComplex { digest: config.digest, source })?;
        let image = json::parse(&content).map_err(malformed)?;
        let layers = with_annotations(digest, manifest.layers, image)?;
        let blobs = layers.iter().map(|layer| layer.digest).collect();
        let layers = by_digest(layers).map_err(|source| ManifestError::Layer { digest, source })?;
        let manifest = CacheManifest { digest, style: Style::Inline, config, layers };
        Ok(Some(Self { manifest, blobs, records }))
    }
}

/// Returns the layers of an image, lowest first, from its manifest and its config.
///
/// # Errors
/// Returns an error if manifest and config do not match, or a layer is unusable.
pub(crate) fn image_layers(
    digest: Digest,
    manifest: ImageManifest,
    config: &[u8],
) -> Result<Vec<LayerBlob>, ManifestError> {
    let of_config = manifest.config.map_or(digest, |config| config.digest);
    let image = json::parse(config)
        .map_err(|source| ManifestError::ImageConfig { digest: of_config, source })?;
    let layers = with_annotations(digest, manifest.layers, image)?.into_iter();
    let layers = layers.map(LayerBlob::from_descriptor).collect::<Result<_, _>>();
    layers.map_err(|source| ManifestError::Layer { digest, source })
}

fn may_be_image_config(config: &Descriptor) -> bool {
    matches!(&*config.media_type, "" | OCI_IMAGE_CONFIG | DOCKER_IMAGE_CONFIG)
}

/// Returns the layers with the annotations of layers in other caches, derived from the image's config.
fn with_annotations(
    digest: Digest,
    mut layers: Vec<Descriptor>,
    image: ImageConfig,
) -> Result<Vec<Descriptor>, ManifestError> {
    let diff_ids = image.rootfs.diff_ids;
    if diff_ids.len() != layers.len() {
        let (layers, diff_ids) = (layers.len(), diff_ids.len());
        return Err(ManifestError::DiffIds { digest, layers, diff_ids });
    }
    let mut history: Vec<_> = image.history.into_iter().filter(|step| !step.empty_layer).collect();
    if history.len() != layers.len() {
        // The history is optional; it is useless if it does not tell which step made which layer.
        history.clear();
    }
    let mut history = history.into_iter();
    for (layer, diff_id) in layers.iter_mut().zip(diff_ids) {
        layer.annotations.insert(DIFF_ID.to_owned(), diff_id.to_string());
        let Some(step) = history.next() else { continue };
        if let Some(created) = step.created {
            layer.annotations.insert(CREATED_AT.to_owned(), created.to_string());
        }
        if !step.created_by.is_empty() {
            layer.annotations.insert(DESCRIPTION.to_owned(), step.created_by);
        }
    }
    Ok(layers)
}

#[cfg(test)]
mod tests;
