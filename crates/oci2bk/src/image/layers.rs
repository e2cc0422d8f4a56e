//! Images for one platform, with their layers.

use std::sync::Arc;

use bkstate::Digest;
use llb::Platform;

use super::{BaseImage, ImageDocument, ImageError, PlatformImage};
use crate::layout::{BlobError, Layout};
use crate::manifest::{Document, DocumentError, LayerBlob, ManifestError, image_layers};

/// A complete image for one platform.
///
/// ```
/// use oci2bk::image::{ImageError, WholeImage};
/// use oci2bk::{BaseImage, Degree, Keyring, Limits, Plan};
///
/// let image = "debian=fixtures/manifest/keys/image".parse()?;
/// let images = BaseImage::read(&image, &Limits::default())?;
/// let image: WholeImage = images[0].whole(&"linux/amd64".parse()?)?;
/// assert_eq!(image.on.platform.architecture, "amd64");
/// let name = image.name().expect("it is given");
/// assert!(name.starts_with("docker.io/library/debian@sha256:"), "{name}");
///
/// // A root that has pulled it, and nothing else.
/// let mut plan = Plan::new(&[], &Keyring::for_exports(&[]))?;
/// plan.add_layers(&image)?;
/// assert_eq!(plan.layers.len(), image.layers.len());
/// assert!(plan.add_images(&images).is_empty());
/// assert_eq!(plan.degree(), Some(Degree::Layers));
///
/// let error = images[0].whole(&"linux/s390x".parse()?).unwrap_err();
/// assert!(matches!(error, ImageError::NoPlatform { .. }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct WholeImage {
    /// The image, for all platforms.
    pub image: BaseImage,
    /// The image on this platform.
    pub on: PlatformImage,
    /// The digest of its manifest.
    pub manifest: Digest,
    /// Its layers, lowest first.
    pub layers: Vec<LayerBlob>,
}

impl WholeImage {
    /// Returns the name under which a daemon can have pulled it: its first repository, its tag if known, and
    /// the digest of its top object. `None` if no repository is known.
    pub fn name(&self) -> Option<String> {
        let repository = self.image.repositories.first()?;
        let tag = self.image.tag.as_ref().map(|tag| format!(":{tag}")).unwrap_or_default();
        let top = self.on.documents.first().map_or(self.manifest, |document| document.digest);
        Some(format!("{repository}{tag}@{top}"))
    }

    pub(crate) fn layout(&self) -> &Arc<Layout> {
        &self.image.layout
    }
}

impl BaseImage {
    /// Returns the complete image that a daemon for `wanted` would select.
    ///
    /// # Errors
    /// Returns [`ImageError::NoPlatform`] if it is for other platforms only, [`ImageError::NoManifest`] or
    /// [`ImageError::NoLayer`] if a part of it is missing, [`ImageError::Layer`] or [`ImageError::Blob`] if a
    /// part is invalid.
    pub fn whole(&self, wanted: &Platform) -> Result<WholeImage, ImageError> {
        let fitting = self
            .platforms
            .iter()
            .filter_map(|image| image.platform.distance(wanted).map(|distance| (distance, image)));
        let on = fitting.min_by_key(|(distance, _)| *distance).map(|(_, image)| image);
        let on = on.ok_or_else(|| self.lacks(wanted))?;
        let (manifest, config) = on.manifest_and_config().ok_or_else(|| self.lacks(wanted))?;
        let layers = read_layers(manifest, config).map_err(|source| ImageError::Layer {
            image: self.reference.clone(),
            source: Box::new(source),
        })?;
        for layer in &layers {
            match self.layout.open_blob(&layer.descriptor) {
                Ok(_) => {}
                Err(BlobError::Missing { digest }) => {
                    let image = self.reference.clone();
                    return Err(ImageError::NoLayer { image, layer: digest });
                }
                Err(source) => {
                    let path = self.layout.path().to_owned();
                    return Err(ImageError::Blob { path, source });
                }
            }
        }
        let manifest = manifest.digest;
        Ok(WholeImage { image: self.clone(), on: on.clone(), manifest, layers })
    }

    /// Returns why there is nothing for `wanted`.
    fn lacks(&self, wanted: &Platform) -> ImageError {
        let (image, platform) = (self.reference.clone(), wanted.to_string());
        let is_it = |platform: &Platform| platform.distance(wanted).is_some();
        if let Some(absent) = self.absent.iter().find(|it| it.platform.as_ref().is_some_and(is_it))
        {
            let super::Absent { what, digest, .. } = *absent;
            return ImageError::NoManifest { image, platform, what, digest };
        }
        let known = self.platforms.iter().map(|image| image.platform.to_string());
        let mut platforms: Vec<_> = known.filter(|name| !name.starts_with(UNKNOWN)).collect();
        platforms.dedup();
        ImageError::NoPlatform { image, wanted: platform, platforms }
    }
}

/// Prefix of the platform of things attached to an image, such as its provenance.
const UNKNOWN: &str = "unknown/";

impl PlatformImage {
    /// Returns the manifest and the config, the last two documents.
    fn manifest_and_config(&self) -> Option<(&ImageDocument, &ImageDocument)> {
        match self.documents.as_slice() {
            [.., manifest, config] => Some((manifest, config)),
            _ => None,
        }
    }
}

fn read_layers(
    manifest: &ImageDocument,
    config: &ImageDocument,
) -> Result<Vec<LayerBlob>, ManifestError> {
    let digest = manifest.digest;
    let document = Document::parse(&manifest.content)
        .map_err(|source| ManifestError::Document { digest, source })?;
    match document {
        Document::Manifest(document) => image_layers(digest, *document, &config.content),
        // An image consists of a manifest and a config, so this is not one.
        Document::Index(_) => {
            Err(ManifestError::Document { digest, source: DocumentError::Neither })
        }
    }
}
