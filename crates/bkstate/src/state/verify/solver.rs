//! `cache.db`: keys, links and results, each of which stands there twice.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::Hash;

use crate::few::{FewMap, FewSet};
use crate::ids::{KeyId, ResultId, WorkerId};
use crate::records::Records;
use crate::solver::{Link, Miswritten, SolverCache};

use super::{Findings, Used};

/// Something wrong in `cache.db`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SolverDamage {
    /// A result names a record that is not there.
    #[error("cache.db: key {key} results in {result}, which is not a record of this worker")]
    ResultWithoutRecord {
        /// The key.
        key: KeyId,
        /// The result.
        result: ResultId,
    },
    /// A result names a worker that the root does not have.
    #[error("cache.db: key {key} results in {result}, whose worker is not in the root")]
    ResultOfUnknownWorker {
        /// The key.
        key: KeyId,
        /// The result.
        result: ResultId,
    },
    /// A key has results and no bucket in `_links`, which is what makes a key exist.
    #[error("cache.db: key {key} has results but is not in _links")]
    InvisibleKey {
        /// The key.
        key: KeyId,
    },
    /// A link leads to a key that does not know it.
    #[error("cache.db: the link from {from} to {to} has no backlink")]
    MissingBacklink {
        /// Where the link starts.
        from: KeyId,
        /// Where it leads.
        to: KeyId,
    },
    /// A key knows a link that is not there.
    #[error("cache.db: {to} has a backlink to {from}, which has no link to it")]
    StrayBacklink {
        /// Where the link should start.
        from: KeyId,
        /// Where it should lead.
        to: KeyId,
    },
    /// A result of a key does not know the key.
    #[error("cache.db: _byresult does not list key {key} for its result {result}")]
    UnindexedResult {
        /// The key.
        key: KeyId,
        /// The result.
        result: ResultId,
    },
    /// `_byresult` lists a key for a result that it does not have.
    #[error("cache.db: _byresult lists key {key} for {result}, which is not a result of it")]
    StrayResultIndex {
        /// The key.
        key: KeyId,
        /// The result.
        result: ResultId,
    },
    /// A link or a result is not written as the daemon writes it.
    #[error("cache.db: {0}")]
    Miswritten(Miswritten),
}

impl SolverDamage {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::ResultWithoutRecord { .. } => "result-without-record",
            Self::ResultOfUnknownWorker { .. } => "result-of-unknown-worker",
            Self::InvisibleKey { .. } => "invisible-key",
            Self::MissingBacklink { .. } => "missing-backlink",
            Self::StrayBacklink { .. } => "stray-backlink",
            Self::UnindexedResult { .. } => "unindexed-result",
            Self::StrayResultIndex { .. } => "stray-result-index",
            Self::Miswritten(Miswritten::Link { .. }) => "unfindable-link",
            Self::Miswritten(Miswritten::Result { .. }) => "misnamed-result",
        }
    }

    // BuildKit v0.32.2 solver/cachemanager.go ReleaseUnreferenced, Query; bboltcachestorage/storage.go.
    pub(super) fn consequence(&self) -> &'static str {
        match self {
            Self::ResultWithoutRecord { .. } | Self::ResultOfUnknownWorker { .. } => {
                "the daemon deletes the result when it starts, and the step runs again"
            }
            Self::InvisibleKey { .. } => {
                "the daemon does not know the key until a build makes it anew; what depends on it \
                 may run again"
            }
            Self::MissingBacklink { .. } => {
                "an export of the cache lacks what the link leads from, and the link stays when its \
                 target goes"
            }
            Self::StrayBacklink { .. } | Self::StrayResultIndex { .. } => {
                "the daemon looks for it in vain in each export; it costs space, and nothing else"
            }
            Self::UnindexedResult { .. } => {
                "the daemon cannot delete the result when its record goes, and looks for the record \
                 in vain ever after"
            }
            Self::Miswritten(Miswritten::Link { .. }) => {
                "the daemon looks links up by their bytes and never finds this one; the step runs \
                 again"
            }
            Self::Miswritten(Miswritten::Result { .. }) => {
                "the daemon believes the value and then looks for it under that name in vain; the \
                 step runs again"
            }
        }
    }
}

