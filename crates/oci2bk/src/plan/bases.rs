//! The results that an export leaves out, as far as what lies on top of them shows them.
//!
//! An export has no results of steps without inputs, such as base images, and with `mode=min` none
//! of intermediate steps. Where a step is its input and one layer, what is below that layer is the
//! result of the input.

use std::collections::BTreeSet;

use super::{Layer, Step, StepResult};

/// How many results of one step are looked at. A step of a real export has one or two; a hostile
/// one could have so many, for so many inputs, that nobody can store the product.
const MOST_RESULTS: usize = 16;

/// Gives the steps without results those that follow from the steps on top of them. `bases` has for
/// each step the input that it is one layer more than.
pub(super) fn infer(steps: &mut [Step], bases: &[Option<usize>], layers: &[Layer]) {
    let mut inferred: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); steps.len()];
    // A step stands after its inputs, so what it takes from those above is complete when its turn
    // comes.
    for index in (0..steps.len()).rev() {
        let results = inferred[index].iter().map(|&layer| StepResult {
            layer,
            created_at: layers.get(layer).and_then(|layer| layer.created_at),
        });
        steps[index].results.extend(results);
        let step = &steps[index];
        let Some(base) = bases.get(index).copied().flatten() else {
            continue;
        };
        let tops = step.results.iter().take(MOST_RESULTS);
        let below: Vec<_> = tops.filter_map(|top| layers.get(top.layer)?.parent).collect();
        for edge in &step.links {
            let feeds_base = usize::try_from(edge.link.input) == Ok(base);
            if feeds_base && steps.get(edge.from).is_some_and(|from| from.results.is_empty()) {
                inferred[edge.from].extend(&below);
            }
        }
    }
}
