//! The identifiers that connect the databases.
//!
//! ```text
//! cache.db            _result[<key id>][<worker id>::<record id>]
//! workerid            <worker id>
//! metadata_v2.db      _main[<record id>]
//! containerdmeta.db   v1/buildkit/leases/<record id>
//! ```
//!
//! The daemon draws them at random (BuildKit `identity.NewID`: 25 base-36 digits). Ours are derived from what
//! they name, in the same form, so the same input gives the same state.
//!
//! ```
//! use bkstate::Digest;
//! use bkstate::ids::{InvalidId, KeyId, RecordId, ResultId, WorkerId};
//!
//! // An id from a daemon is used as it is; a new one is derived from what it names.
//! let worker = WorkerId::new("nkb3jq2u1n5uzs39w0ohs4fgn")?;
//! let record = RecordId::derive(&Digest::of("a layer").to_string());
//! assert_eq!(record.as_str().len(), worker.as_str().len());
//!
//! // `cache.db` names a result by both, with a separator that no id contains.
//! let result = ResultId { worker, record: Some(record) };
//! assert_eq!(ResultId::parse(&result.to_string())?, result);
//! let refused: InvalidId = RecordId::new("worker::record").unwrap_err();
//! assert_eq!(refused.kind, "record id");
//!
//! // The id of a key without dependencies is its digest, or random if the key is of files that one
//! // build sent.
//! assert!(KeyId::new("random:nkb3jq2u1n5uzs39w0ohs4fgn")?.is_of_one_session());
//! let operation = Digest::of("an operation");
//! assert!(!KeyId::from(operation).is_of_one_session());
//! assert_eq!(KeyId::from(operation).text(), operation.to_string());
//! # Ok::<(), InvalidId>(())
//! ```

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, DigestText};
use crate::inline_text::{DRAWN, InlineText};

/// Derives 25 base-36 digits from `kind` and `content`.
fn derive(kind: &str, content: &str) -> String {
    let digest = Digest::of(format!("oci2bk {kind} {content}"));
    // 25 base-36 digits hold 129 bits, so 16 bytes lose nothing and leave the first digit small,
    // as in the daemon's own ids.
    let (head, _) = digest.as_bytes().split_at(16);
    let mut value = head.iter().fold(0_u128, |value, byte| value << 8 | u128::from(*byte));
    let mut digits = [b'0'; DRAWN];
    for digit in digits.iter_mut().rev() {
        let rest = (value % 36) as u8;
        *digit = if rest < 10 { b'0' + rest } else { b'a' + rest - 10 };
        value /= 36;
    }
    digits.iter().map(|digit| char::from(*digit)).collect()
}

/// Why a text is not a valid identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} cannot be a {kind}: it is empty or contains a separator of BuildKit's keys")]
#[non_exhaustive]
pub struct InvalidId {
    /// The kind of identifier.
    pub kind: &'static str,
    /// The rejected text, shortened to 100 characters.
    pub text: String,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($text:ty), $kind:literal, $separators:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name($text);

        impl $name {
            /// Checks an existing id.
            ///
            /// # Errors
            /// Returns an error if it is empty or contains a separator by which BuildKit splits its keys.
            pub fn new(text: impl Into<String>) -> Result<Self, InvalidId> {
                let text = text.into();
                let separators: &[&str] = &$separators;
                if text.is_empty() || separators.iter().any(|part| text.contains(part)) {
                    let text = text.chars().take(100).collect();
                    return Err(InvalidId { kind: $kind, text });
                }
                Ok(Self(text.into()))
            }

