//! Layers of a cache, with BuildKit's annotations about them.

use std::fmt;

use bkstate::digest::ParseDigestError;
use bkstate::time::ParseTimeError;
use bkstate::{Digest, Time};

use crate::layout::Descriptor;

/// The diffID, on every layer (containerd `pkg/labels`, `LabelUncompressed`).
pub(crate) const DIFF_ID: &str = "containerd.io/uncompressed";
/// The creation time of the layer (BuildKit v0.32 `cache/refs.go`, `ociDesc`; missing for blobs that were
/// recompressed for the export).
pub(crate) const CREATED_AT: &str = "buildkit/createdat";
/// The description of the layer for users (read in BuildKit v0.32 `worker/base/worker.go`, `FromRemote`; the
/// local exporter does not write it, other tools may).
pub(super) const DESCRIPTION: &str = "buildkit/description";

/// Maximum length of a layer's description, in characters.
pub const MAX_DESCRIPTION: usize = 1024;

/// The compression of a layer blob, according to its media type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Compression {
    /// A plain tar.
    None,
    /// Gzip, which includes estargz.
    Gzip,
    /// Zstandard.
    Zstd,
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "not compressed",
            Self::Gzip => "compressed with gzip",
            Self::Zstd => "compressed with zstd",
        })
    }
}

impl Compression {
    /// Returns the compression of a layer with this media type; `None` if it is not a tar layer.
    ///
    /// The types are those of OCI image-spec 1.1 and Docker's manifest v2 schema 2, including the
    /// "nondistributable" and "foreign" ones, which differ only in who may distribute them.
    pub fn of_media_type(media_type: &str) -> Option<Self> {
        match media_type {
            "application/vnd.oci.image.layer.v1.tar"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar"
            | "application/vnd.docker.image.rootfs.diff.tar"
            | "application/vnd.docker.image.rootfs.foreign.diff.tar" => Some(Self::None),
            "application/vnd.oci.image.layer.v1.tar+gzip"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
            | "application/vnd.docker.image.rootfs.diff.tar.gzip"
            | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" => Some(Self::Gzip),
            "application/vnd.oci.image.layer.v1.tar+zstd"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"
            | "application/vnd.docker.image.rootfs.diff.tar.zstd" => Some(Self::Zstd),
            _ => None,
        }
    }

    /// Returns the media type of a distributable layer with this compression (OCI image-spec 1.1).
    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Self::None => "application/vnd.oci.image.layer.v1.tar",
            Self::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }
}

/// A layer blob with a descriptor in a cache.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LayerBlob {
    /// The descriptor, with all its annotations.
    pub descriptor: Descriptor,
    /// The compression of the blob.
    pub compression: Compression,
    /// The digest of the uncompressed tar.
    pub diff_id: Digest,
    /// The creation time of the layer, if known.
    pub created_at: Option<Time>,
    /// The description of the layer for users, if the export has it; shortened to [`MAX_DESCRIPTION`]
    /// characters, because it is stored with every layer that uses the blob.
    pub description: Option<String>,
}

/// Why a descriptor is not a valid cache layer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayerError {
    /// The media type is not that of a tar layer.
    #[error("layer {layer} has the media type {media_type:?}, which is not a known layer type")]
    MediaType {
        /// The layer.
        layer: Digest,
        /// Its media type, shortened to 100 characters.
        media_type: String,
    },
    /// The diffID is missing.
    #[error(
        "layer {layer} has no annotation {DIFF_ID}; a tool that copied the cache may have \
         dropped it, so export or copy the cache again"
    )]
    NoDiffId {
        /// The layer.
        layer: Digest,
    },
    /// The diffID is not a digest.
    #[error("layer {layer} has a malformed annotation {DIFF_ID}")]
    DiffId {
        /// The layer.
        layer: Digest,
        /// The cause.
        #[source]
        source: ParseDigestError,
    },
    /// The time is invalid.
    #[error("layer {layer} has a malformed annotation {CREATED_AT}")]
    CreatedAt {
        /// The layer.
        layer: Digest,
        /// The cause.
        #[source]
        source: ParseTimeError,
    },
    /// Two descriptors of one blob disagree.
    #[error("the descriptors of layer {layer} contradict each other: {what}")]
    Conflict {
        /// The layer.
        layer: Digest,
        /// The fact on which they disagree.
        what: Box<Disagreement>,
    },
}

/// A property of a blob's content on which two descriptors of the blob disagree: one of them is wrong. The
/// value of the first descriptor comes first.
///
/// ```
/// use oci2bk::manifest::Disagreement;
///
/// assert_eq!(Disagreement::Size(7, 8).to_string(), "it has 7 bytes, and 8");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Disagreement {
    /// The digest of the uncompressed tar.
    #[error("its diffID is {0}, and {1}")]
    DiffId(Digest, Digest),
    /// The size of the blob in bytes.
    #[error("it has {0} bytes, and {1}")]
    Size(u64, u64),
    /// The compression, according to the media types.
    #[error("it is {0}, and {1}")]
    Compression(Compression, Compression),
}

/// The properties of a blob's content that a descriptor states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) diff_id: Digest,
    pub(crate) size: u64,
    pub(crate) compression: Compression,
}

impl Facts {
    /// Returns the first disagreement with `other`, if any.
    pub(crate) fn disagreement(&self, other: &Self) -> Option<Disagreement> {
        if self.diff_id != other.diff_id {
            Some(Disagreement::DiffId(self.diff_id, other.diff_id))
        } else if self.size != other.size {
            Some(Disagreement::Size(self.size, other.size))
        } else if self.compression != other.compression {
            Some(Disagreement::Compression(self.compression, other.compression))
        } else {
            None
        }
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(MAX_DESCRIPTION) {
        None => text.to_owned(),
        Some((end, _)) => text[..end].chars().take(MAX_DESCRIPTION - 1).chain(['…']).collect(),
    }
}

impl LayerBlob {
    /// Parses the descriptor of a cache layer.
    ///
    /// # Errors
    /// See [`LayerError`].
    pub fn from_descriptor(descriptor: Descriptor) -> Result<Self, LayerError> {
        let layer = descriptor.digest;
        let annotation = |name| descriptor.annotations.get(name);
        let compression = Compression::of_media_type(&descriptor.media_type).ok_or_else(|| {
            let media_type = descriptor.media_type.chars().take(100).collect();
            LayerError::MediaType { layer, media_type }
        })?;
        let diff_id = annotation(DIFF_ID)
            .ok_or(LayerError::NoDiffId { layer })?
            .parse()
            .map_err(|source| LayerError::DiffId { layer, source })?;
        let created_at = annotation(CREATED_AT)
            .map(|text| text.parse::<Time>())
            .transpose()
            .map_err(|source| LayerError::CreatedAt { layer, source })?
            .filter(|time| !time.is_zero());
        let description = annotation(DESCRIPTION).map(|text| shortened(text));
        Ok(Self { descriptor, compression, diff_id, created_at, description })
    }

    /// Returns the stated properties of the blob's content.
    pub(crate) fn facts(&self) -> Facts {
        let Self { compression, diff_id, .. } = *self;
        Facts { diff_id, size: self.descriptor.size, compression }
    }
}
