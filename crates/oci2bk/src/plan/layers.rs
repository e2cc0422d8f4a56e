//! Converts the nodes of cache configs to layer records and snapshots.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use bkstate::ids::RecordId;
use bkstate::{Digest, Time};
use typed_index_collections::{TiSlice, TiVec, ti_vec};

use super::{Blob, Layer, LayerIndex, Snapshot, SnapshotIndex, SourceIndex};
use crate::config::{Chain, NodeIndex, RecordIndex};
use crate::export::CacheExport;
use crate::manifest::{Compression, Disagreement, Facts, LayerBlob};

/// The annotations that the daemon writes into every descriptor itself, so they are not kept.
const DERIVED_ANNOTATIONS: [&str; 3] =
    ["containerd.io/uncompressed", "buildkit/createdat", "buildkit/description"];

/// Prefix of the label in which the daemon keeps an annotation of a blob (BuildKit v0.32.2 `cache/refs.go`
/// `getBlobDesc`).
pub(crate) const LABEL_ANNOTATION: &str = "buildkit.io/blob/annotation.";

/// Maximum size of an annotation's key and value that a daemon can keep: it makes a label of both and the
/// prefix [`LABEL_ANNOTATION`], and containerd accepts labels of up to 4096 bytes (containerd v2.3.3
/// `pkg/labels/validate.go`).
const MAX_ANNOTATION: usize = 4096 - LABEL_ANNOTATION.len();

/// The layers of all exports so far.
#[derive(Default)]
pub(super) struct Layers {
    pub(super) blobs: BTreeMap<Digest, Blob>,
    pub(super) snapshots: TiVec<SnapshotIndex, Snapshot>,
    pub(super) layers: TiVec<LayerIndex, Layer>,
    snapshot_of: BTreeMap<Digest, SnapshotIndex>,
    layer_of: BTreeMap<Digest, LayerIndex>,
}

/// Why a layer blob cannot be added.
pub(super) enum Flaw {
    /// Two exports contradict each other about it.
    Conflict { layer: Digest, what: Disagreement, first: SourceIndex, second: SourceIndex },
    /// An export has a result with the blob but does not describe it.
    Undescribed { layer: Digest, source: SourceIndex },
}

/// The image of pulled layers.
pub(super) struct Pulled<'i> {
    /// Its name, if it has one.
    pub(super) name: Option<&'i str>,
    /// Its creation time. A daemon would use the time of the pull.
    pub(super) made: Option<Time>,
}

/// For each record of an export, the top layer of each of its results.
pub(super) type Tops = TiVec<RecordIndex, Vec<LayerIndex>>;

impl Layers {
    /// Continues with the layers of a plan.
    pub(super) fn resume(
        blobs: BTreeMap<Digest, Blob>,
        snapshots: Vec<Snapshot>,
        layers: Vec<Layer>,
    ) -> Self {
        let (snapshots, layers) = (TiVec::from(snapshots), TiVec::from(layers));
        let snapshot_of =
            snapshots.iter_enumerated().map(|(index, it)| (it.chain_id, index)).collect();
        let layer_of =
            layers.iter_enumerated().map(|(index, it)| (it.blob_chain_id, index)).collect();
        Self { blobs, snapshots, layers, snapshot_of, layer_of }
    }

    /// Adds the layers of an image, lowest first. Returns the topmost one.
    ///
    /// # Errors
    /// Returns an error if an export or another image contradicts it about a blob.
    pub(super) fn add_chain(
        &mut self,
        source: SourceIndex,
        blobs: &[LayerBlob],
        image: &Pulled<'_>,
    ) -> Result<Option<LayerIndex>, Flaw> {
        let mut below = None;
        for blob in blobs {
            let before = self.layers.next_key();
            let index = self.layer(source, blob, below)?;
            self.layers[index].pull(image, index == before);
            below = Some(index);
        }
        Ok(below)
    }

