//! From a plan to the databases of a state.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use bkstate::ids::ResultId;
use bkstate::metadata::{
    self, Content, LABEL_GC_FLAT, LABEL_UNCOMPRESSED, Lease, Metadata, Namespace, SnapshotRow,
    SnapshotTable,
};
use bkstate::records::{POLICY_RETAIN, Record, Records};
use bkstate::snapshots::{Kind, Snapshot, Snapshots};
use bkstate::solver::SolverCache;
use bkstate::state::{SNAPSHOTTER, State};
use bkstate::{Digest, Time};

use crate::plan::{Blob, Document, Layer, Plan};
use crate::unpack::Usage;

/// Where the daemon keeps the annotations of a blob (BuildKit v0.32.2 `cache/refs.go`
/// `getBlobDesc`).
pub(crate) const LABEL_ANNOTATION: &str = "buildkit.io/blob/annotation.";
const LABEL_MEDIA_TYPE: &str = "buildkit.io/blob/mediatype";
/// What repositories have a blob, for each registry (containerd v2.3.3 `pkg/labels/labels.go`
/// `LabelDistributionSource`).
const LABEL_SOURCE: &str = "containerd.io/distribution.source.";

/// `snapshot.size` of a record whose size the daemon is to compute itself.
const SIZE_UNKNOWN: i64 = -1;

/// The databases for `plan`.
///
/// `usages` are the sizes of the unpacked snapshots in the order of the plan, or `None` if
/// nothing was unpacked. `last_used` is what the daemon's garbage collection will take for the
/// time at which all of it was last used.
pub(crate) fn assemble(plan: &Plan, usages: Option<&[Usage]>, last_used: Option<Time>) -> State {
    State {
        worker_id: plan.worker_id.clone(),
        solver: solver(plan),
        records: records(plan, usages.is_some(), last_used),
        metadata: metadata(plan, usages.is_some()),
        snapshots: usages.map(|usages| snapshots(plan, usages)).unwrap_or_default(),
    }
}

fn solver(plan: &Plan) -> SolverCache {
    let mut cache = SolverCache::default();
    for step in &plan.steps {
        cache.add_key(&step.key);
        for edge in &step.links {
            if let Some(from) = plan.steps.get(edge.from) {
                cache.add_link(&from.key, edge.link.clone(), &step.key);
            }
        }
        for result in &step.results {
            let record = plan.layers.get(result.layer).map(|layer| layer.record.clone());
            let id = ResultId { worker: plan.worker_id.clone(), record };
            cache.add_result(&step.key, id, result.created_at.unwrap_or(Time::ZERO));
        }
    }
    cache
}

fn records(plan: &Plan, extracted: bool, last_used: Option<Time>) -> Records {
    let record = |layer: &Layer| -> Option<Record> {
        let blob = plan.blobs.get(&layer.blob)?;
        let snapshot = plan.snapshots.get(layer.snapshot)?;
        let parent = layer.parent.and_then(|parent| plan.layers.get(parent));
        let last_used = last_used.and_then(|time| time.unix_nanos());
        Some(Record {
            committed: Some(true),
            parent: parent.map(|parent| parent.record.clone()),
            snapshot: Some(snapshot.chain_id.to_string()),
            blob: Some(layer.blob),
            diff_id: Some(blob.diff_id),
            chain_id: Some(snapshot.chain_id),
            blob_chain_id: Some(layer.blob_chain_id),
            media_type: Some(blob.media_type.clone()),
            blob_size: Some(blob.size.cast_signed()),
            blob_only: (!extracted).then_some(true),
            created_at: known(layer.created_at).unix_nanos(),
            last_used_at: last_used,
            // Without a count the daemon ignores the time.
            usage_count: last_used.map(|_| 1),
            cache_policy: Some(POLICY_RETAIN),
            description: layer.description.clone(),
            size: Some(SIZE_UNKNOWN),
            ..Record::default()
        })
    };
    let by_id = plan.layers.iter().filter_map(|layer| Some((layer.record.clone(), record(layer)?)));
    Records { by_id: by_id.collect(), external: BTreeMap::new() }
}

fn metadata(plan: &Plan, extracted: bool) -> Metadata {
    let mut namespace = Namespace {
        content: plan.blobs.iter().map(|(digest, blob)| (*digest, content(blob))).collect(),
        leases: plan
            .layers
            .iter()
            .map(|layer| (layer.record.to_string(), lease(plan, layer)))
            .collect(),
        ..Namespace::default()
    };
    for (digest, document) in &plan.documents {
        namespace.content.insert(*digest, document_content(plan, document));
        for layer in document.layers.iter().filter_map(|layer| plan.layers.get(*layer)) {
            if let Some(lease) = namespace.leases.get_mut(layer.record.as_str()) {
                lease.content.insert(*digest);
            }
        }
    }
    if extracted {
        namespace.snapshots.insert(SNAPSHOTTER.to_owned(), snapshot_table(plan));
    }
    Metadata {
        namespaces: BTreeMap::from([(metadata::NAMESPACE.to_owned(), namespace)]),
        ..Metadata::default()
    }
}

