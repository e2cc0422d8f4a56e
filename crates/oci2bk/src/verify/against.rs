//! Compares a root with the caches from which it was made.
//!
//! A state can be consistent and still false: only the cache shows that a result belongs to another step, or
//! that a link leads to another one. So the content of a [`Plan`] of the caches is looked up in the root.
//!
//! A daemon that uses a root adds steps, links and results, runs steps again and collects unused ones. So
//! parts of the root that are not in the plan are counted, and so are parts of the plan that are missing.
//! Only what no daemon can have done is damage:
//!
//! * a step has a result with layers that belong to other steps of the plan, and not to this one,
//! * a link leads to the key of a step of another op,
//! * a record has another diffID for a blob,
//! * and if no daemon has used the root, a step of the plan has a result that the plan does not have.

use std::collections::{BTreeMap, BTreeSet};

use bkstate::Digest;
use bkstate::digest::DigestText;
use bkstate::ids::{KeyId, RecordId};
use bkstate::layers;
use bkstate::records::Record;
use bkstate::state::State;
use typed_index_collections::TiSlice;

use crate::place::steps;
use crate::plan::{LayerIndex, Plan, Step, StepIndex};

/// Maximum number of steps of a plan with one key in the root to distinguish, and of targets of a link to
/// examine. There is one, except in a hostile file.
const MOST_ALIKE: usize = 16;

/// How much of the caches is in the root.
///
/// ```
/// use oci2bk::verify::Against;
///
/// /// Returns whether a build of the caches finds everything that it would after a conversion.
/// fn is_whole(against: &Against) -> bool {
///     against.missing_steps + against.missing_links + against.missing_results == 0
/// }
/// assert!(is_whole(&Against::default()));
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Against {
    /// Number of steps of the caches.
    pub steps: usize,
    /// Those that the root lacks, for example after garbage collection.
    pub missing_steps: usize,
    /// Steps of the root that the caches do not have. They are not checked.
    pub other_steps: usize,
    /// Number of links between the caches' steps.
    pub links: usize,
    /// Those that the root lacks, so that a build does not find the step from there.
    pub missing_links: usize,
    /// Number of results of the caches.
    pub results: usize,
    /// Those that the root lacks.
    pub missing_results: usize,
    /// Results of the caches' steps that only the root has, and that a daemon can have made since.
    pub other_results: usize,
    /// Records of the caches that are no steps of the plan, usually for lack of a key. They are not compared.
    pub lost: usize,
}

/// A contradiction between a root and the caches from which it was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgainstDamage {
    /// A step has the layers of another as its result.
    #[error(
        "solver: key {key}{} results in record {record}, whose layers are those of another step{}",
        of(step),
        of(other)
    )]
    ResultOfOther {
        /// The key.
        key: KeyId,
        /// The step, as the user wrote it.
        step: Option<String>,
        /// The record.
        record: RecordId,
        /// The step to which the layers belong.
        other: Option<String>,
    },
    /// A step has a result that the caches do not have, and no daemon has used the root.
    #[error(
        "solver: key {key}{} results in record {record}, which the caches do not have",
        of(step)
    )]
    UnknownResult {
        /// The key.
        key: KeyId,
        /// The step, as the user wrote it.
        step: Option<String>,
        /// The record.
        record: RecordId,
    },
    /// A link leads to another step.
    #[error(
        "solver: the link from {from} by the op {op}{} leads to {to}, which is another step{}",
        of(step),
        of(other)
    )]
    LinkToOther {
        /// The source of the link.
        from: KeyId,
        /// The op digest.
        op: DigestText,
        /// The expected target, as the user wrote it.
        step: Option<String>,
        /// The actual target.
        to: KeyId,
        /// The step of the actual target.
        other: Option<String>,
    },
    /// A record has another diffID for a blob than the caches.
    #[error("records: record {record} says that {blob} unpacks to {found}, the cache {expected}")]
    OtherDiffId {
        /// The record.
        record: RecordId,
        /// The blob.
        blob: Digest,
        /// The diffID in the record.
        found: Digest,
        /// The diffID in the cache.
        expected: Digest,
    },
}

fn of(step: &Option<String>) -> String {
    step.as_ref().map(|step| format!(" ({step})")).unwrap_or_default()
}

impl AgainstDamage {
    /// Returns the kind of damage in a word.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::ResultOfOther { .. } => "result-of-other-step",
            Self::UnknownResult { .. } => "unknown-result",
            Self::LinkToOther { .. } => "link-to-other-step",
            Self::OtherDiffId { .. } => "other-diff-id",
        }
    }

    /// Returns what a daemon would do about it.
    pub fn consequence(&self) -> &'static str {
        match self {
            Self::ResultOfOther { .. } | Self::UnknownResult { .. } => {
                "the daemon says that the step is cached, and builds on the files of these layers"
            }
            Self::LinkToOther { .. } => {
                "the daemon says that the step is cached, and builds on the files of the other"
            }
            Self::OtherDiffId { .. } => {
                "the daemon exports manifests with the wrong value, and may take the layer for another"
            }
        }
    }
}

