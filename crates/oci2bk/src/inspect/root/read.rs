//! Reads a root.

use std::collections::{BTreeMap, BTreeSet};

use bkstate::Digest;
use bkstate::ids::{KeyId, RecordId};
use bkstate::layers;
use bkstate::metadata::{LABEL_UNCOMPRESSED, Namespace, SUFFIX_VARIANTS, SUFFIX_VIEW};
use bkstate::packed::ImageId;
use bkstate::root::Location;
use bkstate::state::State;

use super::{
    Blob, InspectError, Key, KeyLink, KeyResult, Lease, Record, Root, SnapshotOf, Unread, Worker,
};
use crate::degree::Degree;
use crate::inspect::{Warmth, history};
use crate::keys::{KeySource, SourceError, read_root};
use crate::limits::Limits;

impl Root {
    /// Reads the root at this location, which must not be in use by a daemon. `sources` supply the names of steps
    /// that the root itself no longer has.
    ///
    /// # Errors
    /// See [`InspectError`]. Damage that leaves the databases readable is not an error.
    pub fn read(
        root: impl Into<Location>,
        sources: &[KeySource],
        limits: &Limits,
    ) -> Result<Self, InspectError> {
        let root = bkstate::Root::open(root)?;
        let path = root.path();
        let verified = root.verify_databases()?;
        let Some(state) = verified.state else {
            return Err(InspectError::Damaged { root: path.to_owned(), damage: verified.damage });
        };
        let parts = root.parts()?;
        let mut unread = Vec::new();
        let builds = history::builds(&root).unwrap_or_else(|error| {
            unread.push(error.into());
            Vec::new()
        });
        let own = match read_root(&root, limits) {
            Ok(own) => own,
            // A root without any steps has no names either.
            Err(SourceError::EmptyRoot { .. }) => Vec::new(),
            Err(error) => {
                unread.push(Unread::Names(error));
                Vec::new()
            }
        };
        let names = step_names(sources.iter().chain(&own));

        let trees: BTreeSet<String> = parts
            .trees
            .iter()
            .map(|trees| trees.names())
            .collect::<Result<Vec<_>, _>>()?
            .into_iter()
            .flatten()
            .collect();
        let mut files: BTreeSet<Digest> = BTreeSet::new();
        for store in &parts.blobs {
            files.extend(store.files()?.into_keys());
        }
        let packed = state.packed(&parts.trees)?;
        let snapshots = snapshots(&state, &trees, &packed);
        let mut records = records(&state, &snapshots);
        let keys = keys(&state, &records, &names);
        let place: BTreeMap<_, _> =
            records.iter().map(|record| record.id.clone()).zip(0_usize..).collect();
        for key in &keys {
            for result in &key.results {
                let id = result.id.record.as_ref().filter(|_| result.is_there);
                if let Some(record) = id.and_then(|id| records.get_mut(*place.get(id)?)) {
                    record.keys.push(key.id.clone());
                }
            }
        }
        Ok(Self {
            path: path.to_owned(),
            workers: workers(&root, &state)?,
            degree: Degree::of_state(&state),
            legacy: layers::depend_on_legacy(&state.records).len(),
            leases: leases(&state),
            blobs: blobs(&state, &files),
            keys,
            records,
            snapshots,
            builds,
            damage: verified.damage,
            unread,
        })
    }
}

/// Returns descriptions of the ops, by their digests. The first source with a description takes precedence.
fn step_names<'s>(sources: impl Iterator<Item = &'s KeySource>) -> BTreeMap<&'s str, &'s str> {
    let mut names = BTreeMap::new();
    for candidate in sources.flat_map(|source| &source.candidates) {
        if let Some(name) = &candidate.name {
            names.entry(candidate.op_digest.as_str()).or_insert(name.as_str());
        }
    }
    names
}

fn workers(root: &bkstate::Root, state: &State) -> Result<Vec<Worker>, InspectError> {
    let workers = bkstate::worker::Worker::in_root(root.dir())?;
    let found = workers.into_iter().map(|worker| {
        let is_ours = worker.directory() == root.worker().directory();
        let id = is_ours.then(|| state.worker_id.clone());
        Worker { directory: worker.directory().to_owned(), id, is_ours }
    });
    let mut workers: Vec<_> = found.collect();
    workers.sort_by(|a, b| a.directory.cmp(&b.directory));
    Ok(workers)
}

fn snapshots(
    state: &State,
    trees: &BTreeSet<String>,
    packed: &BTreeMap<u64, ImageId>,
) -> Vec<SnapshotOf> {
    let mut owners: BTreeMap<&str, Vec<RecordId>> = BTreeMap::new();
    for (id, record) in &state.records.by_id {
        let key = record.snapshot_key(id);
        owners.entry(key).or_default().push(id.clone());
    }
    let namespace = state.worker.namespace_of(&state.metadata);
    let table = namespace.and_then(|namespace| state.worker.table_of(namespace));
    let rows = table.into_iter().flat_map(|table| &table.rows);
    let snapshots = rows.map(|(key, row)| {
        let stored = state.snapshots.by_name.get(&row.name);
        SnapshotOf {
            key: key.clone(),
            parent: row.parent.clone(),
            id: stored.map(|stored| stored.id),
            kind: stored.map(|stored| stored.kind),
            bytes: stored.and_then(|stored| stored.size),
            inodes: stored.and_then(|stored| stored.inodes),
            is_there: stored.is_some_and(|stored| trees.contains(&stored.id.to_string())),
            packed: stored.and_then(|stored| packed.get(&stored.id).copied()),
            records: owners.remove(key.as_str()).unwrap_or_default(),
        }
    });
    snapshots.collect()
}

