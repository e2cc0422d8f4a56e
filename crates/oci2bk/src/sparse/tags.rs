//! Which tags the caches of a sparse layout have.

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
    /// What `--cache-from` calls it.
    pub(super) fn reference(&self) -> Reference {
        match self.tags.first() {
            _ if self.tags.contains(DEFAULT_TAG) => Reference::Default,
            Some(tag) => Reference::Tag(tag.clone()),
            None => Reference::Digest(self.export.found.digest),
        }
    }
}

/// The caches with their tags. Of several with the same tag the first keeps it; if none is called `latest`, the
/// first without a tag is, since that is what BuildKit looks for.
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
