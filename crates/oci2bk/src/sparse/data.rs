//! Sparse layouts as data, with the members of the schema `sparse.json`.

use bkstate::Digest;
use serde::Serialize;
use serde::ser::Serializer;

use super::{Sparse, SparseCache};

#[derive(Serialize)]
struct Document<'s> {
    layout: String,
    size: u64,
    caches: &'s [SparseCache],
}

#[derive(Serialize)]
struct Cache {
    reference: String,
    manifest: Digest,
    cache_from: String,
}

impl Serialize for Sparse {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let layout = self.path.to_string_lossy().into_owned();
        Document { layout, size: self.bytes, caches: &self.caches }.serialize(serializer)
    }
}

impl Serialize for SparseCache {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let cache = Cache {
            reference: self.of.to_string(),
            manifest: self.digest,
            cache_from: self.source.attributes(),
        };
        cache.serialize(serializer)
    }
}
