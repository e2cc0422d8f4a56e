//! Whether the parts of a state agree with each other.
//!
//! A daemon believes most of its databases without looking: a record without its snapshot fails a
//! build, a result without its record is deleted at start, a blob without its row disappears at
//! the first garbage collection. All of that is found here, without a daemon.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::read::read_database;
use super::{
    CACHE_DB, METADATA_DB, RECORDS_DB, ReadStateError, SNAPSHOTS, SNAPSHOTS_DB, SNAPSHOTTER, State,
    WORKER,
};
use crate::bolt;
use crate::content::BlobStore;
use crate::digest::Digest;
use crate::dir::{Dir, DirError, if_there};
use crate::ids::{KeyId, RecordId, ResultId};
use crate::metadata::{NAMESPACE, Namespace, SnapshotTable};
use crate::records::{Record, Records};
use crate::snapshots::{Kind, Trees};

/// Something in a state that a daemon would trip over.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// A database is not a sound BoltDB file.
    #[error("{}: {problem}", path.display())]
    Database {
        /// The database.
        path: PathBuf,
        /// What is wrong with it.
        problem: bolt::Problem,
    },
    /// A result names a record that is not there; the daemon would delete the result.
    #[error("cache.db: key {key} results in {result}, which is not a record of this worker")]
    ResultWithoutRecord {
        /// The key.
        key: KeyId,
        /// The result.
        result: ResultId,
    },
    /// A key has results and no bucket in `_links`, so the daemon does not see it.
    #[error("cache.db: key {key} has results but does not exist in _links")]
    InvisibleKey {
        /// The key.
        key: KeyId,
    },
    /// A link leads to a key that does not know it.
    #[error("cache.db: the link from {from} to {to} has no backlink")]
    MissingBacklink {
        /// Where the link starts.
        from: KeyId,
        /// Where it leads.
        to: KeyId,
    },
    /// A record builds on one that is not there; the daemon would delete it.
    #[error("metadata_v2.db: record {record} has the parent {parent}, which is not there")]
    MissingParent {
        /// The record.
        record: RecordId,
        /// Its parent.
        parent: RecordId,
    },
    /// The index and the records do not agree.
    #[error("metadata_v2.db: the index entry {entry:?} is {wrong}")]
    Index {
        /// The key in `_index`.
        entry: String,
        /// `missing` or `left over`.
        wrong: &'static str,
    },
    /// A record has no lease, so the first garbage collection would empty it.
    #[error("containerdmeta.db: no lease keeps the {what} of record {record}")]
    Unleased {
        /// The record.
        record: RecordId,
        /// `blob` or `snapshot`.
        what: &'static str,
    },
    /// A record names a blob that the content store does not have as the record says. Where only
    /// the row is missing and a result needs the record, the daemon deletes the result at start.
    #[error("the content store lacks {blob} of record {record}: {lack}")]
    MissingBlob {
        /// The record.
        record: RecordId,
        /// The blob.
        blob: Digest,
        /// What is missing or different.
        lack: &'static str,
    },
    /// A record names a snapshot that is not there; a build that uses it would fail.
    #[error("containerdmeta.db: record {record} has no snapshot {snapshot}")]
    MissingSnapshot {
        /// The record.
        record: RecordId,
        /// The key of the snapshot.
        snapshot: String,
    },
    /// The two databases of snapshots do not agree.
    #[error("snapshot {name}: {wrong}")]
    Snapshot {
        /// The name of the snapshot in `snapshots/metadata.db`.
        name: String,
        /// What is wrong.
        wrong: &'static str,
    },
    /// A snapshot that no row in `containerdmeta.db` names; the daemon would remove it.
    #[error("snapshot {name}: it is in snapshots/metadata.db and not in containerdmeta.db")]
    UnnamedSnapshot {
        /// The name of the snapshot in `snapshots/metadata.db`.
        name: String,
    },
    /// A directory without a snapshot; the daemon would remove it.
    #[error("snapshots/snapshots/{name} belongs to no snapshot")]
    StrayDirectory {
        /// The name of the directory.
        name: String,
    },
}

