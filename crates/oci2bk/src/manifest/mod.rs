//! The top object of a cache: an index or a manifest that lists the cache config and the layers.
//!
//! | style | top object | config | layers |
//! |---|---|---|---|
//! | [`Style::ImageManifest`] | manifest | `config` | `layers` |
//! | [`Style::Index`] | index | the entry of `manifests` with media type [`CACHE_CONFIG`] | all other entries of `manifests` |
//! | [`Style::Inline`], [`Style::Image`] | manifest of an image | `config` | `layers` |
//!
//! Source: BuildKit v0.32 `cache/remotecache/export.go` and `import.go`.
//!
//! # Finding a cache
//!
//! [`select`] finds the cache of a [reference](crate::source::Reference), which is all that most callers
//! need:
//!
//! ```
//! use oci2bk::Limits;
//! use oci2bk::layout::Layout;
//! use oci2bk::manifest::{
//!     CACHE_CONFIG, CacheManifest, Compression, LayerBlob, SelectError, Selected, Style, select,
//! };
//! use oci2bk::source::Reference;
//!
//! let layout = Layout::open("fixtures/zstd/cache".as_ref(), &Limits::default())?;
//! let Selected::Cache { found, manifest: cache } = select(&layout, &Reference::Default)? else {
//!     panic!("it is in an image");
//! };
//! assert_eq!(found.digest, cache.digest);
//! assert_eq!(cache.style, Style::ImageManifest);
//! assert_eq!(cache.config.media_type, CACHE_CONFIG);
//! assert!(cache.layers.values().all(|layer: &LayerBlob| layer.compression == Compression::Zstd));
//!
//! // The same, with a known entry.
//! assert_eq!(CacheManifest::read(&layout, &layout.entries()[0])?, *cache);
//!
//! // The error for another name lists the existing ones.
//! let error = select(&layout, &Reference::Tag("main".to_owned())).unwrap_err();
//! let SelectError::NoTag { known, .. } = error else { panic!("{error}") };
//! assert!(known.contains("latest"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Documents
//!
//! A document is an index or a manifest by its content, and never both. The media type in a reference to it,
//! such as [`DOCKER_MANIFEST`], does not matter:
//!
//! ```
//! use oci2bk::Digest;
//! use oci2bk::manifest::{
//!     CACHE_CONFIG, CacheManifest, DOCKER_MANIFEST, DOCKER_MANIFEST_LIST, Document, DocumentError,
//!     ImageManifest, Index, ManifestError, OCI_INDEX, OCI_MANIFEST,
//! };
//! use serde_json::json;
//!
//! let parse = |json: serde_json::Value| Document::parse(json.to_string().as_bytes());
//! let config = json!({"mediaType": CACHE_CONFIG, "digest": Digest::of("{}"), "size": 2});
//!
//! for media_type in [OCI_INDEX, DOCKER_MANIFEST_LIST] {
//!     let index = parse(json!({"mediaType": media_type, "manifests": [config]}))?;
//!     assert!(index.is_cache());
//!     assert!(matches!(&index, Document::Index(Index { manifests, .. }) if manifests.len() == 1));
//! }
//! for media_type in [OCI_MANIFEST, DOCKER_MANIFEST] {
//!     let manifest = parse(json!({"mediaType": media_type, "config": config, "layers": []}))?;
//!     assert!(manifest.is_cache());
//!     let Document::Manifest(manifest) = manifest else { panic!("it has no manifests") };
//!     let ImageManifest { subject, layers, .. } = *manifest;
//!     assert!(subject.is_none() && layers.is_empty());
//! }
//!
//! // One reader could take this for an index and another for a manifest.
//! let error = parse(json!({"manifests": [], "config": config, "layers": []})).unwrap_err();
//! assert!(matches!(error, DocumentError::Ambiguous));
//!
//! let empty = parse(json!({"manifests": []}))?;
//! let error = CacheManifest::from_document(Digest::of("it"), empty).unwrap_err();
//! assert!(matches!(error, ManifestError::NotACache { .. }));
//! # Ok::<(), DocumentError>(())
//! ```
//!
//! # Layers
//!
//! The descriptor of a layer has all necessary data:
//!
//! ```
//! use oci2bk::Digest;
//! use oci2bk::layout::Descriptor;
//! use oci2bk::manifest::{Compression, LayerBlob, LayerError, MAX_DESCRIPTION};
//! use serde_json::json;
//!
//! let mut descriptor: Descriptor = serde_json::from_value(json!({
//!     "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
//!     "digest": Digest::of("the blob"),
//!     "size": 1234,
//!     "annotations": {
//!         "containerd.io/uncompressed": Digest::of("the tar"),
//!         "buildkit/createdat": "2026-11-21T20:27:19.5Z",
//!         "buildkit/description": "RUN echo ".to_owned() + &"again and ".repeat(1000),
//!     },
//! }))?;
//! let layer = LayerBlob::from_descriptor(descriptor.clone())?;
//! assert_eq!(layer.compression, Compression::Gzip);
//! assert_eq!(layer.diff_id, Digest::of("the tar"));
//! assert_eq!(layer.description.unwrap().chars().count(), MAX_DESCRIPTION);
//!
//! // Without the digest of the tar, no name can be derived.
//! descriptor.annotations.clear();
//! let error = LayerBlob::from_descriptor(descriptor).unwrap_err();
//! assert!(matches!(error, LayerError::NoDiffId { .. }));
//! assert_eq!(Compression::of_media_type("text/plain"), None);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Inline caches
//!
//! An image can contain a cache in its config:
//!
//! ```
//! use base64::prelude::{BASE64_STANDARD, Engine as _};
//! use oci2bk::layout::Layout;
//! use oci2bk::manifest::{InlineCache, OCI_MANIFEST, Selected, Style, other_manifests, select};
//! use oci2bk::source::Reference;
//! use oci2bk::{Digest, Limits};
//! use serde_json::json;
//!
//! // An image without layers, as made with `--cache-to type=inline`.
//! let temporary = tempfile::tempdir()?;
//! std::fs::create_dir_all(temporary.path().join("blobs/sha256"))?;
//! std::fs::write(temporary.path().join("index.json"), r#"{"manifests":[]}"#)?;
//! let layout = Layout::open(temporary.path(), &Limits::default())?;
//! let mut writer = layout.writer()?;
//! let mut put = |media_type: &str, json: serde_json::Value| {
//!     let json = json.to_string();
//!     let digest: Digest = writer.put_blob(json.as_bytes())?;
//!     Ok::<_, oci2bk::layout::WriteError>(
//!         json!({"mediaType": media_type, "digest": digest, "size": json.len()}),
//!     )
//! };
//! let config = put("application/vnd.oci.image.config.v1+json", json!({
//!     "rootfs": {"type": "layers", "diff_ids": []},
//!     "moby.buildkit.cache.v0": BASE64_STANDARD.encode("[]"),
//! }))?;
//! let image = put(OCI_MANIFEST, json!({"config": config, "layers": []}))?;
//! writer.put_index(json!({"manifests": [image]}).to_string().into_bytes())?;
//!
//! let layout = Layout::open(temporary.path(), &Limits::default())?;
//! let Selected::Inline { platforms, .. } = select(&layout, &Reference::Default)? else {
//!     panic!("there is no other cache");
//! };
//! assert_eq!(platforms.len(), 1);
//! let InlineCache { manifest, blobs, records, .. } = &platforms[0];
//! assert_eq!(manifest.style, Style::Inline);
//! assert_eq!((blobs.len(), records.as_slice()), (0, b"[]".as_slice()));
//!
//! // It is also an image, which is searched for keys.
//! let [image] = &other_manifests(&layout)?[..] else { panic!("there is one image") };
//! assert_eq!(InlineCache::read(&layout, image)?.as_ref(), Some(&platforms[0]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod document;
mod inline;
mod layer;
mod select;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use bkstate::Digest;
use codec::FormatError;

