//! Layers that cannot be unpacked, and need not be.
//!
//! A daemon unpacks a chain of layers when it mounts it: for a `RUN`, for a `COPY` onto it or from it. An
//! image that is only below `COPY --link` stays packed: the daemon puts the copied layer on top of it, for
//! exports, without reading either (BuildKit v0.34.2 `cache/refs.go` `mergeRef`,
//! `solver/llbsolver/ops/merge.go`). So does an image that a build only passes on. If such a chain cannot be
//! unpacked, a natural root is as warm with it as with any other, and so is a converted one.

use std::collections::{BTreeMap, BTreeSet};

use bkstate::Digest;
use serde::ser::{Serialize, SerializeStruct as _, Serializer};
use typed_index_collections::{TiVec, ti_vec};

use crate::index::by_index;
use crate::plan::{Plan, SnapshotIndex, StepIndex};
use crate::text::with_causes;
use crate::unpack::UnpackError;

/// A layer of which the root has only the blob, like a layer that a daemon has not needed yet, although
/// layers were to be unpacked. The blob matches the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeftPacked {
    /// Its blob.
    pub layer: Digest,
    /// The reason.
    pub reason: PackedReason,
    /// The name of the limit that it exceeds, if that is the reason.
    pub limit: Option<&'static str>,
}

/// Why a layer was left packed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PackedReason {
    /// It cannot be unpacked. The text has the errors with their causes.
    CannotUnpack(String),
    /// The layer below it, with this blob, was left packed.
    LiesOn(Digest),
}

/// The reason is one word, and the data of the other variant is null. The limit is not included.
impl Serialize for LeftPacked {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (reason, message, below) = match &self.reason {
            PackedReason::CannotUnpack(message) => ("cannot-unpack", Some(message), None),
            PackedReason::LiesOn(below) => ("lies-on-packed", None, Some(below)),
        };
        let mut left = serializer.serialize_struct("LeftPacked", 4)?;
        left.serialize_field("blob", &self.layer)?;
        left.serialize_field("reason", reason)?;
        left.serialize_field("message", &message)?;
        left.serialize_field("parent_blob", &below)?;
        left.end()
    }
}

impl PackedReason {
    /// Returns the reason for a layer that cannot be unpacked.
    pub(super) fn of(error: &UnpackError) -> Self {
        Self::CannotUnpack(with_causes(error))
    }
}

/// Returns, for each snapshot of `plan`, whether a daemon that ran the steps has unpacked it, or one on top
/// of it: to run a step on it or copy from it, or as the result of a step.
pub(super) fn mounted(plan: &Plan) -> TiVec<SnapshotIndex, bool> {
    needed(plan, true)
}

/// Returns the same without the results of steps.
pub(super) fn built_on(plan: &Plan) -> TiVec<SnapshotIndex, bool> {
    needed(plan, false)
}

/// Steps without inputs are sources. Of the others, those that ran have their own topmost layer, while
/// combinations of layers end with a layer that an earlier step made.
fn needed(plan: &Plan, with_results: bool) -> TiVec<SnapshotIndex, bool> {
    let mut made: BTreeSet<Digest> = BTreeSet::new();
    let mut is_mounted: TiVec<StepIndex, bool> = ti_vec![false; plan.steps.len()];
    for (index, step) in by_index(&plan.steps).iter_enumerated() {
        let tops = step.results.iter().map(|result| &plan.layers[result.layer]);
        // All of them count as made.
        let own = tops.filter(|layer| made.insert(layer.blob)).count();
        if own > 0 && !step.links.is_empty() {
            let inputs = step.links.iter().map(|link| link.from);
            let mounts = inputs.chain(with_results.then_some(index));
            mounts.for_each(|step| is_mounted[step] = true);
        }
    }
    let steps = plan.steps.iter().zip(is_mounted).filter(|(_, mounted)| *mounted);
    let layers = steps.flat_map(|(step, _)| &step.results).map(|result| result.layer);
    let mut needed: TiVec<SnapshotIndex, bool> = ti_vec![false; plan.snapshots.len()];
    for layer in layers {
        let mut next = Some(plan.layers[layer].snapshot);
        while let Some(index) = next.filter(|index| !needed[*index]) {
            needed[index] = true;
            next = plan.snapshots[index].parent;
        }
    }
    needed
}

/// Returns the layers left packed, with the limits that they exceed, given their index in `plan`.
pub(super) fn report(
    plan: &Plan,
    left: BTreeMap<SnapshotIndex, PackedReason>,
    limits: &BTreeMap<SnapshotIndex, &'static str>,
) -> Vec<LeftPacked> {
    let layer = |(index, reason): (SnapshotIndex, _)| LeftPacked {
        layer: plan.snapshots[index].blob,
        reason,
        limit: limits.get(&index).copied(),
    };
    left.into_iter().map(layer).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::plan::testing::{blob, plain, planned, record, result};

    /// An image of the layers `base` and `top`, a file `copied` that is copied from the build context, and
    /// both together; with another record on top of them.
    fn mounted_with(record_on_them: serde_json::Value, name: &str) -> Vec<bool> {
        let layers = ["base", "top", "copied", "ran"].map(plain);
        let nodes = [("base", -1), ("top", 0), ("copied", -1), ("copied", 1), ("ran", 3)];
        let image = json!({"digest": blob("image"), "layers": result(1)});
        let context = json!({"digest": blob("context")});
        let copy =
            json!({"digest": record("copy"), "layers": result(2), "inputs": [[{"link": 1}]]});
        let merge = json!({
            "digest": record("merge"), "layers": result(3), "inputs": [[{"link": 0}], [{"link": 2}]],
        });
        let records = json!([image, context, copy, merge, record_on_them]);
        let plan = planned(&layers, &nodes, &records, &["copy", "merge", name]);
        assert_eq!(plan.steps.len(), 5);
        let needed = mounted(&plan);
        let of = |layer: &crate::plan::Layer| needed[layer.snapshot];
        let names = [(0, "base"), (1, "top"), (2, "copied"), (3, "copied"), (4, "ran")];
        names
            .into_iter()
            .filter_map(|(node, name)| {
                let mut layers = plan.layers.iter().filter(|layer| layer.blob == blob(name));
                layers.find(|layer| layer.parent.is_some() == [1, 3, 4].contains(&node)).map(of)
            })
            .collect()
    }

    #[test]
    fn an_image_below_a_linked_copy_is_not_mounted() {
        // The same image again, by another step without inputs.
        let other = json!({"digest": blob("other"), "layers": result(1)});
        assert_eq!(mounted_with(other, "none"), [false, false, true, false]);
    }

    #[test]
    fn what_a_command_runs_on_is_mounted_to_the_bottom() {
        let run = json!({"digest": record("run"), "layers": result(4), "inputs": [[{"link": 3}]]});
        assert_eq!(mounted_with(run, "run"), [true; 5]);
    }

    #[test]
    fn what_is_copied_from_is_mounted_though_the_result_does_not_lie_on_it() {
        let layers = ["base", "copied"].map(plain);
        let image = json!({"digest": blob("image"), "layers": result(0)});
        let copy =
            json!({"digest": record("copy"), "layers": result(1), "inputs": [[{"link": 0}]]});
        let nodes = [("base", -1), ("copied", -1)];
        let plan = planned(&layers, &nodes, &json!([image, copy]), &["copy"]);
        assert_eq!(mounted(&plan).raw, [true, true]);
        // Without the key of the copy, nothing shows that it ran.
        let plan = planned(&layers, &nodes, &json!([image, copy]), &[]);
        assert_eq!(mounted(&plan).raw, [false, false]);
    }
}
