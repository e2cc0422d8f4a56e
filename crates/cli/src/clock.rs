//! The clock of this machine. It decides what is written only where somebody asks for `now`.

use std::time::{SystemTime, UNIX_EPOCH};

use oci2bk::Time;

/// The time in whole seconds, unless the clock shows one before 1970.
pub(crate) fn now() -> Option<Time> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    Some(Time::from_unix_seconds(i64::try_from(since.as_secs()).ok()?))
}
