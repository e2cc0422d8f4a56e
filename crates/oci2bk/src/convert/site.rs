//! The shared data of a conversion.

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

/// The shared data of a conversion.
pub(super) struct Site<'a> {
    pub(super) plan: &'a Plan,
    pub(super) places: &'a Places,
    /// The existing state of the root.
    pub(super) existing: &'a Existing,
    pub(super) staging: &'a Staging<'a>,
    /// The limits on all layers together.
    pub(super) allowance: &'a Allowance,
    /// How blobs are stored in the root.
    pub(super) store: StoreBlobs,
    /// For each snapshot, whether a step needs it unpacked. Computed only if one cannot be unpacked.
    mounted: OnceLock<TiVec<SnapshotIndex, bool>>,
    /// The linked blobs for which the kernel does not report open files.
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

    /// Returns whether the snapshot at `index` of the plan, which cannot be unpacked because of `error`, may
    /// stay packed. A packed layer needs its blob.
    pub(super) fn can_stay_packed(&self, index: SnapshotIndex, error: &UnpackError) -> bool {
        let is_mounted = || self.mounted.get_or_init(|| packed::mounted(self.plan))[index];
        self.store != StoreBlobs::None && error.can_stay_packed() && !is_mounted()
    }

    /// Records a blob that was linked without a lease.
    pub(super) fn note_unleased(&self, blob: Digest) {
        self.unleased.lock().unwrap_or_else(PoisonError::into_inner).insert(blob);
    }

    /// Returns the blobs that were linked without a lease.
    pub(super) fn unleased(&self) -> BTreeSet<Digest> {
        self.unleased.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the error for a blob that cannot be written.
    pub(super) fn copy_error(&self, digest: Digest, source: io::Error) -> ConvertError {
        ConvertError::Copy { digest, root: self.staging.root().to_owned(), source }
    }
}
