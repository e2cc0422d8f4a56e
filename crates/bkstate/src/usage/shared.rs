//! The records that images have too.
//!
//! A daemon on a containerd calls a record shared if its layers are exactly those of an image in the image store,
//! and so are all records that it builds on. Source: BuildKit v0.34.2 `cache/manager.go` `markShared`,
//! `cache/refs.go` `layerDigestChain`, `snapshot/imagerefchecker/checker.go`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::rc::Rc;

use serde::Deserialize;

use super::loaded::{Listed, Loaded, in_order};
use crate::content::BlobStore;
use crate::digest::Digest;
use crate::ids::RecordId;
use crate::metadata::Namespace;
use crate::state::State;

/// Maximum size of a document of an image. Registries accept no larger ones (distribution v2.8.3
/// `registry/handlers/manifests.go` `maxManifestBodySize`).
const MAX_DOCUMENT_BYTES: u64 = 4 << 20;
/// Maximum number of layers in all chains together. Records beyond it do not count as shared.
const MAX_LAYERS: usize = 1 << 20;

const MANIFESTS: [&str; 2] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];
const INDEXES: [&str; 2] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

#[derive(Deserialize)]
#[serde(remote = "Self")]
struct Manifest {
    #[serde(default)]
    layers: Option<Vec<Descriptor>>,
}

#[derive(Deserialize)]
#[serde(remote = "Self")]
struct Index {
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", remote = "Self")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    #[serde(default)]
    digest: String,
}

codec::from_objects!(Manifest, Index, Descriptor);

/// The layers of the images in the namespace of a worker, each image from the bottom up.
#[derive(Debug, Default)]
pub(super) struct Images {
    layers: BTreeSet<Vec<Digest>>,
}

/// A document that ends the daemon's search: it does not look at the images behind it.
struct Unusable;

impl Images {
    /// Reads the documents of the images from `stores`.
    pub(super) fn read<'s>(
        state: &State,
        stores: impl IntoIterator<Item = &'s BlobStore> + Copy,
    ) -> Self {
        let mut images = Self::default();
        if !state.worker.shares_storage() {
            // The OCI worker has no image store.
            return images;
        }
        let Some(namespace) = state.worker.namespace_of(&state.metadata) else { return images };
        let mut seen = BTreeSet::new();
        for target in targets(namespace) {
            if images.add(target, namespace, stores, &mut seen).is_err() {
                break;
            }
        }
        images
    }

    /// Adds the image whose top object is `target`.
    fn add<'s>(
        &mut self,
        target: Descriptor,
        namespace: &Namespace,
        stores: impl IntoIterator<Item = &'s BlobStore> + Copy,
        seen: &mut BTreeSet<Digest>,
    ) -> Result<(), Unusable> {
        let mut pending = vec![target];
        while let Some(Descriptor { media_type, digest }) = pending.pop() {
            let kind = media_type.as_str();
            if !MANIFESTS.contains(&kind) && !INDEXES.contains(&kind) {
                return Err(Unusable);
            }
            // Of an image for several platforms, usually only one is there.
            let Some(json) = read(&digest, namespace, stores, seen) else { continue };
            if INDEXES.contains(&kind) {
                let index: Index = serde_json::from_slice(&json).map_err(|_| Unusable)?;
                pending.extend(index.manifests.into_iter().flatten());
                continue;
            }
            let manifest: Manifest = serde_json::from_slice(&json).map_err(|_| Unusable)?;
            let layers = manifest.layers.into_iter().flatten();
            // No record has a layer with another kind of digest.
            let layers: Option<Vec<_>> = layers.map(|layer| layer.digest.parse().ok()).collect();
            self.layers.extend(layers.filter(|layers| !layers.is_empty()));
        }
        Ok(())
    }

    /// Returns which of the listed records are shared.
    pub(super) fn shared<'s>(
        &self,
        state: &'s State,
        loaded: &BTreeMap<&'s RecordId, Loaded<'s>>,
        listed: &BTreeMap<&'s RecordId, Listed>,
    ) -> BTreeSet<&'s RecordId> {
        let mut shared = BTreeSet::new();
        let Some(longest) = self.layers.iter().map(Vec::len).max() else { return shared };
        let chains = chains(state, loaded, longest);
        let is_of_image =
            |id: &&&RecordId| chains.get(*id).is_some_and(|chain| self.layers.contains(&**chain));
        let mut pending: Vec<_> = listed.keys().filter(is_of_image).copied().collect();
        while let Some(id) = pending.pop() {
            if listed.contains_key(id) && shared.insert(id) {
                pending.extend(loaded.get(id).into_iter().flat_map(|record| &record.parents));
            }
        }
        shared
    }
}

/// Returns the top objects of the images in a namespace, in the order of their names.
fn targets(namespace: &Namespace) -> impl Iterator<Item = Descriptor> {
    namespace.image_targets().map(|target| {
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        Descriptor { media_type: text(target.media_type), digest: text(target.digest) }
    })
}

/// Reads a document; `None` if it was read before, or cannot be read, which the daemon ignores.
fn read<'s>(
    digest: &str,
    namespace: &Namespace,
    stores: impl IntoIterator<Item = &'s BlobStore>,
    seen: &mut BTreeSet<Digest>,
) -> Option<Vec<u8>> {
    let digest: Digest = digest.parse().ok()?;
    if !namespace.content.contains_key(&digest) || !seen.insert(digest) {
        return None;
    }
    let file = stores.into_iter().find_map(|store| store.blob(&digest).ok())?;
    let mut json = Vec::new();
    file.take(MAX_DOCUMENT_BYTES + 1).read_to_end(&mut json).ok()?;
    (json.len() as u64 <= MAX_DOCUMENT_BYTES).then_some(json)
}

/// Returns the blobs of each record and of those below it, if they are not more than `longest`.
fn chains<'s>(
    state: &'s State,
    loaded: &BTreeMap<&'s RecordId, Loaded<'s>>,
    longest: usize,
) -> BTreeMap<&'s RecordId, Rc<[Digest]>> {
    let mut chains: BTreeMap<&RecordId, Rc<[Digest]>> = BTreeMap::new();
    let mut left = MAX_LAYERS;
    for (id, record) in in_order(&state.records.by_id) {
        let Some(Loaded { parents, .. }) = loaded.get(id) else { continue };
        let is_merge = record.parent.is_none() && record.merge_parents.is_some();
        let is_diff = record.parent.is_none() && !is_merge && record.is_composed();
        let own = record.blob.filter(|_| !is_merge);
        let below: Vec<&RecordId> = match &record.upper_diff_parent {
            // A difference without a blob of its own is the layer of its upper side.
            Some(upper) if is_diff && own.is_none() => vec![upper],
            _ if is_diff => Vec::new(),
            _ => parents.clone(),
        };
        let below: Option<Vec<_>> = below.into_iter().map(|parent| chains.get(parent)).collect();
        let Some(below) = below else { continue };
        let length =
            below.iter().map(|chain| chain.len()).sum::<usize>() + usize::from(own.is_some());
        if length > longest || length > left {
            continue;
        }
        left -= length;
        let below = below.into_iter().flat_map(|chain| chain.iter().copied());
        let chain = below.chain(own).collect();
        chains.insert(id, chain);
    }
    chains
}

#[cfg(test)]
mod tests;
