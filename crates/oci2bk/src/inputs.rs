//! The sources of a conversion: caches, and images without a cache.

use bkstate::Classified as _;
use llb::Platform;

use crate::export::{CacheExport, ExportError, open};
use crate::image::{BaseImage, ImageError, WholeImage};
use crate::layout::BlobError;
use crate::limits::Limits;
use crate::manifest::{ManifestError, SelectError};
use crate::source::Source;

/// Caches and images, in the order in which they were named.
///
/// ```
/// use oci2bk::llb::Platform;
/// use oci2bk::{Inputs, Limits};
///
/// let sources = ["fixtures/index/cache".parse()?, "fixtures/manifest/keys/image".parse()?];
/// let platforms = ["linux/amd64".parse()?];
/// let Inputs { exports, images, .. } = Inputs::read(&sources, &platforms, &Limits::default())?;
/// assert_eq!((exports.len(), images.len()), (1, 1));
/// // The name of this one is not known; a daemon needs it to find the image without its registry.
/// assert_eq!(images[0].name(), None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Inputs {
    /// The caches.
    pub exports: Vec<CacheExport>,
    /// The images, each for one platform.
    pub images: Vec<WholeImage>,
}

/// Why the sources cannot be used.
///
/// ```
/// use oci2bk::inputs::InputError;
/// use oci2bk::{Inputs, Limits};
///
/// let image = ["fixtures/manifest/keys/image".parse()?];
/// let error = Inputs::read(&image, &["linux/s390x".parse()?], &Limits::default()).unwrap_err();
/// assert!(matches!(error, InputError::Image(_)) && error.is_input());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InputError {
    /// A cache cannot be read, or the source has neither a cache nor an image.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// An image cannot be read, or is not for a wanted platform.
    #[error(transparent)]
    Image(#[from] ImageError),
}

impl InputError {
    /// Returns whether the input is the cause, and not the machine.
    pub fn is_input(&self) -> bool {
        self.class().is_of_input()
    }
}

impl Inputs {
    /// Reads the `sources`. A source without a cache is an image: it is taken for each of `platforms`.
    ///
    /// A layer of a cache may be in the layout of another source. An image must be complete.
    ///
    /// # Errors
    /// See [`InputError`].
    pub fn read(
        sources: &[Source],
        platforms: &[Platform],
        limits: &Limits,
    ) -> Result<Self, InputError> {
        let sources: Vec<_> = sources.iter().map(Source::on_disk).collect();
        let layouts =
            sources.iter().map(|source| open(source, limits)).collect::<Result<Vec<_>, _>>();
        let layouts = layouts.map_err(ExportError::from)?;
        let mut inputs = Self { exports: Vec::with_capacity(sources.len()), images: Vec::new() };
        for (source, layout) in sources.iter().zip(&layouts) {
            match CacheExport::read_in(source, layout, &layouts) {
                Ok(exports) => inputs.exports.extend(exports),
                Err(error) if may_be_image(&error) => {
                    let images = BaseImage::named_by(source, layout)?;
                    if images.is_empty() {
                        return Err(error.into());
                    }
                    for (image, platform) in
                        images.iter().flat_map(|image| platforms.iter().map(move |p| (image, p)))
                    {
                        inputs.images.push(image.whole(platform)?);
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(inputs)
    }
}

/// Returns whether the error means that the layout has no cache, and possibly an image, perhaps with missing
/// parts.
fn may_be_image(error: &ExportError) -> bool {
    let ExportError::Select(error) = error else { return false };
    match &**error {
        SelectError::NoCache { .. } => true,
        SelectError::Manifest { source, .. } => {
            matches!(**source, ManifestError::Blob(BlobError::Missing { .. }))
        }
        _ => false,
    }
}
