//! Checks legacy layers, so that daemons since v0.33.1 share them.
//!
//! Daemons before v0.33.1 did not check that an unpacked layer has the diffID that the image claims, so newer
//! ones do not share these layers with images and caches ([`bkstate::layers`]). This module compares each
//! with its blob, as `verify --trees` does, and renames equal ones. Nothing is trusted because of its origin.

use std::collections::{BTreeMap, BTreeSet};

use bkstate::dir::{Dir, DirError};
use bkstate::ids::WorkerId;
use bkstate::layers;
use bkstate::snapshots::Trees;
use bkstate::state::{Existing, ExistingError, Parts, Staging, StagingError, State};
use bkstate::{Digest, Root};

use crate::layout::BlobFile;
use crate::parallel::in_parallel;
use crate::plan::Plan;
use crate::progress::{LayerWork, Unpacking};
use crate::unpack::{self, Allowance, Blob, Layer, MOST_AT_ONCE, UnpackError};
use crate::verify::trees::{Keyed, TreeDamage, UnpackedLayer, stored};
use crate::verify::{Verifier, VerifyError};

/// Why the legacy layers of a root cannot be mended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MendError {
    /// The root cannot be verified.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// The state in the root cannot be read, or is damaged.
    #[error(transparent)]
    Existing(#[from] ExistingError),
    /// A file or directory of the root cannot be used.
    #[error("cannot use the root")]
    Root(#[from] DirError),
    /// The databases cannot be written.
    #[error(transparent)]
    Staging(#[from] StagingError),
    /// The written state is not sound, so it was not published.
    #[error("what was to be published is damaged, so nothing was: {damage}")]
    Damaged {
        /// The first finding.
        damage: Box<bkstate::state::Damage>,
    },
}

/// A legacy layer of a root.
struct Suspect<'p> {
    chain_id: Digest,
    blob: Digest,
    size: u64,
    form: Form<'p>,
}

/// The form of a legacy layer, and its expected content.
enum Form<'p> {
    Unpacked(UnpackedLayer<'p>),
    Packed(PackedLayer<'p>),
}

/// A layer that is not unpacked yet.
struct PackedLayer<'p> {
    media_type: &'p str,
    diff_id: Digest,
    work: LayerWork,
}

impl PackedLayer<'_> {
    /// Returns whether `blob` is its blob and has the diffID.
    fn is_of(&self, blob: &dyn Blob, verifier: &Verifier<'_>) -> Result<bool, VerifyError> {
        let layer = Layer::of(blob, &self.work, self.media_type, self.diff_id);
        let (progress, cancel) = (&*verifier.progress, &verifier.cancel);
        let unpacking = Unpacking { work: &self.work, before: 0, progress, cancel };
        match unpack::check(&layer, &verifier.limits, &unpacking) {
            Ok(_) => Ok(true),
            Err(UnpackError::Cancelled { .. }) => Err(VerifyError::Cancelled),
            Err(source) if source.is_input() => Ok(false),
            Err(source) => Err(VerifyError::Unpack(Box::new(source))),
        }
    }
}

/// The results for layers that a daemon before v0.33.1 unpacked and that the cache has, too. They are
/// identified by their chainIDs.
///
/// ```
/// use oci2bk::convert::Legacy;
/// use oci2bk::{CacheExport, Converter, Keyring, Limits, Plan};
///
/// # let exports = CacheExport::read_sources(&["fixtures/min/cache".parse()?], &Limits::default())?;
/// # let plan = Plan::new(&exports, &Keyring::for_exports(&exports))?;
/// # let directory = tempfile::tempdir()?;
/// // A root that no daemon has used.
/// let report = Converter::new().extract(false).convert(&plan, &directory)?;
/// assert_eq!(report.legacy, Legacy::default());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Legacy {
    /// Layers that match the cache. Newer daemons share them now ([`bkstate::layers`]).
    pub mended: BTreeSet<Digest>,
    /// Layers that differ. They stay unchanged, and the layers of the cache are added beside them.
    pub different: BTreeSet<Digest>,
}

/// Compares the legacy layers of a root with the layers of `plan`, and mends the equal ones in `existing`.
/// Without `unpacked` it only checks packed layers, which requires no privileges.
pub(crate) fn mend_with(
    plan: &Plan,
    existing: &mut Existing,
    unpacked: bool,
    scratch: &Dir,
    verifier: &Verifier<'_>,
) -> Result<Legacy, VerifyError> {
    let suspects = suspects_of_plan(plan, existing)?;
    let allowance = Allowance::of_comparison(&verifier.limits);
    let right = in_parallel(&suspects, verifier.jobs.min(MOST_AT_ONCE), |suspect| {
        if matches!(suspect.form, Form::Unpacked(_)) && !unpacked {
            return Ok(None);
        }
        let mut is_right = false;
        for blob in blobs_of(plan, &suspect.blob) {
            verifier.check()?;
            let is_decided;
            (is_right, is_decided) = match &suspect.form {
                Form::Unpacked(tree) => {
                    let found = tree.compare_with(&blob, scratch, verifier, &allowance)?;
                    (found.is_empty(), !matches!(*found, [TreeDamage::Layer { .. }]))
                }
                Form::Packed(layer) => (layer.is_of(&blob, verifier)?, false),
            };
            // One copy of the blob may be bad, and another one good.
            if is_right || is_decided {
                break;
            }
        }
        Ok::<_, VerifyError>(Some((suspect.chain_id, is_right)))
    })?;
    drop(suspects);
    let (checked, different): (BTreeMap<_, _>, BTreeMap<_, _>) =
        right.into_iter().flatten().partition(|(_, right)| *right);
    Ok(Legacy {
        mended: existing.mend(&checked.into_keys().collect()),
        different: different.into_keys().collect(),
    })
}

