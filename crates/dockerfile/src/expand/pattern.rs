//! Patterns in `${name#pattern}`, `${name%pattern}` and `${name/pattern/replacement}`.

use regex::{Regex, RegexBuilder};

/// Which end of the value a pattern is taken from, and how much of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trim {
    /// The end, not the start.
    pub(super) suffix: bool,
    /// The longest match, not the shortest.
    pub(super) longest: bool,
}

/// Returns the regular expression of a pattern. `*` and `?` match anything but a newline; a backslash makes `*`,
/// `?` and itself literal, and nothing else but `}` and `/` (`convertShellPatternToRegex` in `shell/lex.go`).
fn regex(pattern: &str, longest: bool, anchored: bool) -> Result<Regex, String> {
    let invalid =
        |problem: String| format!("invalid pattern ({pattern}) in substitution: {problem}");
    let mut expression = String::from(if anchored { "^" } else { "" });
    let mut chars = pattern.chars().peekable();
    let mut literal = [0; 4];
    while let Some(c) = chars.next() {
        let c = match c {
            '*' => {
                expression.push_str(if longest { ".*" } else { ".*?" });
                continue;
            }
            '?' => {
                expression.push('.');
                continue;
            }
            '\\' if matches!(chars.peek(), Some('}' | '/')) => continue,
            '\\' => match chars.next() {
                Some(escaped @ ('*' | '?' | '\\')) => escaped,
                Some(other) => return Err(invalid(format!("invalid escape '\\{other}'"))),
                None => return Err(invalid("nothing is escaped at its end".to_owned())),
            },
            c => c,
        };
        expression.push_str(&regex::escape(c.encode_utf8(&mut literal)));
    }
    let regex = RegexBuilder::new(&expression).size_limit(MAX_PROGRAM).build();
    regex.map_err(|_| invalid("it is too long".to_owned()))
}

/// Maximum size of a compiled pattern in bytes.
const MAX_PROGRAM: usize = 1 << 20;

/// Removes what matches from one end of the value.
pub(super) fn trim(value: &str, pattern: &str, trim: Trim) -> Result<String, String> {
    if !trim.suffix {
        let found = regex(pattern, trim.longest, true)?.find(value).map_or(0, |found| found.end());
        return Ok(value[found..].to_owned());
    }
    // The shortest suffix is the shortest prefix of the reversed value.
    let reversed: String = value.chars().rev().collect();
    let regex = regex(&reverse(pattern), trim.longest, true)?;
    let found = regex.find(&reversed).map_or(0, |found| found.end());
    Ok(reversed[found..].chars().rev().collect())
}

/// Reverses a pattern. A backslash stays before the character that it escapes.
fn reverse(pattern: &str) -> String {
    let mut groups = Vec::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        groups.push((c, if c == '\\' { chars.next() } else { None }));
    }
    let reversed = groups.into_iter().rev();
    reversed.flat_map(|(first, second)| [Some(first), second]).flatten().collect()
}

/// Replaces the first match by a text, or all matches by what a template of Go's `regexp` makes of each.
pub(super) fn replace(
    value: &str,
    pattern: &str,
    replacement: &str,
    all: bool,
) -> Result<String, String> {
    let regex = regex(pattern, true, false)?;
    let mut replaced = String::new();
    let mut end = 0;
    for found in regex.find_iter(value).take(if all { usize::MAX } else { 1 }) {
        replaced.push_str(&value[end..found.start()]);
        match all {
            true => push_template(&mut replaced, replacement, found.as_str()),
            false => replaced.push_str(replacement),
        }
        end = found.end();
    }
    replaced.push_str(&value[end..]);
    Ok(replaced)
}

/// Appends what a template makes of a match (Go `regexp.Expand`). Only group 0 exists.
fn push_template(text: &mut String, mut template: &str, found: &str) {
    while let Some((before, rest)) = template.split_once('$') {
        text.push_str(before);
        if let Some(rest) = rest.strip_prefix('$') {
            text.push('$');
            template = rest;
        } else if let Some((name, rest)) = template_name(rest) {
            // A number with leading zeros is a name, and no group has a name.
            if name == "0" {
                text.push_str(found);
            }
            template = rest;
        } else {
            text.push('$');
            template = rest;
        }
    }
    text.push_str(template);
}

/// Reads the name of a group behind `$`, and returns what follows.
fn template_name(text: &str) -> Option<(&str, &str)> {
    let (text, braced) = text.strip_prefix('{').map_or((text, false), |rest| (rest, true));
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let rest = if braced { rest.strip_prefix('}')? } else { rest };
    (!name.is_empty()).then_some((name, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trimmed(value: &str, operator: &str, pattern: &str) -> String {
        let trim = Trim { suffix: operator.starts_with('%'), longest: operator.len() == 2 };
        super::trim(value, pattern, trim).unwrap()
    }

    #[test]
    fn prefixes_and_suffixes_are_removed() {
        assert_eq!(trimmed("a/b/c", "#", "*/"), "b/c");
        assert_eq!(trimmed("a/b/c", "##", "*/"), "c");
        assert_eq!(trimmed("a/b/c", "%", "/*"), "a/b");
        assert_eq!(trimmed("a/b/c", "%%", "/*"), "a");
        assert_eq!(trimmed("a.b", "%", "."), "a.b");
        assert_eq!(trimmed("a*b", "#", r"a\*"), "b");
        assert_eq!(trimmed("a\nb", "##", "*"), "\nb");
        assert_eq!(trimmed("a}b", "#", r"a\}"), "b");
        assert!(regex(r"\x", true, true).unwrap_err().contains("invalid escape '\\x'"));
        assert!(regex("\\", true, true).is_err());
    }

    #[test]
    fn matches_are_replaced() {
        let one = |value, pattern, with| replace(value, pattern, with, false).unwrap();
        let all = |value, pattern, with| replace(value, pattern, with, true).unwrap();
        assert_eq!(one("a-b-c", "-", "$0"), "a$0b-c");
        assert_eq!(all("a-b-c", "-", "+"), "a+b+c");
        assert_eq!(all("a-b", "-", "$0$0"), "a--b");
        assert_eq!(all("a-b", "-", "$$1$1${x}$"), "a$1$b");
        assert_eq!(all("a-b", "-", r"\$1"), r"a\b");
        // An empty match right behind a match does not count.
        assert_eq!(all("abc", "*", "-"), "-");
        assert_eq!(all("ab", "", "-"), "-a-b-");
    }
}