pub use document::{
    DOCKER_MANIFEST, DOCKER_MANIFEST_LIST, Document, DocumentError, ImageManifest, Index,
    OCI_INDEX, OCI_MANIFEST,
};
pub use inline::InlineCache;
pub(crate) use inline::{OCI_IMAGE_CONFIG, image_layers};
pub(crate) use layer::{CREATED_AT, DIFF_ID, Facts};
pub use layer::{Compression, Disagreement, LayerBlob, LayerError, MAX_DESCRIPTION};
pub(crate) use select::{DEFAULT_TAG, IMAGE_NAME, REF_NAME};
pub use select::{FoundCache, SelectError, Selected, other_manifests, select};
pub(crate) use select::{entry_names, reachable, tagged};

use crate::layout::{BlobError, Descriptor, Layout};

/// The media type of a cache config (BuildKit v0.32 `cache/remotecache/v1/types/spec.go`).
pub const CACHE_CONFIG: &str = "application/vnd.buildkit.cacheconfig.v0";

/// The form of a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Style {
    /// An index (or Docker manifest list) of blobs, the default before BuildKit v0.21.
    Index,
    /// An OCI image manifest, the default since BuildKit v0.21.
    ImageManifest,
    /// An image whose config has the records (`type=inline`).
    Inline,
    /// An image without records: only its layers.
    Image,
}

/// A validated top object of a cache.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheManifest {
    /// The digest of the top object itself.
    pub digest: Digest,
    /// Its form.
    pub style: Style,
    /// The cache config.
    pub config: Descriptor,
    /// The layer blobs.
    pub layers: BTreeMap<Digest, LayerBlob>,
}

