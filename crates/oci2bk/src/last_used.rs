//! The time at which a state counts as last used, as people write it.
//!
//! ```
//! use oci2bk::last_used::{EpochError, LastUsedError, parse, source_date_epoch};
//! use oci2bk::{Converter, Time};
//!
//! // The clock is only asked for the word `now`.
//! let clock = || Some(Time::from_unix_seconds(1_796_000_000));
//! let converter = Converter::new().last_used(parse("2027-06-30T00:00:00Z", clock)?);
//! assert_eq!(parse("@1814313600", clock)?, parse("2027-06-30T00:00:00Z", clock)?);
//! assert_eq!(parse("now", clock)?.unix_seconds(), 1_796_000_000);
//! assert!(matches!(parse("tomorrow", clock), Err(LastUsedError::Time(_))));
//!
//! let value = std::ffi::OsString::from("1814313600");
//! let last_used = source_date_epoch(Some(&value))?;
//! # let _ = converter.last_used(last_used);
//! let EpochError { value, .. } = source_date_epoch(Some("soon".as_ref())).unwrap_err();
//! assert_eq!(value, "soon");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::ffi::{OsStr, OsString};

use bkstate::Time;
use bkstate::time::ParseTimeError;

/// The variable (<https://reproducible-builds.org/specs/source-date-epoch/>).
const VARIABLE: &str = "SOURCE_DATE_EPOCH";

/// Why a text is not a valid time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LastUsedError {
    /// It starts with `@`, and no number follows.
    #[error("the seconds behind the @ are not a number")]
    Seconds,
    /// It is none of the forms.
    #[error("it is not a time such as 2027-06-30T00:00:00Z, @1814313600 or now")]
    Time(#[from] ParseTimeError),
    /// No daemon can store it.
    #[error("the daemon has times from 1970 to 2262 only")]
    Range,
    /// It is `now`, and the clock does not tell a time that a daemon can store.
    #[error("the clock of this machine shows a time before 1970")]
    Clock,
}

/// Parses RFC 3339, `@SECONDS` since 1970, or `now`, for which `clock` is asked.
///
/// # Errors
/// See [`LastUsedError`].
pub fn parse(text: &str, clock: impl FnOnce() -> Option<Time>) -> Result<Time, LastUsedError> {
    let time = match (text, text.strip_prefix('@')) {
        ("now", _) => clock().ok_or(LastUsedError::Clock)?,
        (_, Some(seconds)) => {
            Time::from_unix_seconds(seconds.parse().map_err(|_| LastUsedError::Seconds)?)
        }
        (text, None) => text.parse()?,
    };
    match time.unix_nanos() {
        Some(nanos) if nanos > 0 => Ok(time),
        _ => Err(LastUsedError::Range),
    }
}

/// The variable is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the variable {VARIABLE} is {value:?}, which is not a number of seconds since 1970; correct or unset it"
)]
#[non_exhaustive]
pub struct EpochError {
    /// Its value.
    pub value: OsString,
}

/// Returns the time in the environment variable `SOURCE_DATE_EPOCH` with this value; an empty one counts as unset.
///
/// # Errors
/// Returns an error if it is not a number.
pub fn source_date_epoch(value: Option<&OsStr>) -> Result<Option<Time>, EpochError> {
    let Some(value) = value.filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    match value.to_str().map(str::parse) {
        Some(Ok(seconds)) => Ok(Some(Time::from_unix_seconds(seconds))),
        _ => Err(EpochError { value: value.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        let clock = || Some(Time::from_unix_seconds(1_796_000_000));
        let seconds = |text: &str| parse(text, clock).unwrap().unix_seconds();
        assert_eq!(seconds("@1814313600"), 1_814_313_600);
        assert_eq!(seconds("2027-06-30T00:00:00Z"), 1_814_313_600);
        assert_eq!(seconds("2027-06-30T02:00:00+02:00"), 1_814_313_600);
        assert_eq!(seconds("now"), 1_796_000_000);
        assert_eq!(parse("now", || None), Err(LastUsedError::Clock));
        let refused = |text: &str| parse(text, clock).unwrap_err();
        for text in ["@", "@x"] {
            let error = refused(text);
            assert!(matches!(error, LastUsedError::Seconds), "{text}: {error}");
            assert_eq!(error.to_string(), "the seconds behind the @ are not a number");
        }
        for text in ["", "tomorrow", "2027-06-30"] {
            let error = refused(text);
            assert!(matches!(error, LastUsedError::Time(_)), "{text}: {error}");
            let message = "it is not a time such as 2027-06-30T00:00:00Z, @1814313600 or now";
            assert_eq!(error.to_string(), message);
        }
        for text in ["@0", "@-1", "@99999999999"] {
            let error = refused(text);
            assert!(matches!(error, LastUsedError::Range), "{text}: {error}");
            assert_eq!(error.to_string(), "the daemon has times from 1970 to 2262 only");
        }
    }
}
