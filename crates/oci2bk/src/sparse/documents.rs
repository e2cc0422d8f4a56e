//! The blobs of a cache that an importer reads.

use std::collections::BTreeMap;

use bkstate::Digest;
use serde_json::{Value, json};

use super::SparseError;
use crate::export::CacheExport;
use crate::layout::{BlobError, Descriptor};
use crate::manifest::{Document, ManifestError, Style, reachable};

/// Documents of caches, in memory.
#[derive(Default)]
pub(super) struct Documents {
    blobs: BTreeMap<Digest, Vec<u8>>,
}

impl Documents {
    /// Adds the documents of the cache `export`, for all platforms of an image. Returns the index entry of
    /// the cache.
    pub(super) fn add(&mut self, export: &CacheExport) -> Result<Value, SparseError> {
        let top = export.layout.describe_blob(export.found.digest).map_err(ManifestError::from)?;
        let (entry, document) = self.add_document(export, &top)?;
        if export.manifest.style != Style::Inline {
            self.add_config(export, &export.manifest.config)?;
            return Ok(entry);
        }
        self.add_config_of(export, document)?;
        // The parts of the image are found within the same limits as when the cache was read.
        let mut digests = reachable(&export.layout, std::slice::from_ref(&top))?;
        digests.remove(&top.digest);
        for digest in digests {
            let described = match export.layout.describe_blob(digest) {
                Err(BlobError::Missing { .. }) => continue,
                described => described.map_err(ManifestError::from)?,
            };
            let (_, document) = self.add_document(export, &described)?;
            self.add_config_of(export, document)?;
        }
        Ok(entry)
    }

    fn add_config_of(
        &mut self,
        export: &CacheExport,
        document: Document,
    ) -> Result<(), SparseError> {
        match document {
            Document::Manifest(manifest) => {
                manifest.config.map_or(Ok(()), |config| self.add_config(export, &config))
            }
            Document::Index(_) => Ok(()),
        }
    }

    fn add_document(
        &mut self,
        export: &CacheExport,
        descriptor: &Descriptor,
    ) -> Result<(Value, Document), SparseError> {
        let limit = export.layout.limits().of_manifest();
        let content = export.layout.read_blob(descriptor, limit).map_err(ManifestError::from)?;
        let digest = descriptor.digest;
        let parsed = Document::parse(&content)
            .map_err(|source| ManifestError::Document { digest, source })?;
        let media_type = parsed.media_type(&content);
        let entry = json!({"mediaType": media_type, "digest": digest, "size": content.len()});
        self.blobs.insert(digest, content);
        Ok((entry, parsed))
    }

    fn add_config(&mut self, export: &CacheExport, config: &Descriptor) -> Result<(), SparseError> {
        let limit = export.layout.limits().of_config();
        match export.layout.read_blob(config, limit) {
            // As for another platform in a partial copy.
            Err(BlobError::Missing { .. }) if config.digest != export.manifest.config.digest => {}
            content => {
                let content = content.map_err(ManifestError::from)?;
                self.blobs.insert(config.digest, content);
            }
        }
        Ok(())
    }

    /// Returns the contents, in the order of their digests.
    pub(super) fn blobs(&self) -> impl Iterator<Item = &[u8]> {
        self.blobs.values().map(Vec::as_slice)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.blobs().map(|content| content.len() as u64).sum()
    }
}
