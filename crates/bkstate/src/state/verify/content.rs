//! Blobs: their rows in `containerdmeta.db`, their files, and the records that need them.

use std::collections::{BTreeMap, BTreeSet};

use crate::content::BlobStore;
use crate::digest::Digest;
use crate::dir::{DirError, FileKind};
use crate::ids::RecordId;
use crate::metadata::{LABEL_UNCOMPRESSED, Namespace, SnapshotTable};
use crate::records::{Record, Records};
use crate::small_map::SmallMap;
use crate::solver::SolverCache;
use crate::state::State;

use super::Findings;

/// Damage to a blob.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContentDamage {
    /// A record names a blob that the content store does not have.
    #[error("metadata: the blob {blob} of record {record} has no row")]
    NoRow {
        /// The record.
        record: RecordId,
        /// The blob.
        blob: Digest,
    },
    /// Row and record differ in the size of the blob.
    #[error("metadata: the row of {blob} says {row} bytes, record {record} {size}")]
    RecordSize {
        /// The record.
        record: RecordId,
        /// The blob.
        blob: Digest,
        /// The size in the row.
        row: i64,
        /// The size in the record.
        size: i64,
    },
    /// Row and record differ in the diffID of the blob.
    #[error("metadata: the row of {blob} says it unpacks to {row}, record {record} {diff_id}")]
    DiffId {
        /// The record.
        record: RecordId,
        /// The blob.
        blob: Digest,
        /// The diffID in the row's label.
        row: String,
        /// The diffID of the record.
        diff_id: Digest,
    },
    /// A blob has a row but no file.
    #[error("content: the blob {blob} has a row but no file")]
    NoFile {
        /// The blob.
        blob: Digest,
    },
    /// There is a link, directory or device in the place of a blob.
    #[error("content: the blob {blob} is not a regular file")]
    NotAFile {
        /// The blob.
        blob: Digest,
    },
    /// The size of the file differs from its row.
    #[error("content: the blob {blob} has {file} bytes, but its row says {row}")]
    FileSize {
        /// The blob.
        blob: Digest,
        /// The size in the row.
        row: i64,
        /// The size of the file.
        file: u64,
    },
    /// The content of the file does not match its name.
    #[error("content: the blob {blob} is damaged: its content has the digest {found}")]
    Digest {
        /// The blob.
        blob: Digest,
        /// The digest of the content.
        found: Digest,
    },
    /// The file cannot be read.
    #[error("content: cannot read the blob {blob}")]
    Unreadable {
        /// The blob.
        blob: Digest,
        /// The error of the kernel.
        #[source]
        source: DirError,
    },
    /// A file in the store has no row in any namespace.
    #[error("content: the file {name:?} has no row")]
    StrayFile {
        /// Its name.
        name: String,
    },
}

impl ContentDamage {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::NoRow { .. } => "blob-without-row",
            Self::RecordSize { .. } => "record-blob-size",
            Self::DiffId { .. } => "record-diff-id",
            Self::NoFile { .. } => "blob-without-file",
            Self::NotAFile { .. } => "blob-not-a-file",
            Self::FileSize { .. } => "blob-file-size",
            Self::Digest { .. } => "blob-digest",
            Self::Unreadable { .. } => "unreadable-blob",
            Self::StrayFile { .. } => "stray-blob",
        }
    }

    // containerd v2.3.3 core/metadata/content.go Info, garbageCollect; plugins/content/local/store.go
    // ReaderAt; BuildKit v0.32.2 cache/manager.go checkLazyProviders, cache/refs.go ociDesc.
    pub(super) fn consequence(&self) -> &'static str {
        match self {
            Self::NoRow { .. } => {
                "the daemon takes the blob for absent: it deletes the results of a packed layer when \
                 it starts, and fails to export an unpacked one; the file is collected"
            }
            Self::RecordSize { .. } | Self::DiffId { .. } => {
                "the daemon exports manifests with the wrong value, which registries and other \
                 daemons refuse"
            }
            Self::NoFile { .. } | Self::NotAFile { .. } | Self::Unreadable { .. } => {
                "the daemon believes the row until it reads the blob: to unpack, export or show it \
                 fails"
            }
            Self::FileSize { .. } | Self::Digest { .. } => {
                "the daemon does not hash blobs again: to unpack it fails or gives other files, and \
                 what is exported is refused by registries and other daemons"
            }
            Self::StrayFile { .. } => {
                "the daemon does not know the file; it costs space until a collection that removes \
                 another blob"
            }
        }
    }
}

