//! Base images: the documents that a daemon needs to resolve a `FROM` with a digest.
//!
//! A daemon resolves such a name from its own content store if that has the index or manifest with this
//! digest, labelled with the repository, and everything below it down to the config (BuildKit v0.32.2
//! `util/pull/pull.go` `tryLocalResolve`, `util/imageutil/config.go` `Config`). It does not need the layers
//! for that; a build from an image whose layers are in the root too fetches and unpacks none.
//!
//! ```
//! use oci2bk::image::{
//!     Absent, ImageDocument, ImageError, ImageRef, ParseImageError, ParseRepositoryError, ParseTagError,
//!     PlatformImage, Repository, Tag,
//! };
//! use oci2bk::layout::Layout;
//! use oci2bk::{BaseImage, CacheExport, Digest, Keyring, Limits, Plan};
//!
//! let limits = Limits::default();
//! let image: ImageRef = "debian=fixtures/manifest/keys/image".parse()?;
//! let repository: &Repository = image.repository.as_ref().expect("it is given");
//! assert_eq!((repository.host_name(), &*repository.path), ("docker.io", "library/debian"));
//!
//! let images = BaseImage::read(&image, &limits)?;
//! for PlatformImage { documents, chain_id, .. } in &images[0].platforms {
//!     // Index, manifest and config.
//!     assert_eq!(documents.len(), 3);
//!     assert!(chain_id.is_some());
//!     for ImageDocument { digest, content, .. } in documents {
//!         assert_eq!(*digest, Digest::of(content));
//!     }
//! }
//!
//! // With its layers; everything that it lists exists.
//! assert!(!images[0].whole(&"linux/amd64".parse()?)?.layers.is_empty());
//! assert_eq!(images[0].absent, Vec::<Absent>::new());
//!
//! // Without layers, only documents that a step starts from get into the state.
//! let exports = CacheExport::read_sources(&["fixtures/manifest/cache".parse()?], &limits)?;
//! let mut plan = Plan::new(&exports, &Keyring::for_exports(&exports))?;
//! let unused = plan.add_images(&images);
//! assert_eq!(unused, [image.to_string()]);
//! assert!(plan.documents.is_empty());
//! // Images beside the cache, if their names are known. This layout has only the cache.
//! assert!(BaseImage::in_layout(&exports[0].layout)?.is_empty());
//! plan.add_images_of(&exports)?;
//!
//! // A layout that does not say which repository it is a copy of.
//! let error = BaseImage::read(&"fixtures/manifest/keys/image".parse()?, &limits).unwrap_err();
//! assert!(matches!(error, ImageError::Unnamed { .. }));
//! let error = "Debian!=./image".parse::<ImageRef>().unwrap_err();
//! let ParseImageError::Repository(ParseRepositoryError { text, .. }) = error else { panic!("{error}") };
//! assert_eq!(text, "Debian!");
//!
//! // A name for an image store has a tag.
//! let image: ImageRef = "debian:12=./image".parse()?;
//! assert_eq!(image.tag, Some("12".parse::<Tag>()?));
//! let error = "debian:-=./image".parse::<ImageRef>().unwrap_err();
//! assert!(matches!(error, ParseImageError::Tag(ParseTagError { text, .. }) if text == "-"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod layers;
mod parts;
mod reader;
mod reference;
mod repository;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use bkstate::{Digest, Time};
use llb::Platform;
use serde_json::Value;

pub use error::ImageError;
pub use layers::WholeImage;
pub(crate) use parts::references;
pub use reference::{ImageRef, ParseImageError};
pub(crate) use repository::full_name;
pub use repository::{ParseRepositoryError, ParseTagError, Repository, Tag};

use reader::Reader;

use crate::layout::{Descriptor, Layout};
use crate::limits::Limits;
use crate::manifest::{entry_names, tagged};
use crate::source::{Reference, Source};

const CONFIGS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

/// A possible base image of builds.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct BaseImage {
    /// The argument that named it.
    pub reference: String,
    /// Its repositories.
    pub repositories: BTreeSet<Repository>,
    /// Its tag in the first repository, if the layout has it.
    pub tag: Option<String>,
    /// Its full name with a tag, such as `docker.io/library/debian:12`, if the argument has a tag.
    pub name: Option<String>,
    /// The image on each platform that the layout has.
    pub platforms: Vec<PlatformImage>,
    /// Parts that an index lists but the layout lacks, as in a copy for some platforms.
    pub absent: Vec<Absent>,
    /// Its layout.
    pub layout: Arc<Layout>,
}

/// A missing part of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Absent {
    /// The platform in the index.
    pub platform: Option<Platform>,
    /// Manifest or config.
    pub what: &'static str,
    /// Its digest.
    pub digest: Digest,
}

/// An image for one platform.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PlatformImage {
    /// The documents from top to bottom: indexes, manifest, config.
    pub documents: Vec<ImageDocument>,
    /// The digests of the records for the image in an export, one for each way to refer to the image.
    pub records: BTreeSet<Digest>,
    /// The chainID of its layers, if it has any.
    pub chain_id: Option<Digest>,
    /// The platform, from its config.
    pub platform: Platform,
    /// The creation time, if its config has it.
    pub created: Option<Time>,
}

/// An index, a manifest or a config.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ImageDocument {
    /// Its digest.
    pub digest: Digest,
    /// Its bytes.
    pub content: Arc<[u8]>,
}

