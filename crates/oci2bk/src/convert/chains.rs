//! Limits on the length of chains and on the number of snapshots.

use std::collections::BTreeMap;

use bkstate::state::Existing;
use bkstate::worker::TreeForm;
use typed_index_collections::TiVec;

use super::packed::{self, PackedReason};
use super::{ConvertError, Options, StoreBlobs};
use crate::limits::{Limits, MAX_CHAIN};
use crate::place::{Places, SnapshotPlace};
use crate::plan::{Plan, SnapshotIndex};

/// Leaves snapshots packed whose chain is too long to mount; returns the reasons, by their index in `plan`.
///
/// # Errors
/// Returns an error if a step runs on such a layer, if nothing would be left of it because blobs are not
/// stored, or if there are more snapshots to unpack than the limit.
pub(super) fn leave_packed(
    plan: &Plan,
    existing: &Existing,
    places: &mut Places,
    options: &Options,
) -> Result<BTreeMap<SnapshotIndex, PackedReason>, ConvertError> {
    let heights = heights(plan, existing, places);
    // A snapshot with all files is mounted alone.
    let is_overlay = matches!(existing.state.worker.form(), TreeForm::Overlay(_));
    let too_high = new(places).filter(|index| is_overlay && heights[*index] > MAX_CHAIN);
    let too_high: Vec<_> = too_high.collect();
    if !too_high.is_empty() {
        // The topmost of 501 layers is the result of a step that ran on 500.
        let built_on = packed::built_on(plan);
        let needs = |index: &&SnapshotIndex| options.blobs == StoreBlobs::None || built_on[**index];
        if let Some(index) = too_high.iter().find(needs) {
            let layer = plan.snapshots[*index].blob;
            let of_layer = plan.layers.iter().find(|layer| layer.snapshot == *index);
            let description = of_layer.and_then(|layer| layer.description.clone());
            return Err(ConvertError::ChainTooLong { layer, description });
        }
    }
    places.leave_packed(&too_high);
    check_number(places, &options.limits)?;
    let reason = |index: SnapshotIndex| match plan.snapshots[index].parent {
        Some(below) if heights[index] > MAX_CHAIN + 1 => {
            PackedReason::LiesOn(plan.snapshots[below].blob)
        }
        _ => PackedReason::CannotUnpack(format!(
            "it lies on {MAX_CHAIN} others in its chain, and overlayfs mounts no more at a time"
        )),
    };
    Ok(too_high.into_iter().map(|index| (index, reason(index))).collect())
}

fn check_number(places: &Places, limits: &Limits) -> Result<(), ConvertError> {
    let (count, limit) = (new(places).count() as u64, limits.snapshots);
    if count > limit { Err(ConvertError::TooManySnapshots { count, limit }) } else { Ok(()) }
}

/// Returns the indexes of the snapshots to unpack.
fn new(places: &Places) -> impl Iterator<Item = SnapshotIndex> {
    let places = places.snapshots.iter_enumerated();
    places.filter_map(|(index, place)| matches!(place, SnapshotPlace::New { .. }).then_some(index))
}

/// Returns the number of layers in the chain of each snapshot of `plan`, including itself.
fn heights(plan: &Plan, existing: &Existing, places: &Places) -> TiVec<SnapshotIndex, usize> {
    let mut in_root = BTreeMap::new();
    let mut heights: TiVec<SnapshotIndex, usize> = TiVec::with_capacity(plan.snapshots.len());
    // Snapshots come after those below them.
    for (snapshot, place) in plan.snapshots.iter().zip(&places.snapshots) {
        heights.push(match place {
            SnapshotPlace::Existing { id, .. } => height_in_root(*id, existing, &mut in_root),
            _ => 1 + snapshot.parent.map_or(0, |below| heights[below]),
        });
    }
    heights
}

/// Returns the same for a snapshot in the root; `known` caches earlier results.
fn height_in_root(id: u64, existing: &Existing, known: &mut BTreeMap<u64, usize>) -> usize {
    let mut chain = Vec::new();
    let mut next = Some(id);
    while let Some(id) = next.filter(|id| !known.contains_key(id)) {
        chain.push(id);
        next = existing.below(id);
    }
    let mut height = next.map_or(0, |below| known[&below]);
    for id in chain.into_iter().rev() {
        height += 1;
        known.insert(id, height);
    }
    height
}
