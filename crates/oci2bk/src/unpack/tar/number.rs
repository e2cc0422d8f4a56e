//! Parses numbers and times in tar archives as Go's `archive/tar` does (Go 1.26
//! `src/archive/tar/strconv.go`).

use super::TarError;

/// Parses a number of a header block: octal text, or base-256 if the first bit is set.
///
/// Base-256 is a big-endian two's complement number whose first bit is the marker, so the second bit is the
/// sign. Octal text may be padded with spaces and NULs on both sides; an empty field is zero.
pub(super) fn numeric(field: &[u8]) -> Result<i64, TarError> {
    match field.first() {
        Some(first) if first & 0x80 != 0 => base256(field),
        _ => octal(field),
    }
}

fn base256(field: &[u8]) -> Result<i64, TarError> {
    let negative = field[0] & 0x40 != 0;
    let mask = if negative { 0xFF } else { 0 };
    let mut value: u64 = 0;
    for (index, byte) in field.iter().enumerate() {
        let byte = if index == 0 { (byte ^ mask) & 0x7F } else { byte ^ mask };
        if value >> 56 != 0 {
            return Err(TarError::Header);
        }
        value = value << 8 | u64::from(byte);
    }
    let value = i64::try_from(value).map_err(|_| TarError::Header)?;
    Ok(if negative { !value } else { value })
}

/// Parses octal text of a header block; text after a NUL in the middle is ignored.
pub(super) fn octal(field: &[u8]) -> Result<i64, TarError> {
    let digit = |byte: &u8| !matches!(byte, b' ' | 0);
    let start = field.iter().position(digit).unwrap_or(field.len());
    let end = field.iter().rposition(digit).map_or(start, |last| last + 1);
    let mut value: u64 = 0;
    for digit in field[start..end].iter().take_while(|byte| **byte != 0) {
        if !matches!(digit, b'0'..=b'7') || value >> 61 != 0 {
            return Err(TarError::Header);
        }
        value = value << 3 | u64::from(digit - b'0');
    }
    // In Go the top bit makes the number negative.
    Ok(value.cast_signed())
}

/// Parses a decimal number of an extended header: digits with an optional sign.
pub(super) fn decimal(text: &[u8]) -> Option<i64> {
    // Rust parses integers by the same rules as Go's `strconv.ParseInt` in base ten.
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A point in time as in Go's `time.Time`: seconds since the year one, wrapping, and nanoseconds. The default
/// is Go's zero time, which means "not set".
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Timestamp {
    seconds: i64,
    nanoseconds: u32,
}

/// Seconds from the year one to 1970.
const YEAR_ONE_TO_UNIX: i64 = 62_135_596_800;
const NANOS: u32 = 1_000_000_000;

impl Timestamp {
    /// The Unix epoch.
    pub(in crate::unpack) const EPOCH: Self = Self { seconds: YEAR_ONE_TO_UNIX, nanoseconds: 0 };

    /// Returns the time `seconds` and `nanoseconds` after the Unix epoch.
    pub(in crate::unpack) const fn from_unix(seconds: i64, nanoseconds: u32) -> Self {
        Self { seconds: seconds.wrapping_add(YEAR_ONE_TO_UNIX), nanoseconds }
    }

    /// Returns the whole seconds since the Unix epoch.
    pub(crate) const fn unix_seconds(self) -> i64 {
        self.seconds.wrapping_sub(YEAR_ONE_TO_UNIX)
    }

    /// Returns the nanoseconds of the second.
    pub(crate) const fn nanoseconds(self) -> u32 {
        self.nanoseconds
    }

    /// Parses a PAX time: decimal seconds, optionally a dot and a fraction, of which nine digits count.
    pub(super) fn from_pax(text: &[u8]) -> Option<Self> {
        let (whole, fraction) = match text.iter().position(|byte| *byte == b'.') {
            Some(dot) => (&text[..dot], &text[dot + 1..]),
            None => (text, &[][..]),
        };
        let seconds = decimal(whole)?;
        let mut nanoseconds = 0;
        let mut unit = NANOS / 10;
        for digit in fraction {
            if !digit.is_ascii_digit() {
                return None;
            }
            nanoseconds += u32::from(digit - b'0') * unit;
            unit /= 10;
        }
        Some(if nanoseconds != 0 && whole.first() == Some(&b'-') {
            Self::from_unix(seconds.wrapping_sub(1), NANOS - nanoseconds)
        } else {
            Self::from_unix(seconds, nanoseconds)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octal_is_padded_on_both_sides_and_nothing_else_is_allowed() {
        for (field, value) in [
            (&b""[..], 0),
            (b"\0\0\0\0", 0),
            (b"   \0", 0),
            (b"0000755\0", 0o755),
            (b"  755 \0", 0o755),
            (b"755\0\0  ", 0o755),
            (b"755\x00999", 0o755),
            (b"777777777777", 0o777_777_777_777),
        ] {
            assert_eq!(numeric(field).unwrap(), value, "{}", field.escape_ascii());
        }
        for field in
            [&b"8"[..], b"7 7", b"7 7\0", b"-7", b"+7", b"0x7", b"7777777777777777777777777"]
        {
            let error = numeric(field).unwrap_err();
            assert!(matches!(error, TarError::Header), "{}: {error}", field.escape_ascii());
            assert_eq!(error.to_string(), "the archive has a damaged header block");
        }
    }

    #[test]
    fn base_256_is_twos_complement_and_refuses_what_overflows() {
        assert_eq!(numeric(b"\x80\0\0\0\0\0\0\0\0\0\x01\0").unwrap(), 256);
        assert_eq!(numeric(b"\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF").unwrap(), -1);
        assert_eq!(numeric(b"\x80\0\0\0\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF").unwrap(), i64::MAX);
        for field in [b"\x80\0\0\0\x80\0\0\0\0\0\0\0", b"\x80\0\0\x01\0\0\0\0\0\0\0\0"] {
            let error = numeric(field).unwrap_err();
            assert!(matches!(error, TarError::Header), "{}: {error}", field.escape_ascii());
            assert_eq!(error.to_string(), "the archive has a damaged header block");
        }
    }

    #[test]
    fn pax_times_keep_nine_digits_and_a_negative_fraction_counts_downwards() {
        let time = |text: &[u8]| Timestamp::from_pax(text);
        assert_eq!(time(b"12"), Some(Timestamp::from_unix(12, 0)));
        assert_eq!(time(b"12."), Some(Timestamp::from_unix(12, 0)));
        assert_eq!(time(b"12.5"), Some(Timestamp::from_unix(12, 500_000_000)));
        assert_eq!(time(b"12.1234567899"), Some(Timestamp::from_unix(12, 123_456_789)));
        assert_eq!(time(b"-1.25"), Some(Timestamp::from_unix(-2, 750_000_000)));
        assert_eq!(time(b"-0.5"), Some(Timestamp::from_unix(-1, 500_000_000)));
        for text in [&b""[..], b".5", b"1.x", b"1e9", b"0x1", b"1_0", b" 1"] {
            assert_eq!(time(text), None, "{}", text.escape_ascii());
        }
    }
}
