//! `snapshots/metadata.db`: the directory and the parent of each snapshot.
//!
//! ```text
//! [v1]
//!   [snapshots]  sequence = highest id ever given
//!     [<name>]   id uvarint, kind 1 byte, parent <name>?, createdat, updatedat,
//!                inodes varint?, size varint?, [labels]?
//!   [parents]    uvarint(parent id) 00 uvarint(child id) = <child name>
//! ```
//! The name of a snapshot here is the `name` of its row in `containerdmeta.db`; its directory is
//! `snapshots/<id>`. Source: containerd v2.3.3 `core/snapshots/storage/bolt.go`.
//!
//! ```
//! use std::collections::BTreeMap;
//!
//! use bkstate::bolt::Db;
//! use bkstate::snapshots::{Kind, Snapshot, Snapshots};
//!
//! let snapshot = |id, parent| Snapshot {
//!     id,
//!     kind: Kind::Committed,
//!     parent,
//!     created_at: None,
//!     updated_at: None,
//!     inodes: Some(1),
//!     size: Some(4096),
//!     labels: BTreeMap::new(),
//! };
//! let (base, top) = ("buildkit/1/base".to_owned(), "buildkit/2/top".to_owned());
//! let by_name = [(base.clone(), snapshot(1, None)), (top.clone(), snapshot(2, Some(base)))];
//! let snapshots = Snapshots { sequence: 2, by_name: by_name.into() };
//!
//! let file = tempfile::tempfile()?;
//! snapshots.write(&file)?;
//! let db = Db::open(file)?;
//! assert_eq!(Snapshots::read(&db)?, snapshots);
//! // The file stores parents twice: here 1 below 2.
//! assert_eq!(Snapshots::read_parents(&db)?, BTreeMap::from([(vec![1, 0, 2], top)]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Their files are in [`Trees`]:
//!
//! ```
//! use std::io::Write as _;
//!
//! use bkstate::dir::Dir;
//! use bkstate::snapshots::{Directories, Trees};
//! use bkstate::worker::Worker;
//!
//! let temp = tempfile::tempdir()?;
//! let dir = Dir::open(temp.path())?;
//! let form = Worker::default().form();
//! let trees = Trees::create(&dir.create_dir("snapshots", 0o700)?, form)?;
//! assert_eq!(trees.path(), temp.path().join("snapshots/snapshots"));
//!
//! // New ones are created beside them, on the same file system.
//! let staged = Trees::open_or_create(&dir.create_dir("staging", 0o700)?, form)?;
//! assert!(staged.shares_file_system(&dir)?);
//! staged.create_snapshot(1)?.create_file("motd", 0o644)?.write_all(b"hello")?;
//! assert!(matches!(staged.find(1)?, Directories { top: true, fs: true, work: true, .. }));
//! staged.move_all(&trees)?;
//! assert!(staged.names()?.is_empty());
//!
//! assert_eq!(trees.fs(1)?.size("motd")?, Some(5));
//! trees.remove("1")?;
//! assert_eq!(trees.find(1)?, Directories::default());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod trees;

use std::collections::BTreeMap;
use std::fs::File;

pub(crate) use trees::TREES;
pub use trees::{Directories, Trees};

use crate::bolt::{self, Bucket, BucketWriter, Db};
use crate::decode::{At, DecodeError, each_bucket, each_value, read_labels};
use crate::encode::{EncodeError, put_time, write_labels};
use crate::time::Time;
use crate::varint;

const V1: &[u8] = b"v1";
const SNAPSHOTS: &[u8] = b"snapshots";
const PARENTS: &[u8] = b"parents";

/// The kind of a snapshot (containerd `core/snapshots/snapshotter.go` `Kind`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Read-only, for a reader.
    View = 1,
    /// Writable; the data of a running step or a cache mount.
    Active = 2,
    /// Immutable; the only kind that can be a parent.
    Committed = 3,
}

impl Kind {
    /// Returns its name in reports.
    ///
    /// ```
    /// assert_eq!(bkstate::snapshots::Kind::Committed.name(), "committed");
    /// ```
    pub const fn name(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Active => "active",
            Self::Committed => "committed",
        }
    }
}

/// A snapshot of the overlay snapshotter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The number that is the name of its directory.
    pub id: u64,
    /// Its kind.
    pub kind: Kind,
    /// The name of the snapshot below it.
    pub parent: Option<String>,
    /// When it was created.
    pub created_at: Option<Time>,
    /// When it was last changed.
    pub updated_at: Option<Time>,
    /// Distinct inodes in its own layer; only for committed snapshots.
    pub inodes: Option<i64>,
    /// Bytes of its own layer on disk; only for committed snapshots.
    pub size: Option<i64>,
    /// Labels of the snapshotter.
    pub labels: BTreeMap<String, String>,
}

/// The content of `snapshots/metadata.db`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshots {
    /// The highest id ever assigned. If it is lower than an id in use, the daemon reuses that id and destroys
    /// its directory.
    pub sequence: u64,
    /// All snapshots by name.
    pub by_name: BTreeMap<String, Snapshot>,
}

