//! Words: quotes, escapes and variables (`shell/lex.go`).

mod pattern;

use std::iter::Peekable;
use std::str::Chars;
use std::sync::LazyLock;

use regex::Regex;

use crate::error::Reason;
use crate::frontend::Frontend;
use crate::limits::Budget;
use pattern::Trim;

/// Maximum depth of words within words, as in `${A:-${B:-…}}`.
const MAX_DEPTH: usize = 100;

/// Where values come from.
pub(crate) trait Variables {
    /// Returns the value of a variable, if it is set.
    fn get(&self, name: &str) -> Option<&str>;
}

/// No variable is set.
#[derive(Debug)]
struct NoVariables;

impl Variables for NoVariables {
    fn get(&self, _: &str) -> Option<&str> {
        None
    }
}

/// How words are expanded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expander {
    frontend: Frontend,
    escape: char,
    /// Quotes stay.
    raw_quotes: bool,
    /// Escape characters stay.
    raw_escapes: bool,
    /// Quotes are ordinary characters.
    skip_quotes: bool,
    /// Variables that are not set stay.
    keep_unset: bool,
}

impl Expander {
    /// Expands the words of instructions.
    pub(crate) fn new(frontend: Frontend, escape: char) -> Self {
        let (raw_quotes, raw_escapes) = (false, false);
        Self { frontend, escape, raw_quotes, raw_escapes, skip_quotes: false, keep_unset: false }
    }

    /// Expands the texts of heredocs.
    pub(crate) fn for_texts(frontend: Frontend) -> Self {
        Self { skip_quotes: true, ..Self::new(frontend, '\\') }
    }

    /// Splits lines to search for heredocs.
    pub(crate) fn for_heredocs(frontend: Frontend) -> Self {
        let names = Self::for_heredoc_name(frontend);
        Self { raw_quotes: true, raw_escapes: true, ..names }
    }

    /// Reads the name of a heredoc.
    pub(crate) fn for_heredoc_name(frontend: Frontend) -> Self {
        Self { keep_unset: true, ..Self::new(frontend, '\\') }
    }

    /// Returns the same, but quotes stay.
    pub(crate) fn with_quotes(self) -> Self {
        Self { raw_quotes: true, ..self }
    }

    /// Expands one word.
    ///
    /// # Errors
    /// Returns an error if it is malformed or wants a variable that is not set, or at a limit.
    pub(crate) fn expand(
        self,
        word: &str,
        variables: &dyn Variables,
        budget: &mut Budget,
    ) -> Result<String, Reason> {
        // The most common words.
        if !word.contains([self.escape, '$', '\'', '"', '\u{feff}']) {
            return Ok(word.to_owned());
        }
        let mut run = Run::new(self, word, variables, Some(budget), false);
        run.until(None, self.raw_escapes, false).map_err(|stop| match stop {
            Stop::Word(problem) => Reason::word(word, problem),
            Stop::Limit(reason) => reason,
        })
    }

    /// Splits a text into words, as a shell does. No variable is set.
    pub(crate) fn split(self, text: &str) -> Result<Vec<String>, String> {
        let mut run = Run::new(self, text, &NoVariables, None, true);
        match run.until(None, self.raw_escapes, false) {
            Ok(_) => Ok(run.words),
            Err(Stop::Word(problem)) => Err(problem),
            Err(Stop::Limit(reason)) => Err(reason.to_string()),
        }
    }
}

/// Why an expansion ends early.
enum Stop {
    Word(String),
    Limit(Reason),
}

impl From<String> for Stop {
    fn from(problem: String) -> Self {
        Self::Word(problem)
    }
}

fn wrong<T>(problem: &str) -> Result<T, Stop> {
    Err(Stop::Word(problem.to_owned()))
}

/// One expansion.
struct Run<'a> {
    expander: Expander,
    chars: Peekable<Chars<'a>>,
    variables: &'a dyn Variables,
    budget: Option<&'a mut Budget>,
    depth: usize,
    /// Whether words are collected.
    splits: bool,
    words: Vec<String>,
    /// The word at hand. Words within the word use it too, and clear it: so does BuildKit.
    word: String,
}

