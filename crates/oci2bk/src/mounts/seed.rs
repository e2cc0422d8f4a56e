//! Adds cache mounts to the databases of a state (BuildKit v0.34.2 `cache/manager.go` `New`,
//! `solver/llbsolver/mounts/mount.go`).

use std::collections::BTreeMap;

use bkstate::ids::{KeyId, RecordId, ResultId};
use bkstate::metadata::{LABEL_GC_FLAT, SnapshotRow};
use bkstate::mounts::{RECORD_TYPE, key};
use bkstate::records::{POLICY_RETAIN, Record};
use bkstate::snapshots::{Kind, Snapshot};
use bkstate::state::State;
use bkstate::{Digest, Time};

use super::job::base_name;
use super::list::MKDIR;
use crate::unpack::Usage;

/// `snapshot.size` of a record that the daemon is to measure itself.
const SIZE_UNKNOWN: i64 = -1;

/// Adds records and their snapshots to a state.
pub(super) struct Seeder<'s> {
    pub(super) state: &'s mut State,
    /// When everything was last used; `None` if that is not known.
    pub(super) last_used: Option<Time>,
}

/// A snapshot to add.
struct Added<'a> {
    record: &'a RecordId,
    /// The id of its directory.
    directory: u64,
    kind: Kind,
    /// The key of the snapshot below it.
    parent: Option<String>,
    usage: Option<Usage>,
}

impl Seeder<'_> {
    /// Adds the record of the empty directory on which mounts with `uid=`, `gid=` or `mode=` are, with its
    /// snapshot in `directory`, as the result of the step `step`.
    pub(super) fn add_base(&mut self, step: &KeyId, directory: u64, usage: Usage) -> RecordId {
        let id = self.free(&base_name(step));
        let record = Record {
            committed: Some(true),
            snapshot: Some(id.to_string()),
            description: Some(MKDIR.to_owned()),
            size: Some(SIZE_UNKNOWN),
            ..self.record()
        };
        self.state.records.by_id.insert(id.clone(), record);
        let (kind, usage) = (Kind::Committed, Some(usage));
        self.add_snapshot(Added { record: &id, directory, kind, parent: None, usage });
        self.add_result(step, &id);
        id
    }

    /// Adds the record of that directory as the result of the step `step`.
    pub(super) fn add_result(&mut self, step: &KeyId, base: &RecordId) {
        let result = ResultId { worker: self.state.worker_id.clone(), record: Some(base.clone()) };
        let created_at = self.created_at();
        self.state.solver.add_key(step);
        self.state.solver.add_result(step, result, created_at);
    }

    /// Adds the mount `id` on `base`, with the files in `directory`, whose archive is `content`. An existing
    /// record `replaced` keeps its id. Returns the record.
    pub(super) fn add_mount(
        &mut self,
        id: &str,
        base: Option<&RecordId>,
        directory: u64,
        content: Digest,
        replaced: Option<RecordId>,
    ) -> RecordId {
        let key = key(id, base);
        let record_id = match replaced {
            Some(record) => {
                self.forget_files(&record);
                record
            }
            None => self.free(&format!("cache mount {key} {content}")),
        };
        let parent = base.and_then(|base| {
            let record = self.state.records.by_id.get(base)?;
            Some(record.snapshot_key(base).to_owned())
        });
        let record = Record {
            cache_dir: Some(key),
            parent: base.cloned(),
            snapshot: Some(record_id.to_string()),
            record_type: Some(RECORD_TYPE.to_owned()),
            description: Some(format!("cached mount {id}")),
            // Without a size, garbage collection counts from its first look at the mount.
            ..self.record()
        };
        self.state.records.by_id.insert(record_id.clone(), record);
        let record = &record_id;
        self.add_snapshot(Added { record, directory, kind: Kind::Active, parent, usage: None });
        record_id
    }

    /// Removes what the records have of a mount that is replaced: the one that a daemon made to measure it, and
    /// hashes of its content.
    fn forget_files(&mut self, record: &RecordId) {
        let records = &mut self.state.records;
        let is_twin = |known: &Record| known.equal_mutable.as_ref() == Some(record);
        let twins = records.by_id.iter().filter(|(_, known)| is_twin(known));
        let twins: Vec<_> = twins.map(|(id, _)| id.clone()).collect();
        for twin in &twins {
            records.by_id.remove(twin);
        }
        for id in twins.iter().chain([record]) {
            records.external.remove(id);
        }
    }

    /// Returns a new record that is retained.
    fn record(&self) -> Record {
        let last_used = self.last_used.and_then(|time| time.unix_nanos());
        Record {
            created_at: self.created_at().unix_nanos(),
            last_used_at: last_used,
            // Without a count the daemon ignores the time.
            usage_count: last_used.map(|_| 1),
            cache_policy: Some(POLICY_RETAIN),
            ..Record::default()
        }
    }

    fn created_at(&self) -> Time {
        self.last_used.unwrap_or(Time::UNIX_EPOCH)
    }

    /// Returns the record id that follows from `content`, or the next one if that exists.
    fn free(&self, content: &str) -> RecordId {
        let mut id = RecordId::derive(content);
        let mut number = 0_u64;
        while self.state.records.by_id.contains_key(&id) {
            number += 1;
            id = RecordId::derive(&format!("{content} {number}"));
        }
        id
    }

    /// Adds a snapshot that has the name of its record, and the lease that keeps it. An existing one of that name, of
    /// a mount that is replaced or by an import that was stopped, is removed.
    fn add_snapshot(&mut self, added: Added<'_>) {
        let time = self.created_at();
        let created_at = Some(time);
        let State { worker, metadata, snapshots, .. } = &mut *self.state;
        let namespace = worker.namespace_entry(metadata);
        let key = added.record.to_string();
        let lease = namespace.leases.entry(key.clone()).or_default();
        lease.created_at = lease.created_at.or(created_at);
        let flat = lease.labels.entry(LABEL_GC_FLAT.to_owned());
        flat.or_insert_with(|| time.to_string());
        worker.kept_by_entry(lease).insert(key.clone());

        let table = worker.table_entry(namespace);
        let below = added.parent.as_ref().and_then(|parent| table.rows.get_mut(parent));
        let parent_name = below.map(|below| {
            below.children.insert(key.clone());
            below.name.clone()
        });
        table.sequence += 1;
        let name = worker.snapshot_name(table.sequence, &key);
        let row = SnapshotRow {
            name: name.clone(),
            created_at,
            updated_at: created_at,
            parent: added.parent,
            ..SnapshotRow::default()
        };
        let former = table.rows.insert(key, row);
        // In a containerd, its own garbage collection removes what nothing names.
        if let Some(former) = former.filter(|_| !worker.shares_storage()) {
            snapshots.by_name.remove(&former.name);
        }
        let snapshot = Snapshot {
            id: added.directory,
            kind: added.kind,
            parent: parent_name,
            created_at,
            updated_at: created_at,
            inodes: added.usage.map(|usage| usage.inodes),
            size: added.usage.map(|usage| usage.size),
            labels: BTreeMap::new(),
        };
        snapshots.by_name.insert(name, snapshot);
        snapshots.sequence = snapshots.sequence.max(added.directory);
    }
}
