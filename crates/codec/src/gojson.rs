//! JSON, byte for byte as Go's `encoding/json` writes it.
//!
//! BuildKit hashes JSON documents (op digests) and looks up links by their JSON bytes, so the exact bytes are
//! a key. Field order and `omitempty` come from the order and the `skip_serializing_if` of the serialised
//! struct; this module adds what serde_json does differently: Go escapes `<`, `>`, `&`, U+2028 and U+2029 in
//! every string (Go `encoding/json` `appendString` with `escapeHTML`).
//!
//! ```
//! use codec::gojson::{self, ControlEscapes};
//! use serde::Serialize;
//!
//! #[derive(Serialize)]
//! struct MkFile {
//!     path: &'static str,
//!     #[serde(serialize_with = "gojson::base64")]
//!     data: Vec<u8>,
//! }
//!
//! let file = MkFile { path: "/a&b", data: b"hi".to_vec() };
//! assert_eq!(gojson::to_string(&file)?, r#"{"path":"/a\u0026b","data":"aGk="}"#);
//! assert_eq!(gojson::base64("hi", serde_json::value::Serializer)?, "aGk=");
//!
//! // Daemons built with an older Go have other keys for the same build.
//! assert_eq!(gojson::to_string("\u{8}")?, r#""\b""#);
//! assert_eq!(gojson::to_string_with("\u{8}", ControlEscapes::Long)?, r#""\u0008""#);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::io;

use crate::FormatError;
use serde::{Serialize, Serializer};
use serde_json::ser::{CharEscape, CompactFormatter, Formatter};

/// The form of control characters, which changed once in Go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ControlEscapes {
    /// Go 1.22 and later: `\b` and `\f` in their short form.
    #[default]
    Short,
    /// Before Go 1.22: `\u0008` and `\u000c`.
    Long,
}

/// Encodes `value` as Go's `json.Marshal` does.
///
/// # Errors
/// Returns an error if `value` has no JSON form (a map with keys that are not strings).
pub fn to_string<T: Serialize + ?Sized>(value: &T) -> Result<String, FormatError> {
    to_string_with(value, ControlEscapes::Short)
}

/// Same as [`to_string`], for a daemon built with a given version class of Go.
///
/// # Errors
/// Same as [`to_string`].
pub fn to_string_with<T: Serialize + ?Sized>(
    value: &T,
    escapes: ControlEscapes,
) -> Result<String, FormatError> {
    // Enough for most values, so that it does not grow byte by byte.
    let mut bytes = Vec::with_capacity(256);
    value
        .serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, Go { escapes }))
        .map_err(FormatError::new)?;
    String::from_utf8(bytes).map_err(FormatError::new)
}

/// Serialises bytes as Go does a `[]byte`: padded standard base64. For `#[serde(serialize_with)]`.
///
/// # Errors
/// Returns the errors of the serializer.
pub fn base64<S: Serializer>(bytes: impl AsRef<[u8]>, serializer: S) -> Result<S::Ok, S::Error> {
    use base64::Engine as _;
    serializer.serialize_str(&base64::engine::general_purpose::STANDARD.encode(bytes))
}

struct Go {
    escapes: ControlEscapes,
}

impl Formatter for Go {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let special = |c: char| matches!(c, '<' | '>' | '&' | '\u{2028}' | '\u{2029}');
        let mut rest = fragment;
        while let Some((at, c)) = rest.char_indices().find(|(_, c)| special(*c)) {
            writer.write_all(&rest.as_bytes()[..at])?;
            write!(writer, "\\u{:04x}", u32::from(c))?;
            rest = &rest[at + c.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }

    fn write_char_escape<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        escape: CharEscape,
    ) -> io::Result<()> {
        match (self.escapes, escape) {
            (ControlEscapes::Long, CharEscape::Backspace) => writer.write_all(b"\\u0008"),
            (ControlEscapes::Long, CharEscape::FormFeed) => writer.write_all(b"\\u000c"),
            (_, escape) => CompactFormatter.write_char_escape(writer, escape),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The expected texts are output of Go 1.26's json.Marshal.
    #[test]
    fn strings_are_escaped_as_go_does() {
        let text = "a<b>&c\u{2028}\u{2029}\"\\/\n\r\t\u{8}\u{c}\u{0}\u{1f}\u{7f}é😀";
        assert_eq!(
            to_string(text).unwrap(),
            "\"a\\u003cb\\u003e\\u0026c\\u2028\\u2029\\\"\\\\/\\n\\r\\t\\b\\f\\u0000\\u001f\u{7f}é😀\""
        );
        assert!(to_string_with("\u{8}\u{c}", ControlEscapes::Long).unwrap() == r#""\u0008\u000c""#);
    }

    #[test]
    fn keys_are_escaped_too() {
        let map = std::collections::BTreeMap::from([("a&b", 1), ("A", 2)]);
        assert_eq!(to_string(&map).unwrap(), r#"{"A":2,"a\u0026b":1}"#);
    }
}