impl BaseImage {
    /// Reads the images of `image`.
    ///
    /// # Errors
    /// Returns an error if there is none, if its name is not known, or if a document is corrupt.
    pub fn read(image: &ImageRef, limits: &Limits) -> Result<Vec<Self>, ImageError> {
        let source = image.source.on_disk();
        let layout = Arc::new(Layout::open_for(&source.path, &source.reference, limits)?);
        let given = image.repository.iter().cloned().collect::<BTreeSet<_>>();
        let reference = image.to_string();
        let mut found = read_source(&layout, &source.reference, &given, &reference)?;
        if let (Some(repository), Some(tag)) = (&image.repository, &image.tag) {
            let name = format!("{repository}:{tag}");
            found.iter_mut().for_each(|image| image.name = Some(name.clone()));
        }
        if found.is_empty() {
            return Err(ImageError::None { image: reference });
        }
        let named: Vec<_> =
            found.into_iter().filter(|image| !image.repositories.is_empty()).collect();
        if named.is_empty() {
            return Err(ImageError::Unnamed { image: reference });
        }
        Ok(named)
    }

    /// Reads the images of `source` in `layout`, with or without a name.
    ///
    /// # Errors
    /// Returns an error if a document is corrupt.
    pub(crate) fn named_by(source: &Source, layout: &Arc<Layout>) -> Result<Vec<Self>, ImageError> {
        read_source(layout, &source.reference, &BTreeSet::new(), &source.to_string())
    }

    /// Reads the images beside a cache in a layout, if their names are known.
    ///
    /// # Errors
    /// Returns an error if a document is corrupt.
    pub fn in_layout(layout: &Arc<Layout>) -> Result<Vec<Self>, ImageError> {
        let reference = layout.path().display().to_string();
        let named = |entry: &&Descriptor| !repositories(entry).is_empty();
        let entries: Vec<_> = layout.entries().iter().filter(named).cloned().collect();
        read_entries(layout, &entries, &BTreeSet::new(), &reference)
    }
}

/// Returns the images of `reference`, in the `given` repositories if there are any.
fn read_source(
    layout: &Arc<Layout>,
    reference: &Reference,
    given: &BTreeSet<Repository>,
    name: &str,
) -> Result<Vec<BaseImage>, ImageError> {
    let entries = match reference {
        Reference::Default => layout.entries().to_vec(),
        Reference::Tag(tag) => tagged(layout, tag),
        Reference::Digest(digest) => match layout.describe_blob(*digest) {
            Ok(descriptor) => vec![descriptor],
            Err(source) => {
                return Err(ImageError::Blob { path: layout.path().to_owned(), source });
            }
        },
    };
    read_entries(layout, &entries, given, name)
}

fn read_entries(
    layout: &Arc<Layout>,
    entries: &[Descriptor],
    given: &BTreeSet<Repository>,
    reference: &str,
) -> Result<Vec<BaseImage>, ImageError> {
    let mut reader = Reader::new(layout);
    let mut images = Vec::new();
    for entry in entries {
        let platforms = reader.platforms(entry)?;
        let absent = std::mem::take(&mut reader.absent);
        if !platforms.is_empty() {
            images.push(BaseImage {
                reference: reference.to_owned(),
                repositories: if given.is_empty() { repositories(entry) } else { given.clone() },
                tag: if given.is_empty() { tag(entry) } else { None },
                name: None,
                platforms,
                absent,
                layout: Arc::clone(layout),
            });
        }
    }
    Ok(images)
}

/// Returns the repositories in the names of an entry. For most tools a name without a slash is a tag.
fn repositories(entry: &Descriptor) -> BTreeSet<Repository> {
    entry_names(entry).filter(|name| name.contains('/')).filter_map(|n| n.parse().ok()).collect()
}

/// Returns the tag in the name of the first repository.
fn tag(entry: &Descriptor) -> Option<String> {
    let full = entry_names(entry).filter(|name| name.contains('/'));
    let (_, name) = full.filter_map(|name| Some((name.parse::<Repository>().ok()?, name))).min()?;
    Some(repository::tag(name)?.to_owned())
}

fn is_image_config(descriptor: &Descriptor) -> bool {
    CONFIGS.contains(&&*descriptor.media_type)
}

/// Computes the key of an image referred to by `digest` (BuildKit v0.32.2 `source/containerimage/pull.go`
/// `mainManifestKey`).
fn manifest_key(digest: Digest, os: &str, architecture: &str, variant: &str) -> Digest {
    let digest = digest.to_string();
    let members = [("Digest", &*digest), ("OS", os), ("Arch", architecture), ("Variant", variant)];
    let members =
        members.into_iter().filter(|(name, value)| *name != "Variant" || !value.is_empty());
    let members = members.map(|(name, value)| format!("\"{name}\":{}", Value::from(value)));
    Digest::of(format!("{{{}}}", members.collect::<Vec<_>>().join(",")))
}

/// Computes the digest of the record in an export for an image referred to by `digest`, on `platform`.
pub(crate) fn record_of(digest: Digest, platform: &Platform) -> Digest {
    let Platform { os, architecture, variant, .. } = platform;
    source_record(manifest_key(digest, os, architecture, variant))
}

/// Computes the record of a source op with this key (`solver/llbsolver/ops/source.go`).
fn source_record(key: Digest) -> Digest {
    let op_digest = Digest::of(format!("buildkit.source.v0:{key}"));
    Digest::of(format!("{op_digest}@0"))
}
