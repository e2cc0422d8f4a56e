//! Times of entries, as set by containerd (containerd v2.3.3 `pkg/archive/time.go`).

use std::collections::BTreeMap;

use rustix::fs::{Timespec, Timestamps};

use super::tar::{Entry, Timestamp};

/// The time of everything without a time in the layer: the Unix epoch.
pub(super) const UNTOLD: Timestamps = Timestamps {
    last_access: Timespec { tv_sec: 0, tv_nsec: 0 },
    last_modification: Timespec { tv_sec: 0, tv_nsec: 0 },
};

/// The last time that fits into 64 bits of nanoseconds since the epoch.
const LATEST: Timestamp =
    Timestamp::from_unix(i64::MAX / 1_000_000_000, (i64::MAX % 1_000_000_000) as u32);

/// Returns an entry's times: the access time is at least the modification time; times before 1970 or beyond
/// 64 bits of nanoseconds become the epoch.
pub(super) fn of(entry: &Entry) -> Timestamps {
    Timestamps {
        last_access: bounded(entry.atime.max(entry.mtime)),
        last_modification: bounded(entry.mtime),
    }
}

fn bounded(time: Timestamp) -> Timespec {
    let in_range = (Timestamp::EPOCH..=LATEST).contains(&time);
    let time = if in_range { time } else { Timestamp::EPOCH };
    Timespec { tv_sec: time.unix_seconds(), tv_nsec: time.nanoseconds().into() }
}

/// Returns the approximate memory of a name in a sorted collection, with its data, in bytes.
pub(super) fn name_memory(name: &[u8]) -> u64 {
    name.len() as u64 + 128
}

/// The times of the directories that a layer names, which are set after the last entry because every new
/// entry in a directory changes them.
///
/// Only the last mention of a name is kept, so memory is bounded by the number of names.
#[derive(Debug, Default)]
pub(super) struct Deferred {
    by_name: BTreeMap<Vec<u8>, (u64, Timestamps)>,
    mentions: u64,
    memory: u64,
}

impl Deferred {
    /// Records the times for the directory entry `name`.
    pub(super) fn add(&mut self, name: &[u8], times: Timestamps) {
        self.mentions += 1;
        if self.by_name.insert(name.to_vec(), (self.mentions, times)).is_none() {
            self.memory += name_memory(name);
        }
    }

    /// Returns the approximate memory of the names, in bytes.
    pub(super) fn memory(&self) -> u64 {
        self.memory
    }

    /// Returns the names in the order of the archive.
    pub(super) fn into_ordered(self) -> impl Iterator<Item = (Vec<u8>, Timestamps)> {
        let mut all: Vec<_> = self.by_name.into_iter().collect();
        all.sort_unstable_by_key(|(_, (mention, _))| *mention);
        all.into_iter().map(|(name, (_, times))| (name, times))
    }
}
