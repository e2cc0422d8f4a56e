//! Maps the steps of a plan to keys of the solver.

use std::collections::{BTreeMap, BTreeSet};

use bkstate::Time;
use bkstate::digest::DigestText;
use bkstate::ids::{KeyId, RecordId, ResultId, WorkerId};
use bkstate::solver::SolverCache;
use typed_index_collections::{TiSlice, TiVec};

use super::{LayerPlace, NoPlace, Places};
use crate::plan::{Plan, Step, StepIndex, StepLink};

/// Maximum number of lookups of the steps again with the results of the last one. Once is enough unless a
/// plan has a step in several versions that an existing state has merged.
const PASSES: usize = 8;

/// Maximum number of targets of one link to examine. There is one unless builds ran at the same time; a
/// hostile cache could have too many to compare.
const MOST_TARGETS: usize = 16;

/// Adds the keys, links and results of `plan` to `cache`. Returns the key of each step.
///
/// A step whose inputs all lead to one existing key by its op is that key, as for a daemon (BuildKit v0.32.2
/// `solver/cachemanager.go` `getIDFromDeps`). Adding the same plan again adds nothing.
///
/// # Errors
/// Returns an error if a result is a layer without a record.
pub(crate) fn add(
    plan: &Plan,
    places: &Places,
    worker: &WorkerId,
    cache: &mut SolverCache,
) -> Result<TiVec<StepIndex, KeyId>, NoPlace> {
    let mut keys = keys(plan, cache);
    for _ in 0..PASSES {
        if !add_as(plan, &keys, places, worker, cache)? {
            break;
        }
        // All added links lead to the steps' own keys, so they would be found again.
        if plan.steps.iter().map(|step| &step.key).eq(&keys) {
            break;
        }
        let again = self::keys(plan, cache);
        if again == keys {
            break;
        }
        keys = again;
    }
    Ok(keys)
}

/// Returns the keys of the steps of `plan` in `cache`; a new one for missing steps.
pub(crate) fn keys(plan: &Plan, cache: &SolverCache) -> TiVec<StepIndex, KeyId> {
    let mut keys: TiVec<StepIndex, KeyId> = TiVec::with_capacity(plan.steps.len());
    for step in &plan.steps {
        let key = known_key(step, &keys, cache).unwrap_or_else(|| step.key.clone());
        keys.push(key);
    }
    keys
}

/// For each op, input and alternative, the keys to which it leads.
type Targets = BTreeMap<(DigestText, i64), BTreeMap<i64, Vec<BTreeSet<KeyId>>>>;

/// Returns the key to which the links of `step` lead in `cache`, where the steps below have the keys `keys`.
fn known_key(step: &Step, keys: &TiSlice<StepIndex, KeyId>, cache: &SolverCache) -> Option<KeyId> {
    let leads_to = |edge: &StepLink, key: &KeyId| cache.has_link(&keys[edge.from], &edge.link, key);
    if step.links.iter().all(|edge| leads_to(edge, &step.key)) {
        return Some(step.key.clone());
    }
    // One step may have several op digests, for daemons of several releases.
    let mut ops = Targets::new();
    for edge in &step.links {
        let op = ops.entry((edge.link.digest.clone(), edge.link.output)).or_default();
        let targets = cache.targets(&keys[edge.from], &edge.link).take(MOST_TARGETS).cloned();
        op.entry(edge.link.input).or_default().push(targets.collect());
    }
    // A second run finds the keys to which all alternatives of the inputs lead. A key to which some lead is
    // the same step, from a source that did not know the other alternatives.
    let all = |alternatives: &[BTreeSet<KeyId>]| intersection(alternatives);
    let any = |alternatives: &[BTreeSet<KeyId>]| alternatives.iter().flatten().cloned().collect();
    best(&step.key, &ops, all).or_else(|| best(&step.key, &ops, any))
}

/// Returns the best of the keys to which all inputs of an op lead: `own`, or else the first.
fn best(
    own: &KeyId,
    ops: &Targets,
    join: impl Fn(&[BTreeSet<KeyId>]) -> BTreeSet<KeyId>,
) -> Option<KeyId> {
    let keys: BTreeSet<KeyId> = ops
        .values()
        .flat_map(|inputs| {
            let inputs: Vec<_> = inputs.values().map(|alternatives| join(alternatives)).collect();
            intersection(&inputs)
        })
        .collect();
    keys.get(own).or_else(|| keys.first()).cloned()
}

fn intersection(sets: &[BTreeSet<KeyId>]) -> BTreeSet<KeyId> {
    let Some((first, others)) = sets.split_first() else { return BTreeSet::new() };
    first.iter().filter(|key| others.iter().all(|set| set.contains(key))).cloned().collect()
}

/// Adds the steps as these keys. Returns whether anything is new.
fn add_as(
    plan: &Plan,
    keys: &TiSlice<StepIndex, KeyId>,
    places: &Places,
    worker: &WorkerId,
    cache: &mut SolverCache,
) -> Result<bool, NoPlace> {
    let mut new = false;
    for (step, key) in plan.steps.iter().zip(keys) {
        new |= cache.add_key(key);
        for edge in &step.links {
            new |= cache.add_link(&keys[edge.from], edge.link.clone(), key);
        }
        for result in &step.results {
            let created_at = result.created_at.unwrap_or(Time::ZERO);
            let id = |record: &RecordId| ResultId {
                worker: worker.clone(),
                record: Some(record.clone()),
            };
            let known = cache.results.get(key);
            let result = match &places.layers[result.layer] {
                LayerPlace::Unneeded => return Err(NoPlace::Record(result.layer)),
                LayerPlace::New(record) => id(record),
                // Of records with the same content, one as result is enough.
                LayerPlace::Existing { record, twins } => {
                    let mut ids = [record].into_iter().chain(twins).map(id);
                    let known = ids.find(|id| known.is_some_and(|known| known.contains_key(id)));
                    known.unwrap_or_else(|| id(record))
                }
            };
            new |= cache.add_result(key, result, created_at);
        }
    }
    Ok(new)
}
