//! Points in time, in the three forms that BuildKit and containerd store.
//!
//! | form | where | source |
//! |---|---|---|
//! | Go `time.Time.MarshalBinary`, 15 bytes | containerd's databases | containerd `core/metadata/boltutil/helpers.go` |
//! | RFC 3339 with up to nine fraction digits, trailing zeros cut | cache configs, `cache.db`, labels | Go `time.RFC3339Nano` |
//! | nanoseconds since the Unix epoch | `metadata_v2.db` | BuildKit `cache/metadata.go` |
//!
//! ```
//! use bkstate::Time;
//! use bkstate::time::ParseTimeError;
//!
//! let built: Time = "2026-11-21T20:27:19.5Z".parse()?;
//!
//! // A daemon's records count nanoseconds; a time out of their range has none.
//! assert_eq!(built.unix_nanos().map(Time::from_unix_nanos), Some(built));
//! assert_eq!(Time::ZERO.unix_nanos(), None);
//!
//! // In whole seconds, as in `SOURCE_DATE_EPOCH`.
//! let whole = Time::from_unix_seconds(built.unix_seconds());
//! assert_eq!(whole.to_string(), "2026-11-21T20:27:19Z");
//!
//! // containerd stores Go's encoding.
//! let bytes = built.to_go_binary();
//! assert_eq!(Time::from_go_binary(&bytes), Ok(built));
//! let refused = Time::from_go_binary(&bytes[..14]);
//! assert!(matches!(refused, Err(ParseTimeError::Binary { length: 14, .. })));
//!
//! // Go's zero time means unknown. It is not the Unix epoch.
//! assert!(Time::ZERO.is_zero() && !Time::UNIX_EPOCH.is_zero());
//! # Ok::<(), ParseTimeError>(())
//! ```

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Seconds from 0001-01-01 (Go's zero time) to 1970-01-01.
const UNIX_TO_YEAR_ONE: i64 = 62_135_596_800;
/// The zone offset that Go's binary form uses for UTC, in minutes.
const BINARY_UTC: i16 = -1;

/// A point in time with nanoseconds and the zone in which it was written.
///
/// The zone is kept so that a state can be written again exactly as it was read; two times are equal only if
/// their zones are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time {
    seconds: i64,
    nanoseconds: u32,
    /// Minutes east of UTC.
    offset_minutes: i16,
}

/// Why bytes or a text are not a time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseTimeError {
    /// The binary form has the wrong length or an unknown version byte.
    #[error(
        "{length} bytes starting with {version:?} are not a Go binary time (version 1, 15 bytes)"
    )]
    Binary {
        /// Number of bytes.
        length: usize,
        /// The first byte.
        version: Option<u8>,
    },
    /// The text is not RFC 3339.
    #[error("{text:?} is not an RFC 3339 time")]
    Text {
        /// The rejected text, shortened to 100 characters.
        text: String,
    },
}

impl Time {
    /// Go's zero time, 0001-01-01T00:00:00Z, which its encoders write for "unknown".
    pub const ZERO: Self = Self { seconds: -UNIX_TO_YEAR_ONE, nanoseconds: 0, offset_minutes: 0 };

    /// The Unix epoch.
    pub const UNIX_EPOCH: Self = Self { seconds: 0, nanoseconds: 0, offset_minutes: 0 };

    /// Returns the time `nanoseconds` after the Unix epoch, in UTC.
    pub const fn from_unix_nanos(nanoseconds: i64) -> Self {
        Self {
            seconds: nanoseconds.div_euclid(1_000_000_000),
            nanoseconds: nanoseconds.rem_euclid(1_000_000_000) as u32,
            offset_minutes: 0,
        }
    }

    /// Returns the time `seconds` after the Unix epoch, in UTC.
    pub const fn from_unix_seconds(seconds: i64) -> Self {
        Self { seconds, nanoseconds: 0, offset_minutes: 0 }
    }

    /// Returns the nanoseconds since the Unix epoch; `None` outside the years 1678 to 2262.
    pub fn unix_nanos(&self) -> Option<i64> {
        self.seconds.checked_mul(1_000_000_000)?.checked_add(i64::from(self.nanoseconds))
    }

    /// Returns the whole seconds since the Unix epoch.
    pub const fn unix_seconds(&self) -> i64 {
        self.seconds
    }

    /// Returns whether this is [`Time::ZERO`], in any zone.
    pub const fn is_zero(&self) -> bool {
        self.seconds == Self::ZERO.seconds && self.nanoseconds == 0
    }

    /// Encodes it as Go's `time.Time.MarshalBinary`: version 1, seconds since year one, nanoseconds, zone.
    pub fn to_go_binary(&self) -> [u8; 15] {
        let mut bytes = [0; 15];
        let zone = if self.offset_minutes == 0 { BINARY_UTC } else { self.offset_minutes };
        bytes[0] = 1;
        bytes[1..9].copy_from_slice(&self.seconds.wrapping_add(UNIX_TO_YEAR_ONE).to_be_bytes());
        bytes[9..13].copy_from_slice(&self.nanoseconds.to_be_bytes());
        bytes[13..].copy_from_slice(&zone.to_be_bytes());
        bytes
    }

