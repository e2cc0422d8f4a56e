//! What is dated in the future.

use crate::ids::{KeyId, RecordId};
use crate::state::State;
use crate::time::Time;

use super::Damage;

/// How far clocks may be apart, in seconds: a day.
const SKEW: i64 = 24 * 60 * 60;

/// Something that is dated more than a day ahead. It is no damage: a cache can say so, and a daemon that
/// imports the cache believes it, too.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FutureDate {
    /// A result.
    #[error("cache.db: a result of key {key} is dated {created_at}, in the future")]
    Result {
        /// The key.
        key: KeyId,
        /// When it was made, so it says.
        created_at: Time,
    },
    /// The last use of a record.
    #[error("metadata_v2.db: the last use of record {record} is dated {last_used}, in the future")]
    LastUse {
        /// The record.
        record: RecordId,
        /// When it was used, so it says.
        last_used: Time,
    },
}

impl FutureDate {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Result { .. } => "future-result",
            Self::LastUse { .. } => "future-use",
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
            Self::LastUse { .. } => {
                "until then the daemon collects the record after all others, and never for its age"
            }
        }
    }
}

/// Whether `time` is so far after `now` that the difference of two clocks does not explain it: a day.
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

/// What of `state` is dated more than a day after `now`: results, and the last uses of records. As clocks
/// differ, and verification is the same at any time, [`verify`](super::verify) does not look.
///
/// ```
/// use bkstate::ids::{KeyId, ResultId, WorkerId};
/// use bkstate::state::{Damage, FutureDate, State, dated_ahead};
/// use bkstate::Time;
///
/// let mut state = State::empty(WorkerId::derive("worker"));
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
    let uses = state.records.by_id.iter().filter_map(|(id, record)| {
        let last_used = Time::from_unix_nanos(record.last_used_at?);
        is_ahead(&last_used).then(|| FutureDate::LastUse { record: id.clone(), last_used })
    });
    results.chain(uses).map(Damage::from).collect()
}
