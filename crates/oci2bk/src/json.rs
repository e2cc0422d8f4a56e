//! Checks untrusted JSON.
//!
//! `serde_json` limits the depth of values, but not their number: two bytes such as `{}` or `0,` can become a
//! structure of hundreds. So values are counted before anything is made from them. Then a parsed document
//! takes no more memory than its own bytes and a fixed amount for each allowed value.
//!
//! ```
//! use oci2bk::json::TooComplex;
//! use oci2bk::keys::{SourceError, read_source};
//! use oci2bk::Limits;
//!
//! // The reader decides how many values the provenance of a build may have.
//! let limits = Limits { json_objects: 100, ..Limits::default() };
//! let provenance = "fixtures/index/keys/provenance.json";
//! let Err(SourceError::TooComplex { source, .. }) = read_source(provenance.as_ref(), &limits) else {
//!     panic!("a build of more than 100 objects was read");
//! };
//! assert_eq!(source, TooComplex::Objects { limit: 100 });
//! ```

use codec::FormatError;
use serde::Deserialize;

use crate::limits::Limits;

/// What a document has more of than any real one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TooComplex {
    /// Values of any kind.
    #[error("its JSON has more than {limit} values")]
    Values {
        /// The limit ([`Limits::json_values`](crate::Limits::json_values)).
        limit: u64,
    },
    /// Objects.
    #[error("its JSON has more than {limit} objects")]
    Objects {
        /// The limit ([`Limits::json_objects`](crate::Limits::json_objects)).
        limit: u64,
    },
}

/// Checks that `json`, well formed or not, has no more values than `limits` allow.
pub(crate) fn check(json: &[u8], limits: &Limits) -> Result<(), TooComplex> {
    let Count { values, objects } = count(json);
    if objects > limits.json_objects {
        return Err(TooComplex::Objects { limit: limits.json_objects });
    }
    if values > limits.json_values {
        return Err(TooComplex::Values { limit: limits.json_values });
    }
    Ok(())
}

/// Parses a whole document.
pub(crate) fn parse<'de, T: Deserialize<'de>>(json: &'de [u8]) -> Result<T, FormatError> {
    serde_json::from_slice(json).map_err(FormatError::new)
}

#[derive(Debug, PartialEq, Eq)]
struct Count {
    values: u64,
    objects: u64,
}

/// Returns an upper bound of the values that a parser can meet before it has read `json` or given up. An
/// empty list or object counts as two.
fn count(json: &[u8]) -> Count {
    let mut count = Count { values: 1, objects: 0 };
    let mut bytes = json.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b',' | b'[' => count.values += 1,
            b'{' => {
                count.values += 1;
                count.objects += 1;
            }
            b'"' => {
                while let Some(b'\\') = bytes.find(|byte| matches!(byte, b'"' | b'\\')) {
                    // An escaped character does not end the string.
                    bytes.next();
                }
            }
            _ => {}
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_strings_is_not_counted() {
        for (json, values, objects) in [
            ("", 1, 0),
            ("1", 1, 0),
            ("[]", 2, 0),
            ("[1,2,[3]]", 5, 0),
            (r#"{"a":1,"b":{}}"#, 4, 2),
            (r#"["{,[","\"{{,","\\",{"\\\"[":1}]"#, 6, 1),
            // Truncated within a string, and after a backslash.
            (r#"[",,,,"#, 2, 0),
            (r#"["\"#, 2, 0),
        ] {
            assert_eq!(count(json.as_bytes()), Count { values, objects }, "{json}");
        }
    }

    #[test]
    fn more_values_than_any_document_has_are_refused_before_they_take_memory() {
        let limits = Limits { json_values: 1000, json_objects: 100, ..Limits::default() };
        let many = |item: &str, count: usize| {
            check(format!("[{}]", item.repeat(count)).as_bytes(), &limits)
        };
        assert_eq!(many("0,", 998), Ok(()));
        assert_eq!(many("0,", 999), Err(TooComplex::Values { limit: 1000 }));
        assert_eq!(many("{}", 100), Ok(()));
        assert_eq!(many("{}", 101), Err(TooComplex::Objects { limit: 100 }));
    }
}
