//! What a conversion works with.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Mutex, OnceLock, PoisonError};

use bkstate::Digest;
use bkstate::state::{Existing, Staging};
use typed_index_collections::TiVec;

use super::ConvertError;
use super::options::StoreBlobs;
use super::packed;
use crate::place::Places;
use crate::plan::{Plan, SnapshotIndex};
use crate::unpack::{Allowance, UnpackError};

/// What a conversion works with.
pub(super) struct Site<'a> {
    pub(super) plan: &'a Plan,
    pub(super) places: &'a Places,
    /// What the root holds already.
    pub(super) existing: &'a Existing,
    pub(super) staging: &'a Staging<'a>,
    /// What all layers may cost together.
    pub(super) allowance: &'a Allowance,
    /// How blobs come into the root.
    pub(super) store: StoreBlobs,
    /// For each snapshot, whether a step needs it unpacked. Only asked for if one cannot be.
    mounted: OnceLock<TiVec<SnapshotIndex, bool>>,
    /// The blobs that were linked and of which the kernel does not tell who has them open.
    unleased: Mutex<BTreeSet<Digest>>,
}

impl<'a> Site<'a> {
    pub(super) fn new(
        plan: &'a Plan,
        places: &'a Places,
        existing: &'a Existing,
        staging: &'a Staging<'a>,
        allowance: &'a Allowance,
        store: StoreBlobs,
    ) -> Self {
        let (mounted, unleased) = (OnceLock::new(), Mutex::default());
        Self { plan, places, existing, staging, allowance, store, mounted, unleased }
    }

    /// Whether the snapshot at `index` of the plan, which cannot be unpacked because of `error`, need not
    /// be. What stays packed needs its blob.
    pub(super) fn can_stay_packed(&self, index: SnapshotIndex, error: &UnpackError) -> bool {
        let is_mounted = || self.mounted.get_or_init(|| packed::mounted(self.plan))[index];
        self.store != StoreBlobs::None && error.can_stay_packed() && !is_mounted()
    }

    /// Notes a blob that was linked without a lease.
    pub(super) fn note_unleased(&self, blob: Digest) {
        self.unleased.lock().unwrap_or_else(PoisonError::into_inner).insert(blob);
    }

    /// The blobs that were linked without a lease.
    pub(super) fn unleased(&self) -> BTreeSet<Digest> {
        self.unleased.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A blob that could not be written.
    pub(super) fn copy_error(&self, digest: Digest, source: io::Error) -> ConvertError {
        ConvertError::Copy { digest, root: self.staging.root().to_owned(), source }
    }
}
