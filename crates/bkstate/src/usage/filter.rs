//! Filters on records, as in `buildctl du --filter` and `docker buildx du --filter`.
//!
//! ```text
//! filter   := selector ("," selector)*       all must match
//! selector := field [operator value]         without a value: whether the field has one
//! field    := id | parents | description | inuse | mutable | immutable | type | shared | private
//! operator := "==" | "!=" | "~=" | "="       equal, not equal, regular expression, see below
//! value    := quoted | [^\s,]+               quoted in "", of ~= in // or || too
//! ```
//! The operator `=` is buildx's, which turns it into `~=` for `id` and `==` for the others. Source:
//! containerd v2.3.3 `pkg/filters`, BuildKit v0.32.2 `cache/manager.go` `adaptUsageInfo`, buildx v0.35.0
//! `commands/prune.go` `toBuildkitPruneInfo`.
//!
//! Filters that the daemon accepts but never matches are rejected: unknown fields, and values of fields
//! without a value.

use std::str::{Chars, FromStr};

use codec::FormatError;
use regex::Regex;

use super::Usage;

/// One filter. Needs the feature `filters`.
#[derive(Debug, Clone)]
pub struct Filter {
    selectors: Vec<Selector>,
    /// Whether it uses the operator of buildx.
    is_buildx: bool,
}

/// Several filters. Needs the feature `filters`.
///
/// A record must match one of them, as in buildctl. Those in the form of buildx count as one filter that
/// requires them all, as in buildx. Without filters, every record matches.
///
/// ```
/// use bkstate::usage::{Filter, Filters, ParseFilterError};
///
/// let none = Filters::new([]);
/// assert!(none.is_empty());
/// let filters = ["type==regular,!shared", "id~=^nkb3"].map(str::parse::<Filter>);
/// assert!(matches!(filters[0], Err(ParseFilterError::Expected { .. })), "there is no not");
/// assert!(filters[1].is_ok());
/// ```
#[derive(Debug, Clone, Default)]
pub struct Filters {
    any: Vec<Vec<Selector>>,
}

/// Why a text is not a filter. Needs the feature `filters`.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseFilterError {
    /// Something is missing or misplaced.
    #[error("{filter:?} lacks {expected} before {rest:?}")]
    Expected {
        /// The expected token.
        expected: &'static str,
        /// The filter, shortened to 100 characters.
        filter: String,
        /// The text found instead, shortened likewise.
        rest: String,
    },
    /// The field does not exist.
    #[error(
        "{field:?} is not a field of a record; there are id, parents, description, type, and \
         without a value inuse, mutable, immutable, shared and private"
    )]
    Field {
        /// The name, shortened to 100 characters.
        field: String,
    },
    /// The field is either present or not, and has no value to compare.
    #[error("{field} has no value; write {field} alone")]
    NoValue {
        /// The field.
        field: &'static str,
    },
    /// The value of `~=` is not a regular expression.
    #[error("{expression:?} is not a regular expression")]
    Regex {
        /// The value, shortened to 100 characters.
        expression: String,
        /// The cause.
        #[source]
        source: FormatError,
    },
}

#[derive(Debug, Clone)]
struct Selector {
    field: Field,
    test: Test,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Id,
    Parents,
    Description,
    InUse,
    Mutable,
    Immutable,
    Type,
    Shared,
    Private,
}

const FIELDS: [(&str, Field); 9] = [
    ("id", Field::Id),
    ("parents", Field::Parents),
    ("description", Field::Description),
    ("inuse", Field::InUse),
    ("mutable", Field::Mutable),
    ("immutable", Field::Immutable),
    ("type", Field::Type),
    ("shared", Field::Shared),
    ("private", Field::Private),
];

#[derive(Debug, Clone)]
enum Test {
    Present,
    Equal(String),
    NotEqual(String),
    Matches(Regex),
}

impl Field {
    fn has_value(self) -> bool {
        matches!(self, Self::Id | Self::Parents | Self::Description | Self::Type)
    }

    /// Returns the value of the field, and whether the field is present.
    fn of(self, usage: &Usage) -> (String, bool) {
        let text = |text: &str| (text.to_owned(), !text.is_empty());
        let flag = |is: bool| (String::new(), is);
        match self {
            Self::Id => text(usage.id.as_str()),
            Self::Parents => {
                let parents: Vec<_> = usage.parents.iter().map(|parent| parent.as_str()).collect();
                text(&parents.join(";"))
            }
            Self::Description => text(&usage.description),
            Self::InUse => flag(usage.in_use),
            Self::Mutable => flag(usage.mutable),
            Self::Immutable => flag(!usage.mutable),
            Self::Type => text(&usage.record_type),
            Self::Shared => flag(usage.shared),
            Self::Private => flag(!usage.shared),
        }
    }
}

impl Selector {
    fn matches(&self, usage: &Usage) -> bool {
        let (value, present) = self.field.of(usage);
        match &self.test {
            Test::Present => present,
            Test::Equal(expected) => present && value == *expected,
            Test::NotEqual(expected) => value != *expected,
            Test::Matches(regex) => regex.is_match(&value),
        }
    }
}

impl Filters {
    /// Combines filters.
    pub fn new(filters: impl IntoIterator<Item = Filter>) -> Self {
        let mut any = Vec::new();
        let mut buildx = Vec::new();
        for filter in filters {
            if filter.is_buildx {
                buildx.extend(filter.selectors);
            } else {
                any.push(filter.selectors);
            }
        }
        if !buildx.is_empty() {
            any.push(buildx);
        }
        Self { any }
    }

    /// Returns whether there are no filters.
    pub fn is_empty(&self) -> bool {
        self.any.is_empty()
    }

