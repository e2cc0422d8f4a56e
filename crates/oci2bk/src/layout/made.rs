//! Generated documents of a layout: other formats with the same content are converted in memory to the
//! `index.json` and the manifests of an OCI layout, so that all readers of layouts can use them.

use std::collections::BTreeMap;
use std::sync::Arc;

use bkstate::Digest;
use codec::FormatError;
use serde::Serialize;

use super::store::Name;
use crate::manifest::{IMAGE_NAME, OCI_INDEX, OCI_MANIFEST, REF_NAME};

/// The documents, by their file in the layout.
#[derive(Debug, Default)]
pub(super) struct Made(BTreeMap<Name, Arc<[u8]>>);

/// The parts of a manifest.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) config: Blob,
    /// In the order of the manifest.
    pub(super) layers: Vec<Blob>,
    /// The names of its entries in `index.json`; empty for one entry without a name.
    pub(super) names: Vec<EntryName>,
}

/// The names in an entry of `index.json`.
#[derive(Debug, Clone)]
pub(super) struct EntryName {
    /// Its tag.
    pub(super) reference: String,
    /// The full name of an image.
    pub(super) image: Option<String>,
}

/// The descriptor of a blob.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Blob {
    pub(super) media_type: String,
    pub(super) digest: Digest,
    pub(super) size: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) annotations: BTreeMap<&'static str, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u32,
    media_type: &'static str,
    config: Blob,
    layers: Vec<Blob>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u32,
    media_type: &'static str,
    manifests: Vec<Blob>,
}

/// The schema version of manifests and indexes (OCI image-spec 1.1).
const SCHEMA_VERSION: u32 = 2;

impl Made {
    /// Generates the documents of a layout with one manifest for each of `all`, in order.
    pub(super) fn of(all: impl IntoIterator<Item = Parts>) -> Result<Self, FormatError> {
        let mut documents = BTreeMap::new();
        let mut manifests = Vec::new();
        for Parts { config, layers, names } in all {
            let (schema_version, media_type) = (SCHEMA_VERSION, OCI_MANIFEST);
            let manifest = Manifest { schema_version, media_type, config, layers };
            let manifest = serde_json::to_vec(&manifest).map_err(FormatError::new)?;
            let digest = Digest::of(&manifest);
            let entry = |annotations| Blob {
                media_type: OCI_MANIFEST.to_owned(),
                digest,
                size: manifest.len() as u64,
                annotations,
            };
            if names.is_empty() {
                manifests.push(entry(BTreeMap::new()));
            }
            manifests.extend(names.into_iter().map(|name| entry(name.annotations())));
            documents.insert(Name::Blob(digest), manifest.into());
        }
        let (schema_version, media_type) = (SCHEMA_VERSION, OCI_INDEX);
        let index = serde_json::to_vec(&Index { schema_version, media_type, manifests })
            .map_err(FormatError::new)?;
        documents.insert(Name::Index, index.into());
        Ok(Self(documents))
    }

    pub(super) fn get(&self, name: Name) -> Option<&Arc<[u8]>> {
        self.0.get(&name)
    }
}

impl EntryName {
    fn annotations(self) -> BTreeMap<&'static str, String> {
        let image = self.image.map(|image| (IMAGE_NAME, image));
        [(REF_NAME, self.reference)].into_iter().chain(image).collect()
    }
}
