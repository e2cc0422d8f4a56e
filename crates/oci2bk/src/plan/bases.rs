//! Infers results that an export omits from the steps above them.
//!
//! An export has no results of steps without inputs, such as base images, and with `mode=min` none of
//! intermediate steps. If a step adds one layer to its input, the layers below that one are the result of the
//! input.

use std::collections::BTreeSet;

use typed_index_collections::{TiSlice, TiVec, ti_vec};

use super::{Layer, LayerIndex, Step, StepIndex, StepResult};

/// Maximum number of results of one step to examine. A step of a real export has one or two; a hostile one
/// could have so many, for so many inputs, that the product could not be stored.
const MOST_RESULTS: usize = 16;

/// Gives the steps without results those that follow from the steps above them. `bases` has for each step the
/// input to which it adds one layer.
pub(super) fn infer(
    steps: &mut TiSlice<StepIndex, Step>,
    bases: &TiSlice<StepIndex, Option<usize>>,
    layers: &TiSlice<LayerIndex, Layer>,
) {
    let mut inferred: TiVec<StepIndex, BTreeSet<LayerIndex>> =
        ti_vec![BTreeSet::new(); steps.len()];
    // A step comes after its inputs, so its results from those above are complete when its turn comes.
    for index in steps.keys().rev() {
        let results = inferred[index]
            .iter()
            .map(|&layer| StepResult { layer, created_at: layers[layer].created_at });
        steps[index].results.extend(results);
        let step = &steps[index];
        let Some(base) = bases[index] else { continue };
        let tops = step.results.iter().take(MOST_RESULTS);
        let below: Vec<_> = tops.filter_map(|top| layers[top.layer].parent).collect();
        for edge in &step.links {
            let feeds_base = usize::try_from(edge.link.input) == Ok(base);
            if feeds_base && steps[edge.from].results.is_empty() {
                inferred[edge.from].extend(&below);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::Plan;
    use super::super::testing::*;
    use llb::Base;

    const FIRST: Option<Base> = Some(Base { input: 0, inputs: 1 });

    /// Returns a record on top of others, one alternative each, with a result if `top` is a node.
    fn step(name: &str, inputs: &Value, top: Option<usize>) -> Value {
        let mut step = json!({"digest": record(name), "inputs": inputs});
        if let Some(top) = top {
            step["layers"] = result(top);
        }
        step
    }

    fn root(name: &str) -> Value {
        json!({"digest": record(name)})
    }

    /// Returns the layers of each step's results, in the order of the steps.
    fn results(records: &Value, base: Option<Base>) -> Vec<Vec<usize>> {
        let nodes = [("a", -1), ("b", 0), ("c", 1), ("d", 1)];
        let (_layout, export) = export(&["a", "b", "c", "d"].map(described), &nodes, records);
        let plan = Plan::new(&[export], &keyring_with_bases(&["x", "y", "z"], base)).unwrap();
        let layers = |step: &super::Step| step.results.iter().map(|r| r.layer.0).collect();
        plan.steps.iter().map(layers).collect()
    }

    #[test]
    fn what_is_below_a_step_is_the_result_of_its_input_however_it_is_called() {
        let image = json!([
            root("manifest"),
            root("config"),
            step("x", &json!([[{"link": 0}, {"link": 1}]]), Some(2))
        ]);
        assert_eq!(results(&image, FIRST), [vec![1], vec![1], vec![2]]);
        assert_eq!(results(&image, None), [vec![], vec![], vec![2]]);
    }

    #[test]
    fn what_is_inferred_leads_further_down() {
        let steps = json!([
            root("r"),
            step("x", &json!([[{"link": 0}]]), None),
            step("y", &json!([[{"link": 1}]]), Some(2)),
        ]);
        assert_eq!(results(&steps, FIRST), [vec![0], vec![1], vec![2]]);
    }

    #[test]
    fn results_of_the_export_are_not_added_to() {
        let steps = json!([
            root("r"),
            step("x", &json!([[{"link": 0}]]), Some(3)),
            step("y", &json!([[{"link": 1}]]), Some(2)),
        ]);
        assert_eq!(results(&steps, FIRST), [vec![1], vec![3], vec![2]]);
    }

    #[test]
    fn different_results_of_one_input_are_all_kept_in_order() {
        let nodes = [("a", -1), ("b", -1), ("c", 1), ("c", 0)];
        let records = json!([
            root("r"),
            step("x", &json!([[{"link": 0}]]), Some(2)),
            step("y", &json!([[{"link": 0}]]), Some(3)),
            step("z", &json!([[{"link": 0}]]), Some(3)),
        ]);
        let (_layout, export) = export(&["a", "b", "c"].map(described), &nodes, &records);
        let plan = Plan::new(&[export], &keyring_with_bases(&["x", "y", "z"], FIRST)).unwrap();
        let root = &plan.steps[0];
        assert_eq!(root.results.iter().map(|r| r.layer.0).collect::<Vec<_>>(), [0, 1]);
        assert!(root.results.iter().all(|r| r.created_at == plan.layers[0].created_at));
    }

    #[test]
    fn only_the_input_that_the_step_lies_on_takes_part() {
        let steps = |inputs: Value| json!([root("r"), root("s"), step("x", &inputs, Some(1))]);
        let two = json!([[{"link": 0}], [{"link": 1}]]);
        let second = Some(Base { input: 1, inputs: 2 });
        assert_eq!(results(&steps(two.clone()), second), [vec![], vec![0], vec![1]]);
        // The key source has the op with another number of inputs than the export.
        assert_eq!(results(&steps(two), FIRST), [vec![], vec![], vec![1]]);
    }

    #[test]
    fn nothing_is_below_the_lowest_layer() {
        let steps = json!([root("r"), step("x", &json!([[{"link": 0}]]), Some(0))]);
        assert_eq!(results(&steps, FIRST), [vec![], vec![0]]);
    }

    #[test]
    fn many_results_of_a_step_with_many_alternatives_do_not_multiply() {
        const MANY: usize = 2000;
        let names: Vec<_> = (0..=MANY).map(|name| name.to_string()).collect();
        let layers: Vec<_> = names.iter().map(|name| described(name)).collect();
        let nodes: Vec<_> =
            (-1..).zip(&names).map(|(below, name)| (name.as_str(), below)).collect();
        let mut records: Vec<_> = names.iter().map(|name| root(name)).collect();
        let alternatives: Vec<_> = (0..=MANY).map(|link| json!({"link": link})).collect();
        let mut wide = step("x", &json!([alternatives]), None);
        wide["layers"] = (1..=MANY).map(|layer| json!({"layer": layer})).collect();
        records.push(wide);
        let (_layout, export) = export(&layers, &nodes, &Value::from(records));
        let plan = Plan::new(&[export], &keyring_with_bases(&["x"], FIRST)).unwrap();
        let (wide, roots) = plan.steps.split_last().unwrap();
        assert_eq!((wide.results.len(), roots.len()), (MANY, MANY + 1));
        assert!(roots.iter().all(|root| root.results.len() == super::MOST_RESULTS));
    }
}
