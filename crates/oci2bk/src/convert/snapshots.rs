//! Finishes snapshots after all layers are unpacked.

use std::collections::BTreeMap;
use std::os::fd::AsFd as _;

use bkstate::Classified as _;
use bkstate::worker::TreeForm;

use super::packed::PackedReason;
use super::site::Site;
use super::{ConvertError, Run};
use crate::assemble::Tree;
use crate::parallel::in_parallel;
use crate::plan::SnapshotIndex;
use crate::unpack::{UnpackError, Unpacked, complete, usage_while};

/// The snapshots by their index in the plan.
#[derive(Default)]
pub(super) struct Settled {
    /// Complete snapshots.
    pub(super) trees: BTreeMap<SnapshotIndex, Tree>,
    /// Missing snapshots, because their layers stay packed.
    pub(super) left: BTreeMap<SnapshotIndex, PackedReason>,
    /// The limits that these layers exceed.
    pub(super) limits: BTreeMap<SnapshotIndex, &'static str>,
    /// Total size of the uncompressed layers, in bytes.
    pub(super) bytes: u64,
    /// Number of entries in the layers.
    pub(super) entries: u64,
    /// Number of those that were left out for a rootless daemon.
    pub(super) left_out: u64,
}

/// Gives the directories that layers imply their attributes from the layers below, measures every snapshot,
/// and removes those that cannot exist: of layers that stay packed, and those above.
pub(super) fn settle(
    site: &Site<'_>,
    unpacked: BTreeMap<SnapshotIndex, Result<Unpacked, UnpackError>>,
    run: &Run<'_>,
) -> Result<Settled, ConvertError> {
    let mut settled = Settled::default();
    let mut whole = BTreeMap::new();
    // From the bottom up, because a lower layer must be settled before others inherit from it.
    for (index, unpacked) in unpacked {
        run.check()?;
        let below = site.plan.snapshots[index].parent;
        let reason = match below.filter(|below| settled.left.contains_key(below)) {
            Some(below) => PackedReason::LiesOn(site.plan.snapshots[below].blob),
            None => match settle_one(site, index, unpacked, run)? {
                Ok(unpacked) => {
                    settled.bytes += unpacked.stream.bytes;
                    settled.entries += unpacked.entries;
                    settled.left_out += unpacked.left_out;
                    whole.insert(index, unpacked.labels);
                    continue;
                }
                Err(error) if site.can_stay_packed(index, &error) => {
                    settled.limits.extend(error.limit_name().map(|name| (index, name)));
                    PackedReason::of(&error)
                }
                Err(error) => return Err(unpack_error(site, index, error)),
            },
        };
        site.staging.trees().remove(&site.id(index)?.to_string())?;
        settled.left.insert(index, reason);
    }
    let whole: Vec<_> = whole.into_iter().collect();
    let sizes = in_parallel(&whole, run.options.jobs, |&(index, _)| {
        run.check()?;
        let fs = site.staging.trees().fs(site.id(index)?)?;
        let layer = site.plan.snapshots[index].blob;
        let check = || run.cancel.check(UnpackError::Cancelled { layer });
        usage_while(fs.as_fd(), check).map_err(|error| unpack_error(site, index, error))
    })?;
    let tree = |((index, labels), usage)| (index, Tree { usage, labels });
    settled.trees = whole.into_iter().zip(sizes).map(tree).collect();
    Ok(settled)
}

fn settle_one(
    site: &Site<'_>,
    index: SnapshotIndex,
    unpacked: Result<Unpacked, UnpackError>,
    run: &Run<'_>,
) -> Result<Result<Unpacked, UnpackError>, ConvertError> {
    let unpacked = match unpacked {
        Ok(unpacked) => unpacked,
        failed => return Ok(failed),
    };
    let fs = site.staging.trees().fs(site.id(index)?)?;
    if !unpacked.implied.is_empty() {
        let below = site.trees_below(index);
        if let Err(error) = unpacked.implied.settle_within(fs.as_fd(), below, site.allowance)? {
            return Ok(Err(error));
        }
    }
    let TreeForm::Full(marks) = site.existing.state.worker.form() else {
        return Ok(Ok(unpacked));
    };
    let parent = site.trees_below(index).next().transpose()?;
    let parent = parent.as_ref().map(|parent| parent.as_fd());
    let layer = site.plan.snapshots[index].blob;
    let completed = complete(layer, fs.as_fd(), parent, marks, site.allowance, run.cancel);
    Ok(completed.map(|()| unpacked))
}

fn unpack_error(site: &Site<'_>, index: SnapshotIndex, source: UnpackError) -> ConvertError {
    if matches!(source, UnpackError::Cancelled { .. }) {
        return ConvertError::Cancelled;
    }
    let digest = site.plan.snapshots[index].blob;
    let root = site.staging.root().to_owned();
    ConvertError::Unpack { digest, root, source: Box::new(source) }
}