impl Snapshots {
    /// Reads `snapshots/metadata.db`.
    ///
    /// # Errors
    /// Returns an error if the file is damaged or has something that no known release writes.
    pub fn read(db: &Db) -> Result<Self, DecodeError> {
        let mut snapshots = Self::default();
        let at = At::root(b"snapshotter");
        let Some(root) = db.root().bucket(V1)? else {
            return Ok(snapshots);
        };
        let at = at.child(V1);
        if let Some(bucket) = root.bucket(SNAPSHOTS)? {
            snapshots.sequence = bucket.sequence();
        }
        each_bucket(&root, &at, SNAPSHOTS, |at, name, bucket| {
            let snapshot = read_snapshot(&bucket, at)?;
            snapshots.by_name.insert(at.text(name)?, snapshot);
            Ok::<_, DecodeError>(())
        })?;
        Ok(snapshots)
    }

    /// Reads the bucket `parents` as stored in the file; its correct content follows from the snapshots.
    ///
    /// # Errors
    /// Returns an error if the file is damaged or the names in it are not text.
    pub fn read_parents(db: &Db) -> Result<BTreeMap<Vec<u8>, String>, DecodeError> {
        let mut parents = BTreeMap::new();
        let at = At::root(b"snapshotter");
        if let Some(root) = db.root().bucket(V1)? {
            each_value(&root, &at.child(V1), PARENTS, |at, key, name| {
                parents.insert(key, at.text(name)?);
                Ok::<_, DecodeError>(())
            })?;
        }
        Ok(parents)
    }

    /// Writes `snapshots/metadata.db` into the empty file `file`; the caller syncs it.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written or a name is too long for a key.
    pub fn write(&self, file: &File) -> Result<(), EncodeError> {
        bolt::write(file, |root| {
            root.bucket(V1, |v1| {
                v1.bucket(PARENTS, |bucket| {
                    for (key, name) in self.parents() {
                        bucket.put(&key, name.as_bytes())?;
                    }
                    Ok::<_, EncodeError>(())
                })?;
                v1.bucket(SNAPSHOTS, |bucket| {
                    bucket.set_sequence(self.sequence);
                    for (name, snapshot) in &self.by_name {
                        bucket
                            .bucket(name.as_bytes(), |bucket| write_snapshot(bucket, snapshot))?;
                    }
                    Ok(())
                })
            })
        })
    }

    /// Returns the content of the bucket `parents`, an index over [`Snapshot::parent`].
    pub(crate) fn parents(&self) -> BTreeMap<Vec<u8>, &str> {
        self.by_name
            .iter()
            .filter_map(|(name, child)| {
                let parent = self.by_name.get(child.parent.as_ref()?)?;
                Some((parent_key(parent.id, child.id), name.as_str()))
            })
            .collect()
    }
}

/// The zero byte between the numbers is part of the format (containerd `parentKey`).
fn parent_key(parent: u64, child: u64) -> Vec<u8> {
    [varint::encode_unsigned(parent), vec![0], varint::encode_unsigned(child)].concat()
}

fn read_snapshot(bucket: &Bucket<'_>, at: &At<'_>) -> Result<Snapshot, DecodeError> {
    let value = |key: &[u8]| bucket.get(key);
    let required =
        |key: &[u8], expected| value(key)?.ok_or_else(|| at.child(key).value_error(b"", expected));
    let id = at.child(b"id").uvarint(&required(b"id", "a varint")?)?;
    let kind = match required(b"kind", "a kind of snapshot")?.as_slice() {
        [1] => Kind::View,
        [2] => Kind::Active,
        [3] => Kind::Committed,
        other => {
            return Err(at.child(b"kind").value_error(other, "a kind of snapshot (1, 2 or 3)"));
        }
    };
    let time = |key: &[u8]| value(key)?.map(|bytes| at.child(key).time(&bytes)).transpose();
    let number = |key: &[u8]| value(key)?.map(|bytes| at.child(key).varint(&bytes)).transpose();
    let parent = value(b"parent")?.map(|bytes| at.child(b"parent").text(bytes)).transpose()?;
    Ok(Snapshot {
        id,
        kind,
        parent: parent.filter(|parent| !parent.is_empty()),
        created_at: time(b"createdat")?,
        updated_at: time(b"updatedat")?,
        inodes: number(b"inodes")?,
        size: number(b"size")?,
        labels: read_labels(bucket, at)?,
    })
}

fn write_snapshot(bucket: &mut BucketWriter<'_>, snapshot: &Snapshot) -> Result<(), EncodeError> {
    put_time(bucket, b"createdat", snapshot.created_at)?;
    bucket.put(b"id", &varint::encode_unsigned(snapshot.id))?;
    if let Some(inodes) = snapshot.inodes {
        bucket.put(b"inodes", &varint::encode_signed(inodes))?;
    }
    bucket.put(b"kind", &[snapshot.kind as u8])?;
    write_labels(bucket, &snapshot.labels)?;
    if let Some(parent) = &snapshot.parent {
        bucket.put(b"parent", parent.as_bytes())?;
    }
    if let Some(size) = snapshot.size {
        bucket.put(b"size", &varint::encode_signed(size))?;
    }
    put_time(bucket, b"updatedat", snapshot.updated_at)
}
