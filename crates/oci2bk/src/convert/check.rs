//! Hashes the existing blobs of a root, before a conversion relies on them.
//!
//! A daemon never hashes a blob again, so a blob damaged by the disk gets into every image and cache that it
//! exports. The converted cache has the same blobs, so they can be repaired here.

use std::collections::BTreeSet;

use bkstate::Digest;
use bkstate::state::Existing;

use super::{ConvertError, Run};
use crate::place::Places;
use crate::plan::Plan;
use crate::verify::blobs::hash_all;

/// Returns the blobs of `plan` that the root has.
pub(super) fn reused(plan: &Plan, places: &Places, existing: &Existing) -> Vec<(Digest, u64)> {
    let there = plan.blobs.keys().filter(|blob| !places.blobs.contains(blob));
    there.filter_map(|blob| Some((*blob, *existing.blobs.get(blob)?))).collect()
}

/// Hashes the `blobs` in the root, several in parallel. Returns those that do not match their digest, or
/// cannot be read.
pub(super) fn damaged(
    blobs: &[(Digest, u64)],
    existing: &Existing,
    run: &Run<'_>,
) -> Result<BTreeSet<Digest>, ConvertError> {
    let open = |blob: &Digest| existing.blob(blob);
    let damage = hash_all(blobs, open, run.options.jobs, &**run.progress, &|| run.check())?;
    Ok(damage.into_keys().collect())
}
