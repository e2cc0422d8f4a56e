//! Builds the databases of a state from a plan and an existing state.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use bkstate::ids::RecordId;
use bkstate::metadata::{
    Content, ImageRow, LABEL_GC_FLAT, LABEL_REFERENCE, LABEL_UNCOMPRESSED, Namespace, SnapshotRow,
};
use bkstate::records::{POLICY_RETAIN, Record, Records};
use bkstate::snapshots::{Kind, Snapshot, Snapshots};
use bkstate::state::State;
use bkstate::worker::Worker;
use bkstate::{Digest, Time};

use crate::index::by_index;
use crate::place::{LayerPlace, NoPlace, Places, SnapshotPlace, steps};
use crate::plan::{
    Blob, Document, LABEL_ANNOTATION, Layer, LayerIndex, NamedImage, Plan, SnapshotIndex,
};
use crate::unpack::Usage;

const LABEL_MEDIA_TYPE: &str = "buildkit.io/blob/mediatype";
/// The label with the repositories that have a blob, one for each registry (containerd v2.3.3
/// `pkg/labels/labels.go` `LabelDistributionSource`).
const LABEL_SOURCE: &str = "containerd.io/distribution.source.";

/// `snapshot.size` of a record that the daemon is to measure itself.
const SIZE_UNKNOWN: i64 = -1;

/// Returns the databases of `existing` with `plan` in them at `places`.
///
/// `trees` are the unpacked snapshots, by their index in the plan. `last_used` is the time at which, for the
/// daemon's garbage collection, everything was last used, unless existing records were used later.
///
/// # Errors
/// Returns an error if the places are not those of the plan in this state, or the trees are not the ones for
/// these places.
pub(crate) fn assemble(
    plan: &Plan,
    places: &Places,
    existing: &State,
    trees: &BTreeMap<SnapshotIndex, Tree>,
    last_used: Option<Time>,
) -> Result<State, NoPlace> {
    let mut state = existing.clone();
    let last_used = last_used.and_then(|time| time.unix_nanos());
    let assembly = Assembly { plan, places, worker: &existing.worker, last_used };
    assembly.add_records(&mut state.records)?;
    let namespace = assembly.worker.namespace_entry(&mut state.metadata);
    assembly.add_content(namespace);
    assembly.add_leases(namespace, &state.records)?;
    assembly.add_snapshots(namespace, &mut state.snapshots, trees)?;
    steps::add(plan, places, &state.worker_id, &mut state.solver)?;
    Ok(state)
}

/// An unpacked snapshot.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    pub(crate) usage: Usage,
    /// The labels for the snapshotter.
    pub(crate) labels: BTreeMap<String, String>,
}

struct Assembly<'p> {
    plan: &'p Plan,
    places: &'p Places,
    worker: &'p Worker,
    last_used: Option<i64>,
}

/// A layer with its places.
struct Placed<'p> {
    index: LayerIndex,
    layer: &'p Layer,
    record: &'p RecordId,
    new: bool,
    snapshot: &'p SnapshotPlace,
}

/// The content of a layer.
struct LayerContent<'p> {
    layer: &'p Layer,
    blob: &'p Blob,
    chain_id: Digest,
}

impl LayerContent<'_> {
    /// Writes it into the record of the layer.
    fn describe(&self, record: &mut Record) {
        record.blob = Some(self.layer.blob);
        record.diff_id = Some(self.blob.diff_id);
        record.layer_identity = Some(self.blob.diff_id);
        record.chain_id = Some(self.chain_id);
        record.blob_chain_id = Some(self.layer.blob_chain_id);
        record.media_type = Some(self.blob.media_type.clone());
        record.blob_size = Some(self.blob.size.cast_signed());
    }
}

