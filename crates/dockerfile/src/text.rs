//! Text as Go reads it.

/// Decodes UTF-8. Each byte that is not part of a character becomes U+FFFD, as in Go.
pub(crate) fn decode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    text
}

/// Returns whether a byte alone is a space for Go: `unicode.IsSpace(rune(b))`, where U+0085 and U+00A0 count.
pub(crate) fn is_space_byte(byte: u8) -> bool {
    char::from(byte).is_whitespace()
}

/// Returns whether the character separates words in a line (`reWhitespace` in `parser/parser.go`).
pub(crate) fn is_blank(c: char) -> bool {
    matches!(c, '\t' | '\u{b}' | '\u{c}' | '\r' | ' ')
}

/// Splits at each run of blanks. Leading and trailing runs give empty parts, as in `regexp.Split`.
pub(crate) fn split_blanks(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(is_blank) {
        parts.push(&rest[..start]);
        rest = rest[start..].trim_start_matches(is_blank);
    }
    parts.push(rest);
    parts
}

/// Splits at the first run of blanks.
pub(crate) fn split_first_blanks(text: &str) -> Option<(&str, &str)> {
    let start = text.find(is_blank)?;
    Some((&text[..start], text[start..].trim_start_matches(is_blank)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wrong_byte_is_one_character() {
        assert_eq!(decode(b"a\xe2\x82b\xff"), "a\u{fffd}\u{fffd}b\u{fffd}");
        assert_eq!(decode("aé€".as_bytes()), "aé€");
    }

    #[test]
    fn runs_of_blanks_separate() {
        assert_eq!(split_blanks("a \t b\r\u{b}c"), ["a", "b", "c"]);
        assert_eq!(split_blanks(" a "), ["", "a", ""]);
        assert_eq!(split_blanks("a\u{a0}b"), ["a\u{a0}b"]);
        assert_eq!(split_first_blanks("a  b c"), Some(("a", "b c")));
        assert_eq!(split_first_blanks("a"), None);
    }
}
