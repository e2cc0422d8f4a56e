//! Descriptors: the references to blobs in indexes and manifests.
//!
//! The types here and in [`crate::manifest`] replace the `oci-spec` crate: four small structs, against a
//! crate that adds a regex engine and two derive frameworks, accepts digests that are not SHA-256, and does
//! not distinguish a missing member from an empty one, which is necessary to find ambiguous documents.

use std::collections::BTreeMap;

use bkstate::Digest;
use serde::{Deserialize, Deserializer};

use codec::from_objects;

/// A reference to a blob (OCI image-spec 1.1, `descriptor.md`).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[serde(remote = "Self")]
pub struct Descriptor {
    /// The media type according to the referring document; may be empty.
    #[serde(default)]
    pub media_type: String,
    /// The digest of the blob.
    pub digest: Digest,
    /// The size of the blob in bytes.
    pub size: u64,
    /// Annotations, which carry most of BuildKit's data about a layer.
    #[serde(default, deserialize_with = "null_as_default")]
    pub annotations: BTreeMap<String, String>,
    /// The platform of an image, in an index of images.
    #[serde(default)]
    pub platform: Option<Platform>,
    /// The artifact type of the manifest, for referrers.
    #[serde(default)]
    pub artifact_type: Option<String>,
}

/// The platform of an image (OCI image-spec 1.1, `image-index.md`).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(remote = "Self")]
pub struct Platform {
    /// The processor architecture, as Go's `GOARCH`; `unknown` for attestation manifests.
    #[serde(default)]
    pub architecture: String,
    /// The operating system, as Go's `GOOS`; `unknown` for attestation manifests.
    #[serde(default)]
    pub os: String,
    /// The variant of the architecture, such as `v7`.
    #[serde(default)]
    pub variant: Option<String>,
}

from_objects!(Descriptor, Platform);

/// Reads a member that Go's encoder writes as `null` when it is empty.
pub(crate) fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}