fn content(blob: &Blob) -> Content {
    let mut labels = BTreeMap::from([(LABEL_UNCOMPRESSED.to_owned(), blob.diff_id.to_string())]);
    if !blob.annotations.is_empty() {
        labels.insert(LABEL_MEDIA_TYPE.to_owned(), blob.media_type.clone());
        let annotations = blob.annotations.iter();
        labels.extend(
            annotations.map(|(key, value)| (format!("{LABEL_ANNOTATION}{key}"), value.clone())),
        );
    }
    Content {
        created_at: Some(known(blob.created_at)),
        updated_at: Some(known(blob.created_at)),
        size: blob.size.cast_signed(),
        labels,
    }
}

/// A document counts only for the repositories that its labels name.
fn document_content(plan: &Plan, document: &Document) -> Content {
    let mut labels: BTreeMap<String, String> = BTreeMap::new();
    for repository in &document.repositories {
        let paths = labels.entry(format!("{LABEL_SOURCE}{}", repository.host_name())).or_default();
        if !paths.split(',').any(|path| path == repository.path) {
            let separator = if paths.is_empty() { "" } else { "," };
            *paths = format!("{paths}{separator}{}", repository.path);
        }
    }
    let layers = document.layers.iter().filter_map(|layer| plan.layers.get(*layer));
    let created_at = known(layers.filter_map(|layer| layer.created_at).min());
    Content {
        created_at: Some(created_at),
        updated_at: Some(created_at),
        size: document.size.cast_signed(),
        labels,
    }
}

/// A lease keeps its blob and its snapshot, also a snapshot that the daemon has yet to make.
fn lease(plan: &Plan, layer: &Layer) -> Lease {
    let created_at = known(layer.created_at);
    let snapshot = plan.snapshots.get(layer.snapshot).map(|s| s.chain_id.to_string());
    Lease {
        created_at: Some(created_at),
        labels: BTreeMap::from([(LABEL_GC_FLAT.to_owned(), created_at.to_string())]),
        content: [layer.blob].into(),
        snapshots: BTreeMap::from([(SNAPSHOTTER.to_owned(), snapshot.into_iter().collect())]),
        other: BTreeMap::new(),
    }
}

fn snapshot_table(plan: &Plan) -> SnapshotTable {
    let mut rows: BTreeMap<String, SnapshotRow> = BTreeMap::new();
    for (index, snapshot) in plan.snapshots.iter().enumerate() {
        let key = snapshot.chain_id.to_string();
        let parent = snapshot.parent.and_then(|parent| plan.snapshots.get(parent));
        let parent = parent.map(|parent| parent.chain_id.to_string());
        if let Some(row) = parent.as_ref().and_then(|parent| rows.get_mut(parent)) {
            row.children.insert(key.clone());
        }
        let created_at = Some(created_at(plan, &snapshot.blob));
        let row = SnapshotRow {
            name: name(index, &snapshot.chain_id),
            created_at,
            updated_at: created_at,
            parent,
            ..SnapshotRow::default()
        };
        rows.insert(key, row);
    }
    SnapshotTable { sequence: plan.snapshots.len() as u64, rows }
}

fn snapshots(plan: &Plan, usages: &[Usage]) -> Snapshots {
    let rows = plan.snapshots.iter().zip(usages).enumerate().map(|(index, (snapshot, usage))| {
        let parent = snapshot.parent.and_then(|parent| Some((parent, plan.snapshots.get(parent)?)));
        let created_at = Some(created_at(plan, &snapshot.blob));
        let row = Snapshot {
            id: snapshot_id(index),
            kind: Kind::Committed,
            parent: parent.map(|(index, parent)| name(index, &parent.chain_id)),
            created_at,
            updated_at: created_at,
            inodes: Some(usage.inodes),
            size: Some(usage.size),
            labels: BTreeMap::new(),
        };
        (name(index, &snapshot.chain_id), row)
    });
    Snapshots { sequence: plan.snapshots.len() as u64, by_name: rows.collect() }
}

/// The id of the snapshot at `index` of a plan; ids start at 1.
pub(crate) fn snapshot_id(index: usize) -> u64 {
    index as u64 + 1
}

/// The name of a snapshot in `snapshots/metadata.db`.
fn name(index: usize, chain_id: &Digest) -> String {
    format!("{}/{}/{chain_id}", metadata::NAMESPACE, snapshot_id(index))
}

fn created_at(plan: &Plan, blob: &Digest) -> Time {
    known(plan.blobs.get(blob).and_then(|blob| blob.created_at))
}

/// The epoch stands for times that the export does not tell.
fn known(time: Option<Time>) -> Time {
    time.filter(|time| !time.is_zero()).unwrap_or(Time::UNIX_EPOCH)
}
