//! Hashing the blobs that a root has already, before a conversion relies on them.
//!
//! A daemon never hashes a blob again, so one that a disk has damaged goes on into every image and
//! cache that it exports. The cache that is converted has the same blobs, so here it can be mended.

use std::collections::BTreeSet;

use bkstate::Digest;
use bkstate::state::Existing;

use super::{ConvertError, Run};
use crate::place::Places;
use crate::plan::Plan;
use crate::verify::blobs::hash_all;

/// The blobs of `plan` that the root has.
pub(super) fn reused(plan: &Plan, places: &Places, existing: &Existing) -> Vec<(Digest, u64)> {
    let there = plan.blobs.keys().filter(|blob| !places.blobs.contains(blob));
    there.filter_map(|blob| Some((*blob, *existing.blobs.get(blob)?))).collect()
}

/// Hashes the `blobs` in the root, several at a time. Returns those that are not what they are named, or
/// cannot be read.
pub(super) fn damaged(
    blobs: &[(Digest, u64)],
    existing: &Existing,
    run: &Run<'_>,
) -> Result<BTreeSet<Digest>, ConvertError> {
    let open = |blob: &Digest| existing.blob(blob);
    let damage = hash_all(blobs, open, run.options.jobs, run.progress, &|| run.check())?;
    Ok(damage.into_keys().collect())
}
