//! Lines: what is joined, what is dropped, and the texts of heredocs.

use crate::directive::Directives;
use crate::error::{ParseError, Reason};
use crate::frontend::Frontend;
use crate::heredoc::{self, Heredoc};
use crate::limits::Budget;
use crate::statement::Statement;
use crate::text::decode;

/// The byte order mark in UTF-8.
pub(crate) const BOM: &[u8] = b"\xef\xbb\xbf";

/// Size of the longest line that frontends read, with the newline (`bufio.MaxScanTokenSize`).
const LONGEST_LINE: usize = 64 << 10;

/// The statements of a file, and what its directives say.
#[derive(Debug)]
pub(crate) struct Lines {
    pub(crate) statements: Vec<Statement>,
    pub(crate) escape: char,
}

/// Reads physical lines with their ends.
struct Reader<'a> {
    rest: &'a [u8],
    /// Number of the line that was read last, from 1.
    number: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<Option<&'a [u8]>, ParseError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let newline = self.rest.iter().position(|&byte| byte == b'\n');
        let end = newline.map_or(self.rest.len(), |at| at + 1);
        let (line, rest) = self.rest.split_at(end);
        self.number += 1;
        if line.len() + usize::from(newline.is_none()) > LONGEST_LINE {
            let reason = Reason::LongLine;
            return Err(ParseError { line: self.number, column: 1, reason });
        }
        self.rest = rest;
        Ok(Some(line))
    }
}

/// Splits a file into statements (`Parse` in `parser/parser.go`).
pub(crate) fn statements(
    content: &[u8],
    frontend: Frontend,
    budget: &mut Budget,
) -> Result<Lines, ParseError> {
    let mut reader = Reader { rest: content.strip_prefix(BOM).unwrap_or(content), number: 0 };
    let mut directives = Directives::default();
    let mut lines = Lines { statements: Vec::new(), escape: '\\' };
    while let Some(bytes) = reader.next()? {
        let line = reader.number;
        let at = |column, reason| ParseError { line, column, reason };
        let text = decode(without_newline(bytes));
        let trimmed = text.trim_start();
        let column = text.chars().count() - trimmed.chars().count() + 1;
        let directive = directives.read(trimmed).map_err(|reason| at(column, reason))?;
        if let Some(directive) = directive.filter(|directive| directive.name == "escape") {
            lines.escape = escape(directive.value).map_err(|reason| at(column, reason))?;
        }
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        let mut joined = String::new();
        let mut continues = push_line(&mut joined, trimmed, lines.escape);
        while continues {
            let Some(bytes) = reader.next()? else { break };
            let text = decode(without_newline(bytes));
            if matches!(text.trim_start().chars().next(), None | Some('#')) {
                continue;
            }
            continues = push_line(&mut joined, &text, lines.escape);
        }
        budget.instruction().map_err(|reason| at(column, reason))?;
        let mut statement = Statement::split(joined, lines.escape, frontend);
        (statement.line, statement.column) = (line, column);
        if statement.may_have_heredocs() {
            let found = heredoc::of_line(&statement.text, frontend);
            let found =
                found.map_err(|problem| at(column, Reason::word(&statement.text, problem)))?;
            for mut heredoc in found {
                if !read_content(&mut heredoc, &mut reader)? {
                    return Err(at(column, Reason::UnterminatedHeredoc));
                }
                statement.heredocs.push(heredoc);
            }
        }
        statement.end_line = reader.number;
        lines.statements.push(statement);
    }
    if lines.statements.is_empty() {
        let reason = Reason::NoInstructions;
        return Err(ParseError { line: reader.number.max(1), column: 1, reason });
    }
    Ok(lines)
}

fn escape(token: &str) -> Result<char, Reason> {
    match token {
        "\\" => Ok('\\'),
        "`" => Ok('`'),
        _ => Err(Reason::EscapeToken { token: token.chars().take(100).collect() }),
    }
}

fn without_newline(mut line: &[u8]) -> &[u8] {
    while let [rest @ .., b'\n' | b'\r'] = line {
        line = rest;
    }
    line
}

/// Appends the line, without an escape character that ends it and the blanks behind that. Returns whether
/// there was one. Two of them in a row do not continue the line.
fn push_line(joined: &mut String, line: &str, escape: char) -> bool {
    let trimmed = line.trim_end_matches([' ', '\t']);
    match trimmed.strip_suffix(escape) {
        Some(rest) if !rest.ends_with(escape) => {
            joined.push_str(rest);
            true
        }
        _ => {
            joined.push_str(line);
            false
        }
    }
}

/// Reads the lines up to the terminator. Returns whether there is one.
fn read_content(heredoc: &mut Heredoc, reader: &mut Reader<'_>) -> Result<bool, ParseError> {
    while let Some(line) = reader.next()? {
        let mut end = without_newline(line);
        if heredoc.chomp {
            while let [b'\t', rest @ ..] = end {
                end = rest;
            }
        }
        if end == heredoc.name.as_bytes() {
            return Ok(true);
        }
        heredoc.content.extend_from_slice(line);
    }
    Ok(false)
}