impl<'a> Run<'a> {
    fn new(
        expander: Expander,
        text: &'a str,
        variables: &'a dyn Variables,
        budget: Option<&'a mut Budget>,
        splits: bool,
    ) -> Self {
        // Go's scanner skips a byte order mark at the start.
        let chars = text.strip_prefix('\u{feff}').unwrap_or(text).chars().peekable();
        let (words, word) = (Vec::new(), String::new());
        Self { expander, chars, variables, budget, depth: 0, splits, words, word }
    }

    /// Reads up to `end`, or to the end of the text (`processStopOn`). `raw` keeps escape characters. In a
    /// pattern, literal escape characters are doubled, as the pattern is read once more.
    fn until(&mut self, end: Option<char>, raw: bool, pattern: bool) -> Result<String, Stop> {
        let Expander { escape, skip_quotes, frontend, .. } = self.expander;
        let pattern = pattern && frontend.since(28);
        let mut result = String::new();
        let mut words = Words::default();
        self.word.clear();
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return wrong("words are nested too deeply");
        }
        loop {
            let Some(&c) = self.chars.peek() else {
                if let Some(end) = end {
                    let message = "unexpected end of statement while looking for matching";
                    return wrong(&format!("{message} {end}"));
                }
                break;
            };
            self.chars.next();
            match c {
                _ if end == Some(c) => break,
                '$' => {
                    let value = self.dollar()?;
                    self.collect(|word, list| words.add(&value, word, list));
                    result.push_str(&value);
                }
                '<' if frontend.since(16) => {
                    let text = self.less_than();
                    self.collect(|word, _| words.add_raw(&text, word));
                    result.push_str(&text);
                }
                '\'' | '"' if !skip_quotes => {
                    let text = match c {
                        '\'' => self.single_quotes(pattern)?,
                        _ => self.double_quotes(raw, pattern)?,
                    };
                    self.collect(|word, _| words.add_raw(&text, word));
                    result.push_str(&text);
                }
                _ if c == escape => {
                    let escaped = self.chars.next();
                    let kept = raw.then_some(escape).into_iter().chain(escaped);
                    for c in kept {
                        self.collect(|word, _| words.add_raw(c.encode_utf8(&mut [0; 4]), word));
                        result.push(c);
                    }
                    if escaped.is_none() {
                        continue;
                    }
                }
                _ => {
                    self.collect(|word, list| words.add(c.encode_utf8(&mut [0; 4]), word, list));
                    result.push(c);
                }
            }
        }
        self.depth -= 1;
        if self.depth == 0 && self.splits && !self.word.is_empty() {
            self.words.push(std::mem::take(&mut self.word));
        }
        self.word.clear();
        if self.depth > 0 {
            self.grow(result.len())?;
        }
        Ok(result)
    }

    /// Changes the collected words; those within a word are not collected.
    fn collect(&mut self, change: impl FnOnce(&mut String, &mut Vec<String>)) {
        if self.splits {
            let mut unused = Vec::new();
            let list = if self.depth == 1 { &mut self.words } else { &mut unused };
            change(&mut self.word, list);
        }
    }

    fn grow(&mut self, bytes: usize) -> Result<(), Stop> {
        match &mut self.budget {
            Some(budget) => budget.grow(bytes).map_err(Stop::Limit),
            None => Ok(()),
        }
    }

    fn less_than(&mut self) -> String {
        let mut text = String::from("<");
        if self.chars.next_if_eq(&'<').is_some() {
            text.push('<');
            while let Some(blank) = self.chars.next_if(|c| matches!(c, '\t' | '\r' | ' ')) {
                text.push(blank);
            }
        }
        text
    }

    fn single_quotes(&mut self, pattern: bool) -> Result<String, Stop> {
        let mut text = String::new();
        text.extend(self.expander.raw_quotes.then_some('\''));
        loop {
            let Some(c) = self.chars.next() else {
                return wrong(
                    "unexpected end of statement while looking for matching single-quote",
                );
            };
            if c == '\'' {
                text.extend(self.expander.raw_quotes.then_some('\''));
                return Ok(text);
            }
            if pattern && c == self.expander.escape {
                text.push(c);
            }
            text.push(c);
        }
    }

    fn double_quotes(&mut self, raw: bool, pattern: bool) -> Result<String, Stop> {
        let Expander { escape, raw_quotes, frontend, .. } = self.expander;
        let mut text = String::new();
        text.extend(raw_quotes.then_some('"'));
        loop {
            let Some(c) = self.chars.next() else {
                return wrong(
                    "unexpected end of statement while looking for matching double-quote",
                );
            };
            match c {
                '"' => {
                    text.extend(raw_quotes.then_some('"'));
                    return Ok(text);
                }
                '$' => text.push_str(&self.dollar()?),
                _ if c != escape => text.push(c),
                _ => {
                    let next = self.chars.peek().copied();
                    let escaped = next.filter(|&c| matches!(c, '"' | '$') || c == escape);
                    // Before v0.34 an escape character that stands for itself was always kept twice.
                    let twice = match (next, escaped) {
                        (None, _) => !frontend.since(28),
                        (_, Some(_)) => true,
                        (_, None) => !frontend.since(28) || !raw_quotes || pattern,
                    };
                    text.extend((raw && twice).then_some(escape));
                    if next.is_none() {
                        continue;
                    }
                    text.push(escaped.unwrap_or(escape));
                    if escaped.is_some() {
                        self.chars.next();
                    }
                }
            }
        }
    }

    /// Reads what follows `$` (`processDollar`).
    fn dollar(&mut self) -> Result<String, Stop> {
        if self.chars.next_if_eq(&'{').is_none() {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".to_owned());
            }
            return match self.variables.get(&name) {
                Some(value) => self.value(value),
                None if self.expander.keep_unset => Ok(format!("${name}")),
                None => Ok(String::new()),
            };
        }
        match self.chars.peek() {
            None => return wrong("syntax error: missing '}'"),
            Some('{' | '}' | ':') => return wrong("syntax error: bad substitution"),
            Some(_) => {}
        }
        let name = self.name();
        let variables = self.variables;
        let value = variables.get(&name);
        match self.chars.next() {
            Some('}') => match value {
                Some(value) => self.value(value),
                None if self.expander.keep_unset => Ok(format!("${{{name}}}")),
                None => Ok(String::new()),
            },
            Some(':') => {
                let modifier = self.chars.next();
                match modifier {
                    Some(modifier @ ('+' | '-' | '?')) => self.choose(&name, value, modifier, true),
                    other => {
                        unsupported(&format!(":{}", other.map(String::from).unwrap_or_default()))
                    }
                }
            }
            Some(modifier @ ('+' | '-' | '?'))
                if modifier == '?' || self.expander.frontend.since(6) =>
            {
                self.choose(&name, value, modifier, false)
            }
            Some(modifier @ ('#' | '%')) if self.expander.frontend.since(7) => {
                self.trim(&name, value, modifier)
            }
            Some('/') if self.expander.frontend.since(7) => self.replace(&name, value),
            other => unsupported(&other.map(String::from).unwrap_or_default()),
        }
    }

    fn value(&mut self, value: &str) -> Result<String, Stop> {
        self.grow(value.len())?;
        Ok(value.to_owned())
    }

    /// Reads the word behind a modifier.
    fn operand(&mut self, end: char, raw: bool, pattern: bool) -> Result<String, Stop> {
        self.until(Some(end), raw, pattern).map_err(|stop| match stop {
            Stop::Word(_) if self.chars.peek().is_none() => {
                Stop::Word(format!("syntax error: missing '{end}'"))
            }
            stop => stop,
        })
    }

    fn choose(
        &mut self,
        name: &str,
        value: Option<&str>,
        modifier: char,
        empty_is_unset: bool,
    ) -> Result<String, Stop> {
        let word = self.operand('}', false, false)?;
        if value.is_none() && self.expander.keep_unset {
            let colon = if empty_is_unset { ":" } else { "" };
            return Ok(format!("${{{name}{colon}{modifier}{word}}}"));
        }
        let set = value.filter(|value| !(empty_is_unset && value.is_empty()));
        match (modifier, set) {
            ('-', None) => Ok(word),
            ('+', None) => Ok(String::new()),
            ('+', Some(_)) => Ok(word),
            ('?', None) => {
                let state = if value.is_some() { "empty" } else { "unset" };
                let default = format!("is not allowed to be {state}");
                let message = if word.is_empty() { default } else { word };
                Err(Stop::Word(format!("{name}: {message}")))
            }
            (_, Some(value)) => self.value(value),
            (_, None) => Ok(String::new()),
        }
    }

    fn trim(&mut self, name: &str, value: Option<&str>, modifier: char) -> Result<String, Stop> {
        let word = self.operand('}', true, true)?;
        if value.is_none() && self.expander.keep_unset {
            return Ok(format!("${{{name}{modifier}{word}}}"));
        }
        let (longest, pattern) =
            word.strip_prefix(modifier).map_or((false, &*word), |pattern| (true, pattern));
        let value = value.unwrap_or_default();
        self.search(value, pattern)?;
        Ok(pattern::trim(value, pattern, Trim { suffix: modifier == '%', longest })?)
    }

    fn replace(&mut self, name: &str, value: Option<&str>) -> Result<String, Stop> {
        let all = self.chars.next_if_eq(&'/').is_some();
        let pattern = self.operand('/', true, true)?;
        let replacement = self.operand('}', true, false)?;
        if value.is_none() && self.expander.keep_unset {
            return Ok(format!("${{{name}/{pattern}/{replacement}}}"));
        }
        let value = value.unwrap_or_default();
        self.search(value, &pattern)?;
        // Each character can be replaced, by a text with as many copies of it.
        let most = (value.len() + 1).saturating_mul(replacement.len() + 1);
        self.grow(most)?;
        Ok(pattern::replace(value, &pattern, &replacement, all)?)
    }

    /// Takes the time of a search from the limit: it grows with the product of both lengths.
    fn search(&mut self, value: &str, pattern: &str) -> Result<(), Stop> {
        self.grow((value.len() + 1).saturating_mul(pattern.len() + 1))
    }

    /// Reads the name of a variable: letters, digits and `_`; digits only, if it begins with one; or one of the
    /// special parameters (`processName`).
    fn name(&mut self) -> String {
        let mut name = String::new();
        match self.chars.peek() {
            Some(&c) if is_digit(c) => {
                while let Some(digit) = self.chars.next_if(|&c| is_digit(c)) {
                    name.push(digit);
                }
                return name;
            }
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => {
                name.extend(self.chars.next());
                return name;
            }
            _ => {}
        }
        while let Some(c) = self.chars.next_if(|&c| is_letter(c) || is_digit(c) || c == '_') {
            name.push(c);
        }
        name
    }
}

