//! The artifact with cache mounts: its media types, and its config, which lists them.

use std::collections::BTreeSet;
use std::path::PathBuf;

use bkstate::Digest;
use codec::FormatError;
use codec::from_objects;
use serde::Deserialize;
use serde_json::{Value, json};

use super::id::{OddId, check_id};
use super::owner::Owner;
use crate::export::CacheExport;
use crate::json;
use crate::layout::artifact::Kind;
use crate::layout::{BlobError, Descriptor, Layout};
use crate::manifest::{
    Document, ImageManifest, ManifestError, REF_NAME, SelectError, other_manifests,
};
use crate::source::Reference;

/// The media type of the config, and the artifact type of the manifest.
pub const MOUNTS_MEDIA_TYPE: &str = "application/vnd.oci2bk.mounts.v1+json";
/// The artifact type of any version.
const ANY_VERSION: &str = "application/vnd.oci2bk.mounts.v";
/// The media type of the archive of one mount, without its compression.
const LAYER: &str = "application/vnd.oci2bk.mount.v1.tar";
/// The media type of the archives that are written.
pub(super) const LAYER_ZSTD: &str = "application/vnd.oci2bk.mount.v1.tar+zstd";
/// The tag of the artifact by default.
pub(super) const DEFAULT_TAG: &str = "mounts";

/// Mounts as artifacts.
pub(super) const KIND: Kind = Kind { media_type: MOUNTS_MEDIA_TYPE, has: is_mounts };

fn is_mounts(media_type: &str) -> bool {
    media_type.starts_with(ANY_VERSION)
}