impl Damage {
    /// Whether a daemon or a run that was killed can have left it, and the next daemon removes it
    /// without a loss.
    pub fn is_leftover(&self) -> bool {
        matches!(
            self,
            Self::ResultWithoutRecord { .. }
                | Self::UnnamedSnapshot { .. }
                | Self::StrayDirectory { .. }
        )
    }
}

/// Checks the state in `root` and returns everything that is wrong with it.
///
/// Blobs and files are looked for, not read.
///
/// # Errors
/// If the state cannot be read at all.
pub fn verify(root: &Dir) -> Result<Vec<Damage>, ReadStateError> {
    let worker = root.dir(WORKER)?;
    let snapshots = worker.dir(SNAPSHOTS)?;
    let damage = check_databases(root, Some(&worker), Some(&snapshots))?;
    if !damage.is_empty() {
        // What a damaged file says is not worth comparing.
        return Ok(damage);
    }
    compare(&State::read(root)?, Some(&worker), Some(&snapshots))
}

/// Checks the pages of those databases that are there.
pub(super) fn check_databases(
    root: &Dir,
    worker: Option<&Dir>,
    snapshots: Option<&Dir>,
) -> Result<Vec<Damage>, ReadStateError> {
    let mut damage = Vec::new();
    let databases = [
        (Some(root), CACHE_DB),
        (worker, RECORDS_DB),
        (worker, METADATA_DB),
        (snapshots, SNAPSHOTS_DB),
    ];
    for (dir, name) in databases {
        if let Some(dir) = dir
            && dir.size(name)?.is_some()
        {
            check_database(dir, name, &mut damage)?;
        }
    }
    Ok(damage)
}

/// Compares what the databases say with each other and with the files, as far as those are there.
pub(super) fn compare(
    state: &State,
    worker: Option<&Dir>,
    snapshots: Option<&Dir>,
) -> Result<Vec<Damage>, ReadStateError> {
    let mut damage = Vec::new();
    check_solver(state, &mut damage);
    if let Some(worker) = worker
        && worker.size(RECORDS_DB)?.is_some()
    {
        check_index(worker, &state.records, &mut damage)?;
    }
    let empty = Namespace::default();
    let namespace = state.metadata.namespaces.get(NAMESPACE).unwrap_or(&empty);
    let blobs = worker.map(BlobStore::open).map(if_there).transpose()?.flatten();
    let needed = needed_by_results(state);
    for (id, record) in &state.records.by_id {
        // The daemon was stopped before it could remove these; it will when it starts.
        if record.deleted == Some(true) {
            continue;
        }
        check_record(id, record, &state.records, namespace, &mut damage);
        check_blob(id, record, namespace, blobs.as_ref(), needed.contains(id), &mut damage)?;
    }
    check_snapshots(state, namespace, &mut damage);
    check_directories(state, snapshots, &mut damage)?;
    Ok(damage)
}

fn check_database(dir: &Dir, name: &str, damage: &mut Vec<Damage>) -> Result<(), ReadStateError> {
    let path = dir.path().join(name);
    let problems = read_database(dir, name, |db| Ok(bolt::check(db)))?;
    // A daemon that was cut off in a commit may leave one meta page torn. The other one counts
    // then, as if that commit had never begun, and the next commit repairs the torn one.
    let counts = |problem: &bolt::Problem| !matches!(problem, bolt::Problem::Meta { .. });
    damage.extend(
        problems
            .into_iter()
            .filter(counts)
            .map(|problem| Damage::Database { path: path.clone(), problem }),
    );
    Ok(())
}