/// Compares `state` with `plan`. `used` is whether a daemon has used the state.
pub(super) fn compare(state: &State, plan: &Plan, used: bool) -> (Against, Vec<AgainstDamage>) {
    let keys = steps::keys(plan, &state.solver);
    let mut comparison = Comparison {
        state,
        plan,
        keys: &keys,
        used,
        chains: Chains::of(plan),
        counts: Against { steps: plan.steps.len(), lost: plan.lost.len(), ..Against::default() },
        damage: Vec::new(),
    };
    let owners = comparison.owners();
    for (step, key) in plan.steps.iter().zip(&keys) {
        comparison.links(step, key, &owners);
        comparison.results(step, key);
    }
    comparison.diff_ids();
    let known: BTreeSet<_> = keys.iter().collect();
    let there = &state.solver.links;
    let missing = plan.steps.iter().zip(&keys).filter(|(_, key)| !there.contains_key(*key));
    comparison.counts.missing_steps = missing.count();
    comparison.counts.other_steps = there.keys().filter(|key| !known.contains(key)).count();
    (comparison.counts, comparison.damage)
}

struct Comparison<'c> {
    state: &'c State,
    plan: &'c Plan,
    /// The keys of the steps in the state.
    keys: &'c TiSlice<StepIndex, KeyId>,
    used: bool,
    chains: Chains<'c>,
    counts: Against,
    damage: Vec<AgainstDamage>,
}

impl<'c> Comparison<'c> {
    /// Returns the steps of each key.
    fn owners(&self) -> BTreeMap<&'c KeyId, Vec<&'c Step>> {
        let mut owners: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (step, key) in self.plan.steps.iter().zip(self.keys) {
            let steps = owners.entry(key).or_default();
            if steps.len() < MOST_ALIKE {
                steps.push(step);
            }
        }
        owners
    }

    /// Checks that the links of `step` do not lead to the keys of steps of other ops. Twins, which are one
    /// step in several versions in the plan, have an op in common.
    fn links(&mut self, step: &'c Step, key: &KeyId, owners: &BTreeMap<&'c KeyId, Vec<&'c Step>>) {
        let own = ops(step);
        let is_other = |other: &&&Step| ops(other).is_disjoint(&own);
        for edge in &step.links {
            let from = &self.keys[edge.from];
            self.counts.links += 1;
            if !self.state.solver.has_link(from, &edge.link, key) {
                self.counts.missing_links += 1;
            }
            for to in self.state.solver.targets(from, &edge.link).take(MOST_ALIKE) {
                let others = owners.get(to).into_iter().flatten();
                if *to != step.key
                    && let Some(other) = others.into_iter().find(is_other)
                {
                    self.damage.push(AgainstDamage::LinkToOther {
                        from: from.clone(),
                        op: edge.link.digest.clone(),
                        step: step.name.clone(),
                        to: to.clone(),
                        other: other.name.clone(),
                    });
                }
            }
        }
    }

    /// Compares the results of `key` with those of `step`.
    fn results(&mut self, step: &Step, key: &KeyId) {
        let planned = step.results.iter().map(|result| self.chains.of_layer(result.layer));
        let planned: BTreeSet<Digest> = planned.collect();
        let mut found = BTreeSet::new();
        for result in self.state.solver.results.get(key).into_iter().flat_map(|r| r.keys()) {
            let records = &self.state.records.by_id;
            let record = result.record.as_ref().and_then(|id| records.get_key_value(id));
            // A missing record, or one of another worker, is not checked here.
            let Some((id, record)) = record.filter(|_| !planned.is_empty()) else { continue };
            let chain = chain_of(record);
            if let Some(chain) = chain.filter(|chain| planned.contains(chain)) {
                found.insert(chain);
            } else if let Some(other) = chain.and_then(|chain| self.chains.steps.get(&chain)) {
                self.damage.push(AgainstDamage::ResultOfOther {
                    key: key.clone(),
                    step: step.name.clone(),
                    record: id.clone(),
                    other: other.name.clone(),
                });
            } else if self.used {
                self.counts.other_results += 1;
            } else {
                let (key, record) = (key.clone(), id.clone());
                let step = step.name.clone();
                self.damage.push(AgainstDamage::UnknownResult { key, step, record });
            }
        }
        self.counts.results += planned.len();
        self.counts.missing_results += planned.len() - found.len();
    }

    fn diff_ids(&mut self) {
        for (id, record) in &self.state.records.by_id {
            let (Some(blob), Some(found)) = (record.blob, record.diff_id) else { continue };
            let planned = self.plan.blobs.get(&blob).map(|blob| blob.diff_id);
            if let Some(expected) = planned.filter(|planned| *planned != found) {
                let record = id.clone();
                self.damage.push(AgainstDamage::OtherDiffId { record, blob, found, expected });
            }
        }
    }
}

/// Returns the ops of a step: it may have one for each release.
fn ops(step: &Step) -> BTreeSet<(&DigestText, i64)> {
    step.links.iter().map(|edge| (&edge.link.digest, edge.link.output)).collect()
}

/// Returns the chainID of the layers of a record, if it has one.
fn chain_of(record: &Record) -> Option<Digest> {
    record.chain_id.or_else(|| layers::chain_id_of(record.snapshot.as_deref()?))
}

/// The chainIDs of a plan's layers.
struct Chains<'p> {
    plan: &'p Plan,
    /// For each chainID, a step with that result.
    steps: BTreeMap<Digest, &'p Step>,
}

impl<'p> Chains<'p> {
    fn of(plan: &'p Plan) -> Self {
        let mut chains = Self { plan, steps: BTreeMap::new() };
        for step in &plan.steps {
            for result in &step.results {
                let chain = chains.of_layer(result.layer);
                chains.steps.entry(chain).or_insert(step);
            }
        }
        chains
    }

    fn of_layer(&self, layer: LayerIndex) -> Digest {
        self.plan.snapshots[self.plan.layers[layer].snapshot].chain_id
    }
}
