//! Content digests.
//!
//! BuildKit and containerd name content by `sha256:<64 lowercase hex digits>` (opencontainers
//! `go-digest`). Only SHA-256 occurs in caches and states, so a [`Digest`] is 32 bytes and cannot
//! hold anything that is not a valid digest; in particular it can never be a path.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

const PREFIX: &str = "sha256:";

/// A SHA-256 content digest, printed as `sha256:<hex>`.
///
/// ```
/// use codec::Digest;
/// use codec::digest::ParseDigestError;
///
/// let digest = Digest::of("abc");
/// assert_eq!(digest.to_string().parse(), Ok(digest));
/// assert_eq!(digest.to_string(), format!("sha256:{}", digest.hex()));
/// assert_eq!(Digest::from_bytes(*digest.as_bytes()), digest);
/// assert_eq!(Digest::from_ascii(&digest.to_ascii()), Some(digest));
/// assert_eq!(digest.to_string().len(), Digest::LENGTH);
///
/// let text = "sha256:../../etc/passwd";
/// assert!(matches!(text.parse::<Digest>(), Err(ParseDigestError { text: found, .. }) if found == text));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// Why a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a digest of the form sha256:<64 lowercase hex digits>")]
#[non_exhaustive]
pub struct ParseDigestError {
    /// The rejected text, shortened to 100 characters.
    pub text: String,
}

impl Digest {
    /// Length of a printed digest, in bytes.
    pub const LENGTH: usize = PREFIX.len() + 64;

    /// Hashes `bytes`.
    pub fn of(bytes: impl AsRef<[u8]>) -> Self {
        Self(Sha256::digest(bytes.as_ref()).into())
    }

    /// Returns the digest whose 32 raw bytes are `bytes`.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the 32 raw bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns the 64 lowercase hex digits, which are also the file name under `blobs/sha256/`.
    pub fn hex(&self) -> String {
        self.to_ascii()[PREFIX.len()..].iter().map(|digit| char::from(*digit)).collect()
    }

    /// Returns the printed form, in ASCII. Digests are printed by the million; `{:02x}` takes ten times as
    /// long.
    pub fn to_ascii(&self) -> [u8; Self::LENGTH] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; Self::LENGTH];
        let (prefix, digits) = text.split_at_mut(PREFIX.len());
        prefix.copy_from_slice(PREFIX.as_bytes());
        for (pair, byte) in digits.chunks_exact_mut(2).zip(self.0) {
            pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
        text
    }

    /// Parses a printed digest. Unlike a parse error, `None` costs nothing, which matters where most texts
    /// are not digests.
    pub fn from_ascii(text: &[u8]) -> Option<Self> {
        let hex = text.strip_prefix(PREFIX.as_bytes())?;
        if hex.len() != 64 {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
            *byte = pair.iter().try_fold(0, |value, digit| {
                let nibble = match digit {
                    b'0'..=b'9' => digit - b'0',
                    b'a'..=b'f' => digit - b'a' + 10,
                    _ => return None,
                };
                Some(value << 4 | nibble)
            })?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.to_ascii()).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::from_ascii(text.as_bytes())
            .ok_or_else(|| ParseDigestError { text: text.chars().take(100).collect() })
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A running SHA-256, for content that is hashed while it is read.
///
/// ```
/// use codec::Digest;
/// use codec::digest::Hasher;
///
/// let mut hasher = Hasher::new();
/// for chunk in ["a", "bc"] {
///     hasher.update(chunk.as_bytes());
/// }
/// assert_eq!(hasher.finish(), Digest::of("abc"));
/// ```
#[derive(Clone, Default)]
pub struct Hasher(Sha256);

impl Hasher {
    /// Creates a hasher without input.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Returns the digest of everything added.
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hasher")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABC: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn prints_and_parses_the_same_text() {
        assert_eq!(Digest::of("abc").to_string(), ABC);
        assert_eq!(ABC.parse::<Digest>().unwrap(), Digest::of("abc"));
        assert_eq!(format!("sha256:{}", Digest::of("abc").hex()), ABC);
    }

    #[test]
    fn refuses_everything_that_is_not_exactly_a_digest() {
        let refuses = |text: &str| {
            let error = text.parse::<Digest>().unwrap_err();
            assert_eq!(error, ParseDigestError { text: text.to_owned() });
            let form = "is not a digest of the form sha256:<64 lowercase hex digits>";
            assert_eq!(error.to_string(), format!("{text:?} {form}"));
        };
        let upper = ABC.to_uppercase();
        let cases = ["", "sha256:", &ABC[..70], &ABC[7..], "sha256:../../etc/passwd", &upper];
        for text in cases {
            refuses(text);
        }
        refuses(&format!("{ABC}0"));
        refuses(&ABC.replace("sha256", "sha512"));
    }
}
