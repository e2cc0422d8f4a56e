//! Selects the points of a run to try.

use crate::strace::Call;

/// Multiplies the number of points, for long runs.
const EFFORT: &str = "OCI2BK_CRASH_EFFORT";
/// The seed of random times.
const SEED: &str = "OCI2BK_CRASH_SEED";

/// Returns `usual`, or more if requested.
pub(crate) fn limit(usual: usize) -> usize {
    usual.saturating_mul(usize::try_from(number(EFFORT).unwrap_or(1)).unwrap_or(usize::MAX))
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Returns at most `limit` of the calls: first those that publish or sync, and some from every part of the
/// run.
pub(crate) fn choose(calls: Vec<Call>, limit: usize) -> Vec<Call> {
    let decisive = |call: &Call| {
        ["rename", "unlink", "rmdir", "sync"].iter().any(|part| call.name.contains(part))
    };
    let (mut taken, others): (Vec<_>, Vec<_>) = calls.into_iter().partition(decisive);
    taken = spread(taken, limit);
    let room = limit - taken.len();
    if room > 0 {
        taken.extend(spread(others, room));
    }
    taken
}

/// Returns at most `limit` of the items, evenly from the first to the last.
pub(crate) fn spread<T>(items: Vec<T>, limit: usize) -> Vec<T> {
    let count = items.len();
    let limit = limit.min(count).max(1);
    let taken = |index: usize| index * limit / count != (index + 1) * limit / count;
    items.into_iter().enumerate().filter(|(index, _)| taken(*index)).map(|(_, item)| item).collect()
}

/// A small generator (xorshift64*), so that a seed gives the same times again.
#[derive(Debug)]
pub(crate) struct Random {
    seed: u64,
    state: u64,
}

impl Random {
    pub(crate) fn new() -> Self {
        let seed = number(SEED).unwrap_or(1);
        Self { seed, state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 }
    }

    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) % limit.max(1)
    }
}
