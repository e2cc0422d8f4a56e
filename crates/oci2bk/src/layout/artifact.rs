//! Artifacts in a layout: manifests of a kind of their own, which other tools copy.
//!
//! The layout refers to an artifact in two ways, one for each kind of tool: by an entry of `index.json`, and, if
//! it has a subject, in the index tagged `sha256-<subject>` that replaces the referrers API (OCI
//! distribution-spec 1.1, "Referrers Tag Schema").

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use bkstate::Digest;
use serde_json::{Value, json};

use crate::layout::{BlobError, Descriptor, Layout, LayoutWriter, WriteError, edited_index};
use crate::manifest::{
    Document, DocumentError, ImageManifest, ManifestError, OCI_INDEX, OCI_MANIFEST, REF_NAME,
    SelectError, reachable,
};

/// The annotation with the file name for tools that extract the artifact.
pub(crate) const TITLE: &str = "org.opencontainers.image.title";
/// Prefix of the subject in the tag of the index that lists its referrers.
const LIST_TAG: &str = "sha256-";
/// Maximum length of a tag in a registry (OCI distribution-spec 1.1, "Pulling manifests").
const LONGEST_TAG: usize = 128;

/// Why an artifact cannot be put into a layout.
///
/// ```
/// use oci2bk::keys::{AttachError, KeysFile, attach};
/// use oci2bk::layout::PutArtifactError;
/// use oci2bk::{CacheExport, Limits};
///
/// let limits = Limits::default();
/// let exports = CacheExport::read_sources(&["fixtures/min/cache".parse()?], &limits)?;
/// let error = attach(&exports[0], &KeysFile::from_sources(&[]), Some("not a tag")).unwrap_err();
/// assert!(matches!(error, AttachError::Put(PutArtifactError::InvalidTag { .. })));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PutArtifactError {
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

/// Refuses a tag that a registry would not accept.
pub(crate) fn check_tag(tag: &str) -> Result<(), PutArtifactError> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let is_tag = tag.len() <= LONGEST_TAG
        && tag.starts_with(word)
        && tag.chars().all(|c| word(c) || c == '.' || c == '-');
    if is_tag { Ok(()) } else { Err(PutArtifactError::InvalidTag { tag: tag.to_owned() }) }
}

/// A kind of artifact.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    /// Its artifact type.
    pub(crate) media_type: &'static str,
    /// Returns whether an artifact type is one of this kind, of any version.
    pub(crate) has: fn(&str) -> bool,
}

impl Kind {
    fn is_of(self, manifest: &ImageManifest) -> bool {
        manifest.artifact_type.as_deref().is_some_and(self.has)
    }
}

/// The place of an artifact in a layout.
///
/// It replaces an artifact of the same kind and with the same subject; one without a subject, what has the
/// same tag. Artifacts attached to manifests that `index.json` does not lead to any more, because later ones
/// have replaced them, are removed from it.
#[derive(Debug)]
pub(crate) struct ArtifactPlace<'l> {
    layout: &'l Layout,
    kind: Kind,
    subject: Option<Digest>,
    tag: Option<String>,
    /// The entries that it replaces.
    ours: BTreeSet<Digest>,
}

impl<'l> ArtifactPlace<'l> {
    /// Finds the place in `layout`, whose current index is `index`.
    ///
    /// # Errors
    /// Returns an error if something else has the tag, or the layout cannot be read.
    pub(crate) fn find(
        layout: &'l Layout,
        index: &[u8],
        kind: Kind,
        subject: Option<Digest>,
        tag: Option<&str>,
    ) -> Result<Self, PutArtifactError> {
        tag.map(check_tag).transpose()?;
        let tag = tag.map(str::to_owned);
        let mut place = Self { layout, kind, subject, tag, ours: BTreeSet::new() };
        let entries = place.entries("index.json", index)?;
        place.ours = match subject {
            Some(_) => place.older(&entries),
            None => {
                let tagged: Vec<_> =
                    entries.iter().filter(|entry| place.has_tag(entry)).cloned().collect();
                place.older(&tagged)
            }
        };
        if subject.is_some() {
            place.ours.extend(place.dead(&entries)?);
        }
        if let Some(tag) = &place.tag {
            let mut tagged = entries.iter().filter(|entry| place.has_tag(entry));
            let taken = tagged.any(|entry| !place.ours.contains(&entry.digest));
            if taken || Some(tag) == place.list_tag().as_ref() {
                let (path, tag) = (layout.path().to_owned(), tag.clone());
                return Err(PutArtifactError::TagTaken { path, tag });
            }
        }
        Ok(place)
    }

