//! `containerdmeta.db`: containerd's metadata of content, snapshots and leases.
//!
//! ```text
//! [v1]  version = varint
//!   [<namespace>]
//!     [content] [blob] [<digest>]        createdat, updatedat, size varint, [labels]?
//!               [ingests] …
//!     [snapshots] [<snapshotter>]        sequence ≥ every number drawn for a name
//!                   [<snapshot key>]     name, createdat, updatedat, parent?, [children]?, [labels]?
//!     [leases] [<lease id>]              createdat, [labels]?, [content]?, [snapshots]?, …
//!     [images] [<name>]                  createdat, updatedat, [target] digest, mediatype, size varint
//! ```
//! A worker keeps its layers in one namespace and its build history in another: the OCI worker in `buildkit`
//! and `buildkit_history`. Only these two are decoded. Those of other programs are kept as they are stored. Source: containerd v2.3.3 `core/metadata/buckets.go`.
//!
//! Here a layer is a blob, a snapshot, and a lease. The lease is named after a record and keeps both as long
//! as the record exists:
//!
//! ```
//! use std::collections::BTreeMap;
//!
//! use bkstate::Digest;
//! use bkstate::bolt::Db;
//! use bkstate::ids::RecordId;
//! use bkstate::metadata::{
//!     Content, LABEL_GC_FLAT, LABEL_UNCOMPRESSED, Lease, Metadata, Namespace, SnapshotRow, SnapshotTable,
//!     VERSION,
//! };
//! use bkstate::worker::Worker;
//!
//! let label = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
//! let (blob, diff_id) = (Digest::of("a layer in gzip"), Digest::of("a layer"));
//! let key = "base".to_owned();
//!
//! let content = Content {
//!     size: 15,
//!     labels: label(LABEL_UNCOMPRESSED, &diff_id.to_string()),
//!     ..Content::default()
//! };
//! let row = SnapshotRow { name: format!("buildkit/1/{key}"), ..SnapshotRow::default() };
//! let table = SnapshotTable { sequence: 1, rows: BTreeMap::from([(key.clone(), row)]) };
//! let lease = Lease {
//!     labels: label(LABEL_GC_FLAT, "2026-11-21T20:27:19Z"),
//!     content: [blob].into(),
//!     snapshots: BTreeMap::from([("overlayfs".to_owned(), [key].into())]),
//!     ..Lease::default()
//! };
//! let namespace = Namespace {
//!     content: BTreeMap::from([(blob, content)]),
//!     snapshots: BTreeMap::from([("overlayfs".to_owned(), table)]),
//!     leases: BTreeMap::from([(RecordId::derive("base").to_string(), lease)]),
//!     ..Namespace::default()
//! };
//! let namespaces = BTreeMap::from([("buildkit".to_owned(), namespace)]);
//! let metadata = Metadata { version: VERSION, namespaces, ..Metadata::default() };
//!
//! let file = tempfile::tempfile()?;
//! metadata.write(&file)?;
//! let worker = Worker::default();
//! assert_eq!(Metadata::read(&Db::open(file)?, &worker)?, metadata);
//!
//! // What has a row or a name, over all namespaces.
//! assert_eq!(metadata.blobs(), [blob].into());
//! assert_eq!(metadata.snapshot_names(&worker), ["buildkit/1/base"].into());
//! assert!(metadata.expected_blobs().is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The id of a lease says which record it belongs to, its labels whether it is permanent:
//!
//! ```
//! use std::collections::BTreeMap;
//!
//! use bkstate::metadata::{
//!     LABEL_GC_EXPIRE, LABEL_PENDING, LABEL_TEMPORARY, Lease, SUFFIX_VARIANTS, SUFFIX_VIEW,
//! };
//!
//! fn record_of(id: &str) -> &str {
//!     let owner = id.strip_suffix(SUFFIX_VIEW).or(id.strip_suffix(SUFFIX_VARIANTS));
//!     owner.unwrap_or(id)
//! }
//!
//! /// Whether a conversion that was stopped left it, if it has no record.
//! fn is_pending(lease: &Lease) -> bool {
//!     lease.labels.contains_key(LABEL_PENDING)
//! }
//!
//! fn outlives_the_daemon(lease: &Lease) -> bool {
//!     [LABEL_TEMPORARY, LABEL_GC_EXPIRE].iter().all(|name| !lease.labels.contains_key(*name))
//! }
//!
//! let labels = BTreeMap::from([(LABEL_TEMPORARY.to_owned(), "2026-11-21T20:27:19Z".to_owned())]);
//! let of_a_build = Lease { labels, ..Lease::default() };
//! assert!(outlives_the_daemon(&Lease::default()) && !outlives_the_daemon(&of_a_build));
//! assert!(!is_pending(&of_a_build));
//! assert_eq!(record_of("nkb3jq2u1n5uzs39w0ohs4fgn-view"), "nkb3jq2u1n5uzs39w0ohs4fgn");
//! ```

