//! Texts that are stored inline if they have the length of BuildKit's ids.

use std::cmp::Ordering;
use std::fmt;

/// Length of a random id (BuildKit v0.32.2 `identity/randomid.go`).
pub(crate) const DRAWN: usize = 25;

/// A text. One of [`DRAWN`] bytes needs no allocation: states have hundreds of thousands of ids, and inline
/// ids are compared without waiting for memory.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum InlineText {
    Drawn([u8; DRAWN]),
    Other(Box<str>),
}

impl InlineText {
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Drawn(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => text,
                Err(_) => unreachable!("it was a text when it was put there"),
            },
            Self::Other(text) => text,
        }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Drawn(bytes) => bytes,
            Self::Other(text) => text.as_bytes(),
        }
    }
}

impl From<&str> for InlineText {
    fn from(text: &str) -> Self {
        match text.as_bytes().try_into() {
            Ok(bytes) => Self::Drawn(bytes),
            Err(_) => Self::Other(text.into()),
        }
    }
}

impl From<String> for InlineText {
    fn from(text: String) -> Self {
        match text.as_bytes().try_into() {
            Ok(bytes) => Self::Drawn(bytes),
            Err(_) => Self::Other(text.into()),
        }
    }
}

impl Ord for InlineText {
    /// Sorts as text.
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl PartialOrd for InlineText {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for InlineText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_all_lengths_stay_what_they_are_and_keep_their_order() {
        let drawn = "nkb3jq2u1n5uzs39w0ohs4fgn";
        let shorter_in_letters = "ä".repeat(12) + "x";
        let texts =
            ["", "a", &drawn[..24], drawn, "nkb3jq2u1n5uzs39w0ohs4fgo", &shorter_in_letters];
        for text in texts {
            let short = InlineText::from(text);
            assert_eq!((short.as_str(), short.as_bytes()), (text, text.as_bytes()));
            assert_eq!(short, InlineText::from(text.to_owned()));
            for other in texts {
                assert_eq!(short.cmp(&InlineText::from(other)), text.cmp(other), "{text} {other}");
            }
        }
        assert!(matches!(InlineText::from(drawn), InlineText::Drawn(_)));
        assert_eq!(size_of::<InlineText>(), 32);
    }
}
