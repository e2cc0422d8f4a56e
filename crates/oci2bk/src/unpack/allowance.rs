//! Limits on all layers of a run together, across threads.

use std::sync::atomic::{AtomicU64, Ordering};

use bkstate::Digest;

use super::error::UnpackError;
use crate::limits::{Bound, Limits, name};

/// The limits of a run, and the amounts spent for all its layers.
#[derive(Debug)]
pub(crate) struct Allowance {
    pub(super) limits: Limits,
    /// Bytes of the streams, limited by a ratio to the blobs.
    streams: Counter,
    /// Bytes of the streams and of holes, as in `total-size`.
    bytes: Counter,
    entries: Counter,
    pub(super) lookups: Counter,
}

impl Allowance {
    /// Returns the allowance of a run that unpacks or checks layers whose blobs have `blob_bytes`, each
    /// counted once, however often it is unpacked.
    pub(crate) fn of_run(limits: &Limits, blob_bytes: u64) -> Self {
        Self {
            limits: *limits,
            streams: Counter::new(limits.by_ratio(blob_bytes)),
            bytes: Counter::new(limits.of_all_unpacked()),
            entries: Counter::new(Bound { value: limits.total_entries, name: name::TOTAL_ENTRIES }),
            lookups: Counter::new(Bound { value: limits.total_lookups, name: name::TOTAL_LOOKUPS }),
        }
    }

    /// Returns the allowance of a run that compares layers with a root. Nothing is stored, and a root may
    /// contain many conversions and builds, so bytes and entries are limited only per layer.
    pub(crate) fn of_comparison(limits: &Limits) -> Self {
        let unbounded = u64::MAX;
        let limits = &Limits { total_size: unbounded, total_entries: unbounded, ..*limits };
        Self { limits: *limits, ..Self::of_run(limits, unbounded) }
    }

    /// Counts bytes of the stream of the layer with the blob `layer`.
    pub(super) fn take_stream(&self, layer: Digest, bytes: u64) -> Result<(), UnpackError> {
        let reached = |limit| UnpackError::TotalReached { layer, what: "bytes", limit };
        self.streams.take(bytes).map_err(reached)?;
        self.bytes.take(bytes).map_err(reached)
    }

    /// Counts bytes of holes in its files. They take no space here, but do in copies of the files.
    pub(super) fn take_hole(&self, layer: Digest, bytes: u64) -> Result<(), UnpackError> {
        let reached = |limit| UnpackError::TotalReached { layer, what: "bytes", limit };
        self.bytes.take(bytes).map_err(reached)
    }

    /// Counts one entry of it.
    pub(super) fn take_entry(&self, layer: Digest) -> Result<(), UnpackError> {
        let reached = |limit| UnpackError::TotalReached { layer, what: "entries", limit };
        self.entries.take(1).map_err(reached)
    }
}

/// The amount spent of a limit.
#[derive(Debug)]
pub(super) struct Counter {
    spent: AtomicU64,
    bound: Bound,
}

impl Counter {
    pub(super) fn new(bound: Bound) -> Self {
        Self { spent: AtomicU64::new(0), bound }
    }

    /// Adds to the amount. Returns the bound if it is exceeded.
    pub(super) fn take(&self, amount: u64) -> Result<(), Bound> {
        let more = |spent: u64| Some(spent.saturating_add(amount));
        let (Ok(before) | Err(before)) =
            self.spent.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        if before.saturating_add(amount) > self.bound.value { Err(self.bound) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_once_stays_counted() {
        let counter = Counter::new(Bound { value: 10, name: "total-size" });
        assert_eq!(counter.take(10), Ok(()));
        assert_eq!(counter.take(0), Ok(()));
        assert_eq!(counter.take(u64::MAX), Err(Bound { value: 10, name: "total-size" }));
        assert_eq!(counter.take(u64::MAX), Err(Bound { value: 10, name: "total-size" }));
        assert_eq!(counter.take(0), Err(Bound { value: 10, name: "total-size" }));
    }

    #[test]
    fn a_blob_that_is_unpacked_often_counts_once_for_the_ratio() {
        let limits = Limits { layer_ratio: 3, ..Limits::default() };
        let bound = |bytes| Allowance::of_run(&limits, bytes).streams.bound;
        assert_eq!(bound(10), Bound { value: 4 << 30, name: "ratio-from" });
        assert_eq!(bound(2 << 30), Bound { value: 6 << 30, name: "layer-ratio" });
    }

    #[test]
    fn what_is_compared_counts_for_each_layer_only() {
        let comparison = Allowance::of_comparison(&Limits::default());
        let bounds = [&comparison.streams, &comparison.bytes, &comparison.entries];
        assert_eq!(bounds.map(|counter| counter.bound.value), [u64::MAX; 3]);
        assert_eq!(comparison.lookups.bound.value, Limits::default().total_lookups);
    }
}
