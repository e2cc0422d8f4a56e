//! The clock of this machine. It affects the output only if the user asks for `now`.

use std::time::{SystemTime, UNIX_EPOCH};

use oci2bk::Time;

/// Returns the time in whole seconds, unless it is before 1970.
pub(crate) fn now() -> Option<Time> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    Some(Time::from_unix_seconds(i64::try_from(since.as_secs()).ok()?))
}
