//! Rows of snapshots: their keys, their names in `snapshots/metadata.db`, and their children.

use std::collections::{BTreeMap, BTreeSet};

use super::{put_names, read_time};
use crate::bolt::{Bucket, BucketWriter, Entry};
use crate::decode::{At, DecodeError, each_value, read_labels};
use crate::encode::{EncodeError, put_time, write_labels};
use crate::time::Time;

/// A snapshot as containerd's clients see it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SnapshotRow {
    /// Its name in `snapshots/metadata.db`: `<namespace>/<number>/<key>`.
    pub name: String,
    /// When it was created.
    pub created_at: Option<Time>,
    /// When it was last changed.
    pub updated_at: Option<Time>,
    /// The key of the snapshot below it.
    pub parent: Option<String>,
    /// The keys of the snapshots above it. While it has children, it cannot be removed.
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

pub(super) fn read_table(bucket: &Bucket<'_>, at: &At<'_>) -> Result<SnapshotTable, DecodeError> {
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

pub(super) fn write_table(
    bucket: &mut BucketWriter<'_>,
    table: &SnapshotTable,
) -> Result<(), EncodeError> {
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
