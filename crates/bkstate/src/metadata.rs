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
//! ```
//! The OCI worker keeps its layers in the namespace `buildkit` and build history in
//! `buildkit_history`. Source: containerd v2.3.3 `core/metadata/buckets.go`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;

use crate::bolt::{self, Bucket, BucketWriter, Db, Entry, Node, Tree};
use crate::decode::{At, DecodeError, each_bucket, each_value, read_labels, values};
use crate::digest::Digest;
use crate::encode::{EncodeError, put_time, write_labels};
use crate::time::Time;
use crate::varint;

/// The schema version that current releases write, and that every supported one accepts.
pub const VERSION: i64 = 4;
/// The namespace of the worker's content, snapshots and leases.
pub const NAMESPACE: &str = "buildkit";
/// The label whose presence makes a lease keep only what it names itself.
pub const LABEL_GC_FLAT: &str = "containerd.io/gc.flat";
/// The content label that holds the diffID of a layer blob.
pub const LABEL_UNCOMPRESSED: &str = "containerd.io/uncompressed";

const V1: &[u8] = b"v1";

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

/// A snapshot as containerd's clients see it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SnapshotRow {
    /// Its name in `snapshots/metadata.db`: `<namespace>/<number>/<key>`.
    pub name: String,
    /// When it was made.
    pub created_at: Option<Time>,
    /// When it was last changed.
    pub updated_at: Option<Time>,
    /// The key of the snapshot below it.
    pub parent: Option<String>,
    /// The keys of the snapshots above it. They keep it from being removed.
    pub children: BTreeSet<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// The snapshots of one snapshotter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SnapshotTable {
    /// The highest number ever drawn for a name.
    pub sequence: u64,
    /// The snapshots by key.
    pub rows: BTreeMap<String, SnapshotRow>,
}

/// What garbage collection may not remove.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lease {
    /// When it was made.
    pub created_at: Option<Time>,
    /// Labels, among them [`LABEL_GC_FLAT`].
    pub labels: BTreeMap<String, String>,
    /// Blobs it keeps, by their digest.
    pub content: BTreeSet<Digest>,
    /// Snapshots it keeps: snapshotter name to snapshot keys.
    pub snapshots: BTreeMap<String, BTreeSet<String>>,
    /// Other resources (ingests, images), as they stand in the file.
    pub other: BTreeMap<Vec<u8>, Node>,
}

/// One namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Namespace {
    /// Blobs by digest.
    pub content: BTreeMap<Digest, Content>,
    /// Unfinished downloads, as they stand in the file.
    pub ingests: Option<Tree>,
    /// Snapshots by name of the snapshotter.
    pub snapshots: BTreeMap<String, SnapshotTable>,
    /// Leases by id.
    pub leases: BTreeMap<String, Lease>,
    /// What the OCI worker does not use (images, containers, sandboxes), as it stands in the file.
    pub other: BTreeMap<Vec<u8>, Node>,
}

/// The content of `containerdmeta.db`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// Version of the schema.
    pub version: i64,
    /// Namespaces by name.
    pub namespaces: BTreeMap<String, Namespace>,
}

impl Default for Metadata {
    fn default() -> Self {
        Self { version: VERSION, namespaces: BTreeMap::new() }
    }
}