impl<'p> Assembly<'p> {
    /// Returns the layers that have records.
    fn layers(&self) -> impl Iterator<Item = Placed<'p>> {
        let places = self.places;
        by_index(&self.plan.layers).iter_enumerated().filter_map(|(index, layer)| {
            let place = &places.layers[index];
            let snapshot = &places.snapshots[layer.snapshot];
            let new = matches!(place, LayerPlace::New(_));
            Some(Placed { index, layer, record: place.record()?, new, snapshot })
        })
    }

    fn add_records(&self, records: &mut Records) -> Result<(), NoPlace> {
        for placed in self.layers() {
            if placed.new {
                records.by_id.insert(placed.record.clone(), self.record(&placed)?);
                continue;
            }
            let content = self.content_of(&placed);
            let known = records.by_id.get_mut(placed.record);
            let record = known.ok_or(NoPlace::Record(placed.index))?;
            if self.places.completed.contains(placed.record)
                && let Some(content) = content
            {
                content.describe(record);
                record.size = Some(SIZE_UNKNOWN);
            }
            let unpacked = self.places.scope.extract && placed.snapshot.id().is_some();
            if unpacked && record.is_packed() {
                record.blob_only = None;
                record.snapshot = Some(placed.snapshot.key().to_owned());
                record.size = Some(SIZE_UNKNOWN);
            }
            if let Some(last_used) = self.last_used {
                record.last_used_at = record.last_used_at.max(Some(last_used));
                record.usage_count = record.usage_count.max(Some(1));
            }
        }
        Ok(())
    }

    fn record(&self, placed: &Placed<'p>) -> Result<Record, NoPlace> {
        let layer = placed.layer;
        let parent = layer.parent.map(|parent| self.places.record(parent)).transpose()?;
        let mut record = Record {
            committed: Some(true),
            parent: parent.cloned(),
            snapshot: Some(placed.snapshot.key().to_owned()),
            blob_only: placed.snapshot.id().is_none().then_some(true),
            created_at: known(layer.created_at).unix_nanos(),
            last_used_at: self.last_used,
            // Without a count the daemon ignores the time.
            usage_count: self.last_used.map(|_| 1),
            cache_policy: Some(POLICY_RETAIN),
            description: layer.description.clone(),
            image_refs: layer.image.clone().map(|image| vec![image]),
            size: Some(SIZE_UNKNOWN),
            ..Record::default()
        };
        if let Some(content) = self.content_of(placed) {
            content.describe(&mut record);
        }
        Ok(record)
    }

    /// Returns the content for the record of a layer; `None` if blobs are not wanted.
    fn content_of(&self, placed: &Placed<'p>) -> Option<LayerContent<'p>> {
        let layer = placed.layer;
        let chain_id = self.plan.snapshots[layer.snapshot].chain_id;
        let blob = &self.plan.blobs[&layer.blob];
        self.places.scope.blobs.then_some(LayerContent { layer, blob, chain_id })
    }

    fn add_content(&self, namespace: &mut Namespace) {
        let Places { blobs, adopted, .. } = self.places;
        let of_plan = self.plan.blobs.iter();
        let added = of_plan.filter(|(blob, _)| blobs.contains(*blob) || adopted.contains(*blob));
        for (digest, blob) in added {
            add_row(namespace, digest, content(blob));
        }
        let has_images = self.worker.has_images();
        for (digest, document) in &self.plan.documents {
            let mut content = document_content(self.plan, document);
            let references = document.references.iter().filter(|_| has_images);
            content
                .labels
                .extend(references.map(|(label, part)| (label.clone(), part.to_string())));
            add_row(namespace, digest, content);
        }
        for (name, image) in self.plan.images.iter().filter(|_| has_images) {
            if namespace.image(name).is_none() {
                let NamedImage { digest, size, .. } = *image;
                let (created_at, media_type) = (known(image.created_at), image.media_type.clone());
                namespace.add_image(name, &ImageRow { created_at, digest, media_type, size });
            }
        }
    }

    /// Adds a lease that keeps its blob and its snapshot, even a snapshot that the daemon has not made yet.
    fn add_leases(&self, namespace: &mut Namespace, records: &Records) -> Result<(), NoPlace> {
        for placed in self.layers() {
            let key = placed.snapshot.key().to_owned();
            if placed.new {
                let lease = namespace.leases.entry(placed.record.to_string()).or_default();
                let created_at = known(placed.layer.created_at);
                lease.created_at.get_or_insert(created_at);
                let flat = lease.labels.entry(LABEL_GC_FLAT.to_owned());
                flat.or_insert_with(|| created_at.to_string());
                lease.content.extend(self.places.scope.blobs.then_some(placed.layer.blob));
                self.worker.kept_by_entry(lease).insert(key);
                continue;
            }
            let lease = namespace.leases.get_mut(placed.record.as_str());
            let lease = lease.ok_or(NoPlace::Lease(placed.index))?;
            let record = records.by_id.get(placed.record).ok_or(NoPlace::Record(placed.index))?;
            if record.blob == Some(placed.layer.blob) {
                lease.content.insert(placed.layer.blob);
            }
            if record.snapshot.as_ref() == Some(&key) {
                self.worker.kept_by_entry(lease).insert(key);
            }
        }
        for (digest, document) in &self.plan.documents {
            for &layer in &document.layers {
                let lease = namespace.leases.get_mut(self.places.record(layer)?.as_str());
                lease.ok_or(NoPlace::Lease(layer))?.content.insert(*digest);
            }
        }
        Ok(())
    }

    fn add_snapshots(
        &self,
        namespace: &mut Namespace,
        snapshots: &mut Snapshots,
        trees: &BTreeMap<SnapshotIndex, Tree>,
    ) -> Result<(), NoPlace> {
        for (&index, Tree { usage, labels }) in trees {
            let SnapshotPlace::New { key, id, blob } = &self.places.snapshots[index] else {
                return Err(NoPlace::Unpacked(index));
            };
            let created_at = Some(known(self.plan.blobs[blob].created_at));
            let table = self.worker.table_entry(namespace);
            let parent = self.plan.snapshots[index].parent;
            let parent = parent.map(|parent| self.places.snapshots[parent].key().to_owned());
            let mut parent_name = None;
            if let Some(parent) = &parent {
                let below = table.rows.get_mut(parent).ok_or(NoPlace::Below(index))?;
                below.children.insert(key.clone());
                parent_name = Some(below.name.clone());
            }
            table.sequence += 1;
            let name = self.worker.snapshot_name(table.sequence, key);
            let row = SnapshotRow {
                name: name.clone(),
                created_at,
                updated_at: created_at,
                parent,
                ..SnapshotRow::default()
            };
            table.rows.insert(key.clone(), row);
            let snapshot = Snapshot {
                id: *id,
                kind: Kind::Committed,
                parent: parent_name,
                created_at,
                updated_at: created_at,
                inodes: Some(usage.inodes),
                size: Some(usage.size),
                labels: labels.clone(),
            };
            snapshots.by_name.insert(name, snapshot);
            snapshots.sequence = snapshots.sequence.max(*id);
        }
        Ok(())
    }
}

