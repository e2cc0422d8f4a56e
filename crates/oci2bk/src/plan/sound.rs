//! Checks whether the parts of a plan are consistent.

use bkstate::Digest;

use super::Plan;

/// An inconsistency in a plan.
///
/// In a plan everything refers to earlier parts of it. It is plain data, and may be changed; an inconsistent
/// plan is not executed.
///
/// ```
/// use oci2bk::convert::ConvertError;
/// use oci2bk::plan::{BrokenPlan, SnapshotIndex};
/// use oci2bk::{CacheExport, Converter, Keyring, Limits, Plan};
///
/// let exports = CacheExport::read_sources(&["fixtures/min/cache".parse()?], &Limits::default())?;
/// let mut plan = Plan::new(&exports, &Keyring::for_exports(&exports))?;
/// plan.check()?;
///
/// plan.snapshots[0].parent = Some(SnapshotIndex(7));
/// let directory = tempfile::tempdir()?;
/// let error = Converter::new().convert(&plan, directory.path()).unwrap_err();
/// let ConvertError::Plan(BrokenPlan::Reference { part, index, .. }) = error else {
///     panic!("{error}");
/// };
/// assert_eq!((part, index), ("snapshot", 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BrokenPlan {
    /// A part refers to one that is missing or does not come before it.
    #[error(
        "{part} {index} of the plan refers to {other} {to}, which is not there or does not come before it; \
         make the plan anew"
    )]
    Reference {
        /// The referring part: `snapshot`, `layer`, `step`, `document` or `blob`.
        part: &'static str,
        /// Its index in the plan.
        index: usize,
        /// The kind of the target: `snapshot`, `layer`, `step` or `source`.
        other: &'static str,
        /// The index of the target.
        to: usize,
    },
    /// A part refers to a blob that is not in the plan.
    #[error(
        "{part} {index} of the plan has the blob {blob}, which is not in it; make the plan anew"
    )]
    Blob {
        /// The referring part: `snapshot` or `layer`.
        part: &'static str,
        /// Its index in the plan.
        index: usize,
        /// The blob.
        blob: Digest,
    },
}

impl Plan {
    /// Checks that all references in the plan are valid, and that layers, snapshots and steps refer to
    /// earlier ones.
    ///
    /// ```
    /// use oci2bk::{CacheExport, Keyring, Limits, Plan};
    ///
    /// let exports = CacheExport::read_sources(&["fixtures/min/cache".parse()?], &Limits::default())?;
    /// let mut plan = Plan::new(&exports, &Keyring::for_exports(&exports))?;
    /// plan.check()?;
    /// plan.blobs.clear();
    /// assert!(plan.check().is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Returns the first invalid reference.
    pub fn check(&self) -> Result<(), BrokenPlan> {
        for (index, snapshot) in self.snapshots.iter().enumerate() {
            refers("snapshot", index, "snapshot", snapshot.parent, index)?;
            self.has_blob("snapshot", index, snapshot.blob)?;
        }
        for (index, layer) in self.layers.iter().enumerate() {
            refers("layer", index, "layer", layer.parent, index)?;
            refers("layer", index, "snapshot", [layer.snapshot], self.snapshots.len())?;
            self.has_blob("layer", index, layer.blob)?;
        }
        for (index, step) in self.steps.iter().enumerate() {
            refers("step", index, "step", step.links.iter().map(|link| link.from), index)?;
            let layers = step.results.iter().map(|result| result.layer);
            refers("step", index, "layer", layers, self.layers.len())?;
        }
        for (index, document) in self.documents.values().enumerate() {
            let layers = document.layers.iter().copied();
            refers("document", index, "layer", layers, self.layers.len())?;
        }
        for (index, blob) in self.blobs.values().enumerate() {
            refers("blob", index, "source", [blob.source], self.sources.len())?;
        }
        Ok(())
    }

    fn has_blob(&self, part: &'static str, index: usize, blob: Digest) -> Result<(), BrokenPlan> {
        if self.blobs.contains_key(&blob) {
            return Ok(());
        }
        Err(BrokenPlan::Blob { part, index, blob })
    }
}

/// Checks that `part` with this index refers only to those of the `others` that are below `end`.
fn refers(
    part: &'static str,
    index: usize,
    other: &'static str,
    others: impl IntoIterator<Item = impl Into<usize>>,
    end: usize,
) -> Result<(), BrokenPlan> {
    match others.into_iter().map(Into::into).find(|to| *to >= end) {
        None => Ok(()),
        Some(to) => Err(BrokenPlan::Reference { part, index, other, to }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::*;
    use super::super::{LayerIndex, SnapshotIndex, SourceIndex, StepIndex, StepResult};
    use super::*;

    fn plan() -> Plan {
        let records = json!([
            {"digest": record("r"), "layers": result(0)},
            {"digest": record("x"), "inputs": [[{"link": 0}]], "layers": result(1)},
        ]);
        planned(&["a", "b"].map(plain), &[("a", -1), ("b", 0)], &records, &["x"])
    }

    #[test]
    fn a_plan_as_it_is_made_fits_together() {
        assert_eq!(plan().check(), Ok(()));
    }

    /// The start of its message, and a change of a plan.
    type Case<'c> = (&'static str, &'c dyn Fn(&mut Plan));

    #[test]
    fn what_a_changed_plan_refers_to_in_vain_is_named() {
        let result = |layer| StepResult { layer: LayerIndex(layer), created_at: None };
        let changes: [Case<'_>; 7] = [
            ("snapshot 1 of the plan refers to snapshot 1, ", &|plan| {
                plan.snapshots[1].parent = Some(SnapshotIndex(1));
            }),
            ("layer 0 of the plan refers to layer 1, ", &|plan| {
                plan.layers[0].parent = Some(LayerIndex(1));
            }),
            ("layer 1 of the plan refers to snapshot 2, ", &|plan| {
                plan.layers[1].snapshot = SnapshotIndex(2);
            }),
            ("step 1 of the plan refers to step 1, ", &|plan| {
                plan.steps[1].links[0].from = StepIndex(1);
            }),
            ("step 0 of the plan refers to layer 9, ", &|plan| {
                plan.steps[0].results.push(result(9));
            }),
            ("blob 0 of the plan refers to source 1, ", &|plan| {
                plan.blobs.values_mut().for_each(|blob| blob.source = SourceIndex(1));
            }),
            ("snapshot 0 of the plan has the blob ", &|plan| plan.blobs.clear()),
        ];
        for (message, change) in changes {
            let mut plan = plan();
            change(&mut plan);
            let error = plan.check().unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
    }
}
