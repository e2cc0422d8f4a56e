//! Text that comes from outside, made fit to be shown, and sizes.

use std::fmt::Write as _;

/// Digests are shortened to as many hex digits as docker shows.
const SHORT: usize = 12;

/// `text` in one line, without what a terminal would obey and without characters that turn the
/// direction of others, so that it can look like nothing but what it is.
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    text.chars().for_each(|c| push_escaped(&mut line, c));
    line
}

/// The same, but no wider than `width` columns: what is longer ends with an ellipsis.
pub fn shortened(text: &str, width: usize) -> String {
    let mut line = String::new();
    let mut columns = 0;
    // What still fits with the ellipsis.
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

/// As much of a digest, or another id, as is needed to recognise it.
pub fn short_digest(digest: &str) -> String {
    shortened_id(digest.strip_prefix("sha256:").unwrap_or(digest))
}

fn shortened_id(id: &str) -> String {
    one_line(&id.chars().take(SHORT).collect::<String>())
}

fn push_escaped(line: &mut String, c: char) {
    if c.is_control() || is_invisible(c) {
        // Writing to a String cannot fail.
        let _ = write!(line, "{}", c.escape_default());
    } else {
        line.push(c);
    }
}

/// Characters that show as nothing, or change how others show (Unicode `Bidi_Control`, line and
/// paragraph separators, zero-width ones, and those that are none).
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{61c}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
    ) || (u32::from(c) & 0xfffe) == 0xfffe
}

/// A bound on the columns that a character takes: most of Latin, Greek and Cyrillic one, the rest two.
fn columns_of(c: char) -> usize {
    if u32::from(c) < 0x1100 || c == '…' { 1 } else { 2 }
}

/// Bytes as buildctl shows them: decimal units, three digits.
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