/// Returns whether a root has legacy layers that `plan` has, too.
pub(crate) fn is_needed(plan: &Plan, existing: &Existing) -> bool {
    let records = existing.state.records.by_id.values();
    let used: BTreeSet<_> = records.filter_map(|record| record.snapshot.as_deref()).collect();
    let mut keys = plan.snapshots.iter().map(|it| layers::legacy_snapshot_key(&it.chain_id));
    keys.any(|key| used.contains(key.as_str()))
}

fn suspects_of_plan<'p>(
    plan: &'p Plan,
    existing: &'p Existing,
) -> Result<Vec<Suspect<'p>>, DirError> {
    let keyed = Keyed::new(&existing.state);
    let records = existing.state.records.by_id.values();
    let used: BTreeSet<&str> = records.filter_map(|record| record.snapshot.as_deref()).collect();
    let trees: &[Trees] = existing.unpacked().map(std::slice::from_ref).unwrap_or_default();
    let mut suspects = Vec::new();
    for snapshot in &plan.snapshots {
        let key = layers::legacy_snapshot_key(&snapshot.chain_id);
        let Some(blob) = plan.blobs.get(&snapshot.blob).filter(|_| used.contains(key.as_str()))
        else {
            continue;
        };
        let work = LayerWork {
            digest: snapshot.blob,
            size: blob.size,
            to_read: blob.size,
            description: None,
        };
        let (media_type, diff_id) = (blob.media_type.as_str(), blob.diff_id);
        let tree = UnpackedLayer::new(&keyed, trees, &key, media_type, diff_id, work.clone())?;
        let form = match tree {
            Some(tree) => Form::Unpacked(tree),
            None => Form::Packed(PackedLayer { media_type, diff_id, work }),
        };
        let (chain_id, size) = (snapshot.chain_id, blob.size);
        suspects.push(Suspect { chain_id, blob: snapshot.blob, size, form });
    }
    suspects.sort_by_key(|suspect| std::cmp::Reverse(suspect.size));
    Ok(suspects)
}

/// Returns the copies of a blob that can be opened.
fn blobs_of<'p>(plan: &'p Plan, digest: &Digest) -> impl Iterator<Item = BlobFile> + use<'p> {
    let digest = *digest;
    let planned = plan.blobs.get(&digest).into_iter();
    let copies = planned.flat_map(move |blob| {
        let descriptor = blob.descriptor(digest);
        plan.layouts_of(blob).into_iter().map(move |layout| layout.open_blob(&descriptor))
    });
    copies.filter_map(Result::ok)
}

/// Gives the verified legacy layers of `root` the keys of daemons since v0.33.1: those whose snapshots have
/// the ids `sound`, and packed ones whose blob has their diffID. Returns their number.
pub(crate) fn mend_root(
    root: &Root,
    sound: &BTreeSet<u64>,
    verifier: &Verifier<'_>,
) -> Result<usize, MendError> {
    let parts = root.parts().map_err(VerifyError::from)?;
    // A verified root has its own id.
    let mut existing = root.existing(&WorkerId::derive("mended"))?;
    let checked = checked(&existing.state, &parts, sound, verifier)?;
    let mended = existing.mend(&checked);
    if mended.is_empty() {
        return Ok(0);
    }
    let staging = Staging::begin(root, &existing)?;
    let written = staging.write(&existing.state)?;
    let found = staging.parts(&written)?.verify_databases().map_err(VerifyError::from)?;
    if let Some(damage) = existing.new_damage(found).into_iter().next() {
        return Err(MendError::Damaged { damage: damage.into() });
    }
    verifier.check()?;
    staging.publish(written)?;
    Ok(mended.len())
}

/// Returns the chainIDs of the legacy layers that match their blobs.
fn checked(
    state: &State,
    parts: &Parts,
    sound: &BTreeSet<u64>,
    verifier: &Verifier<'_>,
) -> Result<BTreeSet<Digest>, VerifyError> {
    let keyed = Keyed::new(state);
    let mut checked = BTreeSet::new();
    for record in state.records.by_id.values().filter(|record| layers::is_legacy(record)) {
        let (Some(chain_id), Some(blob), Some(diff_id)) =
            (record.chain_id, record.blob, record.diff_id)
        else {
            continue;
        };
        if let Some(snapshot) = keyed.committed(&layers::legacy_snapshot_key(&chain_id)) {
            checked.extend(sound.contains(&snapshot.id).then_some(chain_id));
            continue;
        }
        let Some((store, size)) = stored(blob, &parts.blobs)? else { continue };
        let work = LayerWork { digest: blob, size, to_read: size, description: None };
        let media_type = record.media_type.as_deref().unwrap_or_default();
        let packed = PackedLayer { media_type, diff_id, work };
        verifier.check()?;
        checked.extend(packed.is_of(&store.blob(&blob)?, verifier)?.then_some(chain_id));
    }
    Ok(checked)
}
