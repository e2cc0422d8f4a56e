//! JSON that anybody may have written.
//!
//! `serde_json` bounds how deep values are nested, but not how many there are: two bytes such as
//! `{}` or `0,` can become a structure of hundreds. So values are counted before anything is made of
//! them. What comes of a document then takes no more memory than its own bytes and a fixed amount
//! for each value that it may have.

use serde::Deserialize;

use crate::layout::limits;

/// Why bytes cannot be read as JSON of the form that is expected.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// Not JSON, or a member is missing, doubled or of the wrong form.
    #[error(transparent)]
    Malformed(#[from] serde_json::Error),
    /// There are more values than in any real document.
    #[error("it has more than {limit} values")]
    TooManyValues {
        /// How many it may have.
        limit: usize,
    },
    /// There are more objects than in any real document.
    #[error("it has more than {limit} objects")]
    TooManyObjects {
        /// How many it may have.
        limit: usize,
    },
}

/// Reads a document whose number of values is within [`limits`].
pub(crate) fn from_slice<'de, T: Deserialize<'de>>(json: &'de [u8]) -> Result<T, JsonError> {
    check(json)?;
    Ok(serde_json::from_slice(json)?)
}

/// Checks that `json`, be it well formed or not, has no more values than [`limits`] allow.
pub(crate) fn check(json: &[u8]) -> Result<(), JsonError> {
    let Count { values, objects } = count(json);
    if objects > limits::JSON_OBJECTS {
        return Err(JsonError::TooManyObjects { limit: limits::JSON_OBJECTS });
    }
    if values > limits::JSON_VALUES {
        return Err(JsonError::TooManyValues { limit: limits::JSON_VALUES });
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
struct Count {
    values: usize,
    objects: usize,
}

/// At least as many values as a parser can meet before it has read `json` or given up. An empty list
/// or object counts as two.
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
                    // Whatever is escaped, it does not end the string.
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
            // Cut off within a string, and behind a backslash.
            (r#"[",,,,"#, 2, 0),
            (r#"["\"#, 2, 0),
        ] {
            assert_eq!(count(json.as_bytes()), Count { values, objects }, "{json}");
        }
    }

    #[test]
    fn more_values_than_any_document_has_are_refused_before_they_take_memory() {
        let many = |item: &str, count: usize| format!("[{}]", item.repeat(count));
        let error = check(many("0,", limits::JSON_VALUES).as_bytes()).unwrap_err();
        assert!(matches!(error, JsonError::TooManyValues { .. }), "{error}");
        check(many("0,", limits::JSON_VALUES - 2).as_bytes()).unwrap();
        let error = check(many("{}", limits::JSON_OBJECTS + 1).as_bytes()).unwrap_err();
        assert!(matches!(error, JsonError::TooManyObjects { .. }), "{error}");
        check(many("{}", limits::JSON_OBJECTS).as_bytes()).unwrap();
    }
}