/// A mount in an artifact.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[serde(remote = "Self")]
#[non_exhaustive]
pub struct ListedMount {
    /// The id by which builds ask for it.
    pub id: String,
    /// Its owner, if it is one with `uid=`, `gid=` or `mode=`.
    #[serde(default)]
    pub owner: Option<Owner>,
    /// The index of its archive among the layers of the artifact.
    pub layer: usize,
    /// The digest of the uncompressed archive.
    #[serde(rename = "diffID")]
    pub diff_id: Digest,
    /// The size of the uncompressed archive in bytes.
    pub size: u64,
    /// Number of entries in the archive.
    pub entries: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[serde(remote = "Self")]
struct List {
    media_type: String,
    mounts: Vec<ListedMount>,
}

from_objects!(ListedMount, List);

/// Returns the config of an artifact with these mounts.
pub(super) fn config(mounts: &[ListedMount]) -> Value {
    let mounts = mounts.iter().map(|mount| {
        let mut listed = json!({
            "id": mount.id,
            "layer": mount.layer,
            "diffID": mount.diff_id,
            "size": mount.size,
            "entries": mount.entries,
        });
        if let Some(owner) = mount.owner {
            listed["owner"] = json!(owner);
        }
        listed
    });
    json!({"mediaType": MOUNTS_MEDIA_TYPE, "mounts": mounts.collect::<Value>()})
}

/// Why the cache mounts of a layout cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadMountsError {
    /// The layout has none, or none that was asked for.
    #[error("{} has no cache mounts{}", path.display(), of_reference(reference))]
    None {
        /// The layout.
        path: PathBuf,
        /// What was asked for.
        reference: Reference,
    },
    /// The layout has several artifacts with cache mounts.
    #[error(
        "{} has cache mounts in several artifacts: {}; name one by its tag or digest",
        path.display(), known.join(", ")
    )]
    Several {
        /// The layout.
        path: PathBuf,
        /// Their tags, or their digests.
        known: Vec<String>,
    },
    /// The artifact has another version.
    #[error(
        "the cache mounts {artifact} are of the type {found:?}, and {MOUNTS_MEDIA_TYPE} is the only known \
         one; a newer oci2bk may read them"
    )]
    Version {
        /// The manifest of the artifact.
        artifact: Digest,
        /// Its artifact type.
        found: String,
    },
    /// The artifact has no list of mounts.
    #[error("the cache mounts {artifact} have no list")]
    NoList {
        /// The manifest of the artifact.
        artifact: Digest,
    },
    /// The list of mounts is malformed.
    #[error("the list of the cache mounts {artifact} is malformed")]
    List {
        /// The manifest of the artifact.
        artifact: Digest,
        /// The cause.
        #[source]
        source: FormatError,
    },
    /// A mount has an id that is not imported.
    #[error("the id {id:?} of a cache mount in {artifact} is refused")]
    Id {
        /// The manifest of the artifact.
        artifact: Digest,
        /// The id, shortened to 100 characters.
        id: String,
        /// The cause.
        #[source]
        source: OddId,
    },
    /// A mount has an owner or a mode that no file can have.
    #[error("the cache mount {id:?} in {artifact} has the impossible owner {owner}")]
    Owner {
        /// The manifest of the artifact.
        artifact: Digest,
        /// The id.
        id: String,
        /// The owner.
        owner: Owner,
    },
    /// The list has a mount twice.
    #[error("the cache mounts {artifact} have {id:?} twice")]
    Twice {
        /// The manifest of the artifact.
        artifact: Digest,
        /// The id.
        id: String,
    },
    /// A mount has no archive, or one of an unknown type.
    #[error("the cache mount {id:?} in {artifact} has no archive of a known type")]
    Archive {
        /// The manifest of the artifact.
        artifact: Digest,
        /// The id.
        id: String,
    },
    /// The manifests of the layout cannot be listed.
    #[error(transparent)]
    Manifests(#[from] SelectError),
    /// A manifest cannot be read.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The list cannot be read.
    #[error(transparent)]
    Blob(#[from] BlobError),
}

fn of_reference(reference: &Reference) -> String {
    match reference {
        Reference::Default => String::new(),
        Reference::Tag(tag) => format!(" with the tag {tag:?}, or attached to what has it"),
        Reference::Digest(digest) => format!(" with the digest {digest}, or attached to it"),
    }
}

/// An artifact with mounts.
///
/// ```no_run
/// use oci2bk::layout::Layout;
/// use oci2bk::mounts::{ListedMount, MOUNTS_MEDIA_TYPE, MountsArtifact, ReadMountsError};
/// use oci2bk::source::Reference;
/// use oci2bk::{CacheExport, Limits};
///
/// let limits = Limits::default();
/// let layout = Layout::open("mounts".as_ref(), &limits)?;
/// println!("{} artifacts of the type {MOUNTS_MEDIA_TYPE}", MountsArtifact::all(&layout)?.len());
/// match MountsArtifact::select(&layout, &Reference::Tag("main".to_owned())) {
///     Err(ReadMountsError::None { .. }) => println!("there are none with this tag"),
///     artifact => {
///         for ListedMount { id, entries, .. } in artifact?.mounts {
///             println!("{id}: {entries} entries");
///         }
///     }
/// }
///
/// let exports = CacheExport::read_sources(&["./cache".parse()?], &limits)?;
/// assert!(MountsArtifact::attached(&exports[0])?.is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MountsArtifact {
    /// Its manifest.
    pub manifest: Digest,
    /// The cache to which it is attached.
    pub subject: Option<Digest>,
    /// Its tags.
    pub tags: BTreeSet<String>,
    /// Its mounts, sorted by id and owner.
    pub mounts: Vec<ListedMount>,
    /// Their archives.
    pub layers: Vec<Descriptor>,
}

impl MountsArtifact {
    /// Returns the digest and the size of the blob with the archive of `mount`, in bytes.
    pub fn blob(&self, mount: &ListedMount) -> Option<(Digest, u64)> {
        self.layers.get(mount.layer).map(|layer| (layer.digest, layer.size))
    }

    /// Returns the artifacts in `layout`. Those that are referred to but missing, as in a partial copy, are
    /// skipped.
    ///
    /// # Errors
    /// Returns an error if one of them cannot be read or is malformed.
    pub fn all(layout: &Layout) -> Result<Vec<Self>, ReadMountsError> {
        let mut found = Vec::new();
        for descriptor in other_manifests(layout)? {
            let Document::Manifest(manifest) = Document::read(layout, &descriptor)? else {
                continue;
            };
            if manifest.artifact_type.as_deref().is_some_and(is_mounts) {
                found.push(Self::read(layout, descriptor.digest, *manifest)?);
            }
        }
        Ok(found)
    }

    /// Returns the mounts that are attached to `export`, if there are any.
    ///
    /// # Errors
    /// Same as [`all`](Self::all).
    pub fn attached(export: &CacheExport) -> Result<Option<Self>, ReadMountsError> {
        let all = Self::all(&export.layout)?;
        Ok(all.into_iter().find(|artifact| artifact.subject == Some(export.manifest.digest)))
    }

