//! Records that a daemon was making or removing when it stopped.
//!
//! The record, its lease and its snapshot are in two databases, which change one after the other:
//!
//! | a daemon stopped while it | what remains |
//! |---|---|
//! | released a mutable record (`cache/refs.go` `remove`) | the record without its lease, perhaps without its snapshot |
//! | made an immutable record of a mutable one (`commit`) | a record without lease and snapshot, not committed yet |
//! | gave the snapshot of a mutable record to its twin (`finalize`) | the record without its snapshot, perhaps without its lease; the twin may not name it any more |
//! | made a merge or a difference (`cache/manager.go` `createMergeRef`, `createDiffRef`) | a record without lease, or with an empty one, not committed yet |
//! | made a record of a layer (`cache/manager.go` `GetByBlob`) | a record with a lease, not committed yet |
//!
//! The next daemon drops such a record when it starts and finds that its snapshot is missing (`getRecord`),
//! and collects a snapshot that no lease keeps. The record is not needed: no other builds on it, no result
//! names it. Source: BuildKit v0.32.2 and v0.34.2.

use std::collections::BTreeSet;

use crate::ids::RecordId;
use crate::metadata::{Namespace, SnapshotTable};
use crate::records::Record;
use crate::state::State;

/// Returns these records in `state`.
pub(super) fn abandoned(
    state: &State,
    namespace: &Namespace,
    table: &SnapshotTable,
) -> BTreeSet<RecordId> {
    let records = &state.records.by_id;
    let mut needed: BTreeSet<&RecordId> = records.values().flat_map(Record::parents).collect();
    needed.extend(state.solver.by_result.keys().filter_map(|result| result.record.as_ref()));
    let has_snapshot =
        |id: &RecordId, record: &Record| table.rows.contains_key(record.snapshot_key(id));
    let mut with_twin = BTreeSet::new();
    for (id, record) in records {
        if let Some(mutable) = &record.equal_mutable {
            with_twin.insert(mutable);
            // Until it has its own snapshot, it uses that of the mutable record.
            if !has_snapshot(id, record) {
                needed.insert(mutable);
            }
        }
    }
    let is_abandoned = |id: &RecordId, record: &Record| {
        // Only the cache mount itself uses its snapshot, so without it the data is lost.
        let may_lose = !record.is_cache_mount();
        // The daemon releases a retained record only after marking it.
        let let_go = may_lose && !record.is_retained();
        let has_lease = namespace.leases.contains_key(id.as_str());
        let given = (may_lose || with_twin.contains(id)) && !has_snapshot(id, record);
        let begun = record.is_composed() && !record.is_committed();
        let mutable = record.is_mutable() && (given || (let_go && !has_lease));
        !record.is_removed() && !needed.contains(id) && (mutable || begun)
    };
    let found = records.iter().filter(|(id, record)| is_abandoned(id, record));
    found.map(|(id, _)| id.clone()).collect()
}
