//! The size of a record, as the daemon measures it on the first request.
//!
//! Source: BuildKit v0.32.2 `cache/refs.go` `size`, `walkBlobVariantsOnly`; `snapshot/merge.go`
//! `Usage`; containerd v2.3.3 `plugins/snapshots/overlay/overlay.go` `Usage`.

use std::collections::{BTreeMap, BTreeSet};

use super::loaded::Loaded;
use crate::digest::Digest;
use crate::ids::RecordId;
use crate::metadata::Namespace;
use crate::records::Record;
use crate::snapshots::Kind;
use crate::state::State;

/// Prefix of the labels of a blob that refer to blobs with the same layer.
const LABEL_VARIANT: &str = "containerd.io/gc.ref.content.blob-";
/// The label with the media type of a blob; without it the daemon does not count a variant.
const LABEL_MEDIA_TYPE: &str = "buildkit.io/blob/mediatype";
/// The label of a merged snapshot with its size without files shared by hard links.
const LABEL_MERGE_SIZE: &str = "buildkit.mergeUsageSize";

/// The sizes of records.
pub(super) struct Sizes<'s, M> {
    state: &'s State,
    namespace: Option<&'s Namespace>,
    measure: M,
}

impl<'s, M, E> Sizes<'s, M>
where
    M: FnMut(u64) -> Result<i64, E>,
{
    pub(super) fn new(state: &'s State, measure: M) -> Self {
        Self { state, namespace: state.worker.namespace_of(&state.metadata), measure }
    }

    /// Returns the size of the record in bytes: the size that the daemon stored, or the one that it would
    /// measure.
    pub(super) fn of(
        &mut self,
        id: &RecordId,
        loaded: &Loaded<'_>,
        all: &BTreeMap<&RecordId, Loaded<'_>>,
    ) -> Result<i64, E> {
        let record = loaded.record;
        let record_of = |id: &RecordId| all.get(id).map(|loaded| loaded.record);
        let known = |record: &Record| record.size.filter(|size| *size != -1);
        if let Some(size) = known(record) {
            return Ok(size);
        }
        if loaded.lazy {
            return Ok(0);
        }
        // A mutable record is measured through an immutable one, which it gets for that purpose if it has
        // none.
        let owner = loaded.owner.and_then(|owner| Some((owner, record_of(owner)?)));
        let (key, data) = match (loaded.twin.and_then(record_of), owner) {
            (Some(twin), _) => (record.snapshot_key(id), twin),
            (None, Some((owner, owning))) => (owning.snapshot_key(owner), record),
            (None, None) => (record.snapshot_key(id), record),
        };
        if let Some(size) = known(data) {
            return Ok(size);
        }
        let snapshot = if data.is_packed() { 0 } else { self.snapshot(key)? };
        Ok(data.blob.map_or(snapshot, |blob| snapshot.saturating_add(self.blobs(blob))))
    }

    fn snapshot(&mut self, key: &str) -> Result<i64, E> {
        let table = self.namespace.and_then(|namespace| self.state.worker.table_of(namespace));
        let Some(row) = table.and_then(|table| table.rows.get(key)) else { return Ok(0) };
        if let Some(size) = row.labels.get(LABEL_MERGE_SIZE).and_then(|size| size.parse().ok()) {
            return Ok(size);
        }
        match self.state.snapshots.by_name.get(&row.name) {
            Some(snapshot) if snapshot.kind == Kind::Active => (self.measure)(snapshot.id),
            Some(snapshot) => Ok(snapshot.size.unwrap_or_default()),
            None => Ok(0),
        }
    }

    /// Returns the bytes of `blob` and of the same layer in other compressions.
    fn blobs(&self, blob: Digest) -> i64 {
        let content = self.namespace.map(|namespace| &namespace.content);
        let mut met = BTreeSet::from([blob]);
        let mut pending = vec![blob];
        let mut bytes: i64 = 0;
        while let Some(next) = pending.pop() {
            let Some(found) = content.and_then(|content| content.get(&next)) else { continue };
            if next == blob || found.labels.contains_key(LABEL_MEDIA_TYPE) {
                bytes = bytes.saturating_add(found.size);
            }
            let named = found.labels.iter().filter(|(name, _)| name.starts_with(LABEL_VARIANT));
            let variants = named.filter_map(|(_, digest)| digest.parse::<Digest>().ok());
            pending.extend(variants.filter(|variant| met.insert(*variant)));
        }
        bytes
    }
}