mod content;
mod images;
mod leases;
mod snapshots;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;

pub use content::{Content, LABEL_UNCOMPRESSED};
pub use images::{ImageRow, LABEL_REFERENCE};
pub use leases::{
    LABEL_GC_EXPIRE, LABEL_GC_FLAT, LABEL_PENDING, LABEL_TEMPORARY, Lease, SUFFIX_VARIANTS,
    SUFFIX_VIEW,
};
pub use snapshots::{SnapshotRow, SnapshotTable};

use content::{read_content, write_contents};
use leases::{read_lease, write_lease};
use snapshots::{read_table, write_table};

use crate::bolt::{self, Bucket, BucketWriter, Db, Entry, Node, Tree};
use crate::decode::{At, DecodeError, each_bucket};
use crate::digest::Digest;
use crate::encode::EncodeError;
use crate::time::Time;
use crate::varint;
use crate::worker::Worker;

/// The schema version that current releases write, and that every supported one accepts.
pub const VERSION: i64 = 4;
const V1: &[u8] = b"v1";
const VERSION_KEY: &[u8] = b"version";

/// One namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Namespace {
    /// Blobs by digest.
    pub content: BTreeMap<Digest, Content>,
    /// Unfinished downloads, as stored in the file.
    pub ingests: Option<Tree>,
    /// Snapshots by name of the snapshotter.
    pub snapshots: BTreeMap<String, SnapshotTable>,
    /// Leases by id.
    pub leases: BTreeMap<String, Lease>,
    /// The names of images, as stored in the file.
    pub images: Option<Tree>,
    /// Data that a builder does not use (containers, sandboxes), as stored in the file.
    pub other: BTreeMap<Vec<u8>, Node>,
}

impl Namespace {
    /// Returns the blobs of unfinished downloads. Their files may exist already, for another namespace
    /// (containerd v2.3.3 `core/metadata/content.go` `garbageCollect`).
    ///
    /// ```
    /// use bkstate::Digest;
    /// use bkstate::bolt::{Node, Tree};
    /// use bkstate::metadata::Namespace;
    ///
    /// let tree = |key: &str, node| Tree { sequence: 0, entries: [(key.into(), node)].into() };
    /// let blob = Digest::of("a layer");
    /// let expected = Node::Value(blob.to_string().into_bytes());
    /// let ingests = tree("a download", Node::Bucket(tree("expected", expected)));
    ///
    /// let namespace = Namespace { ingests: Some(ingests), ..Namespace::default() };
    /// assert!(namespace.expected_blobs().eq([blob]));
    /// ```
    pub fn expected_blobs(&self) -> impl Iterator<Item = Digest> {
        self.ingests.iter().flat_map(expected)
    }
}

/// The content of `containerdmeta.db`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// Version of the schema.
    pub version: i64,
    /// The namespaces of the worker, by name.
    pub namespaces: BTreeMap<String, Namespace>,
    /// Those of other programs by name, as stored in the file.
    pub others: BTreeMap<String, Tree>,
}

impl Default for Metadata {
    fn default() -> Self {
        Self { version: VERSION, namespaces: BTreeMap::new(), others: BTreeMap::new() }
    }
}

impl Metadata {
    /// Reads `containerdmeta.db`, and decodes the namespaces of `worker`.
    ///
    /// # Errors
    /// Returns an error if the file is damaged, or a namespace of the worker has something that no known
    /// release writes.
    pub fn read(db: &Db, worker: &Worker) -> Result<Self, DecodeError> {
        let at = At::root(b"metadata");
        let Some(root) = db.root().bucket(V1)? else {
            return Ok(Self::default());
        };
        let at = at.child(V1);
        let mut metadata = Self { version: 0, ..Self::default() };
        for entry in root.entries() {
            match entry? {
                (key, Entry::Bucket(_)) if key == b"version" => {
                    return Err(at.child(&key).kind_error("value"));
                }
                (key, Entry::Bucket(bucket)) => {
                    let at = at.child(&key);
                    let name = at.text(key.clone())?;
                    if worker.has_namespace(&name) {
                        metadata.namespaces.insert(name, read_namespace(&bucket, &at)?);
                    } else {
                        metadata.others.insert(name, Tree::read(&bucket)?);
                    }
                }
                (key, Entry::Value(value)) if key == b"version" => {
                    metadata.version = at.child(&key).varint(&value)?;
                }
                (key, Entry::Value(_)) => return Err(at.child(&key).kind_error("bucket")),
            }
        }
        Ok(metadata)
    }