    /// Returns the artifact in `layout` that `reference` selects: the one with this tag or digest, or the one
    /// attached to what has it. By default it is the only one, or the one with the tag `mounts`.
    ///
    /// # Errors
    /// Returns an error if there is none or more than one, or it cannot be read.
    pub fn select(layout: &Layout, reference: &Reference) -> Result<Self, ReadMountsError> {
        let tagged = |tag: &str| -> BTreeSet<Digest> {
            let has_tag = |entry: &&Descriptor| {
                entry.annotations.get(REF_NAME).is_some_and(|named| named == tag)
            };
            layout.entries().iter().filter(has_tag).map(|entry| entry.digest).collect()
        };
        let wanted = match reference {
            Reference::Default => None,
            Reference::Tag(tag) => Some(tagged(tag)),
            Reference::Digest(digest) => Some(BTreeSet::from([*digest])),
        };
        let mut all = Self::all(layout)?;
        if let Some(wanted) = wanted {
            let is_it = |mounts: &Self| wanted.contains(&mounts.manifest);
            let is_of = |mounts: &Self| mounts.subject.is_some_and(|of| wanted.contains(&of));
            if all.iter().any(is_it) {
                all.retain(is_it);
            } else {
                all.retain(is_of);
            }
        } else if all.len() > 1 && all.iter().any(|mounts| mounts.tags.contains(DEFAULT_TAG)) {
            all.retain(|mounts| mounts.tags.contains(DEFAULT_TAG));
        }
        let path = || layout.path().to_owned();
        match (all.pop(), all.as_slice()) {
            (None, _) => Err(ReadMountsError::None { path: path(), reference: reference.clone() }),
            (Some(only), []) => Ok(only),
            (Some(last), others) => {
                let name = |mounts: &Self| {
                    let tag = mounts.tags.first().cloned();
                    tag.unwrap_or_else(|| mounts.manifest.to_string())
                };
                let known = others.iter().chain([&last]).map(name).collect();
                Err(ReadMountsError::Several { path: path(), known })
            }
        }
    }

    fn read(
        layout: &Layout,
        artifact: Digest,
        manifest: ImageManifest,
    ) -> Result<Self, ReadMountsError> {
        let ImageManifest { artifact_type, config, layers, subject, .. } = manifest;
        let found = artifact_type.unwrap_or_default();
        if found != MOUNTS_MEDIA_TYPE {
            let found = found.chars().take(100).collect();
            return Err(ReadMountsError::Version { artifact, found });
        }
        let config = config.ok_or(ReadMountsError::NoList { artifact })?;
        let list = layout.read_blob(&config, layout.limits().of_manifest())?;
        let list: List =
            json::parse(&list).map_err(|source| ReadMountsError::List { artifact, source })?;
        if list.media_type != MOUNTS_MEDIA_TYPE {
            return Err(ReadMountsError::NoList { artifact });
        }
        let mut mounts = list.mounts;
        let mut seen = BTreeSet::new();
        for mount in &mounts {
            let id = || mount.id.chars().take(100).collect::<String>();
            check_id(&mount.id).map_err(|source| ReadMountsError::Id {
                artifact,
                id: id(),
                source,
            })?;
            if let Some(owner) = mount.owner.filter(|owner| !owner.is_possible()) {
                return Err(ReadMountsError::Owner { artifact, id: id(), owner });
            }
            if !seen.insert((&mount.id, mount.owner)) {
                return Err(ReadMountsError::Twice { artifact, id: id() });
            }
            let is_archive = |layer: &Descriptor| is_archive(&layer.media_type);
            if !layers.get(mount.layer).is_some_and(is_archive) {
                return Err(ReadMountsError::Archive { artifact, id: id() });
            }
        }
        mounts.sort_by(|a, b| (&a.id, a.owner).cmp(&(&b.id, b.owner)));
        let is_it = |entry: &&Descriptor| entry.digest == artifact;
        let tags = layout.entries().iter().filter(is_it);
        let tags = tags.filter_map(|entry| entry.annotations.get(REF_NAME)).cloned().collect();
        let subject = subject.map(|subject| subject.digest);
        Ok(Self { manifest: artifact, subject, tags, mounts, layers })
    }
}

/// Returns whether an archive with this media type can be unpacked.
fn is_archive(media_type: &str) -> bool {
    let compression = media_type.strip_prefix(LAYER);
    compression.is_some_and(|compression| matches!(compression, "" | "+gzip" | "+zstd"))
}