    /// Returns the tag of the list of what is attached to the subject.
    fn list_tag(&self) -> Option<String> {
        self.subject.map(|subject| format!("{LIST_TAG}{}", subject.hex()))
    }

    fn has_tag(&self, entry: &Descriptor) -> bool {
        let tag = entry.annotations.get(REF_NAME);
        tag.is_some() && tag == self.tag.as_ref()
    }

    fn entries(&self, name: &str, index: &[u8]) -> Result<Vec<Descriptor>, PutArtifactError> {
        match Document::parse(index) {
            Ok(Document::Index(index)) => Ok(index.manifests),
            Ok(Document::Manifest(_)) => Err(self.not_an_index(name, DocumentError::Neither)),
            Err(error) => Err(self.not_an_index(name, error)),
        }
    }

    fn not_an_index(&self, name: &str, source: DocumentError) -> PutArtifactError {
        let (path, name) = (self.layout.path().to_owned(), name.to_owned());
        PutArtifactError::Index { path, name, source }
    }

    /// Writes `manifest`, and the index that refers to it. Returns the digest of the manifest, and whether the
    /// index changed.
    ///
    /// # Errors
    /// Returns an error if the layout cannot be read or written. It is then unchanged, except for unreferenced
    /// blobs.
    pub(crate) fn put(
        &self,
        writer: &mut LayoutWriter<'_>,
        manifest: &[u8],
    ) -> Result<(Digest, bool), PutArtifactError> {
        let digest = writer.put_blob(manifest)?;
        let mut referrer = descriptor(OCI_MANIFEST, manifest);
        referrer["artifactType"] = self.kind.media_type.into();
        let list = self.list_tag().map(|tag| self.put_list(writer, &referrer, &tag)).transpose()?;
        if let Some(tag) = &self.tag {
            referrer["annotations"] = json!({REF_NAME: tag});
        }
        let list_tag = self.list_tag();
        let is_list = |entry: &Descriptor| {
            list_tag.is_some() && entry.annotations.get(REF_NAME) == list_tag.as_ref()
        };
        let drop = |entry: &Descriptor| self.ours.contains(&entry.digest) || is_list(entry);
        let added: Vec<_> = [referrer].into_iter().chain(list).collect();
        let edited = edited_index(writer.index(), drop, &added)
            .map_err(|source| self.not_an_index("index.json", source.into()))?;
        let changed = edited.is_some();
        if let Some(edited) = edited {
            writer.put_index(edited)?;
        }
        Ok((digest, changed))
    }

