//! Dates in the future.

use crate::ids::KeyId;
use crate::state::State;
use crate::time::Time;

use super::Damage;

/// Accepted difference between clocks, in seconds: a day.
const SKEW: i64 = 24 * 60 * 60;

/// A date more than a day ahead. It is not damage: a cache can have it, and a daemon that imports the cache
/// believes it, too.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FutureDate {
    /// A result.
    #[error("solver: a result of key {key} is dated {created_at}, in the future")]
    Result {
        /// The key.
        key: KeyId,
        /// Its stated creation time.
        created_at: Time,
    },
    /// The last uses of records.
    #[error(
        "records: the last uses of {records} records are dated in the future, the latest {latest}"
    )]
    LastUses {
        /// The number of records.
        records: usize,
        /// The latest of their dates.
        latest: Time,
    },
}

impl FutureDate {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Result { .. } => "future-result",
            Self::LastUses { .. } => "future-use",
        }
    }

    // BuildKit v0.34.2 solver/combinedcache.go, solver/edge.go (the newest result counts); cache/manager.go
    // prune, calculateKeepBytes, sortDeleteRecords.
    pub(super) fn consequence(&self) -> &'static str {
        match self {
            Self::Result { .. } => {
                "until then the daemon prefers the result to those that it makes itself, also after a \
                 build with --no-cache"
            }
            Self::LastUses { .. } => {
                "until then the daemon collects these records after all others, and never for their age"
            }
        }
    }
}

/// Returns whether `time` is more than a day after `now`, which a difference of two clocks does not explain.
///
/// ```
/// use bkstate::state::is_ahead;
/// use bkstate::Time;
///
/// let now = Time::from_unix_seconds(1_800_000_000);
/// assert!(!is_ahead(Time::from_unix_seconds(1_800_000_000 + 3600), now));
/// assert!(is_ahead(Time::from_unix_seconds(1_900_000_000), now));
/// ```
pub fn is_ahead(time: Time, now: Time) -> bool {
    time.unix_seconds() > now.unix_seconds().saturating_add(SKEW)
}

/// Returns the dates in `state` more than a day after `now`: of results, and of last uses of records.
/// [`verify_databases`](super::verify_databases) does not check them, because clocks differ and its result must not depend on the
/// time.
///
/// ```
/// use bkstate::ids::{KeyId, ResultId, WorkerId};
/// use bkstate::Time;
/// use bkstate::state::{Damage, FutureDate, State, dated_ahead};
/// use bkstate::worker::Worker;
///
/// let mut state = State::empty(Worker::default(), WorkerId::derive("worker"));
/// let step = KeyId::derive("step");
/// let result = ResultId { worker: state.worker_id.clone(), record: None };
/// state.solver.add_key(&step);
/// state.solver.add_result(&step, result, "2099-01-01T00:00:00Z".parse()?);
///
/// let found = dated_ahead(&state, "2026-11-29T12:00:00Z".parse()?);
/// let [damage @ Damage::Future(FutureDate::Result { created_at, .. })] = found.as_slice() else {
///     panic!("{found:?}")
/// };
/// assert_eq!((damage.kind(), created_at.to_string().as_str()), ("future-result", "2099-01-01T00:00:00Z"));
/// assert!(dated_ahead(&state, "2098-12-31T12:00:00Z".parse()?).is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn dated_ahead(state: &State, now: Time) -> Vec<Damage> {
    let is_ahead = |time: &Time| is_ahead(*time, now);
    let results = state.solver.results.iter().flat_map(|(key, results)| {
        let ahead = results.iter().filter(|(_, time)| is_ahead(time));
        ahead.map(|(_, time)| FutureDate::Result { key: key.clone(), created_at: *time })
    });
    let uses = state.records.by_id.values().filter_map(|record| record.last_used_at);
    let uses: Vec<_> = uses.map(Time::from_unix_nanos).filter(|time| is_ahead(time)).collect();
    let latest = uses.iter().max().copied();
    let uses = latest.map(|latest| FutureDate::LastUses { records: uses.len(), latest });
    results.chain(uses).map(Damage::from).collect()
}