fn unsupported(modifier: &str) -> Result<String, Stop> {
    wrong(&format!("unsupported modifier ({modifier}) in substitution"))
}

/// Go's `unicode.IsLetter`.
fn is_letter(c: char) -> bool {
    static LETTER: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^\p{L}$").ok());
    c.is_ascii_alphabetic() || !c.is_ascii() && is_in(&LETTER, c)
}

/// Go's `unicode.IsDigit`.
fn is_digit(c: char) -> bool {
    static DIGIT: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^\p{Nd}$").ok());
    c.is_ascii_digit() || !c.is_ascii() && is_in(&DIGIT, c)
}

fn is_in(class: &Option<Regex>, c: char) -> bool {
    class.as_ref().is_some_and(|class| class.is_match(c.encode_utf8(&mut [0; 4])))
}

/// The words that are collected at one depth (`wordsStruct`).
#[derive(Default)]
struct Words {
    in_word: bool,
}

impl Words {
    /// Adds text in which spaces end words.
    fn add(&mut self, text: &str, word: &mut String, list: &mut Vec<String>) {
        for c in text.chars() {
            if !c.is_whitespace() {
                word.push(c);
                self.in_word = true;
            } else if self.in_word && !word.is_empty() {
                list.push(std::mem::take(word));
                self.in_word = false;
            }
        }
    }

    /// Adds text in which they do not.
    fn add_raw(&mut self, text: &str, word: &mut String) {
        word.push_str(text);
        self.in_word = true;
    }
}

#[cfg(test)]
mod tests;
