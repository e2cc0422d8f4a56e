//! Selects the base images that a state needs, and the layers that keep them.

use std::collections::{BTreeMap, BTreeSet};

use bkstate::Digest;
use bkstate::ids::KeyId;

use super::{Document, LayerIndex, Plan, StepIndex, StepResult};
use crate::export::{CacheExport, layouts};
use crate::image::{BaseImage, ImageError, PlatformImage};
use crate::index::by_index;

impl Plan {
    /// Adds the base images beside the caches in the layouts of `exports`, if they have a name and steps use
    /// them.
    ///
    /// # Errors
    /// See [`BaseImage::in_layout`].
    pub fn add_images_of(&mut self, exports: &[CacheExport]) -> Result<(), ImageError> {
        for layout in layouts(exports) {
            // Most images beside a cache are not its base.
            let images = BaseImage::in_layout(layout)?;
            if !images.is_empty() {
                self.add_images(&images);
            }
        }
        Ok(())
    }

    /// Adds the documents of those `images` that steps of the plan start from or copy from, so that a daemon
    /// can resolve them by digest without asking their registry. If all layers of an image are in the plan,
    /// they become the result of its step. Returns the arguments of the images that no step uses.
    ///
    /// As in a daemon that pulled the image, the documents are kept for as long as its topmost layer, or if
    /// that is in no result, the layers that were made from the image.
    pub fn add_images(&mut self, images: &[BaseImage]) -> Vec<String> {
        let steps = by_index(&self.steps).iter_enumerated();
        let step_of: BTreeMap<_, _> =
            steps.map(|(index, step)| (step.key.clone(), index)).collect();
        let mut layers_of: BTreeMap<Digest, Vec<LayerIndex>> = BTreeMap::new();
        for (index, layer) in by_index(&self.layers).iter_enumerated() {
            // A changed plan may lack it, which is reported when it is executed.
            if let Some(snapshot) = self.snapshots.get(layer.snapshot.0) {
                layers_of.entry(snapshot.chain_id).or_default().push(index);
            }
        }
        let mut unused = Vec::new();
        for image in images {
            let mut used = false;
            for platform in &image.platforms {
                let roots = roots(platform, &step_of);
                let tops = platform.chain_id.and_then(|chain_id| layers_of.get(&chain_id));
                self.add_results(&roots, tops.map(Vec::as_slice).unwrap_or_default());
                let layers = self.layers_made_with(roots);
                if !layers.is_empty() {
                    used = true;
                    self.add_documents(image, platform, &layers);
                }
            }
            if !used {
                unused.push(image.reference.clone());
            }
        }
        unused
    }

    /// Makes `tops` the results of those `roots` that have none.
    fn add_results(&mut self, roots: &BTreeSet<StepIndex>, tops: &[LayerIndex]) {
        for root in roots {
            let step = &mut self.steps[*root];
            if step.results.is_empty() {
                step.results.extend(
                    tops.iter().map(|&layer| StepResult {
                        layer,
                        created_at: self.layers[layer].created_at,
                    }),
                );
            }
        }
    }

    /// Returns the layers that keep an image whose steps are `roots`.
    fn layers_made_with(&self, roots: BTreeSet<StepIndex>) -> BTreeSet<LayerIndex> {
        if roots.is_empty() {
            return BTreeSet::new();
        }
        let tops = |step: StepIndex| self.steps[step].results.iter().map(|result| result.layer);
        let own: BTreeSet<LayerIndex> = roots.iter().flat_map(|root| tops(*root)).collect();
        if !own.is_empty() {
            return own;
        }
        // Steps come after their inputs, so one pass finds the nearest ones with results.
        let mut reached = roots;
        let mut layers = BTreeSet::new();
        for (index, step) in by_index(&self.steps).iter_enumerated() {
            if step.links.iter().any(|link| reached.contains(&link.from)) {
                if step.results.is_empty() {
                    reached.insert(index);
                }
                layers.extend(tops(index));
            }
        }
        layers
    }

    pub(super) fn add_documents(
        &mut self,
        image: &BaseImage,
        platform: &PlatformImage,
        layers: &BTreeSet<LayerIndex>,
    ) {
        // A layer blob of the same digest has its row and its lease already.
        // Without a name no daemon finds them.
        let is_found = !image.repositories.is_empty();
        let new = |digest| is_found && !self.blobs.contains_key(digest);
        for document in platform.documents.iter().filter(|document| new(&document.digest)) {
            let planned = self.documents.entry(document.digest).or_insert_with(|| Document {
                size: document.content.len() as u64,
                repositories: BTreeSet::new(),
                layers: BTreeSet::new(),
                references: BTreeMap::new(),
                content: document.content.clone(),
            });
            planned.repositories.extend(image.repositories.iter().cloned());
            planned.layers.extend(layers);
        }
    }
}

