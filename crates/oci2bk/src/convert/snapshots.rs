//! Finishing snapshots once all layers are unpacked.

use std::num::NonZeroUsize;
use std::os::fd::AsFd as _;
use std::sync::Mutex;

use bkstate::state::Staging;

use super::ConvertError;
use super::parallel::in_parallel;
use crate::assemble::snapshot_id;
use crate::plan::Plan;
use crate::unpack::{Unpacked, Usage, usage};

/// Gives the directories that layers imply their owners and modes from the layers below, and
/// measures every snapshot. The result is in the order of the plan.
pub(super) fn settle(
    plan: &Plan,
    unpacked: &[Unpacked],
    staging: &Staging<'_>,
    jobs: NonZeroUsize,
) -> Result<Vec<Usage>, ConvertError> {
    let failed = |index: usize| {
        let digest = plan.snapshots[index].blob;
        let root = staging.root().to_owned();
        move |source| ConvertError::Unpack { digest, root, source: Box::new(source) }
    };
    // From the bottom up: what a layer takes from below has to be settled there.
    for (index, layer) in unpacked.iter().enumerate() {
        if layer.implied.is_empty() {
            continue;
        }
        let fs = staging.trees().fs(snapshot_id(index))?;
        // Opened one after the other: a chain may be longer than the files we may have open.
        let mut unopened = None;
        let lowers = below(plan, index).map_while(|lower| {
            staging.trees().fs(snapshot_id(lower)).map_err(|error| unopened = Some(error)).ok()
        });
        let settled = layer.implied.settle(fs.as_fd(), lowers);
        if let Some(error) = unopened {
            return Err(error.into());
        }
        settled.map_err(failed(index))?;
    }
    let sizes: Vec<_> = unpacked.iter().map(|_| Mutex::new(Usage::default())).collect();
    let indexes: Vec<_> = (0..sizes.len()).collect();
    in_parallel(&indexes, jobs, |&index| {
        let fs = staging.trees().fs(snapshot_id(index))?;
        let measured = usage(fs.as_fd()).map_err(failed(index))?;
        if let Ok(mut size) = sizes[index].lock() {
            *size = measured;
        }
        Ok::<_, ConvertError>(())
    })?;
    Ok(sizes.into_iter().map(|size| size.into_inner().unwrap_or_default()).collect())
}

/// All snapshots below the one at `index`, the nearest first.
fn below(plan: &Plan, index: usize) -> impl Iterator<Item = usize> {
    let parent = |index: &usize| plan.snapshots.get(*index).and_then(|snapshot| snapshot.parent);
    std::iter::successors(parent(&index), parent)
}
