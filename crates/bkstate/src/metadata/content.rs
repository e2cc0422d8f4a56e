//! Rows of the content store: what containerd knows about a blob except its bytes.

use std::collections::BTreeMap;

use super::{Namespace, read_time};
use crate::bolt::{Bucket, BucketWriter};
use crate::decode::{At, DecodeError, read_labels};
use crate::encode::{EncodeError, put_time, write_labels};
use crate::time::Time;
use crate::varint;

/// The content label that holds the diffID of a layer blob.
pub const LABEL_UNCOMPRESSED: &str = "containerd.io/uncompressed";

/// A row of the content store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Content {
    /// When the blob was stored.
    pub created_at: Option<Time>,
    /// When its labels last changed.
    pub updated_at: Option<Time>,
    /// Size of the blob in bytes.
    pub size: i64,
    /// Labels, among them [`LABEL_UNCOMPRESSED`].
    pub labels: BTreeMap<String, String>,
}

pub(super) fn read_content(bucket: &Bucket<'_>, at: &At<'_>) -> Result<Content, DecodeError> {
    let size = bucket.get(b"size")?.map(|bytes| at.child(b"size").varint(&bytes)).transpose()?;
    Ok(Content {
        created_at: read_time(bucket, at, b"createdat")?,
        updated_at: read_time(bucket, at, b"updatedat")?,
        size: size.unwrap_or_default(),
        labels: read_labels(bucket, at)?,
    })
}

pub(super) fn write_contents(
    bucket: &mut BucketWriter<'_>,
    namespace: &Namespace,
) -> Result<(), EncodeError> {
    bucket.bucket(b"blob", |bucket| {
        for (digest, content) in &namespace.content {
            bucket.bucket(digest.to_string().as_bytes(), |bucket| {
                put_time(bucket, b"createdat", content.created_at)?;
                write_labels(bucket, &content.labels)?;
                bucket.put(b"size", &varint::encode_signed(content.size))?;
                put_time(bucket, b"updatedat", content.updated_at)
            })?;
        }
        Ok::<_, EncodeError>(())
    })?;
    namespace
        .ingests
        .as_ref()
        .map_or(Ok(()), |ingests| bucket.bucket(b"ingests", |bucket| Ok(ingests.write(bucket)?)))
}