/// Why a blob is not a valid manifest, index or cache.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// The blob cannot be read or is corrupt.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The blob is not a manifest or an index.
    #[error("blob {digest} is not a usable manifest or index")]
    Document {
        /// The blob.
        digest: Digest,
        /// The cause.
        #[source]
        source: DocumentError,
    },
    /// The document has no cache config.
    #[error("{digest} is not a cache: it has no config of type {CACHE_CONFIG}")]
    NotACache {
        /// The manifest or index.
        digest: Digest,
    },
    /// An index lists more than one cache config.
    #[error("index {digest} lists two cache configs, {first} and {second}")]
    TwoConfigs {
        /// The index.
        digest: Digest,
        /// The first config.
        first: Digest,
        /// The second config.
        second: Digest,
    },
    /// The config of an image is invalid.
    #[error("the image config {digest} is malformed")]
    ImageConfig {
        /// The config.
        digest: Digest,
        /// The cause.
        #[source]
        source: FormatError,
    },
    /// The inline cache is not in base64.
    #[error("the cache in the image config {digest} is not in base64")]
    InlineBase64 {
        /// The config.
        digest: Digest,
        /// The cause.
        #[source]
        source: FormatError,
    },
    /// Manifest and config of an image with an inline cache do not match.
    #[error("image {digest} has {layers} layers, but its config has {diff_ids} diffIDs")]
    DiffIds {
        /// The manifest.
        digest: Digest,
        /// The number of layers.
        layers: usize,
        /// The number of diffIDs in the config.
        diff_ids: usize,
    },
    /// A layer's descriptor is invalid.
    #[error("cannot use a layer of cache {digest}")]
    Layer {
        /// The manifest or index.
        digest: Digest,
        /// The layer, and the cause.
        #[source]
        source: LayerError,
    },
}

impl Document {
    /// Reads the manifest or index of `descriptor` from a layout.
    ///
    /// # Errors
    /// Returns an error if the blob cannot be read, exceeds the limits, is corrupt, or is something else.
    pub fn read(layout: &Layout, descriptor: &Descriptor) -> Result<Self, ManifestError> {
        let content = layout.read_blob(descriptor, layout.limits().of_manifest())?;
        Self::parse(&content)
            .map_err(|source| ManifestError::Document { digest: descriptor.digest, source })
    }

    /// Returns whether the document is the top object of a cache.
    pub fn is_cache(&self) -> bool {
        match self {
            Self::Index(index) => index.manifests.iter().any(is_cache_config),
            Self::Manifest(manifest) => manifest.config.as_ref().is_some_and(is_cache_config),
        }
    }
}

impl CacheManifest {
    /// Reads the cache with the top object `descriptor`.
    ///
    /// # Errors
    /// Returns an error if the blob cannot be read, is not a cache, or has an unusable layer.
    pub fn read(layout: &Layout, descriptor: &Descriptor) -> Result<Self, ManifestError> {
        Self::from_document(descriptor.digest, Document::read(layout, descriptor)?)
    }

    /// Validates `document`, whose digest is `digest`, as the top object of a cache.
    ///
    /// # Errors
    /// Returns an error if the document is not a cache, or has an unusable layer.
    pub fn from_document(digest: Digest, document: Document) -> Result<Self, ManifestError> {
        let (style, configs, layers) = match document {
            Document::Index(index) => {
                let (configs, layers) = index.manifests.into_iter().partition(is_cache_config);
                (Style::Index, configs, layers)
            }
            Document::Manifest(manifest) => {
                let configs: Vec<_> = manifest.config.into_iter().filter(is_cache_config).collect();
                (Style::ImageManifest, configs, manifest.layers)
            }
        };
        let mut configs = configs.into_iter();
        let config = configs.next().ok_or(ManifestError::NotACache { digest })?;
        if let Some(second) = configs.find(|second| second.digest != config.digest) {
            let (first, second) = (config.digest, second.digest);
            return Err(ManifestError::TwoConfigs { digest, first, second });
        }
        let layers = by_digest(layers).map_err(|source| ManifestError::Layer { digest, source })?;
        Ok(Self { digest, style, config, layers })
    }
}

fn is_cache_config(descriptor: &Descriptor) -> bool {
    descriptor.media_type == CACHE_CONFIG
}

/// A blob in several chains may be listed several times; the last one counts, as in BuildKit's importer.
fn by_digest(descriptors: Vec<Descriptor>) -> Result<BTreeMap<Digest, LayerBlob>, LayerError> {
    let mut layers = BTreeMap::<Digest, LayerBlob>::new();
    for descriptor in descriptors {
        let layer = LayerBlob::from_descriptor(descriptor)?;
        let digest = layer.descriptor.digest;
        let known = layers.get(&digest).map(LayerBlob::facts);
        if let Some(what) = known.and_then(|known| known.disagreement(&layer.facts())) {
            return Err(LayerError::Conflict { layer: digest, what: what.into() });
        }
        layers.insert(digest, layer);
    }
    Ok(layers)
}
