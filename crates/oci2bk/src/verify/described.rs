//! Checks the media types of layers against the first bytes of their blobs, and their URLs.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;

use bkstate::Digest;
use bkstate::dir::DirError;
use bkstate::ids::RecordId;
use bkstate::records::Record;
use bkstate::state::{Parts, State};

use super::VerifyError;
use super::trees::stored;
use crate::manifest::Compression;
use crate::unpack::decompress::{LONGEST_MAGIC, compression_of};

/// A false statement of a record about its layer.
///
/// ```
/// use oci2bk::manifest::Compression;
/// use oci2bk::verify::{Damage, LayerDamage};
///
/// /// Returns whether the media type can be corrected from the blob.
/// fn is_known(damage: &Damage) -> bool {
///     matches!(damage, Damage::Layer(LayerDamage::Compression { found: Compression::Gzip, .. }))
/// }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayerDamage {
    /// The media type is not that of a layer.
    #[error(
        "records: the layer {blob} of record {record} has the media type {media_type:?}, which is of no layer"
    )]
    NoLayer {
        /// The record.
        record: RecordId,
        /// The blob.
        blob: Digest,
        /// The media type.
        media_type: String,
    },
    /// The media type has another compression than the blob.
    #[error("records: the layer {blob} of record {record} has the media type {media_type:?}, but is {}", match found {
        Compression::None => "not compressed",
        Compression::Gzip => "compressed with gzip",
        Compression::Zstd => "compressed with zstd",
    })]
    Compression {
        /// The record.
        record: RecordId,
        /// The blob.
        blob: Digest,
        /// The media type.
        media_type: String,
        /// The actual compression of the blob.
        found: Compression,
    },
    /// The layer has URLs although its type is distributable.
    #[error(
        "records: the layer {blob} of record {record} has URLs, which only foreign layers have"
    )]
    Urls {
        /// The record.
        record: RecordId,
        /// The blob.
        blob: Digest,
    },
}

impl LayerDamage {
    /// Returns the kind of damage in a word.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NoLayer { .. } | Self::Compression { .. } => "media-type",
            Self::Urls { .. } => "layer-urls",
        }
    }

    // containerd v2.3.3 core/diff/stream.go GetProcessor; BuildKit v0.32.2 cache/refs.go ociDesc.
    /// Returns what a daemon would do about it.
    pub fn consequence(&self) -> &'static str {
        match self {
            Self::NoLayer { .. } => {
                "the daemon cannot unpack the layer, and exports it as something that nobody takes for \
                 a layer"
            }
            Self::Compression { .. } => {
                "the daemon exports other manifests than it should, with a layer that those who believe \
                 its type cannot read"
            }
            Self::Urls { .. } => {
                "the daemon exports other manifests than it should, and who reads them may fetch the layer \
                 from there"
            }
        }
    }
}

/// Finds false statements of `state`'s records about their layers. A record that a daemon pulled has the
/// media type from the image, right or wrong: it is not checked. Only `sound` blobs are read.
pub(super) fn check(
    state: &State,
    parts: &Parts,
    sound: &BTreeSet<Digest>,
) -> Result<Vec<LayerDamage>, VerifyError> {
    let mut starts = BTreeMap::new();
    let mut damage = Vec::new();
    for (id, record) in &state.records.by_id {
        let (Some(blob), Some(media_type)) = (record.blob, &record.media_type) else { continue };
        if record.is_removed() || is_pulled(record) {
            continue;
        }
        let named = || (id.clone(), media_type.clone());
        let Some(expected) = Compression::of_media_type(media_type) else {
            let (record, media_type) = named();
            damage.push(LayerDamage::NoLayer { record, blob, media_type });
            continue;
        };
        if record.urls.as_ref().is_some_and(|urls| !urls.is_empty()) && !is_foreign(media_type) {
            damage.push(LayerDamage::Urls { record: id.clone(), blob });
        }
        if !sound.contains(&blob) {
            continue;
        }
        let found = match starts.get(&blob) {
            Some(found) => *found,
            None => *starts.entry(blob).or_insert(first_bytes(blob, parts)?),
        };
        if let Some(found) = found.filter(|found| *found != expected) {
            let (record, media_type) = named();
            damage.push(LayerDamage::Compression { record, blob, media_type, found });
        }
    }
    Ok(damage)
}

/// Returns whether a layer of this type may have URLs (OCI image-spec v1.1 `layer.md`, Docker's manifest v2
/// schema 2).
fn is_foreign(media_type: &str) -> bool {
    media_type.contains(".nondistributable.") || media_type.contains(".foreign.")
}

fn is_pulled(record: &Record) -> bool {
    record.image_refs.as_ref().is_some_and(|images| !images.is_empty())
}

/// Returns the compression of the blob. A missing blob is reported elsewhere.
fn first_bytes(blob: Digest, parts: &Parts) -> Result<Option<Compression>, VerifyError> {
    let Some((store, size)) = stored(blob, &parts.blobs)? else { return Ok(None) };
    let mut start = Vec::new();
    store.blob(&blob)?.take(LONGEST_MAGIC).read_to_end(&mut start).map_err(|source| {
        let path = store.path().join(&*blob.hex());
        DirError { action: "read", path, source }
    })?;
    Ok((size > 0).then(|| compression_of(&start)))
}