    /// Decodes Go's `time.Time.MarshalBinary`.
    ///
    /// # Errors
    /// Returns an error if the bytes are not 15 bytes of version 1 with valid nanoseconds. (Version 2, for
    /// zones with seconds, cannot come from the daemons: they write UTC.)
    pub fn from_go_binary(bytes: &[u8]) -> Result<Self, ParseTimeError> {
        let error =
            || ParseTimeError::Binary { length: bytes.len(), version: bytes.first().copied() };
        let bytes: &[u8; 15] = bytes.try_into().map_err(|_| error())?;
        let [1, s0, s1, s2, s3, s4, s5, s6, s7, n0, n1, n2, n3, z0, z1] = *bytes else {
            return Err(error());
        };
        let seconds = i64::from_be_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
        let nanoseconds = u32::from_be_bytes([n0, n1, n2, n3]);
        let zone = i16::from_be_bytes([z0, z1]);
        if nanoseconds >= 1_000_000_000 {
            return Err(error());
        }
        Ok(Self {
            seconds: seconds.checked_sub(UNIX_TO_YEAR_ONE).ok_or_else(error)?,
            nanoseconds,
            offset_minutes: if zone == BINARY_UTC { 0 } else { zone },
        })
    }
}

/// Formats it as Go's `time.RFC3339Nano`.
impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Only hostile binary input is out of the calendar's range; clamp it and do not fail.
        let local = self.seconds.saturating_add(i64::from(self.offset_minutes) * 60);
        let nanoseconds = i32::try_from(self.nanoseconds).unwrap_or_default();
        let timestamp = jiff::Timestamp::new(local, nanoseconds).unwrap_or(jiff::Timestamp::MAX);
        let text = timestamp.to_string();
        if self.offset_minutes == 0 {
            return f.write_str(&text);
        }
        let sign = if self.offset_minutes < 0 { '-' } else { '+' };
        let minutes = self.offset_minutes.unsigned_abs();
        write!(f, "{}{sign}{:02}:{:02}", text.trim_end_matches('Z'), minutes / 60, minutes % 60)
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Time {
    type Err = ParseTimeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseTimeError::Text { text: text.chars().take(100).collect() };
        let timestamp: jiff::Timestamp = text.parse().map_err(|_| error())?;
        let offset_minutes = match text.len().checked_sub(6).and_then(|at| text.get(at..)) {
            Some(zone) if zone.starts_with(['+', '-']) => {
                let hours: i16 = zone[1..3].parse().map_err(|_| error())?;
                let minutes: i16 = zone[4..6].parse().map_err(|_| error())?;
                let offset = hours * 60 + minutes;
                if zone.starts_with('-') { -offset } else { offset }
            }
            _ => 0,
        };
        // Jiff rounds the seconds of times before 1970 towards zero; Go and this module round down.
        let nanoseconds = timestamp.as_nanosecond();
        Ok(Self {
            seconds: i64::try_from(nanoseconds.div_euclid(1_000_000_000)).map_err(|_| error())?,
            nanoseconds: u32::try_from(nanoseconds.rem_euclid(1_000_000_000))
                .map_err(|_| error())?,
            offset_minutes,
        })
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binary_form_matches_a_value_written_by_containerd() {
        let bytes = *b"\x01\x00\x00\x00\x0E\xE2\x93\xF5\xA8\x09\x3F\x42\x9B\xFF\xFF";
        let time = Time::from_go_binary(&bytes).unwrap();
        assert_eq!(time.to_go_binary(), bytes);
        assert_eq!(time.to_string(), "2026-11-21T20:27:20.155140763Z");
    }

    #[test]
    fn text_form_cuts_trailing_zeros_and_keeps_the_zone() {
        for text in [
            "2026-11-21T20:27:19.811647893Z",
            "2026-11-21T20:27:19.5Z",
            "2026-11-21T20:27:19Z",
            "2026-11-21T22:27:19.25+02:00",
            "2026-11-21T14:57:19-05:30",
            "1969-12-31T23:59:59.9Z",
            "0001-01-01T00:00:00Z",
        ] {
            assert_eq!(text.parse::<Time>().unwrap().to_string(), text);
        }
        assert!("0001-01-01T00:00:00Z".parse::<Time>().unwrap().is_zero());
    }

    #[test]
    fn nanoseconds_round_trip_on_both_sides_of_the_epoch() {
        for nanoseconds in [0, 1, -1, 1_763_757_000_123_456_789, -5_000_000_001] {
            assert_eq!(Time::from_unix_nanos(nanoseconds).unix_nanos(), Some(nanoseconds));
        }
        assert_eq!(Time::ZERO.unix_nanos(), None);
    }

    #[test]
    fn damaged_times_are_errors() {
        for damaged in [&[][..], &[2; 15]] {
            let error = Time::from_go_binary(damaged).unwrap_err();
            let version = damaged.first().copied();
            assert_eq!(error, ParseTimeError::Binary { length: damaged.len(), version });
            let message = "are not a Go binary time (version 1, 15 bytes)";
            let message = format!("{} bytes starting with {version:?} {message}", damaged.len());
            assert_eq!(error.to_string(), message);
        }
        let nanoseconds = b"\x01\0\0\0\0\0\0\0\0\xFF\xFF\xFF\xFF\xFF\xFF";
        let error = Time::from_go_binary(nanoseconds).unwrap_err();
        assert_eq!(error, ParseTimeError::Binary { length: 15, version: Some(1) });
        for text in
            ["", "yesterday", "2026-11-21", "2026-11-21T20:27:19", "2026-13-01T00:00:00Z", "é+é"]
        {
            let error = text.parse::<Time>().unwrap_err();
            assert!(
                matches!(&error, ParseTimeError::Text { text: t, .. } if t == text),
                "{error:?}"
            );
            assert_eq!(error.to_string(), format!("{text:?} is not an RFC 3339 time"));
        }
    }
}
