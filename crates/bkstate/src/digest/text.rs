//! Texts that usually are digests.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};

use super::Digest;
use crate::inline_text::InlineText;

/// A text that usually is a digest, and then takes no more memory than a digest.
///
/// The solver's ids of roots and ops are digests. Other keys have random ids, and merge and diff ops up to
/// v0.12 have JSON (BuildKit v0.32.2 `solver/cachemanager.go`, v0.12.5 `solver/llbsolver/ops/merge.go`).
/// Sorts as text.
///
/// ```
/// use bkstate::Digest;
/// use bkstate::digest::DigestText;
///
/// let digest = Digest::of("RUN make");
/// let text = DigestText::from(digest.to_string().as_str());
/// assert_eq!((text.digest(), text.text()), (Some(digest), digest.to_string().into()));
/// assert_eq!(text, DigestText::from(digest));
///
/// let json = DigestText::from(r#"{"Type":"buildkit.merge.v0"}"#);
/// assert_eq!(json.digest(), None);
/// assert!(json > text && !json.is_empty());
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct DigestText(Form);

/// A text that is a digest is always stored as one, so equal texts have equal forms.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Form {
    Digest(Digest),
    Other(InlineText),
}

impl DigestText {
    /// Returns the text.
    pub fn text(&self) -> Cow<'_, str> {
        match &self.0 {
            Form::Digest(digest) => Cow::Owned(digest.to_string()),
            Form::Other(text) => Cow::Borrowed(text.as_str()),
        }
    }

    /// Returns the digest, if the text is one.
    pub fn digest(&self) -> Option<Digest> {
        match &self.0 {
            Form::Digest(digest) => Some(*digest),
            Form::Other(_) => None,
        }
    }

    /// Returns whether the text is empty.
    pub fn is_empty(&self) -> bool {
        matches!(&self.0, Form::Other(text) if text.as_bytes().is_empty())
    }

    /// Calls `use_it` with the bytes of the text, without allocating them.
    fn with_bytes<R>(&self, use_it: impl FnOnce(&[u8]) -> R) -> R {
        match &self.0 {
            Form::Digest(digest) => use_it(&digest.to_ascii()),
            Form::Other(text) => use_it(text.as_bytes()),
        }
    }
}

impl Default for DigestText {
    fn default() -> Self {
        Self::from("")
    }
}

impl From<Digest> for DigestText {
    fn from(digest: Digest) -> Self {
        Self(Form::Digest(digest))
    }
}

impl From<&str> for DigestText {
    fn from(text: &str) -> Self {
        let digest = Digest::from_ascii(text.as_bytes());
        Self(digest.map_or_else(|| Form::Other(text.into()), Form::Digest))
    }
}

impl From<String> for DigestText {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl PartialEq<str> for DigestText {
    fn eq(&self, text: &str) -> bool {
        self.with_bytes(|own| own == text.as_bytes())
    }
}

impl Ord for DigestText {
    fn cmp(&self, other: &Self) -> Ordering {
        match (&self.0, &other.0) {
            // Hex digits sort as the bytes that they encode.
            (Form::Digest(digest), Form::Digest(other)) => digest.cmp(other),
            (Form::Other(text), Form::Other(other)) => text.cmp(other),
            _ => self.with_bytes(|text| other.with_bytes(|other| text.cmp(other))),
        }
    }
}

impl PartialOrd for DigestText {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for DigestText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Form::Digest(digest) => fmt::Display::fmt(digest, f),
            Form::Other(text) => f.write_str(text.as_str()),
        }
    }
}

impl fmt::Debug for DigestText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for DigestText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Form::Digest(digest) => digest.serialize(serializer),
            Form::Other(text) => serializer.serialize_str(text.as_str()),
        }
    }
}

impl<'de> Deserialize<'de> for DigestText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = DigestText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E>(self, text: &str) -> Result<DigestText, E> {
                Ok(text.into())
            }
        }

        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_stays_what_it_is_and_keeps_its_order() {
        let (abc, def) = (Digest::of("abc").to_string(), Digest::of("def").to_string());
        let upper = abc.to_uppercase();
        let longer = format!("{abc}0");
        let drawn = "random:nkb3jq2u1n5uzs39w0o";
        let texts =
            ["", "random:x", drawn, "sha256:", &abc[..70], &abc, &def, &upper, &longer, "{}"];
        for text in texts {
            let kept = DigestText::from(text);
            assert_eq!(kept.text(), text);
            assert_eq!(kept.to_string(), text);
            assert!(kept == *text);
            assert_eq!(kept, DigestText::from(text.to_owned()));
            assert_eq!(kept.digest().is_some(), text.parse::<Digest>().is_ok(), "{text}");
            assert_eq!(kept.is_empty(), text.is_empty());
            let json = serde_json::to_string(&kept).unwrap();
            assert_eq!(json, serde_json::to_string(text).unwrap());
            assert_eq!(serde_json::from_str::<DigestText>(&json).unwrap(), kept);
            for other in texts {
                assert_eq!(kept.cmp(&DigestText::from(other)), text.cmp(other), "{text} {other}");
            }
        }
        assert_eq!(size_of::<DigestText>(), 40);
    }
}