/// Adds a row to the content store. In an existing row, only the repositories and the labels that follow from
/// the content are completed: statements of a cache do not apply to the blobs of others.
fn add_row(namespace: &mut Namespace, digest: &Digest, content: Content) {
    let Some(row) = namespace.content.get_mut(digest) else {
        namespace.content.insert(*digest, content);
        return;
    };
    for (label, value) in content.labels {
        let known = row.labels.entry(label);
        if known.key().starts_with(LABEL_SOURCE) {
            let paths = known.or_default();
            value.split(',').for_each(|path| add_path(paths, path));
        } else if known.key() == LABEL_UNCOMPRESSED || known.key().starts_with(LABEL_REFERENCE) {
            known.or_insert(value);
        }
    }
}

/// Adds a path to a list of paths, if it is missing.
fn add_path(paths: &mut String, path: &str) {
    if !paths.split(',').any(|known| known == path) {
        let separator = if paths.is_empty() { "" } else { "," };
        *paths = format!("{paths}{separator}{path}");
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

/// A document counts only for the repositories in its labels.
fn document_content(plan: &Plan, document: &Document) -> Content {
    let mut labels: BTreeMap<String, String> = BTreeMap::new();
    for repository in &document.repositories {
        let paths = labels.entry(format!("{LABEL_SOURCE}{}", repository.host_name())).or_default();
        add_path(paths, &repository.path);
    }
    let layers = document.layers.iter().map(|layer| &plan.layers[*layer]);
    let created_at = known(layers.filter_map(|layer| layer.created_at).min());
    Content {
        created_at: Some(created_at),
        updated_at: Some(created_at),
        size: document.size.cast_signed(),
        labels,
    }
}

/// The epoch replaces times that the export does not have.
fn known(time: Option<Time>) -> Time {
    time.filter(|time| !time.is_zero()).unwrap_or(Time::UNIX_EPOCH)
}