    /// Writes `containerdmeta.db` into the empty file `file`; the caller syncs it.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written or a key is too long.
    pub fn write(&self, file: &File) -> Result<(), EncodeError> {
        bolt::write(file, |root| {
            root.bucket(V1, |v1| {
                // Entries are written in order, and `version` is one of them.
                let mut entries = BTreeMap::from([(VERSION_KEY, In::Version(self.version))]);
                let ours = self.namespaces.iter();
                entries.extend(ours.map(|(name, ours)| (name.as_bytes(), In::Ours(ours))));
                let others = self.others.iter();
                entries.extend(others.map(|(name, tree)| (name.as_bytes(), In::Other(tree))));
                entries.into_iter().try_for_each(|(key, entry)| entry.write(v1, key))
            })
        })
    }

    /// Returns the blobs that have a row in any namespace.
    pub fn blobs(&self) -> BTreeSet<Digest> {
        let ours = self.namespaces.values().flat_map(|namespace| namespace.content.keys()).copied();
        let others = self.others.values().flat_map(|tree| keys(tree, &[b"content", b"blob"]));
        ours.chain(others.filter_map(|digest| digest.parse().ok())).collect()
    }

    /// Returns the blobs of unfinished downloads in any namespace, see [`Namespace::expected_blobs`].
    pub fn expected_blobs(&self) -> BTreeSet<Digest> {
        let ours = self.namespaces.values().flat_map(Namespace::expected_blobs);
        let others = self.others.values().filter_map(|tree| below(tree, &[b"content", b"ingests"]));
        ours.chain(others.flat_map(expected)).collect()
    }

    /// Returns the namespace of another program that has a lease with this id, if there is one.
    pub(crate) fn other_with_lease(&self, id: &str) -> Option<&str> {
        let has = |tree: &&Tree| below(tree, &[b"leases", id.as_bytes()]).is_some();
        self.others.iter().find(|(_, tree)| has(tree)).map(|(name, _)| name.as_str())
    }

    /// Returns the names of the snapshots of `worker`'s snapshotter, in any namespace.
    pub fn snapshot_names(&self, worker: &Worker) -> BTreeSet<&str> {
        let tables = self.namespaces.values().filter_map(|namespace| worker.table_of(namespace));
        let ours = tables.flat_map(|table| table.rows.values()).map(|row| row.name.as_str());
        let path = [b"snapshots".as_slice(), worker.snapshotter().as_bytes()];
        let tables = self.others.values().filter_map(|tree| below(tree, &path));
        let rows = tables.flat_map(|table| table.entries.values());
        let others = rows.filter_map(|row| {
            let Node::Bucket(row) = row else { return None };
            let Node::Value(name) = row.entries.get(b"name".as_slice())? else { return None };
            std::str::from_utf8(name).ok()
        });
        ours.chain(others).collect()
    }
}

/// An entry of the file.
enum In<'m> {
    Version(i64),
    Ours(&'m Namespace),
    Other(&'m Tree),
}

impl In<'_> {
    fn write(self, v1: &mut BucketWriter<'_>, key: &[u8]) -> Result<(), EncodeError> {
        match self {
            Self::Version(version) => Ok(v1.put(key, &varint::encode_signed(version))?),
            Self::Ours(namespace) => v1.bucket(key, |bucket| write_namespace(bucket, namespace)),
            Self::Other(tree) => v1.bucket(key, |bucket| Ok(tree.write(bucket)?)),
        }
    }
}

/// Returns the bucket at `path` below `tree`, if there is one.
fn below<'t>(tree: &'t Tree, path: &[&[u8]]) -> Option<&'t Tree> {
    path.iter().try_fold(tree, |tree, name| match tree.entries.get(*name) {
        Some(Node::Bucket(bucket)) => Some(bucket),
        _ => None,
    })
}

/// Returns the keys in the bucket at `path` below `tree` that are text.
fn keys<'t>(tree: &'t Tree, path: &[&[u8]]) -> impl Iterator<Item = &'t str> + use<'t> {
    let keys = below(tree, path).into_iter().flat_map(|bucket| bucket.entries.keys());
    keys.filter_map(|key| std::str::from_utf8(key).ok())
}