fn check_solver(state: &State, damage: &mut Vec<Damage>) {
    for (key, results) in &state.solver.results {
        if !state.solver.links.contains_key(key) {
            damage.push(Damage::InvisibleKey { key: key.clone() });
        }
        // No other session asks for the key of a local source, and the daemon forgets its record
        // as soon as the next session reuses the files.
        if key.is_of_one_session() {
            continue;
        }
        for result in results.keys() {
            let known = match &result.record {
                Some(record) => state.records.by_id.contains_key(record),
                None => true,
            };
            if !known || result.worker != state.worker_id {
                damage
                    .push(Damage::ResultWithoutRecord { key: key.clone(), result: result.clone() });
            }
        }
    }
    for (from, links) in &state.solver.links {
        let unknown = links.iter().filter(|(_, to)| {
            !state.solver.backlinks.get(to).is_some_and(|sources| sources.contains(from))
        });
        damage.extend(
            unknown.map(|(_, to)| Damage::MissingBacklink { from: from.clone(), to: to.clone() }),
        );
    }
}

/// The records that results name, and all that those build on.
fn needed_by_results(state: &State) -> BTreeSet<&RecordId> {
    let results = state.solver.results.values().flat_map(BTreeMap::keys);
    let mut pending: Vec<_> = results.filter_map(|result| result.record.as_ref()).collect();
    let mut needed = BTreeSet::new();
    while let Some(id) = pending.pop() {
        if needed.insert(id)
            && let Some(record) = state.records.by_id.get(id)
        {
            pending.extend(parents(record));
        }
    }
    needed
}

/// The records that `record` builds on.
fn parents(record: &Record) -> impl Iterator<Item = &RecordId> {
    let below = [&record.parent, &record.lower_diff_parent, &record.upper_diff_parent];
    below.into_iter().flatten().chain(record.merge_parents.iter().flatten())
}

fn check_index(
    worker: &Dir,
    records: &Records,
    damage: &mut Vec<Damage>,
) -> Result<(), ReadStateError> {
    let stored = read_database(worker, RECORDS_DB, Records::read_index)?;
    let expected = records.index();
    let differing = |entry: &String, wrong| Damage::Index { entry: entry.clone(), wrong };
    damage.extend(expected.difference(&stored).map(|entry| differing(entry, "missing")));
    damage.extend(stored.difference(&expected).map(|entry| differing(entry, "left over")));
    Ok(())
}

fn check_record(
    id: &RecordId,
    record: &Record,
    records: &Records,
    namespace: &Namespace,
    damage: &mut Vec<Damage>,
) {
    for parent in parents(record) {
        if !records.by_id.contains_key(parent) {
            damage.push(Damage::MissingParent { record: id.clone(), parent: parent.clone() });
        }
    }
    // An immutable record whose mutable twin still owns the snapshot has none of its own yet.
    if record.equal_mutable.is_some() {
        return;
    }
    // The daemon looks for the snapshot of a mutable record under the record's id, whatever it says.
    let snapshot = match &record.snapshot {
        Some(snapshot) if record.committed == Some(true) => snapshot.as_str(),
        _ => id.as_str(),
    };
    let lease = namespace.leases.get(id.as_str());
    let leased = lease
        .and_then(|lease| lease.snapshots.get(SNAPSHOTTER))
        .is_some_and(|keys| keys.contains(snapshot));
    // Merge and diff records, and blob-only ones, get their snapshot when it is first used.
    let lazy = record.blob_only == Some(true)
        || record.merge_parents.is_some()
        || record.lower_diff_parent.is_some()
        || record.upper_diff_parent.is_some();
    let exists =
        namespace.snapshots.get(SNAPSHOTTER).is_some_and(|table| table.rows.contains_key(snapshot));
    if !exists && !lazy {
        damage.push(Damage::MissingSnapshot { record: id.clone(), snapshot: snapshot.to_owned() });
    }
    if !leased {
        damage.push(Damage::Unleased { record: id.clone(), what: "snapshot" });
    }
    let keeps = |blob| lease.is_some_and(|lease| lease.content.contains(blob));
    if record.blob.as_ref().is_some_and(|blob| !keeps(blob)) {
        damage.push(Damage::Unleased { record: id.clone(), what: "blob" });
    }
}

