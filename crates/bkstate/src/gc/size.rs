//! How large a state is to its daemon.

use crate::metadata::NAMESPACE;
use crate::records::Record;
use crate::state::{SNAPSHOTTER, State};

impl State {
    /// Bytes of the state as the daemon counts them: for each cache record its blob and its snapshot,
    /// whether or not another record has the same.
    ///
    /// What the daemon has counted before is taken from the records. Snapshots that can still be
    /// written have no size yet and are left out, if so. Source: `cacheRecord.size` and
    /// `cacheManager.DiskUsage` in BuildKit v0.32.2 `cache/refs.go` and `cache/manager.go`.
    pub fn record_bytes(&self) -> u64 {
        let counted = |record: &&Record| {
            // The mutable record that owns the snapshot counts for both.
            record.deleted != Some(true) && record.equal_mutable.is_none()
        };
        let records = self.records.by_id.values().filter(counted);
        records.fold(0, |sum: u64, record| sum.saturating_add(self.size_of(record)))
    }

    fn size_of(&self, record: &Record) -> u64 {
        if let Some(size) = record.size.and_then(|size| u64::try_from(size).ok()) {
            return size;
        }
        let positive = |size: i64| u64::try_from(size).unwrap_or(0);
        let namespace = self.metadata.namespaces.get(NAMESPACE);
        let blob = record
            .blob
            .and_then(|blob| Some(positive(namespace?.content.get(&blob)?.size)))
            .unwrap_or(0);
        let snapshot = record
            .snapshot
            .as_ref()
            .filter(|_| record.blob_only != Some(true))
            .and_then(|key| namespace?.snapshots.get(SNAPSHOTTER)?.rows.get(key))
            .and_then(|row| self.snapshots.by_name.get(&row.name)?.size)
            .map_or(0, positive);
        blob.saturating_add(snapshot)
    }
}