    /// Writes the list of what is attached to the subject, with `referrer` in it. Returns its entry.
    fn put_list(
        &self,
        writer: &LayoutWriter<'_>,
        referrer: &Value,
        tag: &str,
    ) -> Result<Value, PutArtifactError> {
        let entries = self.entries("index.json", writer.index())?;
        let entry =
            entries.iter().find(|entry| entry.annotations.get(REF_NAME).is_some_and(|t| t == tag));
        let listed = match entry {
            None => None,
            Some(entry) => match self.layout.read_blob(entry, self.layout.limits().of_manifest()) {
                Err(BlobError::Missing { .. }) => None,
                content => Some((entry.digest, content.map_err(ManifestError::from)?)),
            },
        };
        let (name, listed) = listed.map_or_else(
            || (String::new(), empty_index()),
            |(digest, content)| (digest.to_string(), content),
        );
        // Referrers listed by other tools stay.
        let older = self.older(&self.entries(&name, &listed)?);
        let is_old = |listed: &Descriptor| {
            self.ours.contains(&listed.digest) || older.contains(&listed.digest)
        };
        let edited = edited_index(&listed, is_old, std::slice::from_ref(referrer))
            .map_err(|source| self.not_an_index(&name, source.into()))?
            .unwrap_or(listed);
        writer.put_blob(&edited)?;
        let mut list = descriptor(OCI_INDEX, &edited);
        list["annotations"] = json!({REF_NAME: tag});
        Ok(list)
    }

    /// Returns those of `entries` that are artifacts of this kind with the same subject. Each is read once,
    /// however often it is listed.
    fn older(&self, entries: &[Descriptor]) -> BTreeSet<Digest> {
        let mut looked_at = BTreeMap::new();
        for entry in entries.iter().filter(|entry| entry.media_type == OCI_MANIFEST) {
            looked_at.entry(entry.digest).or_insert_with(|| self.is_older(entry));
        }
        looked_at.into_iter().filter(|(_, is_older)| *is_older).map(|(digest, _)| digest).collect()
    }

    /// Returns those of `entries` that are artifacts of this kind attached to other manifests which are not in
    /// `entries`, and the lists of such artifacts.
    fn dead(&self, entries: &[Descriptor]) -> Result<BTreeSet<Digest>, PutArtifactError> {
        let layout = self.layout;
        let listed = reachable(layout, entries)?;
        let is_dead =
            |subject: &Digest| Some(*subject) != self.subject && !listed.contains(subject);
        let are_dead = |entry: &Descriptor| match Document::read(layout, entry) {
            Ok(Document::Manifest(manifest)) => {
                let subject = manifest.subject.as_ref().map(|subject| subject.digest);
                self.kind.is_of(&manifest) && subject.as_ref().is_some_and(is_dead)
            }
            Err(ManifestError::Blob(BlobError::Missing { .. })) => {
                entry.artifact_type.as_deref().is_some_and(self.kind.has)
            }
            _ => false,
        };
        let lists_dead = |entry: &Descriptor| match Document::read(layout, entry) {
            Ok(Document::Index(index)) => index.manifests.iter().all(are_dead),
            Err(ManifestError::Blob(BlobError::Missing { .. })) => true,
            _ => false,
        };
        let dead = entries.iter().filter(|entry| match subject_of_list(entry) {
            Some(subject) => is_dead(&subject) && lists_dead(entry),
            None => are_dead(entry),
        });
        Ok(dead.map(|entry| entry.digest).collect())
    }

    /// Returns whether `descriptor` is of an artifact of this kind with the same subject. Unreadable entries
    /// are not ours to remove.
    fn is_older(&self, descriptor: &Descriptor) -> bool {
        match Document::read(self.layout, descriptor) {
            Ok(Document::Manifest(manifest)) => {
                let subject = manifest.subject.as_ref().map(|subject| subject.digest);
                self.kind.is_of(&manifest) && subject == self.subject
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

/// Returns the descriptor of a blob.
pub(crate) fn descriptor(media_type: &str, content: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": Digest::of(content), "size": content.len()})
}

/// Returns the descriptor of a manifest or index as a subject, with the media type in the document, because
/// registries compare it.
pub(crate) fn subject(layout: &Layout, digest: Digest) -> Result<Value, ManifestError> {
    let described = layout.describe_blob(digest)?;
    let content = layout.read_blob(&described, layout.limits().of_manifest())?;
    let document =
        Document::parse(&content).map_err(|source| ManifestError::Document { digest, source })?;
    Ok(descriptor(&document.media_type(&content), &content))
}