    /// Adds the layers of the results of `export`.
    ///
    /// # Errors
    /// Returns an error if the export contradicts an earlier one about a blob, or does not describe one.
    pub(super) fn add(&mut self, source: SourceIndex, export: &CacheExport) -> Result<Tops, Flaw> {
        let config = &export.config;
        let undescribed =
            |node: NodeIndex| Flaw::Undescribed { layer: config.nodes[node].blob, source };
        let blob_of = |node: NodeIndex| {
            let blob = export.manifest.layers.get(&config.nodes[node].blob);
            blob.ok_or_else(|| undescribed(node))
        };
        let mut used = ti_vec![false; config.nodes.len()];
        for record in &config.records {
            for result in &record.results {
                if let Chain::Top(top) = result.chain {
                    mark(&mut used, top, |node| config.nodes[node].parent);
                }
            }
        }
        let mut layer_of_node: TiVec<NodeIndex, _> = ti_vec![None; config.nodes.len()];
        for &node in config.nodes_parents_first() {
            if !used[node] {
                continue;
            }
            let below = config.nodes[node].parent.and_then(|parent| layer_of_node[parent]);
            layer_of_node[node] = Some(self.layer(source, blob_of(node)?, below)?);
        }
        let mut top_of = |chain: &Chain| match chain {
            Chain::Top(top) => layer_of_node[*top].ok_or_else(|| undescribed(*top)),
            Chain::Explicit { lower, top } => {
                let mut below = None;
                for node in lower {
                    below = Some(self.layer(source, blob_of(*node)?, below)?);
                }
                self.layer(source, blob_of(*top)?, below)
            }
        };
        let tops = config
            .records
            .iter()
            .map(|record| record.results.iter().map(|result| top_of(&result.chain)).collect());
        tops.collect()
    }

    /// Adds data from a step to its topmost layer if the export itself lacks it: its description, and its
    /// creation time.
    pub(super) fn learn(
        &mut self,
        layer: LayerIndex,
        step: Option<&str>,
        created_at: Option<Time>,
    ) {
        let layer = &mut self.layers[layer];
        layer.description = layer.description.take().or_else(|| step.map(str::to_owned));
        layer.created_at = layer.created_at.or(created_at);
    }

    /// Gives layers without a time that of the first step above them. The daemon would use the time of its
    /// next start.
    pub(super) fn date(&mut self) {
        let mut earliest: TiVec<LayerIndex, Option<Time>> = ti_vec![None; self.layers.len()];
        for (index, layer) in self.layers.iter_mut_enumerated().rev() {
            layer.created_at = layer.created_at.or(earliest[index]);
            if let (Some(time), Some(parent)) = (layer.created_at, layer.parent) {
                let slot = &mut earliest[parent];
                *slot = Some(slot.map_or(time, |known| known.min(time)));
            }
        }
    }

    /// Returns the description of a layer.
    pub(super) fn description(&self, layer: LayerIndex) -> Option<&str> {
        self.layers[layer].description.as_deref()
    }

    /// Returns the size of the blob of a result's own layer, in bytes. Several results are equivalent.
    pub(super) fn size(&self, tops: &[LayerIndex]) -> u64 {
        let layer = tops.first().map(|&top| &self.layers[top]);
        layer.and_then(|layer| self.blobs.get(&layer.blob)).map_or(0, |blob| blob.size)
    }

    /// Returns the layer of `blob` on top of `below`, created if it is new.
    fn layer(
        &mut self,
        source: SourceIndex,
        blob: &LayerBlob,
        below: Option<LayerIndex>,
    ) -> Result<LayerIndex, Flaw> {
        let digest = blob.descriptor.digest;
        self.blob(source, blob)?;
        let pair = chain(Some(digest), blob.diff_id);
        let below = below.map(|index| (index, &self.layers[index]));
        let blob_chain_id = chain(below.map(|(_, layer)| layer.blob_chain_id), pair);
        if let Some(&known) = self.layer_of.get(&blob_chain_id) {
            return Ok(known);
        }
        let parent = below.map(|(index, _)| index);
        let snapshot_below = below.map(|(_, layer)| layer.snapshot);
        let snapshot = self.snapshot(blob, snapshot_below);
        let index = self.layers.push_and_get_key(Layer {
            record: RecordId::derive(&blob_chain_id.to_string()),
            blob_chain_id,
            blob: digest,
            snapshot,
            parent,
            created_at: blob.created_at.filter(|time| !time.is_zero()),
            description: blob.description.clone(),
            image: None,
        });
        self.layer_of.insert(blob_chain_id, index);
        Ok(index)
    }

