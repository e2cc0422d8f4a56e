//! The value of `--last-used`, and of its environment variable.

use std::ffi::OsString;
use std::num::ParseIntError;

use bkstate::Time;
use bkstate::time::ParseTimeError;

use crate::clock;

/// The variable (<https://reproducible-builds.org/specs/source-date-epoch/>).
const VARIABLE: &str = "SOURCE_DATE_EPOCH";

/// Why a text is not a valid time.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LastUsedError {
    #[error("the seconds behind the @ are not a number")]
    Seconds(#[from] ParseIntError),
    #[error("it is not a time such as 2027-06-30T00:00:00Z, @1814313600 or now")]
    Time(#[from] ParseTimeError),
    #[error("the daemon has times from 1970 to 2262 only")]
    Range,
    #[error("the clock of this machine shows a time before 1970")]
    Clock,
}

/// Parses RFC 3339, `@SECONDS` since 1970, or `now`, the only case where the clock affects the output.
pub(crate) fn parse(text: &str) -> Result<Time, LastUsedError> {
    let time = match (text, text.strip_prefix('@')) {
        ("now", _) => clock::now().ok_or(LastUsedError::Clock)?,
        (_, Some(seconds)) => Time::from_unix_seconds(seconds.parse()?),
        (text, None) => text.parse()?,
    };
    match time.unix_nanos() {
        Some(nanos) if nanos > 0 => Ok(time),
        _ => Err(LastUsedError::Range),
    }
}

/// Why the variable is invalid.
#[derive(Debug, thiserror::Error)]
#[error(
    "the variable {VARIABLE} is {value:?}, which is not a number of seconds since 1970; correct or unset it"
)]
pub(crate) struct EpochError {
    value: OsString,
}

/// Returns the value of the variable; an empty one counts as unset.
pub(crate) fn source_date_epoch() -> Result<Option<Time>, EpochError> {
    let Some(value) = std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    match value.to_str().map(str::parse) {
        Some(Ok(seconds)) => Ok(Some(Time::from_unix_seconds(seconds))),
        _ => Err(EpochError { value }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        let seconds = |text: &str| parse(text).unwrap().unix_seconds();
        assert_eq!(seconds("@1814313600"), 1_814_313_600);
        assert_eq!(seconds("2027-06-30T00:00:00Z"), 1_814_313_600);
        assert_eq!(seconds("2027-06-30T02:00:00+02:00"), 1_814_313_600);
        assert!(seconds("now") > 1_700_000_000);
        let refused = |text: &str| parse(text).unwrap_err();
        for text in ["@", "@x"] {
            let error = refused(text);
            assert!(matches!(error, LastUsedError::Seconds(_)), "{text}: {error}");
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
