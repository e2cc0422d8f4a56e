//! Makes external text safe for output: terminals, logs, documents. Also formats sizes.
//!
//! Names of steps, annotations, paths and other untrusted text can contain characters that control a
//! terminal, are invisible, or change the text direction. Only this module knows them; the command prints
//! nothing without it.
//!
//! ```
//! use oci2bk::text::{
//!     escaped_json, one_line, page, path, short_digest, shortened, size, to_json, to_json_line,
//!     with_causes,
//! };
//!
//! assert_eq!(one_line("RUN a\nRUN b\u{1b}[2J"), r"RUN a\nRUN b\u{1b}[2J");
//! assert_eq!(path("/tmp/a\rb".as_ref()), r"/tmp/a\rb");
//! assert_eq!(shortened("RUN make all", 8), "RUN mak…");
//! let digest = oci2bk::Digest::of("");
//! assert_eq!(short_digest(&digest.to_string()), "e3b0c44298fc");
//! assert_eq!(size(1_234_567), "1.23 MB");
//! let error = "x".parse::<oci2bk::Digest>().unwrap_err();
//! assert!(with_causes(&error).starts_with(&error.to_string()));
//!
//! // The lines and columns of a whole page are ours.
//! assert_eq!(page("a:\tb\n\u{202e}c\n"), "a:\tb\n\\u{202e}c\n");
//!
//! // JSON keeps its meaning for parsers.
//! assert_eq!(to_json_line(&["\u{9b}31m"])?, r#"["\u009b31m"]"#);
//! assert_eq!(serde_json::from_str::<[String; 1]>(&to_json(&["\u{9b}31m"])?)?, ["\u{9b}31m"]);
//! assert_eq!(escaped_json("{\"\u{200b}\":1}"), r#"{"\u200b":1}"#);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::borrow::Cow;
use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;

use codec::FormatError;
use serde::Serialize;

/// Length of shortened digests in hex digits, as in docker.
const SHORT: usize = 12;

/// Returns `text` in one line, without terminal controls and characters that change the text direction, so
/// that it cannot look like anything else.
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    text.chars().for_each(|c| push_escaped(&mut line, c));
    line
}

/// Returns a path in one line, as [`one_line`] does.
pub fn path(path: &Path) -> String {
    one_line(&path.to_string_lossy())
}

/// Formats an error and its causes, each once: a message may contain that of its cause.
pub fn with_causes(error: &dyn Error) -> String {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !message.contains(&text) {
            message = format!("{message}: {text}");
        }
        source = cause.source();
    }
    message
}

/// Same as [`one_line`], but at most `width` columns wide: longer text ends with an ellipsis.
pub fn shortened(text: &str, width: usize) -> String {
    let mut line = String::new();
    let mut columns = 0;
    // The text that fits together with the ellipsis.
    let mut fits = 0;
    for c in text.chars() {
        let start = line.len();
        push_escaped(&mut line, c);
        columns += line[start..].chars().map(columns_of).sum::<usize>();
        if columns > width {
            line.truncate(fits);
            line.push('…');
            return line;
        }
        if columns < width {
            fits = line.len();
        }
    }
    line
}

/// Makes a page of several lines safe: line feeds and tabs stay, because they are ours. External text must
/// already be in [one line](one_line) in it.
pub fn page(text: &str) -> Cow<'_, str> {
    replaced(text, |c| c != '\n' && c != '\t' && is_escaped(c), push_escaped)
}

/// Formats `value` as JSON on several lines, escaped by [`escaped_json`].
///
/// # Errors
/// Returns an error if it has no JSON form.
pub fn to_json<T: Serialize + ?Sized>(value: &T) -> Result<String, FormatError> {
    let json = serde_json::to_string_pretty(value).map_err(FormatError::new)?;
    Ok(escaped_json(&json).into_owned())
}

/// Formats `value` as JSON on one line, escaped by [`escaped_json`].
///
/// # Errors
/// Returns an error if it has no JSON form.
pub fn to_json_line<T: Serialize + ?Sized>(value: &T) -> Result<String, FormatError> {
    let json = serde_json::to_string(value).map_err(FormatError::new)?;
    Ok(escaped_json(&json).into_owned())
}