    /// Adds a blob. If another export has it, statements that follow from its content must be equal, and of
    /// the others those count on which both agree, so that no cache makes statements about the blobs of
    /// another.
    fn blob(&mut self, source: SourceIndex, blob: &LayerBlob) -> Result<(), Flaw> {
        let layer = blob.descriptor.digest;
        let known = match self.blobs.entry(layer) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                place.insert(Blob {
                    source,
                    size: blob.descriptor.size,
                    media_type: blob.descriptor.media_type.clone(),
                    diff_id: blob.diff_id,
                    created_at: blob.created_at,
                    annotations: kept_annotations(blob),
                });
                return Ok(());
            }
        };
        if known.source == source {
            return Ok(());
        }
        let facts = Facts {
            diff_id: known.diff_id,
            size: known.size,
            compression: Compression::of_media_type(&known.media_type).unwrap_or(blob.compression),
        };
        if let Some(what) = facts.disagreement(&blob.facts()) {
            return Err(Flaw::Conflict { layer, what, first: known.source, second: source });
        }
        if known.media_type != blob.descriptor.media_type {
            known.media_type = blob.compression.media_type().to_owned();
        }
        let annotations = &blob.descriptor.annotations;
        known.annotations.retain(|key, value| annotations.get(key) == Some(value));
        known.created_at = match (known.created_at, blob.created_at) {
            (Some(known), Some(time)) => Some(known.min(time)),
            (known, time) => known.or(time),
        };
        Ok(())
    }

    fn snapshot(&mut self, blob: &LayerBlob, parent: Option<SnapshotIndex>) -> SnapshotIndex {
        let below = parent.map(|index| &self.snapshots[index]);
        let chain_id = chain(below.map(|snapshot| snapshot.chain_id), blob.diff_id);
        *self.snapshot_of.entry(chain_id).or_insert_with(|| {
            let blob = blob.descriptor.digest;
            self.snapshots.push_and_get_key(Snapshot { chain_id, blob, parent })
        })
    }
}

impl Layer {
    /// Records the image of the layer, as a daemon that unpacked it does if it is `new` (BuildKit v0.34.2
    /// `cache/remote.go` `Unlazy`).
    fn pull(&mut self, image: &Pulled<'_>, new: bool) {
        self.created_at = self.created_at.or(image.made.filter(|time| !time.is_zero()));
        let Some(name) = image.name else { return };
        if new {
            self.description = Some(format!("pulled from {name}"));
        }
        self.image.get_or_insert_with(|| name.to_owned());
    }
}

/// Returns the OCI chain id of `next` on top of the chain `below` (opencontainers/image-spec v1.1
/// `identity.ChainID`).
fn chain(below: Option<Digest>, next: Digest) -> Digest {
    below.map_or(next, |below| Digest::of(format!("{below} {next}")))
}

/// Marks `node` and everything below it; stops at marked nodes, so that all marking is linear.
fn mark(
    used: &mut TiSlice<NodeIndex, bool>,
    node: NodeIndex,
    parent: impl Fn(NodeIndex) -> Option<NodeIndex>,
) {
    let mut next = Some(node);
    while let Some(node) = next {
        if std::mem::replace(&mut used[node], true) {
            return;
        }
        next = parent(node);
    }
}

fn kept_annotations(blob: &LayerBlob) -> BTreeMap<String, String> {
    let derived = |key: &str| DERIVED_ANNOTATIONS.contains(&key);
    let fits = |key: &str, value: &str| key.len() + value.len() <= MAX_ANNOTATION;
    let annotations = blob.descriptor.annotations.iter();
    annotations
        .filter(|(key, value)| !derived(key) && fits(key, value))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}