/// Returns the blobs of the unfinished downloads in `ingests`.
fn expected(ingests: &Tree) -> impl Iterator<Item = Digest> {
    ingests.entries.values().filter_map(|ingest| {
        let Node::Bucket(ingest) = ingest else { return None };
        let Node::Value(expected) = ingest.entries.get(b"expected".as_slice())? else {
            return None;
        };
        std::str::from_utf8(expected).ok()?.parse().ok()
    })
}

fn read_namespace(bucket: &Bucket<'_>, at: &At<'_>) -> Result<Namespace, DecodeError> {
    let mut namespace = Namespace::default();
    for entry in bucket.entries() {
        let (key, entry) = entry?;
        let here = at.child(&key);
        match (key.as_slice(), entry) {
            (b"content", Entry::Bucket(content)) => {
                each_bucket(&content, &here, b"blob", |at, digest, bucket| {
                    namespace.content.insert(at.digest(&digest)?, read_content(&bucket, at)?);
                    Ok::<_, DecodeError>(())
                })?;
                if let Some(ingests) = content.bucket(b"ingests")? {
                    namespace.ingests = Some(Tree::read(&ingests)?);
                }
            }
            (b"snapshots", Entry::Bucket(_)) => {
                each_bucket(bucket, at, b"snapshots", |at, name, table| {
                    namespace.snapshots.insert(at.text(name)?, read_table(&table, at)?);
                    Ok::<_, DecodeError>(())
                })?;
            }
            (b"leases", Entry::Bucket(_)) => {
                each_bucket(bucket, at, b"leases", |at, id, lease| {
                    namespace.leases.insert(at.text(id)?, read_lease(&lease, at)?);
                    Ok::<_, DecodeError>(())
                })?;
            }
            (b"images", Entry::Bucket(images)) => namespace.images = Some(Tree::read(&images)?),
            (_, entry) => {
                let node = read_node(entry)?;
                namespace.other.insert(key, node);
            }
        }
    }
    Ok(namespace)
}

fn read_node(entry: Entry<'_>) -> Result<Node, DecodeError> {
    Ok(match entry {
        Entry::Value(value) => Node::Value(value),
        Entry::Bucket(bucket) => Node::Bucket(Tree::read(&bucket)?),
    })
}

fn write_namespace(
    bucket: &mut BucketWriter<'_>,
    namespace: &Namespace,
) -> Result<(), EncodeError> {
    type Write<'a> = Box<dyn Fn(&mut BucketWriter<'_>) -> Result<(), EncodeError> + 'a>;
    let mut buckets: BTreeMap<&[u8], Write<'_>> = BTreeMap::new();
    if !namespace.content.is_empty() || namespace.ingests.is_some() {
        buckets.insert(b"content", Box::new(|bucket| write_contents(bucket, namespace)));
    }
    if !namespace.snapshots.is_empty() {
        buckets.insert(
            b"snapshots",
            Box::new(|bucket| {
                namespace.snapshots.iter().try_for_each(|(name, table)| {
                    bucket.bucket(name.as_bytes(), |bucket| write_table(bucket, table))
                })
            }),
        );
    }
    if !namespace.leases.is_empty() {
        buckets.insert(
            b"leases",
            Box::new(|bucket| {
                namespace.leases.iter().try_for_each(|(id, lease)| {
                    bucket.bucket(id.as_bytes(), |bucket| write_lease(bucket, lease))
                })
            }),
        );
    }
    if let Some(images) = &namespace.images {
        buckets.insert(b"images", Box::new(|bucket| Ok(images.write(bucket)?)));
    }
    let mut other = namespace.other.iter().peekable();
    for (name, write) in &buckets {
        while let Some((key, node)) = other.next_if(|(key, _)| key.as_slice() < *name) {
            write_node(bucket, key, node)?;
        }
        bucket.bucket(name, write)?;
    }
    other.try_for_each(|(key, node)| write_node(bucket, key, node))
}

fn write_node(bucket: &mut BucketWriter<'_>, key: &[u8], node: &Node) -> Result<(), EncodeError> {
    match node {
        Node::Value(value) => Ok(bucket.put(key, value)?),
        Node::Bucket(tree) => bucket.bucket(key, |bucket| Ok(tree.write(bucket)?)),
    }
}

fn read_time(bucket: &Bucket<'_>, at: &At<'_>, key: &[u8]) -> Result<Option<Time>, DecodeError> {
    bucket.get(key)?.map(|bytes| at.child(key).time(&bytes)).transpose()
}

/// Writes a set as a bucket: names as keys, with empty values.
fn put_names(bucket: &mut BucketWriter<'_>, names: &BTreeSet<String>) -> Result<(), EncodeError> {
    names.iter().try_for_each(|name| Ok(bucket.put(name.as_bytes(), b"")?))
}
