//! The warnings of a conversion.

use bkstate::root::{Location, OpenRootError, strangers};

use super::{ConvertError, Report};
use crate::plan::Plan;
use crate::progress::{Event, Progress};
use crate::warning::Warning;

/// Warns of who can replace the root in `location`, and of names that the daemon has no place for.
pub(super) fn of_place(
    plan: &Plan,
    location: &Location,
    progress: &dyn Progress,
) -> Result<(), ConvertError> {
    let worker = location.worker();
    for root in location.directories() {
        let found = strangers(root, worker).map_err(OpenRootError::Root)?;
        if let Some(stranger) = found.first() {
            progress.event(Event::Warning(Warning::Stranger { root, stranger }));
        }
    }
    for name in plan.images.keys().filter(|_| !worker.has_images()) {
        progress.event(Event::Warning(Warning::NoImageStore { name }));
    }
    Ok(())
}

/// Warns of what the root had.
pub(super) fn of_existing(report: &Report, progress: &dyn Progress) {
    let root = report.root.as_path();
    let damaged = report.mended.iter().map(|&blob| Warning::DamagedBlob { root, blob });
    let different =
        report.legacy.different.iter().map(|&chain_id| Warning::DifferentLayer { root, chain_id });
    damaged.chain(different).for_each(|warning| progress.event(Event::Warning(warning)));
}

/// Warns of the blobs of the caches.
pub(super) fn of_blobs(report: &Report, progress: &dyn Progress) {
    let trailing = report.trailing.iter();
    let trailing = trailing.map(|(&blob, &bytes)| Warning::TrailingData { blob, bytes });
    let bad = report.bad_copies.iter().map(|copy| Warning::BadCopy { copy });
    let unleased = Some(report.unleased.len()).filter(|blobs| *blobs > 0);
    let unleased = unleased.map(|blobs| Warning::UnleasedBlobs { blobs });
    trailing.chain(bad).chain(unleased).for_each(|warning| progress.event(Event::Warning(warning)));
}

/// Warns of what is not in the trees.
pub(super) fn of_trees(report: &Report, progress: &dyn Progress) {
    let packed = report.left_packed.iter().map(|layer| Warning::LeftPacked { layer });
    let left_out = Some(report.left_out).filter(|entries| *entries > 0);
    let left_out = left_out.map(|entries| Warning::LeftOut { entries });
    packed.chain(left_out).for_each(|warning| progress.event(Event::Warning(warning)));
}
