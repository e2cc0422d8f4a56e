//! Reads the documents of images.

use std::collections::{BTreeSet, VecDeque};

use bkstate::{Digest, Time};
use codec::from_objects;
use llb::Platform;
use serde::Deserialize;

use super::{
    Absent, ImageDocument, ImageError, PlatformImage, is_image_config, manifest_key, source_record,
};
use crate::json;
use crate::layout::{BlobError, Descriptor, Layout};
use crate::limits::MAX_INDEX_DEPTH;
use crate::manifest::Document;

/// Reads documents of one layout, and keeps all of them in memory.
pub(super) struct Reader<'l> {
    layout: &'l Layout,
    /// Number of bytes that may still be read.
    budget: u64,
    documents: u64,
    pub(super) absent: Vec<Absent>,
}

impl<'l> Reader<'l> {
    pub(super) fn new(layout: &'l Layout) -> Self {
        Self { layout, budget: layout.limits().manifests_size, documents: 0, absent: Vec::new() }
    }

    /// Returns the images below `entry`, except those with missing parts.
    pub(super) fn platforms(
        &mut self,
        entry: &Descriptor,
    ) -> Result<Vec<PlatformImage>, ImageError> {
        let mut images = Vec::new();
        let mut waiting = VecDeque::from([(entry.clone(), Vec::new())]);
        let mut seen = BTreeSet::new();
        while let Some((descriptor, mut above)) = waiting.pop_front() {
            let Some(document) = self.read(&descriptor)? else {
                self.note_absent(&descriptor, "manifest", descriptor.digest);
                continue;
            };
            let parsed = Document::parse(&document.content).map_err(|source| {
                let path = self.layout.path().to_owned();
                ImageError::Document { path, digest: descriptor.digest, source }
            })?;
            if parsed.is_cache() {
                continue;
            }
            above.push(document);
            match parsed {
                Document::Index(index) if above.len() <= MAX_INDEX_DEPTH => {
                    let new = index.manifests.into_iter().filter(|m| seen.insert(m.digest));
                    waiting.extend(new.map(|manifest| (manifest, above.clone())));
                }
                Document::Index(_) => {}
                Document::Manifest(manifest) => {
                    let config = manifest.config.filter(is_image_config);
                    let Some(config) = config else { continue };
                    match self.read(&config)? {
                        Some(config) => images.push(self.image(above, config)?),
                        None => self.note_absent(&descriptor, "config", config.digest),
                    }
                }
            }
        }
        Ok(images)
    }

    fn image(
        &self,
        mut documents: Vec<ImageDocument>,
        config: ImageDocument,
    ) -> Result<PlatformImage, ImageError> {
        let parsed: Config = json::parse(&config.content).map_err(|source| {
            let path = self.layout.path().to_owned();
            ImageError::Config { path, digest: config.digest, source }
        })?;
        let chain_id = parsed.rootfs.chain_id();
        let digests = documents.iter().map(|document| document.digest);
        let Config { os, architecture, variant, .. } = &parsed;
        let keys = digests.map(|digest| manifest_key(digest, os, architecture, variant));
        let keys = keys.chain(chain_id);
        let records = keys.map(source_record).collect();
        documents.push(config);
        let platform = Platform {
            os: parsed.os,
            architecture: parsed.architecture,
            variant: parsed.variant,
            ..Platform::default()
        };
        Ok(PlatformImage { documents, records, chain_id, platform, created: parsed.created })
    }

    fn note_absent(&mut self, descriptor: &Descriptor, what: &'static str, digest: Digest) {
        let platform = descriptor.platform.as_ref().map(|named| Platform {
            os: named.os.clone(),
            architecture: named.architecture.clone(),
            variant: named.variant.clone().unwrap_or_default(),
            ..Platform::default()
        });
        self.absent.push(Absent { platform, what, digest });
    }

    /// Reads the document, if it exists.
    fn read(&mut self, descriptor: &Descriptor) -> Result<Option<ImageDocument>, ImageError> {
        let path = || self.layout.path().to_owned();
        self.documents += 1;
        let limit = self.layout.limits().manifests;
        if self.documents > limit {
            return Err(ImageError::TooMany { path: path(), limit });
        }
        match self.layout.read_blob(descriptor, self.layout.limits().of_manifests(self.budget)) {
            Ok(content) => {
                self.budget = self.budget.saturating_sub(content.len() as u64);
                Ok(Some(ImageDocument { digest: descriptor.digest, content: content.into() }))
            }
            Err(BlobError::Missing { .. }) => Ok(None),
            Err(source) => Err(ImageError::Blob { path: path(), source }),
        }
    }
}

/// The parts of an image config that determine the keys of the image.
#[derive(Deserialize)]
#[serde(remote = "Self")]
struct Config {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: String,
    #[serde(default)]
    created: Option<Time>,
    #[serde(default)]
    rootfs: RootFs,
}

#[derive(Deserialize, Default)]
#[serde(default)]
#[serde(remote = "Self")]
struct RootFs {
    #[serde(rename = "type")]
    kind: String,
    diff_ids: Vec<Digest>,
}

from_objects!(Config, RootFs);

impl RootFs {
    /// Returns the chainID, which is also the key of the image by its layers (`cacheKeyFromConfig`).
    fn chain_id(&self) -> Option<Digest> {
        let layers = self.diff_ids.iter().copied().filter(|_| self.kind == "layers");
        layers.reduce(|below, next| Digest::of(format!("{below} {next}")))
    }
}
