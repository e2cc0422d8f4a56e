//! Finishing snapshots once all layers are unpacked.

use std::collections::BTreeMap;
use std::os::fd::AsFd as _;
use std::sync::Mutex;

use super::blobs::Site;
use super::parallel::in_parallel;
use super::{ConvertError, Run};
use crate::unpack::{Unpacked, Usage, usage};

/// Gives the directories that layers imply their owners and modes from the layers below, and
/// measures every snapshot. Both are by the places in the plan.
pub(super) fn settle(
    site: &Site<'_>,
    unpacked: &BTreeMap<usize, Unpacked>,
    run: &Run<'_>,
) -> Result<BTreeMap<usize, Usage>, ConvertError> {
    let failed = |index: usize| {
        let digest = site.plan.snapshots[index].blob;
        let root = site.staging.root().to_owned();
        move |source| ConvertError::Unpack { digest, root, source: Box::new(source) }
    };
    // From the bottom up: what a layer takes from below has to be settled there.
    for (&index, layer) in unpacked {
        run.check()?;
        if layer.implied.is_empty() {
            continue;
        }
        let fs = site.staging.trees().fs(site.id(index))?;
        let settled = layer.implied.settle_on(fs.as_fd(), site.trees_below(index))?;
        settled.map_err(failed(index))?;
    }
    let sizes = Mutex::new(BTreeMap::new());
    let indexes: Vec<_> = unpacked.keys().copied().collect();
    in_parallel(&indexes, run.options.jobs, |&index| {
        run.check()?;
        let fs = site.staging.trees().fs(site.id(index))?;
        let measured = usage(fs.as_fd()).map_err(failed(index))?;
        if let Ok(mut sizes) = sizes.lock() {
            sizes.insert(index, measured);
        }
        Ok::<_, ConvertError>(())
    })?;
    Ok(sizes.into_inner().unwrap_or_default())
}