/// Returns the steps for an image.
fn roots(image: &PlatformImage, step_of: &BTreeMap<KeyId, StepIndex>) -> BTreeSet<StepIndex> {
    let keys = image.records.iter().map(|record| KeyId::from(*record));
    keys.filter_map(|key| step_of.get(&key).copied()).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::super::testing::*;
    use super::*;
    use crate::image::testing;
    use crate::layout::testing::{TestLayout, annotated};
    use crate::limits::Limits;

    fn image(name: &str, records: &[&str], chain_id: Option<Digest>) -> BaseImage {
        let records = records.iter().map(|name| record(name)).collect();
        let image = testing::image(name, name, records, chain_id);
        BaseImage { repositories: ["base".parse().unwrap()].into(), ..image }
    }

    /// A root, a step on it without a result, and a step on that with a result.
    fn plan() -> Plan {
        let records = json!([
            {"digest": record("r")},
            {"digest": record("x"), "inputs": [[{"link": 0}]]},
            {"digest": record("y"), "inputs": [[{"link": 1}]], "layers": result(1)},
        ]);
        planned(&["a", "b"].map(plain), &[("a", -1), ("b", 0)], &records, &["x", "y"])
    }

    #[test]
    fn an_image_is_kept_by_its_topmost_layer_which_becomes_its_result() {
        let mut plan = plan();
        let found = image("m", &["absent", "r"], Some(diff_id("a")));
        assert!(plan.add_images(&[found]).is_empty());
        assert_eq!(plan.steps[0].results[0].layer, LayerIndex(0));
        assert_eq!(plan.documents[&Digest::of("m")].layers, BTreeSet::from([LayerIndex(0)]));
        assert!(plan.steps[1].results.is_empty());
    }

    #[test]
    fn an_image_without_layers_in_the_plan_is_kept_by_what_was_made_with_it() {
        let mut plan = plan();
        let found = image("m", &["r"], Some(diff_id("other")));
        assert!(plan.add_images(&[found]).is_empty());
        assert!(plan.steps[0].results.is_empty());
        assert_eq!(plan.documents[&Digest::of("m")].layers, BTreeSet::from([LayerIndex(1)]));
    }

    #[test]
    fn an_image_that_no_step_uses_is_left_out_and_named() {
        let mut plan = plan();
        assert_eq!(plan.add_images(&[image("m", &["s"], Some(diff_id("a")))]), ["m"]);
        assert!(plan.documents.is_empty() && plan.steps[0].results.is_empty());
    }

    #[test]
    fn an_image_that_steps_use_on_two_platforms_is_used() {
        let mut plan = plan();
        let mut found = image("m", &["r"], Some(diff_id("a")));
        found.platforms.push(found.platforms[0].clone());
        assert!(plan.add_images(&[found]).is_empty());
        assert!(plan.documents.contains_key(&Digest::of("m")));
    }

    #[test]
    fn images_beside_a_cache_are_added_if_steps_use_them() {
        let beside = |layout: &TestLayout| {
            let config = json!({
                "os": "linux",
                "architecture": "amd64",
                "rootfs": {"type": "layers", "diff_ids": [diff_id("a")]},
            });
            let name = "io.containerd.image.name";
            annotated(layout.image(&[], &config), name, "docker.io/library/base:1")
        };
        let images = TestLayout::new();
        images.index(&[beside(&images)]);
        let image = BaseImage::in_layout(&Arc::new(images.open())).unwrap().remove(0);
        let records = json!([
            {"digest": image.platforms[0].records.first()},
            {"digest": record("x"), "inputs": [[{"link": 0}]], "layers": result(0)},
        ]);
        let (layout, export) = export(&[plain("a")], &[("a", -1)], &records);
        let index = std::fs::read(layout.path().join("index.json")).unwrap();
        let index: Value = serde_json::from_slice(&index).unwrap();
        layout.index(&[index["manifests"][0].clone(), beside(&layout)]);
        let exports = CacheExport::read_all(&export.source, &Limits::default()).unwrap();
        let mut plan = Plan::new(&exports, &keyring(&["x"])).unwrap();
        plan.add_images_of(&exports).unwrap();
        let expected = image.platforms[0].documents.iter().map(|document| document.digest);
        assert_eq!(plan.documents.keys().copied().collect::<BTreeSet<_>>(), expected.collect());
    }

    #[test]
    fn a_document_that_is_also_a_layer_is_stored_once() {
        let mut plan = plan();
        plan.add_images(&[image("a", &["r"], None)]);
        assert!(plan.blobs.contains_key(&Digest::of("a")) && plan.documents.is_empty());
    }

    #[test]
    fn an_image_of_two_repositories_is_of_both() {
        let mut plan = plan();
        let mut second = image("m", &["r"], None);
        second.repositories = ["reg.example/base".parse().unwrap()].into();
        plan.add_images(&[image("m", &["r"], None), second]);
        assert_eq!(plan.documents[&Digest::of("m")].repositories.len(), 2);
    }
}
