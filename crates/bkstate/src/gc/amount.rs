//! Amounts of disk space and durations in `buildkitd.toml` (`cmd/buildkitd/config/gcpolicy.go`).

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::Disk;

/// An amount of disk space: bytes, or a percentage of the disk.
///
/// ```
/// use bkstate::gc::{Disk, DiskSpace, ParseDiskSpaceError};
///
/// let disk = Disk { total: 50 << 30, free: 10 << 30 };
/// // Units are powers of 1024 in any spelling, and percentages are rounded to powers of 1000.
/// assert_eq!("20GB".parse::<DiskSpace>()?.bytes(disk), 20 << 30);
/// assert_eq!("10%".parse::<DiskSpace>()?.bytes(disk), 6_000_000_000);
/// assert_eq!("".parse(), Ok(DiskSpace::NONE));
/// assert!(DiskSpace::Percent(0).is_none());
///
/// let ParseDiskSpaceError { text, .. } = "plenty".parse::<DiskSpace>().unwrap_err();
/// assert_eq!(text, "plenty");
/// # Ok::<(), ParseDiskSpaceError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskSpace {
    /// Bytes.
    Bytes(u64),
    /// Percent of the disk.
    Percent(u64),
}

/// Why a text is not an amount of disk space.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an amount of disk space, such as 512000000, \"20GB\" or \"10%\"")]
#[non_exhaustive]
pub struct ParseDiskSpaceError {
    /// The text, shortened to 100 characters.
    pub text: String,
}

/// Why a text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a duration, such as 172800 (seconds) or \"48h\"")]
#[non_exhaustive]
pub struct ParseDurationError {
    /// The text, shortened to 100 characters.
    pub text: String,
}

const GIB: u64 = 1 << 30;

/// The value of a percentage if the disk size is unknown (`defaultCap`).
const UNKNOWN_DISK: u64 = 2_000_000_000;

impl DiskSpace {
    /// No limit, the value of settings that are not configured.
    pub const NONE: Self = Self::Bytes(0);

    /// Returns whether there is no limit.
    pub fn is_none(self) -> bool {
        matches!(self, Self::Bytes(0) | Self::Percent(0))
    }

    /// Returns the amount on `disk`, in bytes. A percentage is rounded: its whole GiB plus one, in GB
    /// (`DiskSpace.AsBytes`).
    pub fn bytes(self, disk: Disk) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Percent(0) => 0,
            Self::Percent(_) if disk.total == 0 => UNKNOWN_DISK,
            Self::Percent(percent) => {
                let part = u128::from(disk.total) * u128::from(percent) / 100;
                let rounded = (part / u128::from(GIB) + 1) * 1_000_000_000;
                u64::try_from(rounded).unwrap_or(u64::MAX)
            }
        }
    }
}

/// Formats a TOML value.
impl fmt::Display for DiskSpace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) if *bytes > 0 && bytes % GIB == 0 => {
                write!(f, "\"{}GB\"", bytes / GIB)
            }
            Self::Bytes(bytes) => write!(f, "{bytes}"),
            Self::Percent(percent) => write!(f, "\"{percent}%\""),
        }
    }
}

impl FromStr for DiskSpace {
    type Err = ParseDiskSpaceError;

    /// Parses a percentage, or a number with a unit such as `20GB`. Units are binary in any spelling
    /// (`RAMInBytes` of go-units v0.5).
    fn from_str(text: &str) -> Result<Self, ParseDiskSpaceError> {
        let error = || ParseDiskSpaceError { text: text.chars().take(100).collect() };
        if text.is_empty() {
            return Ok(Self::NONE);
        }
        if let Some(percent) = text.strip_suffix('%') {
            return percent.parse().map(Self::Percent).map_err(|_| error());
        }
        // The number ends at the last digit; one space may follow.
        let last = text.rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ');
        let (number, unit) = text.split_at(last.ok_or_else(error)? + 1);
        let number = number.strip_suffix(' ').unwrap_or(number);
        let number: f64 = number.parse().map_err(|_| error())?;
        let unit = unit.to_ascii_lowercase();
        let power = match unit.strip_suffix("ib").or(unit.strip_suffix('b')).unwrap_or(&unit) {
            "" if unit != "ib" => 0,
            "k" => 1,
            "m" => 2,
            "g" => 3,
            "t" => 4,
            "p" => 5,
            _ => return Err(error()),
        };
        let bytes = number * 1024_f64.powi(power);
        if !(0.0..9.2e18).contains(&bytes) {
            return Err(error());
        }
        Ok(Self::Bytes(bytes as u64))
    }
}

/// Reads a duration as Go's `time.ParseDuration` does, such as `48h` or `1h30m`; a plain number is in seconds
/// (`Duration.UnmarshalText`). Fractions of a nanosecond are truncated.
pub(super) fn parse_duration(text: &str) -> Result<Duration, ParseDurationError> {
    let error = || ParseDurationError { text: text.chars().take(100).collect() };
    if text.is_empty() {
        return Ok(Duration::ZERO);
    }
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    let mut nanoseconds: u64 = 0;
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(error)?;
        let (number, behind) = rest.split_at(end);
        let end = behind.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(end);
        let unit: u64 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return Err(error()),
        };
        let part = times(number, unit).ok_or_else(error)?;
        nanoseconds = nanoseconds.checked_add(part).ok_or_else(error)?;
        rest = behind;
    }
    Ok(Duration::from_nanos(nanoseconds))
}

/// Multiplies a decimal number by `unit`.
fn times(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut nanoseconds = whole.checked_mul(unit)?;
    let mut digit = unit;
    for byte in fraction.bytes() {
        digit /= 10;
        let value = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        nanoseconds = nanoseconds.checked_add(value * digit)?;
    }
    Some(nanoseconds)
}
