//! The tags of the caches in a sparse layout.

use std::collections::BTreeSet;

use crate::export::CacheExport;
use crate::manifest::DEFAULT_TAG;
use crate::source::Reference;

/// A cache, by one of its exports, and its tags in the sparse layout.
pub(super) struct Tagged<'e> {
    pub(super) export: &'e CacheExport,
    pub(super) tags: BTreeSet<String>,
}

impl Tagged<'_> {
    /// Returns its reference for `--cache-from`.
    pub(super) fn reference(&self) -> Reference {
        match self.tags.first() {
            _ if self.tags.contains(DEFAULT_TAG) => Reference::Default,
            Some(tag) => Reference::Tag(tag.clone()),
            None => Reference::Digest(self.export.found.digest),
        }
    }
}

/// Assigns tags to the caches. Of several with the same tag, the first keeps it; if none has `latest`, the
/// first without a tag gets it, since that is BuildKit's default.
pub(super) fn with_tags(exports: &[CacheExport]) -> Vec<Tagged<'_>> {
    let mut caches: Vec<Tagged<'_>> = Vec::new();
    let mut taken = BTreeSet::new();
    for export in exports {
        let wanted = match &export.source.reference {
            Reference::Tag(tag) => BTreeSet::from([tag.clone()]),
            Reference::Default | Reference::Digest(_) => export.found.tags.clone(),
        };
        let of_same = |cache: &&mut Tagged<'_>| cache.export.found.digest == export.found.digest;
        let known = caches.iter_mut().find(of_same);
        let new = wanted.into_iter().filter(|tag| taken.insert(tag.clone()));
        match known {
            Some(known) => known.tags.extend(new),
            None => caches.push(Tagged { export, tags: new.collect() }),
        }
    }
    if !taken.contains(DEFAULT_TAG)
        && let Some(first) = caches.iter_mut().find(|cache| cache.tags.is_empty())
    {
        first.tags.insert(DEFAULT_TAG.to_owned());
    }
    caches
}
