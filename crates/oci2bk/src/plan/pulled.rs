//! Images whose layers are in the plan, as if a daemon had pulled them.

use std::collections::BTreeSet;
use std::sync::Arc;

use bkstate::ids::{KeyId, WorkerId};

use super::layers::{Layers, Pulled};
use super::{LayerIndex, Plan, PlanError, Source, SourceIndex, Step, StepResult};
use crate::image::WholeImage;
use crate::manifest::Style;

impl Plan {
    /// Adds the layers of `image`, and makes them the result of the image's source. Followed by
    /// [`add_images`](Self::add_images), this is the state of a daemon that pulled the image. An image with a
    /// [name](crate::BaseImage::name) gets it in the image store of a containerd.
    ///
    /// # Errors
    /// Returns an error if a cache or another image contradicts it about a layer, another image has its name,
    /// or the plan is inconsistent.
    pub fn add_layers(&mut self, image: &WholeImage) -> Result<(), PlanError> {
        self.check()?;
        let name = image.name();
        let source = SourceIndex(self.sources.len());
        self.sources.push(Source {
            reference: image.image.reference.clone(),
            manifest: image.manifest,
            style: Style::Image,
            records: 0,
            exporter: None,
            translated: false,
            layout: Arc::clone(image.layout()),
        });
        let mut layers = Layers::resume(
            std::mem::take(&mut self.blobs),
            std::mem::take(&mut self.snapshots),
            std::mem::take(&mut self.layers),
        );
        let pulled = Pulled { name: name.as_deref(), made: image.on.created };
        let top = layers.add_chain(source, &image.layers, &pulled);
        (self.blobs, self.snapshots, self.layers) =
            (layers.blobs, layers.snapshots.into(), layers.layers.into());
        let top = top.map_err(|flaw| PlanError::of(&self.sources, &flaw))?;
        if let Some(layer) = top {
            self.add_sources(image, layer);
        }
        self.add_name(image, top)?;
        self.name_worker();
        Ok(())
    }

    /// Gives each source of the image the result `layer`, unless it has one.
    fn add_sources(&mut self, image: &WholeImage, layer: LayerIndex) {
        let created_at = self.layers[layer].created_at;
        let known: BTreeSet<_> = self.steps.iter().map(|step| step.key.clone()).collect();
        for key in image.on.records.iter().map(|record| KeyId::from(*record)) {
            // An existing one gets its result with the documents.
            if !known.contains(&key) {
                let results = vec![StepResult { layer, created_at }];
                let name = image.name().map(|name| format!("FROM {name}"));
                self.steps.push(Step { key, name, results, links: Vec::new() });
            }
        }
    }

    /// Without a cache the worker id is derived from the images.
    fn name_worker(&mut self) {
        let images = self.sources.iter().filter(|source| source.style == Style::Image);
        let manifests: Vec<_> = images.map(|image| image.manifest.to_string()).collect();
        if manifests.len() == self.sources.len() {
            self.worker_id = WorkerId::derive(&manifests.join(" "));
        }
    }
}

#[cfg(test)]
mod tests;
