//! Manifests and indexes, distinguished by their content.
//!
//! The media type in a descriptor is only the referrer's claim, and BuildKit's own `type=local` importer
//! passes none. A document with the members of both kinds could be read as either, depending on the reader
//! (CVE-2021-41190), and is rejected.

use std::collections::BTreeMap;

use codec::FormatError;
use codec::from_objects;
use serde::{Deserialize, Deserializer};

use crate::json;
use crate::layout::{Descriptor, null_as_default};

/// `application/vnd.oci.image.index.v1+json`
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// `application/vnd.oci.image.manifest.v1+json`
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Docker's form of an index.
pub const DOCKER_MANIFEST_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker's form of a manifest.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// A manifest or an index.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Document {
    /// A list of manifests, or of the parts of an index-style cache.
    Index(Index),
    /// The config and layers of an image or artifact.
    Manifest(Box<ImageManifest>),
}

/// An OCI image index or a Docker manifest list.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Index {
    /// The listed descriptors.
    pub manifests: Vec<Descriptor>,
    /// Annotations of the index itself.
    pub annotations: BTreeMap<String, String>,
}

/// An OCI image manifest or a Docker manifest, version 2 schema 2.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImageManifest {
    /// The type of artifact, if the manifest states one.
    pub artifact_type: Option<String>,
    /// The config.
    pub config: Option<Descriptor>,
    /// The layers, lowest first.
    pub layers: Vec<Descriptor>,
    /// The manifest to which this one refers, for referrers.
    pub subject: Option<Descriptor>,
    /// Annotations of the manifest itself.
    pub annotations: BTreeMap<String, String>,
}

/// Why a document is not a manifest or an index.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// It is not JSON, or a member has the wrong form.
    #[error("the JSON of the document is malformed")]
    Json(#[from] FormatError),
    /// It has members of an index and of a manifest.
    #[error("the document is ambiguous: it has the members of an index and of a manifest")]
    Ambiguous,
    /// The media type in the document contradicts its members.
    #[error("the document calls itself {media_type}, but has the members of the other kind")]
    MediaType {
        /// The media type in the document.
        media_type: String,
    },
    /// It has neither `manifests` nor `config` and `layers`.
    #[error("the document is neither an index nor a manifest")]
    Neither,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[serde(remote = "Self")]
struct Members {
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    artifact_type: Option<String>,
    // The outer `Option` is whether the member is present, the inner is JSON's `null`.
    #[serde(default, deserialize_with = "present")]
    manifests: Option<Option<Vec<Descriptor>>>,
    #[serde(default, deserialize_with = "present")]
    config: Option<Option<Descriptor>>,
    #[serde(default, deserialize_with = "present")]
    layers: Option<Option<Vec<Descriptor>>>,
    #[serde(default)]
    subject: Option<Descriptor>,
    #[serde(default, deserialize_with = "null_as_default")]
    annotations: BTreeMap<String, String>,
}

from_objects!(Members);

impl Document {
    /// Parses a manifest or an index.
    ///
    /// # Errors
    /// See [`DocumentError`].
    pub fn parse(content: &[u8]) -> Result<Self, DocumentError> {
        let members: Members = json::parse(content)?;
        let manifest = members.config.is_some() || members.layers.is_some();
        let index = members.manifests.is_some();
        let contradicts = match members.media_type.as_deref() {
            Some(OCI_INDEX | DOCKER_MANIFEST_LIST) => manifest,
            Some(OCI_MANIFEST | DOCKER_MANIFEST) => index,
            _ => false,
        };
        match (index, manifest, members.media_type) {
            (true, true, _) => Err(DocumentError::Ambiguous),
            (false, false, _) => Err(DocumentError::Neither),
            (_, _, Some(media_type)) if contradicts => Err(DocumentError::MediaType { media_type }),
            (true, false, _) => Ok(Self::Index(Index {
                manifests: members.manifests.flatten().unwrap_or_default(),
                annotations: members.annotations,
            })),
            (false, true, _) => Ok(Self::Manifest(Box::new(ImageManifest {
                artifact_type: members.artifact_type,
                config: members.config.flatten(),
                layers: members.layers.flatten().unwrap_or_default(),
                subject: members.subject,
                annotations: members.annotations,
            }))),
        }
    }
}

impl Document {
    /// Returns the media type of the document parsed from `content`: the one in the document, since
    /// registries compare that, or OCI's type of its kind.
    pub(crate) fn media_type(&self, content: &[u8]) -> String {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Top {
            media_type: Option<String>,
        }
        let usual = match self {
            Self::Index(_) => OCI_INDEX,
            Self::Manifest(_) => OCI_MANIFEST,
        };
        let own = serde_json::from_slice(content).ok().and_then(|top: Top| top.media_type);
        own.filter(|own| !own.is_empty()).unwrap_or_else(|| usual.to_owned())
    }
}

/// Distinguishes a member that is `null` from a missing one.
fn present<'de, D, T>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Some)
}