impl Metadata {
    /// Reads `containerdmeta.db`.
    ///
    /// # Errors
    /// If the file is damaged or holds something that no known release writes.
    pub fn read(db: &Db) -> Result<Self, DecodeError> {
        let at = At::root(b"containerdmeta.db");
        let Some(root) = db.root().bucket(V1)? else {
            return Ok(Self::default());
        };
        let at = at.child(V1);
        let mut metadata = Self { version: 0, namespaces: BTreeMap::new() };
        for entry in root.entries() {
            match entry? {
                (key, Entry::Bucket(_)) if key == b"version" => {
                    return Err(at.child(&key).kind_error("value"));
                }
                (key, Entry::Bucket(bucket)) => {
                    let at = at.child(&key);
                    let namespace = read_namespace(&bucket, &at)?;
                    metadata.namespaces.insert(at.text(key.clone())?, namespace);
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
    /// If the file cannot be written or a key is too long.
    pub fn write(&self, file: &File) -> Result<(), EncodeError> {
        bolt::write(file, |root| {
            root.bucket(V1, |v1| {
                // `version` is an entry among the namespaces, and entries are written in order.
                let (before, after): (Vec<_>, Vec<_>) =
                    self.namespaces.iter().partition(|(name, _)| name.as_str() < "version");
                write_namespaces(v1, before)?;
                v1.put(b"version", &varint::encode_signed(self.version))?;
                write_namespaces(v1, after)
            })
        })
    }
}

fn write_namespaces(
    v1: &mut BucketWriter<'_>,
    namespaces: Vec<(&String, &Namespace)>,
) -> Result<(), EncodeError> {
    namespaces.into_iter().try_for_each(|(name, namespace)| {
        v1.bucket(name.as_bytes(), |bucket| write_namespace(bucket, namespace))
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

fn read_content(bucket: &Bucket<'_>, at: &At<'_>) -> Result<Content, DecodeError> {
    let size = bucket.get(b"size")?.map(|bytes| at.child(b"size").varint(&bytes)).transpose()?;
    Ok(Content {
        created_at: read_time(bucket, at, b"createdat")?,
        updated_at: read_time(bucket, at, b"updatedat")?,
        size: size.unwrap_or_default(),
        labels: read_labels(bucket, at)?,
    })
}

fn write_contents(bucket: &mut BucketWriter<'_>, namespace: &Namespace) -> Result<(), EncodeError> {
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

fn read_table(bucket: &Bucket<'_>, at: &At<'_>) -> Result<SnapshotTable, DecodeError> {
    let mut table = SnapshotTable { sequence: bucket.sequence(), rows: BTreeMap::new() };
    for entry in bucket.entries() {
        let (key, entry) = entry?;
        let here = at.child(&key);
        let Entry::Bucket(row) = entry else {
            return Err(here.kind_error("bucket"));
        };
        let text =
            |name: &[u8]| row.get(name)?.map(|value| here.child(name).text(value)).transpose();
        let mut children = BTreeSet::new();
        each_value(&row, &here, b"children", |at, key, _| {
            children.insert(at.text(key)?);
            Ok::<_, DecodeError>(())
        })?;
        let row = SnapshotRow {
            name: text(b"name")?.unwrap_or_default(),
            created_at: read_time(&row, &here, b"createdat")?,
            updated_at: read_time(&row, &here, b"updatedat")?,
            parent: text(b"parent")?.filter(|parent| !parent.is_empty()),
            children,
            labels: read_labels(&row, &here)?,
        };
        table.rows.insert(here.text(key.clone())?, row);
    }
    Ok(table)
}

fn write_table(bucket: &mut BucketWriter<'_>, table: &SnapshotTable) -> Result<(), EncodeError> {
    bucket.set_sequence(table.sequence);
    for (key, row) in &table.rows {
        bucket.bucket(key.as_bytes(), |bucket| {
            if !row.children.is_empty() {
                bucket.bucket(b"children", |bucket| put_names(bucket, &row.children))?;
            }
            put_time(bucket, b"createdat", row.created_at)?;
            write_labels(bucket, &row.labels)?;
            bucket.put(b"name", row.name.as_bytes())?;
            if let Some(parent) = &row.parent {
                bucket.put(b"parent", parent.as_bytes())?;
            }
            put_time(bucket, b"updatedat", row.updated_at)
        })?;
    }
    Ok(())
}

fn read_lease(bucket: &Bucket<'_>, at: &At<'_>) -> Result<Lease, DecodeError> {
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

fn write_lease(bucket: &mut BucketWriter<'_>, lease: &Lease) -> Result<(), EncodeError> {
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

fn read_time(bucket: &Bucket<'_>, at: &At<'_>, key: &[u8]) -> Result<Option<Time>, DecodeError> {
    bucket.get(key)?.map(|bytes| at.child(key).time(&bytes)).transpose()
}

/// A bucket that is a set: names as keys, nothing as values.
fn put_names(bucket: &mut BucketWriter<'_>, names: &BTreeSet<String>) -> Result<(), EncodeError> {
    names.iter().try_for_each(|name| Ok(bucket.put(name.as_bytes(), b"")?))
}
