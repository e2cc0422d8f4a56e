//! Layers that no step of a plan leads to.

use std::collections::{BTreeMap, BTreeSet};

use typed_index_collections::{TiVec, ti_vec};

use super::{Layer, LayerIndex, Plan, SnapshotIndex};
use crate::manifest::Style;

impl Plan {
    /// Returns the layers that no step leads to, in order. Those of images are wanted without a step.
    pub(super) fn unused_layers(&self) -> Vec<LayerIndex> {
        let mut used: TiVec<LayerIndex, bool> = ti_vec![false; self.layers.len()];
        for step in &self.steps {
            for result in &step.results {
                // A changed plan may lack it, which is reported when it is executed.
                used.get_mut(result.layer).into_iter().for_each(|used| *used = true);
            }
        }
        for (layer, used) in self.layers.iter().zip(&mut used) {
            *used |= layer.image.is_some() || self.is_of_image(layer);
        }
        // Each layer comes after the one below it.
        for (index, layer) in self.layers.iter().enumerate().rev() {
            let parent = layer.parent.filter(|_| used[LayerIndex(index)]);
            parent
                .and_then(|parent| used.get_mut(parent))
                .into_iter()
                .for_each(|used| *used = true);
        }
        used.iter_enumerated().filter(|(_, used)| !**used).map(|(index, _)| index).collect()
    }

    /// Returns whether the blob of a layer comes from an image without a cache, which need not have a name.
    fn is_of_image(&self, layer: &Layer) -> bool {
        let blob = self.blobs.get(&layer.blob);
        let source = blob.and_then(|blob| self.sources.get(blob.source.0));
        source.is_some_and(|source| source.style == Style::Image)
    }

    /// Leaves out the layers that no step leads to, as those of steps without keys. Returns them.
    ///
    /// They are right in a root whose builds import the cache, with `--cache-from`: such a build does not fetch
    /// them. For any other build they only take space.
    pub fn drop_unused_layers(&mut self) -> Vec<Layer> {
        let unused: BTreeSet<_> = self.unused_layers().into_iter().collect();
        if unused.is_empty() {
            return Vec::new();
        }
        let mut dropped = Vec::new();
        let mut kept: TiVec<LayerIndex, Layer> = TiVec::new();
        let mut new_index = BTreeMap::new();
        for (index, layer) in std::mem::take(&mut self.layers).into_iter().enumerate() {
            let index = LayerIndex(index);
            if unused.contains(&index) {
                dropped.push(layer);
            } else {
                new_index.insert(index, kept.push_and_get_key(layer));
            }
        }
        let snapshots = self.drop_snapshots(&kept);
        for layer in &mut kept {
            layer.parent = layer.parent.and_then(|parent| new_index.get(&parent).copied());
            if let Some(&snapshot) = snapshots.get(&layer.snapshot) {
                layer.snapshot = snapshot;
            }
        }
        self.layers = kept.into();
        for result in self.steps.iter_mut().flat_map(|step| &mut step.results) {
            if let Some(&layer) = new_index.get(&result.layer) {
                result.layer = layer;
            }
        }
        for document in self.documents.values_mut() {
            document.layers =
                document.layers.iter().filter_map(|layer| new_index.get(layer).copied()).collect();
        }
        self.documents
            .retain(|_, document| !document.layers.is_empty() || !document.references.is_empty());
        // A snapshot can have the blob of another layer with the same content.
        let of_snapshots = self.snapshots.iter().map(|snapshot| snapshot.blob);
        let blobs: BTreeSet<_> =
            self.layers.iter().map(|layer| layer.blob).chain(of_snapshots).collect();
        self.blobs.retain(|digest, _| blobs.contains(digest));
        dropped
    }

    /// Leaves out the snapshots that none of `layers` has, or builds on. Returns the new index of the others.
    fn drop_snapshots(
        &mut self,
        layers: &TiVec<LayerIndex, Layer>,
    ) -> BTreeMap<SnapshotIndex, SnapshotIndex> {
        // The layer below has the snapshot below.
        let used: BTreeSet<_> = layers.iter().map(|layer| layer.snapshot).collect();
        let mut new_index = BTreeMap::new();
        let mut kept: TiVec<SnapshotIndex, _> = TiVec::new();
        for (index, mut snapshot) in std::mem::take(&mut self.snapshots).into_iter().enumerate() {
            if used.contains(&SnapshotIndex(index)) {
                snapshot.parent = snapshot.parent.and_then(|it| new_index.get(&it).copied());
                new_index.insert(SnapshotIndex(index), kept.push_and_get_key(snapshot));
            }
        }
        self.snapshots = kept.into();
        new_index
    }
}
