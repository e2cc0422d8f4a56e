//! Keys files attached to a cache: OCI artifacts that are copied with it.
//!
//! The artifact is a manifest with the keys file as its only layer, an empty config and the cache's top
//! object as `subject` (OCI image-spec 1.1, `manifest.md`, "Guidelines for Artifact Usage").

use std::collections::BTreeSet;

use bkstate::Digest;
use serde_json::json;

use super::file::{KEYS_MEDIA_TYPE, KeysFile, KeysFileError, is_keys_file};
use crate::export::CacheExport;
use crate::layout::artifact::{ArtifactPlace, Kind, TITLE, check_tag, descriptor, subject};
use crate::layout::{BlobError, Layout, LayoutWriter, PutArtifactError};
use crate::manifest::{
    Document, ImageManifest, ManifestError, OCI_MANIFEST, SelectError, other_manifests,
};

/// The config of an artifact without a config, and its media type (OCI image-spec 1.1, `manifest.md`).
const EMPTY: &str = "{}";
const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";
const FILE_NAME: &str = "keys.json";

/// Keys files as artifacts.
const KIND: Kind = Kind { media_type: KEYS_MEDIA_TYPE, has: is_keys_file };

/// Why the keys files of a layout cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArtifactError {
    /// The manifests of the layout cannot be listed.
    #[error(transparent)]
    Manifests(#[from] SelectError),
    /// A manifest cannot be read.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A keys file is corrupt.
    #[error(transparent)]
    Blob(#[from] BlobError),
}

/// Why keys cannot be attached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// None of the keys belongs to the cache.
    #[error(
        "none of the {ops} ops that the key sources have is a step of the cache {cache}; give \
         sources of the build that made it"
    )]
    NothingMatches {
        /// The top object of the cache.
        cache: Digest,
        /// The number of ops.
        ops: usize,
    },
    /// The ops have more outputs to try than the limit.
    #[error("the ops that the key sources have claim {outputs} outputs to try, more than {limit}")]
    TooManyOutputs {
        /// The number of outputs.
        outputs: u64,
        /// The limit ([`Limits::key_outputs`](crate::Limits::key_outputs)).
        limit: u64,
    },
    /// The keys cannot be encoded as a file.
    #[error("cannot write the keys as a file")]
    KeysFile(#[from] KeysFileError),
    /// The manifest of the cache cannot be read.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The artifact cannot be put into the layout.
    #[error(transparent)]
    Put(#[from] PutArtifactError),
}

/// The result of attaching.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attached {
    /// The manifest of the artifact.
    pub manifest: Digest,
    /// Number of ops in its keys file.
    pub ops: usize,
    /// Number of records of the cache that these name.
    pub records: usize,
    /// Whether the layout was changed: not if the same keys were attached already.
    pub changed: bool,
}

/// A keys file in a layout.
pub(super) struct AttachedFile {
    /// Its blob.
    pub(super) digest: Digest,
    /// The cache to which it is attached.
    pub(super) subject: Option<Digest>,
    /// Its bytes.
    pub(super) json: Vec<u8>,
}

/// Reads the keys files in a layout. Parts that are referred to but missing, as in a partial copy, are
/// skipped.
pub(super) fn keys_files(layout: &Layout) -> Result<Vec<AttachedFile>, ArtifactError> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    let mut left = layout.limits().keys_documents;
    for descriptor in other_manifests(layout)? {
        let Document::Manifest(manifest) = Document::read(layout, &descriptor)? else { continue };
        if !is_artifact(&manifest) {
            continue;
        }
        for layer in manifest.layers.iter().filter(|layer| is_keys_file(&layer.media_type)) {
            if !seen.insert(layer.digest) {
                continue;
            }
            match layout.read_blob(layer, layout.limits().of_keys_document(left)) {
                Err(BlobError::Missing { .. }) => {}
                json => {
                    let json = json?;
                    left = left.saturating_sub(json.len() as u64);
                    let subject = manifest.subject.as_ref().map(|subject| subject.digest);
                    found.push(AttachedFile { digest: layer.digest, subject, json });
                }
            }
        }
    }
    Ok(found)
}

fn is_artifact(manifest: &ImageManifest) -> bool {
    manifest.artifact_type.as_deref().is_some_and(is_keys_file)
}

/// Attaches those of `keys` that name records of `export` to it, in its layout, and replaces what was
/// attached before; with `tag`, also under a separate tag. Keys attached to caches that `index.json` does not
/// lead to any more, because later ones have replaced them, are removed from it.
///
/// # Errors
/// Returns an error if there are none, or the layout cannot be read or written. It is then unchanged, except
/// for unreferenced blobs.
pub fn attach(
    export: &CacheExport,
    keys: &KeysFile,
    tag: Option<&str>,
) -> Result<Attached, AttachError> {
    tag.map(check_tag).transpose()?;
    let (outputs, limit) = (keys.outputs(), export.layout.limits().key_outputs);
    if outputs > limit {
        return Err(AttachError::TooManyOutputs { outputs, limit });
    }
    let cache = export.manifest.digest;
    let (matching, records) = keys.of_records(&export.config.digests_with_inputs().collect());
    if matching.is_empty() {
        return Err(AttachError::NothingMatches { cache, ops: keys.len() });
    }
    let artifact = Artifact::new(&export.layout, cache, &matching)?;
    let mut writer = export.layout.writer().map_err(PutArtifactError::from)?;
    let (manifest, changed) = artifact.put(&export.layout, &mut writer, tag)?;
    Ok(Attached { manifest, ops: matching.len(), records, changed })
}

/// The artifact's own blobs.
struct Artifact {
    cache: Digest,
    file: Vec<u8>,
    manifest: Vec<u8>,
}

impl Artifact {
    fn new(layout: &Layout, cache: Digest, keys: &KeysFile) -> Result<Self, AttachError> {
        let file = keys.encode()?;
        let mut layer = descriptor(KEYS_MEDIA_TYPE, &file);
        layer["annotations"] = json!({TITLE: FILE_NAME});
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": KEYS_MEDIA_TYPE,
            "config": descriptor(EMPTY_TYPE, EMPTY.as_bytes()),
            "layers": [layer],
            "subject": subject(layout, cache)?,
        });
        Ok(Self { cache, file, manifest: manifest.to_string().into() })
    }

    /// Writes the blobs, then the index. Returns the digest of the manifest, and whether the index changed.
    fn put(
        &self,
        layout: &Layout,
        writer: &mut LayoutWriter<'_>,
        tag: Option<&str>,
    ) -> Result<(Digest, bool), PutArtifactError> {
        let place = ArtifactPlace::find(layout, writer.index(), KIND, Some(self.cache), tag)?;
        writer.put_blob(EMPTY.as_bytes())?;
        writer.put_blob(&self.file)?;
        place.put(writer, &self.manifest)
    }
}

#[cfg(test)]
mod tests;
