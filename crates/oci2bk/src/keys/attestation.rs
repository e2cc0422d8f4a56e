//! Provenance attached to images in an OCI layout.
//!
//! BuildKit puts the attestations of an image into a separate manifest beside it, one layer each (v0.32.2,
//! `exporter/containerimage/writer.go`). The layers are recognised by media type and annotation, also in the
//! bundles of `docker buildx history export`; the annotations of the manifest changed over the releases and
//! are not used.

use std::collections::{BTreeMap, BTreeSet};

use bkstate::Digest;

use crate::layout::{BlobError, Layout};
use crate::manifest::{Document, DocumentError, SelectError, other_manifests};

const IN_TOTO: &str = "application/vnd.in-toto+json";
const PREDICATE_TYPE: &str = "in-toto.io/predicate-type";
const SLSA_PROVENANCE: &str = "https://slsa.dev/provenance/";

/// Why the attestations of a layout cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttestationError {
    /// The manifests of the layout cannot be listed.
    #[error(transparent)]
    Manifests(#[from] SelectError),
    /// A blob is corrupt.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// A manifest is malformed.
    #[error("the manifest {digest} is malformed")]
    Document {
        /// The manifest.
        digest: Digest,
        /// The cause.
        #[source]
        source: DocumentError,
    },
}

/// A provenance document in a layout.
#[derive(Debug)]
pub(super) struct Attestation {
    /// Its blob.
    pub(super) digest: Digest,
    /// The statement, or the bare predicate.
    pub(super) json: Vec<u8>,
}

/// Reads the provenance attached to the images of `layout`. Parts that are referred to but missing, as in a
/// partial copy, are skipped.
pub(super) fn provenance(layout: &Layout) -> Result<Vec<Attestation>, AttestationError> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    let mut left = layout.limits().keys_documents;
    for descriptor in other_manifests(layout)? {
        let Some(manifest) = present(layout.read_blob(&descriptor, layout.limits().of_manifest()))?
        else {
            continue;
        };
        let document = Document::parse(&manifest)
            .map_err(|source| AttestationError::Document { digest: descriptor.digest, source })?;
        let Document::Manifest(manifest) = document else { continue };
        let layers = manifest.layers.iter();
        for layer in layers.filter(|layer| is_provenance(&layer.media_type, &layer.annotations)) {
            let digest = layer.digest;
            if !seen.insert(digest) {
                continue;
            }
            let limit = layout.limits().of_keys_document(left);
            if let Some(json) = present(layout.read_blob(layer, limit))? {
                left = left.saturating_sub(json.len() as u64);
                found.push(Attestation { digest, json });
            }
        }
    }
    Ok(found)
}

/// Returns whether a blob with this media type and these annotations is provenance.
pub(super) fn is_provenance(media_type: &str, annotations: &BTreeMap<String, String>) -> bool {
    let predicate = annotations.get(PREDICATE_TYPE);
    media_type == IN_TOTO && predicate.is_some_and(|kind| kind.starts_with(SLSA_PROVENANCE))
}

/// Returns whether a statement is provenance.
pub(super) fn is_statement(json: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Statement {
        predicate_type: String,
    }
    serde_json::from_slice::<Statement>(json)
        .is_ok_and(|statement| statement.predicate_type.starts_with(SLSA_PROVENANCE))
}

fn present<T>(blob: Result<T, BlobError>) -> Result<Option<T>, BlobError> {
    match blob {
        Err(BlobError::Missing { .. }) => Ok(None),
        blob => blob.map(Some),
    }
}