fn records(state: &State, snapshots: &[SnapshotOf]) -> Vec<Record> {
    let find = |key: &str| {
        let at = snapshots.binary_search_by(|snapshot| snapshot.key.as_str().cmp(key)).ok()?;
        snapshots.get(at)
    };
    let records = state.records.by_id.iter().map(|(id, stored)| {
        let snapshot = find(stored.snapshot_key(id));
        // The mutable twin still has the files of a record that was not finalised yet.
        let twin = stored.equal_mutable.as_ref().and_then(|twin| {
            let other = state.records.by_id.get(twin)?;
            find(other.snapshot_key(twin))
        });
        Record {
            id: id.clone(),
            stored: stored.clone(),
            snapshot: snapshot.map(|snapshot| snapshot.key.clone()),
            is_unpacked: snapshot.or(twin).is_some_and(|snapshot| snapshot.is_there),
            keys: Vec::new(),
        }
    });
    records.collect()
}

fn keys(state: &State, records: &[Record], names: &BTreeMap<&str, &str>) -> Vec<Key> {
    let solver = &state.solver;
    let mut inputs: BTreeMap<&KeyId, Vec<KeyLink>> = BTreeMap::new();
    for (from, links) in &solver.links {
        for (link, to) in links {
            let link = KeyLink { from: from.clone(), link: link.clone() };
            inputs.entry(to).or_default().push(link);
        }
    }
    // The target of a link need not exist, nor does a key with results.
    let mut ids: BTreeSet<&KeyId> = solver.links.keys().chain(solver.results.keys()).collect();
    ids.extend(inputs.keys());
    let find = |id: &RecordId| {
        let at = records.binary_search_by(|record| record.id.cmp(id)).ok()?;
        records.get(at).filter(|record| !record.stored.is_removed())
    };
    let keys = ids.into_iter().map(|id| {
        let inputs = inputs.remove(id).unwrap_or_default();
        let stored = solver.results.get(id).into_iter().flatten();
        let results: Vec<_> = stored
            .map(|(result, created_at)| KeyResult {
                id: result.clone(),
                created_at: *created_at,
                is_there: result.worker == state.worker_id
                    && result.record.as_ref().is_none_or(|id| find(id).is_some()),
            })
            .collect();
        let there = || results.iter().filter(|result| result.is_there);
        let record = |result: &KeyResult| find(result.id.record.as_ref()?);
        let is_ready = |result: &KeyResult| {
            result.id.record.is_none() || record(result).is_some_and(|record| record.is_unpacked)
        };
        let warmth = match () {
            () if there().any(is_ready) => Warmth::Warm,
            () if there().next().is_some() => Warmth::Packed,
            () if !results.is_empty() => Warmth::NoLayers,
            () if inputs.is_empty() => Warmth::Source,
            () => Warmth::KeyOnly,
        };
        let told = inputs.iter().find_map(|input| names.get(&*input.link.digest.text()));
        let described = || results.iter().find_map(|r| record(r)?.stored.description.clone());
        let name = told.map(|name| (*name).to_owned()).or_else(described);
        Key { id: id.clone(), name, warmth, results, inputs }
    });
    keys.collect()
}

fn leases(state: &State) -> Vec<Lease> {
    let of_namespace = |(name, namespace): (&String, &Namespace)| {
        let name = name.clone();
        let leases = namespace.leases.iter().map(move |(id, lease)| Lease {
            namespace: name.clone(),
            id: id.clone(),
            created_at: lease.created_at,
            labels: lease.labels.clone(),
            blobs: lease.content.clone(),
            snapshots: lease.snapshots.values().flatten().cloned().collect(),
            record: record_of_lease(id).filter(|id| state.records.by_id.contains_key(id)),
        });
        leases.collect::<Vec<_>>()
    };
    state.metadata.namespaces.iter().flat_map(of_namespace).collect()
}

/// Returns the record of a lease with this id, if it were one.
fn record_of_lease(id: &str) -> Option<RecordId> {
    let bare = id.strip_suffix(SUFFIX_VIEW).or_else(|| id.strip_suffix(SUFFIX_VARIANTS));
    RecordId::new(bare.unwrap_or(id)).ok()
}

fn blobs(state: &State, files: &BTreeSet<Digest>) -> Vec<Blob> {
    let of_namespace = |(name, namespace): (&String, &Namespace)| {
        let blobs = namespace.content.iter().map(|(digest, content)| Blob {
            namespace: name.clone(),
            digest: *digest,
            bytes: content.size,
            created_at: content.created_at,
            diff_id: content.labels.get(LABEL_UNCOMPRESSED).cloned(),
            is_there: files.contains(digest),
        });
        blobs.collect::<Vec<_>>()
    };
    state.metadata.namespaces.iter().flat_map(of_namespace).collect()
}
