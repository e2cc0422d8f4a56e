//! One statement: its instruction, its flags and the rest.

use crate::frontend::Frontend;
use crate::heredoc::Heredoc;
use crate::json::{Array, array};
use crate::text::{decode, is_space_byte, split_first_blanks};

/// An instruction with its arguments, before they are parsed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Statement {
    /// The first line, from 1.
    pub(crate) line: usize,
    /// The column in it, from 1.
    pub(crate) column: usize,
    /// The last line, of a heredoc if there is one.
    pub(crate) end_line: usize,
    /// All lines, joined, without heredocs.
    pub(crate) text: String,
    /// The instruction, in lower case.
    pub(crate) name: String,
    /// The leading words that begin with `--`, without quotes and escapes.
    pub(crate) flags: Vec<String>,
    /// What follows them, without blanks around it.
    pub(crate) rest: String,
    pub(crate) heredocs: Vec<Heredoc>,
}

impl Statement {
    /// Splits a joined line (`splitCommand` in `parser/split_command.go`).
    pub(crate) fn split(text: String, escape: char, frontend: Frontend) -> Self {
        let (name, arguments) = split_first_blanks(text.trim()).unwrap_or((text.trim(), ""));
        // Earlier releases always take a backslash here.
        let escape = if frontend.since(15) { escape } else { '\\' };
        let (flags, rest) = flags(arguments, escape);
        let (name, rest) = (name.to_lowercase(), rest.trim().to_owned());
        Self { name, flags, rest, text, ..Self::default() }
    }

    /// Returns the instruction behind `ONBUILD`.
    pub(crate) fn trigger(&self, escape: char, frontend: Frontend) -> Self {
        let split = Self::split(self.rest.clone(), escape, frontend);
        Self { line: self.line, column: self.column, end_line: self.end_line, ..split }
    }

    pub(crate) fn may_have_heredocs(&self) -> bool {
        let reads = |name: &str, rest: &str| {
            matches!(name, "add" | "copy" | "run") && !matches!(array(rest), Array::Strings(_))
        };
        if !self.text.contains("<<") {
            return false;
        }
        if self.name != "onbuild" {
            return reads(&self.name, &self.rest);
        }
        // Neither the escape character nor the release matters for these two parts, but for flags.
        let trigger = self.trigger('\\', Frontend::OLDEST);
        reads(&trigger.name, &trigger.rest)
    }
}

/// Takes the leading flags from the arguments. Each byte is taken as a character, so that other characters
/// than ASCII end up as several (`extractBuilderFlags` in `parser/split_command.go`).
fn flags(arguments: &str, escape: char) -> (Vec<String>, String) {
    let bytes = arguments.as_bytes();
    let mut flags = Vec::new();
    let mut at = 0;
    loop {
        while bytes.get(at).is_some_and(|&byte| is_space_byte(byte)) {
            at += 1;
        }
        if !bytes[at..].starts_with(b"--") {
            return (flags, decode(&bytes[at..]));
        }
        let (flag, end) = flag(bytes, at, escape);
        at = end;
        if flag == "--" {
            return (flags, decode(&bytes[at..]));
        }
        flags.push(flag);
        if at >= bytes.len() {
            return (flags, String::new());
        }
    }
}

/// Reads the flag at `at`, and returns the index behind it.
fn flag(bytes: &[u8], mut at: usize, escape: char) -> (String, usize) {
    let mut flag = String::new();
    let mut quote = None;
    while let Some(&byte) = bytes.get(at) {
        let mut c = char::from(byte);
        at += 1;
        match quote {
            None if is_space_byte(byte) => return (flag, at - 1),
            None if matches!(c, '\'' | '"') => {
                quote = Some(c);
                continue;
            }
            Some(end) if c == end => {
                quote = None;
                continue;
            }
            _ => {}
        }
        if c == escape {
            let Some(&escaped) = bytes.get(at) else {
                quote = None;
                continue;
            };
            c = char::from(escaped);
            at += 1;
        }
        flag.push(c);
    }
    (flag, at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> (String, Vec<String>, String) {
        let statement = Statement::split(text.to_owned(), '\\', Frontend::NEWEST);
        (statement.name, statement.flags, statement.rest)
    }

    #[test]
    fn flags_come_first() {
        let expected = |name: &str, flags: &[&str], rest: &str| {
            let flags = flags.iter().map(|&flag| flag.to_owned()).collect();
            (name.to_owned(), flags, rest.to_owned())
        };
        assert_eq!(split("RUN  a  b "), expected("run", &[], "a  b"));
        assert_eq!(split("Run --a=1\t--b c --d"), expected("run", &["--a=1", "--b"], "c --d"));
        assert_eq!(split(r#"RUN --a="b c"d\ e f"#), expected("run", &["--a=b cd e"], "f"));
        assert_eq!(split("RUN -- --a b"), expected("run", &[], "--a b"));
        assert_eq!(split("RUN --a --"), expected("run", &["--a"], ""));
        assert_eq!(split("RUN --a\\"), expected("run", &["--a"], ""));
        assert_eq!(split("RUN"), expected("run", &[], ""));
        assert_eq!(split("RUN - a"), expected("run", &[], "- a"));
        // Byte by byte.
        assert_eq!(split("COPY --from=é a"), expected("copy", &["--from=Ã©"], "a"));
    }

    #[test]
    fn a_space_inside_a_character_ends_a_flag() {
        // A byte of these characters is U+00A0 for Go.
        let (_, flags, rest) = split("COPY --from=à a");
        assert_eq!((&flags[0][..], &rest[..]), ("--from=Ã", "a"));
        let (_, flags, rest) = split("COPY --from=ࠀa");
        assert_eq!((&flags[0][..], &rest[..]), ("--from=à", "\u{fffd}a"));
    }
}
