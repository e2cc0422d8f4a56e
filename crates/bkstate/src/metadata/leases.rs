//! Leases, which protect resources from garbage collection.

use std::collections::{BTreeMap, BTreeSet};

use super::{put_names, read_node, read_time, write_node};
use crate::bolt::{Bucket, BucketWriter, Node};
use crate::decode::{At, DecodeError, each_bucket, each_value, read_labels, values};
use crate::digest::Digest;
use crate::encode::{EncodeError, put_time, write_labels};
use crate::time::Time;

/// The label with which a lease keeps only what it names itself.
pub const LABEL_GC_FLAT: &str = "containerd.io/gc.flat";

/// The label of a lease that expires at the time in its value.
pub const LABEL_GC_EXPIRE: &str = "containerd.io/gc.expire";

/// The label of a lease that a starting daemon deletes (BuildKit v0.32.2 `util/leaseutil/manager.go`
/// `MakeTemporary`).
pub const LABEL_TEMPORARY: &str = "buildkit/lease.temporary";

/// The label of a lease whose record a conversion is about to publish. Leases with it and without a record are
/// left by a conversion that was stopped; a daemon ignores the label.
pub const LABEL_PENDING: &str = "oci2bk.pending";
/// Suffix of the ids of a record's view and of the view's lease, after the record's id (BuildKit v0.32.2
/// `cache/refs.go` `viewLeaseID`).
pub const SUFFIX_VIEW: &str = "-view";

/// Suffix of the id of the lease of other compressions of a record's blob, after the record's id (BuildKit
/// v0.32.2 `cache/refs.go` `compressionVariantsLeaseID`).
pub const SUFFIX_VARIANTS: &str = "-variants";

/// A set of resources that garbage collection must not remove.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lease {
    /// When it was created.
    pub created_at: Option<Time>,
    /// Labels, among them [`LABEL_GC_FLAT`].
    pub labels: BTreeMap<String, String>,
    /// Blobs it keeps, by their digest.
    pub content: BTreeSet<Digest>,
    /// Snapshots it keeps: snapshotter name to snapshot keys.
    pub snapshots: BTreeMap<String, BTreeSet<String>>,
    /// Other resources (ingests, images), as stored in the file.
    pub other: BTreeMap<Vec<u8>, Node>,
}

pub(super) fn read_lease(bucket: &Bucket<'_>, at: &At<'_>) -> Result<Lease, DecodeError> {
    let mut lease = Lease {
        created_at: read_time(bucket, at, b"createdat")?,
        labels: read_labels(bucket, at)?,
        ..Lease::default()
    };
    each_value(bucket, at, b"content", |at, digest, _| {
        lease.content.insert(at.digest(&digest)?);
        Ok::<_, DecodeError>(())
    })?;
    each_bucket(bucket, at, b"snapshots", |at, name, keys| {
        let names = lease.snapshots.entry(at.text(name)?).or_default();
        values(&keys, at, |at, key, _| {
            names.insert(at.text(key)?);
            Ok::<_, DecodeError>(())
        })
    })?;
    for entry in bucket.entries() {
        let (key, entry) = entry?;
        if !matches!(key.as_slice(), b"createdat" | b"labels" | b"content" | b"snapshots") {
            lease.other.insert(key, read_node(entry)?);
        }
    }
    Ok(lease)
}

pub(super) fn write_lease(bucket: &mut BucketWriter<'_>, lease: &Lease) -> Result<(), EncodeError> {
    let mut other = lease.other.iter().peekable();
    let mut before = |bucket: &mut BucketWriter<'_>, name: &[u8]| {
        while let Some((key, node)) = other.next_if(|(key, _)| key.as_slice() < name) {
            write_node(bucket, key, node)?;
        }
        Ok::<_, EncodeError>(())
    };
    before(bucket, b"content")?;
    if !lease.content.is_empty() {
        let digests = lease.content.iter().map(ToString::to_string).collect();
        bucket.bucket(b"content", |bucket| put_names(bucket, &digests))?;
    }
    before(bucket, b"createdat")?;
    put_time(bucket, b"createdat", lease.created_at)?;
    before(bucket, b"labels")?;
    write_labels(bucket, &lease.labels)?;
    before(bucket, b"snapshots")?;
    if !lease.snapshots.is_empty() {
        bucket.bucket(b"snapshots", |bucket| {
            lease.snapshots.iter().try_for_each(|(name, keys)| {
                bucket.bucket(name.as_bytes(), |bucket| put_names(bucket, keys))
            })
        })?;
    }
    other.try_for_each(|(key, node)| write_node(bucket, key, node))
}
