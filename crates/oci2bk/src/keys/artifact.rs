//! Keys files attached to a cache: OCI artifacts that are copied with it.
//!
//! The artifact is a manifest with the keys file as its only layer, an empty config and the cache's top
//! object as `subject` (OCI image-spec 1.1, `manifest.md`, "Guidelines for Artifact Usage"). The layout
//! refers to it in two ways, one for each kind of tool: by an entry of `index.json`, and in the index tagged
//! `sha256-<subject>` that replaces the referrers API (OCI distribution-spec 1.1, "Referrers Tag Schema").

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use bkstate::Digest;
use serde_json::{Value, json};

use super::file::{KEYS_MEDIA_TYPE, KeysFile, KeysFileError, is_keys_file};
use crate::export::CacheExport;
use crate::layout::{BlobError, Descriptor, Layout, LayoutWriter, WriteError, edited_index};
use crate::manifest::{
    Document, DocumentError, ImageManifest, ManifestError, OCI_INDEX, OCI_MANIFEST, REF_NAME,
    SelectError, other_manifests, reachable,
};

/// The config of an artifact without a config, and its media type (OCI image-spec 1.1, `manifest.md`).
const EMPTY: &str = "{}";
const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";
/// The annotation with the file name for tools that extract the artifact.
const TITLE: &str = "org.opencontainers.image.title";
const FILE_NAME: &str = "keys.json";
/// Prefix of the subject in the tag of the index that lists its referrers.
const LIST_TAG: &str = "sha256-";
/// Maximum length of a tag in a registry (OCI distribution-spec 1.1, "Pulling manifests").
const LONGEST_TAG: usize = 128;

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
    /// A registry would not accept the tag.
    #[error("{tag:?} is not a tag: that is 1 to {LONGEST_TAG} letters, digits, '_', '.' and '-'")]
    InvalidTag {
        /// The tag.
        tag: String,
    },
    /// The tag belongs to something else.
    #[error("{} has something else with the tag {tag:?}; choose another", path.display())]
    TagTaken {
        /// The layout.
        path: PathBuf,
        /// The tag.
        tag: String,
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
    /// A manifest of the layout cannot be read.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The manifests of the layout cannot be listed.
    #[error(transparent)]
    Manifests(#[from] SelectError),
    /// An index is malformed.
    #[error("{name} in {} is not an index", path.display())]
    Index {
        /// The layout.
        path: PathBuf,
        /// `index.json`, or the digest of a blob.
        name: String,
        /// The cause.
        #[source]
        source: DocumentError,
    },
    /// The layout cannot be changed.
    #[error(transparent)]
    Write(#[from] WriteError),
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
    if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
        return Err(AttachError::InvalidTag { tag: tag.to_owned() });
    }
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
    let writer = export.layout.writer()?;
    let (manifest, changed) = artifact.put(&export.layout, writer, tag)?;
    Ok(Attached { manifest, ops: matching.len(), records, changed })
}

fn is_tag(tag: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    tag.len() <= LONGEST_TAG
        && tag.starts_with(word)
        && tag.chars().all(|c| word(c) || c == '.' || c == '-')
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
        mut writer: LayoutWriter<'_>,
        tag: Option<&str>,
    ) -> Result<(Digest, bool), AttachError> {
        let index_error = |name: &str, source: DocumentError| {
            let (path, name) = (layout.path().to_owned(), name.to_owned());
            AttachError::Index { path, name, source }
        };
        let document = Document::parse(writer.index()).map_err(|e| index_error("index.json", e))?;
        let Document::Index(index) = document else {
            return Err(index_error("index.json", DocumentError::Neither));
        };
        let fallback_tag = format!("{LIST_TAG}{}", self.cache.hex());
        let is_fallback =
            |entry: &Descriptor| entry.annotations.get(REF_NAME) == Some(&fallback_tag);
        let mut ours = self.older(layout, &index.manifests);
        ours.extend(self.dead(layout, &index.manifests)?);
        if let Some(tag) = tag {
            let has_tag =
                |entry: &&Descriptor| entry.annotations.get(REF_NAME).is_some_and(|t| t == tag);
            let taken = index.manifests.iter().filter(has_tag).any(|e| !ours.contains(&e.digest));
            if taken || tag == fallback_tag {
                let (path, tag) = (layout.path().to_owned(), tag.to_owned());
                return Err(AttachError::TagTaken { path, tag });
            }
        }

        writer.put_blob(EMPTY.as_bytes())?;
        writer.put_blob(&self.file)?;
        let manifest = writer.put_blob(&self.manifest)?;
        let mut referrer = descriptor(OCI_MANIFEST, &self.manifest);
        referrer["artifactType"] = KEYS_MEDIA_TYPE.into();

        let listed = match index.manifests.iter().find(|entry| is_fallback(entry)) {
            None => None,
            Some(entry) => match layout.read_blob(entry, layout.limits().of_manifest()) {
                Err(BlobError::Missing { .. }) => None,
                content => Some((entry.digest, content.map_err(ManifestError::from)?)),
            },
        };
        let (name, listed) = listed.map_or_else(
            || (String::new(), empty_index()),
            |(digest, content)| (digest.to_string(), content),
        );
        // Referrers listed by other tools stay.
        let edited = match Document::parse(&listed).map_err(|e| index_error(&name, e))? {
            Document::Manifest(_) => return Err(index_error(&name, DocumentError::Neither)),
            Document::Index(referrers) => {
                let older = self.older(layout, &referrers.manifests);
                let is_old = |listed: &Descriptor| {
                    ours.contains(&listed.digest) || older.contains(&listed.digest)
                };
                edited_index(&listed, is_old, std::slice::from_ref(&referrer))
                    .map_err(|source| index_error(&name, source.into()))?
                    .unwrap_or(listed)
            }
        };
        writer.put_blob(&edited)?;
        let mut fallback = descriptor(OCI_INDEX, &edited);
        fallback["annotations"] = json!({REF_NAME: fallback_tag});

        if let Some(tag) = tag {
            referrer["annotations"] = json!({REF_NAME: tag});
        }
        let drop = |entry: &Descriptor| ours.contains(&entry.digest) || is_fallback(entry);
        let edited = edited_index(writer.index(), drop, &[referrer, fallback])
            .map_err(|source| index_error("index.json", source.into()))?;
        let changed = edited.is_some();
        if let Some(edited) = edited {
            writer.put_index(edited)?;
        }
        Ok((manifest, changed))
    }

    /// Returns those of `entries` that are keys attached to the same cache before. Each is read once, however
    /// often it is listed.
    fn older(&self, layout: &Layout, entries: &[Descriptor]) -> BTreeSet<Digest> {
        let mut looked_at = BTreeMap::new();
        for entry in entries.iter().filter(|entry| entry.media_type == OCI_MANIFEST) {
            looked_at.entry(entry.digest).or_insert_with(|| self.is_older(layout, entry));
        }
        looked_at.into_iter().filter(|(_, is_older)| *is_older).map(|(digest, _)| digest).collect()
    }

    /// Returns those of `entries` that are keys attached to other caches which are not in `entries`, and the
    /// lists of such keys.
    fn dead(
        &self,
        layout: &Layout,
        entries: &[Descriptor],
    ) -> Result<BTreeSet<Digest>, AttachError> {
        let listed = reachable(layout, entries)?;
        let is_dead = |subject: &Digest| *subject != self.cache && !listed.contains(subject);
        let are_dead_keys = |entry: &Descriptor| match Document::read(layout, entry) {
            Ok(Document::Manifest(manifest)) => {
                let subject = manifest.subject.as_ref().map(|subject| subject.digest);
                is_artifact(&manifest) && subject.as_ref().is_some_and(is_dead)
            }
            Err(ManifestError::Blob(BlobError::Missing { .. })) => {
                entry.artifact_type.as_deref().is_some_and(is_keys_file)
            }
            _ => false,
        };
        let lists_dead_keys = |entry: &Descriptor| match Document::read(layout, entry) {
            Ok(Document::Index(index)) => index.manifests.iter().all(are_dead_keys),
            Err(ManifestError::Blob(BlobError::Missing { .. })) => true,
            _ => false,
        };
        let dead = entries.iter().filter(|entry| match subject_of_list(entry) {
            Some(subject) => is_dead(&subject) && lists_dead_keys(entry),
            None => are_dead_keys(entry),
        });
        Ok(dead.map(|entry| entry.digest).collect())
    }

    /// Returns whether `descriptor` is of keys attached to the same cache before. Unreadable entries are not
    /// ours to remove.
    fn is_older(&self, layout: &Layout, descriptor: &Descriptor) -> bool {
        match Document::read(layout, descriptor) {
            Ok(Document::Manifest(manifest)) => {
                let subject = manifest.subject.as_ref().map(|subject| subject.digest);
                is_artifact(&manifest) && subject == Some(self.cache)
            }
            _ => false,
        }
    }
}

/// Returns the subject of the referrers that an entry lists, if it does.
fn subject_of_list(entry: &Descriptor) -> Option<Digest> {
    let hex = entry.annotations.get(REF_NAME)?.strip_prefix(LIST_TAG)?;
    format!("sha256:{hex}").parse().ok()
}

fn empty_index() -> Vec<u8> {
    json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}).to_string().into()
}

fn descriptor(media_type: &str, content: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": Digest::of(content), "size": content.len()})
}

/// Returns the descriptor of the cache, with the media type in the document, because registries compare it.
fn subject(layout: &Layout, cache: Digest) -> Result<Value, ManifestError> {
    let described = layout.describe_blob(cache)?;
    let content = layout.read_blob(&described, layout.limits().of_manifest())?;
    let document = Document::parse(&content)
        .map_err(|source| ManifestError::Document { digest: cache, source })?;
    Ok(descriptor(&document.media_type(&content), &content))
}

#[cfg(test)]
mod tests;