/// Returns the same JSON, with `\u` escapes for characters that must not be printed.
pub fn escaped_json(json: &str) -> Cow<'_, str> {
    // In valid JSON, characters from U+007F on are only in strings, and those below U+0020 only between
    // values.
    replaced(
        json,
        |c| c >= '\u{7f}' && is_escaped(c),
        |escaped, c| {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a String cannot fail.
                let _ = write!(escaped, "\\u{unit:04x}");
            }
        },
    )
}

fn replaced(
    text: &str,
    is_replaced: impl Fn(char) -> bool,
    push: impl Fn(&mut String, char),
) -> Cow<'_, str> {
    if !text.contains(&is_replaced) {
        return text.into();
    }
    let mut new = String::with_capacity(text.len());
    for c in text.chars() {
        if is_replaced(c) {
            push(&mut new, c);
        } else {
            new.push(c);
        }
    }
    new.into()
}

/// Returns a prefix of a digest, or another id, that is enough to recognise it.
pub fn short_digest(digest: &str) -> String {
    shortened_id(digest.strip_prefix("sha256:").unwrap_or(digest))
}

fn shortened_id(id: &str) -> String {
    one_line(&id.chars().take(SHORT).collect::<String>())
}

fn push_escaped(line: &mut String, c: char) {
    if is_escaped(c) {
        // Writing to a String cannot fail.
        let _ = write!(line, "{}", c.escape_default());
    } else {
        line.push(c);
    }
}

/// Returns whether a character must never be printed: it controls a terminal (C0, DEL, C1), is invisible,
/// changes the display of others (Unicode 17: `Bidi_Control`, line and paragraph separators, zero-width ones
/// and tags), or is unassigned.
fn is_escaped(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e0fff}'
        )
        || (u32::from(c) & 0xfffe) == 0xfffe
}

/// Returns an upper bound of the columns of a character: one for most of Latin, Greek and Cyrillic, otherwise
/// two.
fn columns_of(c: char) -> usize {
    if u32::from(c) < 0x1100 || c == '…' { 1 } else { 2 }
}

/// Formats bytes as buildctl does: decimal units, three digits.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = if unit == 0 || value >= 99.95 { 0 } else { 1 + usize::from(value < 9.995) };
    format!("{value:.digits$} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_or_an_eye_would_miss_is_escaped() {
        assert_eq!(one_line("a\n\u{1b}[2J\u{9b}\u{7f}ü"), "a\\n\\u{1b}[2J\\u{9b}\\u{7f}ü");
        assert_eq!(one_line("\u{202e}x\u{200b}\u{ffff}"), "\\u{202e}x\\u{200b}\\u{ffff}");
    }

    #[test]
    fn json_says_the_same_without_characters_that_must_not_be_shown() {
        let text = "\u{1b}\u{7f}\u{9f}\u{2028}\u{202e}\u{feff}\u{e0041}\n ü😀";
        for json in [to_json(&[text]), to_json_line(&[text])] {
            let json = json.unwrap();
            assert!(!json.chars().any(|c| c != '\n' && is_escaped(c)), "{json:?}");
            assert_eq!(serde_json::from_str::<Vec<String>>(&json).unwrap(), [text]);
        }
        assert!(to_json_line(text).unwrap().starts_with(r#""\u001b\u007f\u009f\u2028"#));
        assert!(to_json_line(text).unwrap().contains(r"\udb40\udc41"));
    }

    #[test]
    fn a_page_keeps_its_lines_and_columns_and_nothing_else() {
        assert_eq!(page("a\tb\n\r\u{1b}[m\u{200b}ü\n"), "a\tb\n\\r\\u{1b}[m\\u{200b}ü\n");
        assert!(matches!(page("a\n"), Cow::Borrowed(_)));
    }

    #[test]
    fn what_is_too_long_ends_with_an_ellipsis_and_fits() {
        assert_eq!(shortened("abcdef", 6), "abcdef");
        assert_eq!(shortened("abcdefg", 6), "abcde…");
        assert_eq!(shortened("漢字漢字", 6), "漢字…");
        assert_eq!(shortened("abc\u{7}", 6), "abc…", "an escape is not cut apart");
        assert_eq!(shortened(&"x".repeat(1 << 20), 3), "xx…");
    }

    #[test]
    fn sizes_have_three_digits() {
        let cases = [(0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (9_996, "10.0 kB")];
        for (bytes, text) in cases {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(size(999_600), "1.00 MB");
        assert_eq!(size(25_300_000_000), "25.3 GB");
        assert_eq!(size(u64::MAX), "18446744 TB");
    }
}
