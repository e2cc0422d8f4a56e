//! `cache.db`: keys, links and results, each of which is stored twice.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{KeyId, ResultId, WorkerId};
use crate::records::Records;
use crate::small_map::{SmallMap, SmallSet};
use crate::solver::{Link, Miswritten, SolverCache};

use super::{Findings, Used};

/// Damage in `cache.db`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SolverDamage {
    /// A result names a missing record.
    #[error("solver: key {key} results in {result}, which is not a record of this worker")]
    ResultWithoutRecord {
        /// The key.
        key: KeyId,
        /// The result.
        result: ResultId,
    },
    /// A result names a worker that the root does not have.
    #[error("solver: key {key} results in {result}, whose worker is not in the root")]
    ResultOfUnknownWorker {
        /// The key.
        key: KeyId,
        /// The result.
        result: ResultId,
    },
    /// A key has results but no bucket in `_links`, so it does not exist for a daemon.
    #[error("solver: key {key} has results but is not in _links")]
    InvisibleKey {
        /// The key.
        key: KeyId,
    },
    /// The target of a link lacks the backlink.
    #[error("solver: the link from {from} to {to} has no backlink")]
    MissingBacklink {
        /// The source of the link.
        from: KeyId,
        /// The target of the link.
        to: KeyId,
    },
    /// A backlink has no link.
    #[error("solver: {to} has a backlink to {from}, which has no link to it")]
    StrayBacklink {
        /// The expected source.
        from: KeyId,
        /// The expected target.
        to: KeyId,
    },
    /// `_byresult` lacks a key's result.
    #[error("solver: _byresult does not list key {key} for its result {result}")]
    UnindexedResult {
        /// The key.
        key: KeyId,
        /// The result.
        result: ResultId,
    },
    /// `_byresult` lists a key for a result that it does not have.
    #[error("solver: _byresult lists key {key} for {result}, which is not a result of it")]
    StrayResultIndex {
        /// The key.
        key: KeyId,
        /// The result.
        result: ResultId,
    },
    /// The encoding of a link or a result differs from the daemon's.
    #[error("solver: {0}")]
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

/// Checks `cache.db` for consistency with itself and with the records of the root's workers.
pub(super) fn check(
    cache: &SolverCache,
    worker: &WorkerId,
    others: &BTreeSet<WorkerId>,
    records: &Records,
    used: Used,
    findings: &mut Findings,
) {
    check_results(cache, worker, others, records, used, findings);
    for (key, results) in &cache.results {
        // Up to v0.14 a daemon that deleted the last link of a key left its results behind.
        if !results.is_empty() && !cache.links.contains_key(key) {
            findings.add_unless(used.solver, SolverDamage::InvisibleKey { key: key.clone() });
        }
    }
    check_result_index(cache, findings);
    check_links(cache, used, findings);
}

fn check_results(
    cache: &SolverCache,
    worker: &WorkerId,
    others: &BTreeSet<WorkerId>,
    records: &Records,
    used: Used,
    findings: &mut Findings,
) {
    for (key, results) in &cache.results {
        for result in results.keys() {
            let named = || (key.clone(), result.clone());
            // No other session asks for the key of a local source, and the daemon drops its record as soon as
            // the next session reuses the files.
            if key.is_of_one_session() {
                continue;
            }
            if result.worker != *worker {
                if !others.contains(&result.worker) {
                    let (key, result) = named();
                    findings.add(SolverDamage::ResultOfUnknownWorker { key, result });
                }
            } else if is_gone(result, records) {
                // A daemon that removes a record removes its results later, often only when it starts again.
                let (key, result) = named();
                findings
                    .add_unless(used.records, SolverDamage::ResultWithoutRecord { key, result });
            }
        }
    }
}

/// Returns whether the record of a result is missing, or is one that the daemon removes when it starts.
fn is_gone(result: &ResultId, records: &Records) -> bool {
    let is_live = |id| records.by_id.get(id).is_some_and(|record| !record.is_removed());
    result.record.as_ref().is_some_and(|id| !is_live(id))
}

/// Checks `_byresult` against `_result`.
fn check_result_index(cache: &SolverCache, findings: &mut Findings) {
    let mut indexed = 0;
    for (key, result) in pairs(&cache.results, SmallMap::keys) {
        if cache.by_result.get(result).is_some_and(|keys| keys.contains(key)) {
            indexed += 1;
        } else {
            let (key, result) = (key.clone(), result.clone());
            findings.add(SolverDamage::UnindexedResult { key, result });
        }
    }
    // All others are strays, so a sound state needs no search for them.
    if pairs(&cache.by_result, SmallSet::iter).count() == indexed {
        return;
    }
    for (result, key) in pairs(&cache.by_result, SmallSet::iter) {
        if !cache.results.get(key).is_some_and(|results| results.contains_key(result)) {
            let (key, result) = (key.clone(), result.clone());
            findings.add(SolverDamage::StrayResultIndex { key, result });
        }
    }
}

/// Checks `_links` and `_backlinks` against each other.
fn check_links(cache: &SolverCache, used: Used, findings: &mut Findings) {
    let mut known = 0;
    for (from, to) in pairs(&cache.links, targets) {
        if cache.backlinks.get(to).is_some_and(|sources| sources.contains(from)) {
            known += 1;
        } else {
            let (from, to) = (from.clone(), to.clone());
            // Before v0.18 a daemon could leave links of a key that it dropped.
            findings.add_unless(used.solver, SolverDamage::MissingBacklink { from, to });
        }
    }
    // As above.
    if pairs(&cache.backlinks, SmallSet::iter).count() == known {
        return;
    }
    let links: BTreeSet<_> = pairs(&cache.links, targets).collect();
    for (to, from) in pairs(&cache.backlinks, SmallSet::iter) {
        if !links.contains(&(from, to)) {
            let (from, to) = (from.clone(), to.clone());
            findings.add(SolverDamage::StrayBacklink { from, to });
        }
    }
}

/// Returns the targets of links.
fn targets(links: &SmallSet<(Link, KeyId)>) -> BTreeSet<&KeyId> {
    links.iter().map(|(_, to)| to).collect()
}

/// Returns each key of `map` paired with each of its items.
fn pairs<'m, K, V, I: IntoIterator>(
    map: &'m BTreeMap<K, V>,
    items: impl Fn(&'m V) -> I,
) -> impl Iterator<Item = (&'m K, I::Item)> {
    map.iter().flat_map(move |(key, value)| items(value).into_iter().map(move |item| (key, item)))
}
