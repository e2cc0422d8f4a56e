//! The clock and the environment of this machine. They affect the output only if the user asks for `now`, or sets
//! `SOURCE_DATE_EPOCH`.

use std::time::{SystemTime, UNIX_EPOCH};

use oci2bk::Time;
use oci2bk::last_used::{self, EpochError, LastUsedError};

/// Returns the time in whole seconds, unless it is before 1970.
pub(crate) fn now() -> Option<Time> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    Some(Time::from_unix_seconds(i64::try_from(since.as_secs()).ok()?))
}

/// Parses the value of `--last-used`.
pub(crate) fn parse(text: &str) -> Result<Time, LastUsedError> {
    last_used::parse(text, now)
}

/// Returns the time in the environment variable `SOURCE_DATE_EPOCH`.
pub(crate) fn source_date_epoch() -> Result<Option<Time>, EpochError> {
    last_used::source_date_epoch(std::env::var_os("SOURCE_DATE_EPOCH").as_deref())
}