            /// Derives an id from a text that identifies what it names.
            pub fn derive(content: &str) -> Self {
                Self(derive($kind, content).into())
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.to_string()
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, InvalidId> {
                Self::new(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

id! {
    /// Names a cache record, its lease and (unless the record says otherwise) its snapshot.
    RecordId(InlineText), "record id", ["::", "@"]
}

id! {
    /// Names the worker whose records the results in `cache.db` refer to. It is the whole content of the file
    /// `workerid`.
    WorkerId(InlineText), "worker id", ["::", "@", "\n"]
}

id! {
    /// Names a solver key: for root keys `sha256:…`, otherwise any unique text (BuildKit
    /// `solver/cachemanager.go` `rootKey`, `getIDFromDeps`).
    KeyId(DigestText), "key id", ["@"]
}

impl RecordId {
    /// Returns the id as text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl WorkerId {
    /// Returns the id as text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl KeyId {
    /// A value that sorts before every key id, and is not an id.
    pub(crate) fn least() -> Self {
        Self(DigestText::default())
    }

    /// Returns the id as text.
    pub fn text(&self) -> Cow<'_, str> {
        self.0.text()
    }

    /// Returns whether the key is of a local source, which only one build session has (BuildKit v0.32.2
    /// `solver/llbsolver/ops/source.go` `CacheMap`).
    pub fn is_of_one_session(&self) -> bool {
        self.0.digest().is_none() && self.text().starts_with("random:")
    }
}

impl From<Digest> for KeyId {
    /// The id of a root key: the digest itself.
    fn from(digest: Digest) -> Self {
        Self(digest.into())
    }
}

/// Names the result of a solver key: a record of a worker, or nothing for a scratch result. Sorts as text.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ResultId {
    /// The worker that holds the record.
    pub worker: WorkerId,
    /// The record; `None` for an empty file system.
    pub record: Option<RecordId>,
}

impl ResultId {
    /// Reads `<worker id>::<record id>` (BuildKit `worker/cacheresult.go` `parseWorkerRef`).
    ///
    /// # Errors
    /// Returns an error if it is not two ids.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        let (worker, record) = text.split_once("::").unwrap_or((text, "::"));
        let record = match record {
            "" => None,
            id => Some(RecordId::new(id)?),
        };
        Ok(Self { worker: WorkerId::new(worker)?, record })
    }
}

impl Ord for ResultId {
    fn cmp(&self, other: &Self) -> Ordering {
        if self.worker == other.worker {
            return self.record.cmp(&other.record);
        }
        // One worker's id can be a prefix of another's.
        self.to_string().cmp(&other.to_string())
    }
}

impl PartialOrd for ResultId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for ResultId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let record = self.record.as_ref().map_or("", RecordId::as_str);
        write!(f, "{}::{record}", self.worker)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_ids_have_the_daemons_shape_and_differ_by_kind() {
        let record = RecordId::derive("x");
        assert_eq!(record.as_str().len(), 25);
        assert!(record.as_str().bytes().all(|c| c.is_ascii_digit() || c.is_ascii_lowercase()));
        assert_ne!(record.as_str(), KeyId::derive("x").text());
        assert_eq!(record, RecordId::derive("x"));
    }

    #[test]
    fn result_ids_sort_as_their_texts() {
        let texts = ["w::", "w::a", "w::r", "w-x::", "w-x::a", "w:x::r", "wx::", "x::"];
        let id = |text: &str| ResultId::parse(text).unwrap();
        for (a, b) in texts.iter().flat_map(|a| texts.iter().map(move |b| (a, b))) {
            assert_eq!(id(a).cmp(&id(b)), a.cmp(b), "{a} {b}");
        }
    }

    #[test]
    fn result_ids_are_exactly_two_parts() {
        for text in ["w::r", "w::"] {
            assert_eq!(ResultId::parse(text).unwrap().to_string(), text);
        }
        for (text, kind, wrong) in [
            ("", "record id", "::"),
            ("w", "record id", "::"),
            ("::r", "worker id", ""),
            ("w::r::s", "record id", "r::s"),
            ("w\n::r", "worker id", "w\n"),
            ("w::r@s", "record id", "r@s"),
        ] {
            let error = ResultId::parse(text).unwrap_err();
            assert_eq!(error, InvalidId { kind, text: wrong.to_owned() }, "{text}");
            let message = "it is empty or contains a separator of BuildKit's keys";
            assert_eq!(error.to_string(), format!("{wrong:?} cannot be a {kind}: {message}"));
        }
    }
}
