//! Errors of reading images.

use std::path::PathBuf;

use bkstate::Digest;
use codec::FormatError;

use crate::layout::{BlobError, LayoutError};
use crate::manifest::{DocumentError, ManifestError};

/// Why images cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The directory is not a usable layout.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A document cannot be read or is corrupt.
    #[error("cannot read the images in {path}")]
    Blob {
        /// The layout.
        path: PathBuf,
        /// The cause.
        #[source]
        source: BlobError,
    },
    /// An index or manifest is malformed.
    #[error("the manifest {digest} in {path} is malformed")]
    Document {
        /// The layout.
        path: PathBuf,
        /// The index or manifest.
        digest: Digest,
        /// The cause.
        #[source]
        source: DocumentError,
    },
    /// A config is malformed.
    #[error("the image config {digest} in {path} is malformed")]
    Config {
        /// The layout.
        path: PathBuf,
        /// The config.
        digest: Digest,
        /// The cause.
        #[source]
        source: FormatError,
    },
    /// The layout has more images than allowed.
    #[error("{path} has more than {limit} manifests")]
    TooMany {
        /// The layout.
        path: PathBuf,
        /// The limit ([`Limits::manifests`](crate::Limits::manifests)).
        limit: u64,
    },
    /// A layer cannot be used, for example because manifest and config do not match.
    #[error("cannot use a layer of the image {image}")]
    Layer {
        /// The argument that named it.
        image: String,
        /// The cause.
        #[source]
        source: Box<ManifestError>,
    },
    /// The layout lacks a layer of the image.
    #[error("{image} has no file of the layer {layer}; copy the image again, with all its layers")]
    NoLayer {
        /// The argument that named it.
        image: String,
        /// The layer.
        layer: Digest,
    },
    /// The layout lacks the manifest or the config of the image for the platform.
    #[error(
        "{image} lists an image for {platform}, but its {what} {digest} is not there; copy it again"
    )]
    NoManifest {
        /// The argument that named it.
        image: String,
        /// The platform.
        platform: String,
        /// Manifest or config.
        what: &'static str,
        /// Its digest.
        digest: Digest,
    },
    /// The image is not for the platform.
    #[error("{image} has no image for {wanted}; it has {}", platforms.join(", "))]
    NoPlatform {
        /// The argument that named it.
        image: String,
        /// The requested platform.
        wanted: String,
        /// The platforms of the image.
        platforms: Vec<String>,
    },
    /// The layout has no such image.
    #[error("{image} has no image whose manifest and config are there")]
    None {
        /// The argument that named it.
        image: String,
    },
    /// The repository is not known.
    #[error(
        "nothing in {image} tells the name of the image; give it as NAME={image}, with the name \
         that is behind FROM"
    )]
    Unnamed {
        /// The argument that named it.
        image: String,
    },
}