/// Checks what `cache.db` says against itself and the records of the workers of the root.
pub(super) fn check<'c>(
    cache: &'c SolverCache,
    worker: &WorkerId,
    others: &BTreeSet<WorkerId>,
    records: &Records,
    used: Used,
    findings: &mut Findings,
) {
    check_results(cache, worker, others, records, used, findings);
    for (key, results) in &cache.results {
        // Up to v0.14 a daemon that deleted the last link of a key forgot its results.
        if !results.is_empty() && !cache.links.contains_key(key) {
            findings.add_unless(used.solver, SolverDamage::InvisibleKey { key: key.clone() });
        }
    }
    let results = pairs(&cache.results, FewMap::keys);
    for (result, keys) in &cache.by_result {
        for key in keys.iter().filter(|key| !results.contains(&(*key, result))) {
            let (key, result) = (key.clone(), result.clone());
            findings.add(SolverDamage::StrayResultIndex { key, result });
        }
    }
    let backlinks = pairs(&cache.backlinks, FewSet::iter);
    for (from, links) in &cache.links {
        let targets: BTreeSet<_> = links.iter().map(|(_, to)| to).collect();
        for to in targets {
            if !backlinks.contains(&(to, from)) {
                let (from, to) = (from.clone(), to.clone());
                // Before v0.18 a daemon could pass over links of a key that it forgot.
                findings.add_unless(used.solver, SolverDamage::MissingBacklink { from, to });
            }
        }
    }
    let targets = |links: &'c FewSet<(Link, KeyId)>| links.iter().map(|(_, to)| to);
    let links = pairs(&cache.links, targets);
    for (to, sources) in &cache.backlinks {
        for from in sources.iter().filter(|from| !links.contains(&(from, to))) {
            let (from, to) = (from.clone(), to.clone());
            findings.add(SolverDamage::StrayBacklink { from, to });
        }
    }
}

/// What each key of `map` stands with. It is hashed, as lookups in an ordered set compare texts all
/// over the memory.
fn pairs<'m, K: Hash + Eq, V, I: Iterator<Item: Hash + Eq>>(
    map: &'m BTreeMap<K, V>,
    items: impl Fn(&'m V) -> I,
) -> HashSet<(&'m K, I::Item)> {
    let pairs = map.iter().flat_map(|(key, value)| items(value).map(move |item| (key, item)));
    // Counted first: a set that grows hashes everything again.
    pairs.collect::<Vec<_>>().into_iter().collect()
}

fn check_results(
    cache: &SolverCache,
    worker: &WorkerId,
    others: &BTreeSet<WorkerId>,
    records: &Records,
    used: Used,
    findings: &mut Findings,
) {
    let by_result = pairs(&cache.by_result, FewSet::iter);
    for (key, results) in &cache.results {
        for result in results.keys() {
            let named = || (key.clone(), result.clone());
            if !by_result.contains(&(result, key)) {
                let (key, result) = named();
                findings.add(SolverDamage::UnindexedResult { key, result });
            }
            // No other session asks for the key of a local source, and the daemon forgets its
            // record as soon as the next session reuses the files.
            if key.is_of_one_session() {
                continue;
            }
            if result.worker != *worker {
                if !others.contains(&result.worker) {
                    let (key, result) = named();
                    findings.add(SolverDamage::ResultOfUnknownWorker { key, result });
                }
            } else if result.record.as_ref().is_some_and(|id| !records.by_id.contains_key(id)) {
                // A daemon that removes a record leaves its results until later, often until it
                // starts again.
                let (key, result) = named();
                findings
                    .add_unless(used.records, SolverDamage::ResultWithoutRecord { key, result });
            }
        }
    }
}