pub(super) fn check(
    state: &State,
    namespace: &Namespace,
    table: &SnapshotTable,
    stores: &[BlobStore],
    findings: &mut Findings,
) -> Result<(), DirError> {
    let State { worker, records, solver, metadata, .. } = state;
    let needed = needed_by_results(records, solver);
    let mut named = BTreeSet::new();
    for (id, record) in records.by_id.iter().filter(|(_, record)| !record.is_removed()) {
        if let Some(blob) = record.blob {
            named.insert(blob);
            let is_needed = needed.contains(id);
            check_record(id, record, blob, (namespace, table), is_needed, findings);
        }
    }
    // Those of other programs are not judged.
    let rows = metadata.namespaces.values().flat_map(|namespace| &namespace.content);
    let rows: BTreeMap<_, _> = rows.map(|(blob, content)| (*blob, content.size)).collect();
    for (blob, row) in &rows {
        check_file(*blob, *row, stores, findings)?;
    }
    if worker.shares_storage() {
        return Ok(());
    }
    named.extend(metadata.expected_blobs());
    named.extend(metadata.blobs());
    let mut files = BTreeSet::new();
    for store in stores {
        files.extend(store.names()?);
    }
    for name in files {
        let blob = format!("sha256:{name}").parse().ok();
        // The missing row of the record's blob is reported already.
        if !blob.is_some_and(|blob| named.contains(&blob)) {
            findings.add(ContentDamage::StrayFile { name });
        }
    }
    Ok(())
}

fn check_record(
    id: &RecordId,
    record: &Record,
    blob: Digest,
    (namespace, table): (&Namespace, &SnapshotTable),
    needed: bool,
    findings: &mut Findings,
) {
    let Some(content) = namespace.content.get(&blob) else {
        // A layer of an image that no step needed; its files are still at the registry. Or a layer with
        // another blob than the layer of the same content whose snapshot it shares (BuildKit v0.34.2
        // cache/manager.go GetByBlob).
        let shared = || table.rows.contains_key(record.snapshot_key(id));
        if !record.is_packed() || (needed && !shared()) {
            findings.add(ContentDamage::NoRow { record: id.clone(), blob });
        }
        return;
    };
    if let Some(size) = record.blob_size.filter(|size| *size != content.size) {
        let (record, row) = (id.clone(), content.size);
        findings.add(ContentDamage::RecordSize { record, blob, row, size });
    }
    if let (Some(diff_id), Some(row)) = (record.diff_id, content.labels.get(LABEL_UNCOMPRESSED))
        && *row != diff_id.to_string()
    {
        let (record, row) = (id.clone(), row.clone());
        findings.add(ContentDamage::DiffId { record, blob, row, diff_id });
    }
}

fn check_file(
    blob: Digest,
    row: i64,
    stores: &[BlobStore],
    findings: &mut Findings,
) -> Result<(), DirError> {
    for store in stores {
        let Some(found) = store.find(&blob)? else { continue };
        if found.kind != FileKind::File {
            findings.add(ContentDamage::NotAFile { blob });
        } else if found.size.cast_signed() != row {
            findings.add(ContentDamage::FileSize { blob, row, file: found.size });
        }
        return Ok(());
    }
    findings.add(ContentDamage::NoFile { blob });
    Ok(())
}

/// Returns the records that results name, and all records that those build on.
fn needed_by_results<'s>(records: &'s Records, solver: &'s SolverCache) -> BTreeSet<&'s RecordId> {
    let results = solver.results.values().flat_map(SmallMap::keys);
    let mut pending: Vec<_> = results.filter_map(|result| result.record.as_ref()).collect();
    let mut needed = BTreeSet::new();
    while let Some(id) = pending.pop() {
        if needed.insert(id)
            && let Some(record) = records.by_id.get(id)
        {
            pending.extend(record.parents());
        }
    }
    needed
}
