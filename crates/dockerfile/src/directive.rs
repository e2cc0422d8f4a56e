//! Parser directives: comments before everything else that say how the file is to be read.

use crate::error::Reason;

/// The names of directives (`parser/directives.go`).
const NAMES: [&str; 3] = ["syntax", "escape", "check"];

/// Reads directives, line by line, until a line is none.
#[derive(Debug, Default)]
pub(crate) struct Directives {
    done: bool,
    seen: [bool; NAMES.len()],
}

/// A directive.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Directive<'a> {
    pub(crate) name: &'static str,
    pub(crate) value: &'a str,
}

impl Directives {
    /// Reads a line without blanks around it.
    pub(crate) fn read<'a>(&mut self, line: &'a str) -> Result<Option<Directive<'a>>, Reason> {
        if self.done {
            return Ok(None);
        }
        let found = line.strip_prefix('#').and_then(directive);
        let Some((index, value)) = found else {
            self.done = true;
            return Ok(None);
        };
        let name = NAMES[index];
        if std::mem::replace(&mut self.seen[index], true) {
            return Err(Reason::RepeatedDirective { name });
        }
        Ok(Some(Directive { name, value }))
    }
}

/// Returns the index of the name and the value of `name = value`.
fn directive(text: &str) -> Option<(usize, &str)> {
    let text = text.trim_start();
    let end = text.find(|c: char| !c.is_ascii_alphanumeric())?;
    let (name, rest) = text.split_at(end);
    let rest = rest.trim_start_matches(is_space).strip_prefix('=')?;
    let index = NAMES.iter().position(|known| known.eq_ignore_ascii_case(name))?;
    let value = rest.trim_matches(is_space);
    // A value of blanks only is one blank: the expression wants a character.
    let value = if value.is_empty() { rest.get(rest.len().checked_sub(1)?..)? } else { value };
    Some((index, value))
}

/// `\s` of Go's regular expressions.
fn is_space(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\u{c}' | '\r' | ' ')
}

/// Returns the frontend image that the file asks for, as BuildKit finds it (`DetectSyntax` in
/// `parser/directives.go`): in a directive, also behind `//`, or as a member of an object in JSON. `None` if it
/// asks for none.
///
/// ```
/// use dockerfile::syntax;
///
/// assert_eq!(syntax(b"# syntax = docker/dockerfile:1 \nFROM a"), Some("docker/dockerfile:1".to_owned()));
/// assert_eq!(syntax(b"#!/usr/bin/env x\n// syntax=example.com/other cmd"), Some("example.com/other".to_owned()));
/// assert_eq!(syntax(b"FROM a"), None);
/// ```
pub fn syntax(content: &[u8]) -> Option<String> {
    let content = content.strip_prefix(crate::lines::BOM).unwrap_or(content);
    let content = if content.starts_with(b"#!") {
        let end =
            content.iter().position(|&byte| byte == b'\n').map_or(content.len(), |end| end + 1);
        &content[end..]
    } else {
        content
    };
    let first_word = |value: &str| value.split(' ').next().unwrap_or_default().to_owned();
    for comment in ["#", "//"] {
        for line in content.split(|&byte| byte == b'\n') {
            let line = crate::text::decode(line);
            let Some(text) = line.strip_prefix(comment) else { break };
            match directive(text) {
                Some((0, value)) => return Some(first_word(value)),
                Some(_) => {}
                None => break,
            }
        }
    }
    let json: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(content).ok()?;
    Some(json.get(NAMES[0])?.as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&'static str]) -> Vec<Option<(&'static str, &'static str)>> {
        let mut directives = Directives::default();
        let read = |line: &&'static str| directives.read(line).unwrap().map(|d| (d.name, d.value));
        lines.iter().map(read).collect()
    }

    #[test]
    fn directives_end_at_the_first_other_line() {
        assert_eq!(read(&["#escape=`"]), [Some(("escape", "`"))]);
        assert_eq!(read(&["#  Escape =  ` "]), [Some(("escape", "`"))]);
        let lines = ["# syntax=a b", "# escape=`"];
        assert_eq!(read(&lines), [Some(("syntax", "a b")), Some(("escape", "`"))]);
        assert_eq!(read(&["# a comment", "# escape=`"]), [None, None]);
        assert_eq!(read(&["", "# escape=`"]), [None, None]);
        assert_eq!(read(&["# other=`", "# escape=`"]), [None, None]);
        assert_eq!(read(&["# escape="]), [None]);
        assert_eq!(read(&["# escape=  "]), [Some(("escape", " "))]);
        assert_eq!(read(&["# escape x=`"]), [None]);
    }

    #[test]
    fn a_directive_cannot_be_repeated() {
        let mut directives = Directives::default();
        directives.read("# escape=`").unwrap();
        let error = directives.read("#escape=`").unwrap_err();
        assert_eq!(error, Reason::RepeatedDirective { name: "escape" });
    }
}