fn check_blob(
    id: &RecordId,
    record: &Record,
    namespace: &Namespace,
    blobs: Option<&BlobStore>,
    needed: bool,
    damage: &mut Vec<Damage>,
) -> Result<(), DirError> {
    let Some(blob) = record.blob else {
        return Ok(());
    };
    let row = namespace.content.get(&blob).map(|content| content.size);
    let file = blobs.map(|blobs| blobs.size(&blob)).transpose()?.flatten();
    let file = file.map(u64::cast_signed);
    let lack = match (row, file) {
        // A layer of an image that no step needed the files of; they are still at the registry.
        (None, None) if record.blob_only == Some(true) && !needed => return Ok(()),
        (None, _) => "it has no row in containerdmeta.db",
        (_, None) => "its file is missing",
        (Some(row), Some(file)) if row != file => "its file has not the size of its row",
        (Some(row), _) if record.blob_size.is_some_and(|size| size != row) => {
            "its row has not the size in the record"
        }
        _ => return Ok(()),
    };
    damage.push(Damage::MissingBlob { record: id.clone(), blob, lack });
    Ok(())
}

fn check_snapshots(state: &State, namespace: &Namespace, damage: &mut Vec<Damage>) {
    let empty = SnapshotTable::default();
    let table = namespace.snapshots.get(SNAPSHOTTER).unwrap_or(&empty);
    let named = state.named_snapshots();
    let unnamed = state.snapshots.by_name.keys().filter(|name| !named.contains(name.as_str()));
    damage.extend(unnamed.map(|name| Damage::UnnamedSnapshot { name: name.clone() }));
    let mut report = |name: &str, wrong| {
        damage.push(Damage::Snapshot { name: name.to_owned(), wrong });
    };
    for (key, row) in &table.rows {
        let number = row.name.split('/').nth(1).and_then(|number| number.parse::<u64>().ok());
        if number.is_some_and(|number| number > table.sequence) {
            report(&row.name, "its number is above the sequence in containerdmeta.db");
        }
        let Some(snapshot) = state.snapshots.by_name.get(&row.name) else {
            report(&row.name, "it is in containerdmeta.db and not in snapshots/metadata.db");
            continue;
        };
        let parent = row.parent.as_ref().map(|parent| table.rows.get(parent));
        match (parent, &snapshot.parent) {
            (None, None) => {}
            (Some(Some(row)), Some(name)) if row.name == *name => {
                if !row.children.contains(key) {
                    report(&row.name, "it does not list all its children in containerdmeta.db");
                }
            }
            _ => report(&row.name, "its parent differs between the databases or is missing"),
        }
    }
    let mut ids = BTreeSet::new();
    for (name, snapshot) in &state.snapshots.by_name {
        if !ids.insert(snapshot.id) {
            report(name, "another snapshot has the same id");
        }
        if snapshot.id > state.snapshots.sequence {
            report(name, "its id is above the sequence, so the daemon would destroy it");
        }
        let below = snapshot.parent.as_ref().and_then(|name| state.snapshots.by_name.get(name));
        if below.is_some_and(|parent| parent.kind != Kind::Committed) {
            report(name, "its parent is not committed");
        }
    }
}

fn check_directories(
    state: &State,
    snapshots: Option<&Dir>,
    damage: &mut Vec<Damage>,
) -> Result<(), DirError> {
    let named = state.named_snapshots();
    let mut missing: BTreeMap<String, &str> = state
        .snapshots
        .by_name
        .iter()
        .map(|(name, snapshot)| (snapshot.id.to_string(), name.as_str()))
        .collect();
    if let Some(trees) = snapshots.map(Trees::open).map(if_there).transpose()?.flatten() {
        for directory in trees.names()? {
            match missing.remove(&directory) {
                Some(name) if !trees.has_fs(&directory)? => {
                    missing.insert(directory, name);
                }
                Some(_) => {}
                None => damage.push(Damage::StrayDirectory { name: directory }),
            }
        }
    }
    // A daemon that removes a snapshot does not need its directory.
    let missing = missing.values().filter(|name| named.contains(**name));
    damage.extend(missing.map(|name| Damage::Snapshot {
        name: (*name).to_owned(),
        wrong: "its directory is missing",
    }));
    Ok(())
}