    /// Returns whether `usage` matches.
    pub fn matches(&self, usage: &Usage) -> bool {
        let all = |selectors: &Vec<Selector>| selectors.iter().all(|each| each.matches(usage));
        self.any.is_empty() || self.any.iter().any(all)
    }
}

impl FromStr for Filter {
    type Err = ParseFilterError;

    fn from_str(text: &str) -> Result<Self, ParseFilterError> {
        let mut filter = Self { selectors: Vec::new(), is_buildx: false };
        if text.is_empty() {
            return Ok(filter);
        }
        let mut scanner = Scanner { text, rest: text.chars() };
        loop {
            let selector = filter.selector(&mut scanner)?;
            filter.selectors.push(selector);
            scanner.skip_spaces();
            if scanner.rest.as_str().is_empty() {
                return Ok(filter);
            }
            if !scanner.take(',') {
                return Err(scanner.expected("a comma"));
            }
        }
    }
}

impl Filter {
    fn selector(&mut self, scanner: &mut Scanner<'_>) -> Result<Selector, ParseFilterError> {
        let name = scanner.while_in(|c| c.is_ascii_alphanumeric() || c == '_');
        if name.is_empty() {
            return Err(scanner.expected("the name of a field"));
        }
        let known = FIELDS.into_iter().find(|(known, _)| *known == name);
        let (name, field) =
            known.ok_or_else(|| ParseFilterError::Field { field: shortened(name) })?;
        let operator = scanner.while_in(|c| matches!(c, '=' | '!' | '~'));
        if operator.is_empty() {
            return Ok(Selector { field, test: Test::Present });
        }
        let is_regex = operator == "~=" || operator == "=" && field == Field::Id;
        if !matches!(operator, "==" | "!=" | "~=" | "=") {
            return Err(scanner.expected("one of the operators ==, != and ~="));
        }
        self.is_buildx |= operator == "=";
        let value = scanner.value(operator == "~=")?;
        if !field.has_value() {
            return Err(ParseFilterError::NoValue { field: name });
        }
        let test = match operator {
            _ if is_regex => {
                Test::Matches(Regex::new(&value).map_err(|source| ParseFilterError::Regex {
                    expression: shortened(&value),
                    source: FormatError::new(source),
                })?)
            }
            "!=" => Test::NotEqual(value),
            _ => Test::Equal(value),
        };
        Ok(Selector { field, test })
    }
}

struct Scanner<'t> {
    text: &'t str,
    rest: Chars<'t>,
}

impl<'t> Scanner<'t> {
    fn expected(&self, expected: &'static str) -> ParseFilterError {
        let (filter, rest) = (shortened(self.text), shortened(self.rest.as_str()));
        ParseFilterError::Expected { expected, filter, rest }
    }

    fn skip_spaces(&mut self) {
        self.rest = self.rest.as_str().trim_start().chars();
    }

    fn take(&mut self, wanted: char) -> bool {
        let found = self.rest.as_str().strip_prefix(wanted);
        if let Some(rest) = found {
            self.rest = rest.chars();
        }
        found.is_some()
    }

    /// Skips spaces and returns the following characters for which `belongs` is true.
    fn while_in(&mut self, belongs: impl Fn(char) -> bool) -> &'t str {
        self.skip_spaces();
        let text = self.rest.as_str();
        let (taken, rest) = text.split_at(text.find(|c| !belongs(c)).unwrap_or(text.len()));
        self.rest = rest.chars();
        taken
    }

    fn value(&mut self, is_regex: bool) -> Result<String, ParseFilterError> {
        self.skip_spaces();
        let first = self.rest.as_str().chars().next();
        match first {
            Some(quote @ '"') => self.quoted(quote),
            Some(quote @ ('/' | '|')) if is_regex => self.quoted(quote),
            _ => {
                let value = self.while_in(|c| c != ',' && !c.is_whitespace());
                if value.is_empty() {
                    return Err(self.expected("a value"));
                }
                Ok(value.to_owned())
            }
        }
    }

    /// Parses a quoted value, with Go's escapes.
    fn quoted(&mut self, quote: char) -> Result<String, ParseFilterError> {
        const BACKSLASHED: &str =
            "one of the characters abfnrtvxuU\\, an octal number or the quote";
        let mut value = String::new();
        self.take(quote);
        loop {
            let c = match self.rest.next() {
                None | Some('\n') => return Err(self.expected("the quote at the end")),
                Some(c) if c == quote => return Ok(value),
                Some('\\') => {
                    let escaped = match self.rest.next() {
                        Some('a') => Some('\x07'),
                        Some('b') => Some('\x08'),
                        Some('f') => Some('\x0c'),
                        Some('n') => Some('\n'),
                        Some('r') => Some('\r'),
                        Some('t') => Some('\t'),
                        Some('v') => Some('\x0b'),
                        Some('\\') => Some('\\'),
                        Some(c) if c == quote => Some(c),
                        Some('x') => self.number("", 2, 16).filter(char::is_ascii),
                        Some('u') => self.number("", 4, 16),
                        Some('U') => self.number("", 8, 16),
                        Some(c @ '0'..='7') => {
                            self.number(c.encode_utf8(&mut [0; 4]), 2, 8).filter(char::is_ascii)
                        }
                        _ => None,
                    };
                    escaped.ok_or_else(|| self.expected(BACKSLASHED))?
                }
                Some(c) => c,
            };
            value.push(c);
        }
    }

    /// Parses the character whose number is `first` and the next `digits` digits.
    fn number(&mut self, first: &str, digits: usize, radix: u32) -> Option<char> {
        let text = self.rest.as_str().get(..digits)?;
        self.rest = self.rest.as_str().get(digits..)?.chars();
        char::from_u32(u32::from_str_radix(&format!("{first}{text}"), radix).ok()?)
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(100).collect()
}
