//! Heredocs: texts in the lines behind an instruction.

use std::borrow::Cow;

use crate::expand::Expander;
use crate::frontend::Frontend;

/// A heredoc, `<<NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Heredoc {
    /// The name, without quotes, which ends the text.
    pub(crate) name: String,
    /// Whether variables in the text are expanded: the name has no quotes.
    pub(crate) expand: bool,
    /// Whether leading tabs are removed, `<<-NAME`.
    pub(crate) chomp: bool,
    /// The lines with their ends.
    pub(crate) content: Vec<u8>,
}

impl Heredoc {
    /// Returns the text, without leading tabs if they are to be removed.
    pub(crate) fn chomped(&self) -> Cow<'_, [u8]> {
        if !self.chomp {
            return Cow::Borrowed(&self.content);
        }
        let mut text = Vec::with_capacity(self.content.len());
        for line in self.content.split_inclusive(|&byte| byte == b'\n') {
            let tabs = line.iter().take_while(|&&byte| byte == b'\t').count();
            text.extend_from_slice(&line[tabs..]);
        }
        Cow::Owned(text)
    }
}

/// Returns the heredocs that a line starts, without their texts (`heredocsFromLine` in `parser/parser.go`).
/// The escape character is always a backslash here.
pub(crate) fn of_line(line: &str, frontend: Frontend) -> Result<Vec<Heredoc>, String> {
    let expander = Expander::for_heredocs(frontend);
    // A line that cannot be split into words has none.
    let words = expander.split(line).unwrap_or_default();
    words.iter().filter_map(|word| parse(word, frontend).transpose()).collect()
}

/// Reads a word that may start a heredoc (`ParseHeredoc` in `parser/parser.go`).
pub(crate) fn parse(word: &str, frontend: Frontend) -> Result<Option<Heredoc>, String> {
    let Some((chomp, rest)) = start(word, frontend) else { return Ok(None) };
    let expander = Expander::for_heredoc_name(frontend);
    let words = expander.split(rest)?;
    let [name] = words.as_slice() else { return Ok(None) };
    let raw = expander.with_quotes().split(rest)?;
    let [raw] = raw.as_slice() else {
        return Err("internal lexing of heredoc produced inconsistent results".to_owned());
    };
    let expand = quotes(name) == quotes(raw);
    Ok(Some(Heredoc { name: name.clone(), expand, chomp, content: Vec::new() }))
}

fn quotes(text: &str) -> usize {
    text.chars().filter(|c| matches!(c, '\'' | '"')).count()
}

/// Returns what follows `<<` or `<<-`, and whether it is `<<-`: `^(\d*)<<(-?)\s*([^<]*)$`.
fn start(word: &str, frontend: Frontend) -> Option<(bool, &str)> {
    let rest = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
    let (chomp, rest) = rest.strip_prefix('-').map_or((false, rest), |rest| (true, rest));
    let rest = match frontend.since(16) {
        true => rest.trim_start_matches(['\t', '\n', '\u{c}', '\r', ' ']),
        false => rest,
    };
    (!rest.is_empty() && !rest.contains('<')).then_some((chomp, rest))
}

/// Returns whether the whole text is one heredoc, as in `RUN <<EOF`.
pub(crate) fn is_one(text: &str, frontend: Frontend) -> bool {
    matches!(parse(text, frontend), Ok(Some(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Vec<(String, bool, bool)> {
        let heredocs = of_line(line, Frontend::NEWEST).unwrap();
        heredocs.into_iter().map(|heredoc| (heredoc.name, heredoc.expand, heredoc.chomp)).collect()
    }

    #[test]
    fn words_that_start_heredocs_are_found() {
        let plain = |name: &str| (name.to_owned(), true, false);
        assert_eq!(of("RUN <<EOF"), [plain("EOF")]);
        assert_eq!(of("RUN cat <<A && cat 3<<B"), [plain("A"), plain("B")]);
        assert_eq!(
            of("RUN <<'E F' <<\"G\""),
            [("E F".to_owned(), false, false), ("G".to_owned(), false, false)]
        );
        assert_eq!(of("RUN <<-EOF"), [("EOF".to_owned(), true, true)]);
        assert_eq!(of("RUN << EOF"), [plain("EOF")]);
        assert_eq!(of("RUN <<EOF;"), [plain("EOF;")]);
        assert_eq!(of("RUN <<$A"), [plain("$A")]);
        // A modifier loses what stands before it.
        assert_eq!(of("RUN <<A${B:-c}"), []);
        assert_eq!(of("RUN <<<EOF a<<b <<"), []);
        assert_eq!(of_line("RUN << EOF", Frontend::OLDEST).unwrap(), []);
    }

    #[test]
    fn leading_tabs_are_removed() {
        let mut heredoc = parse("<<-A", Frontend::NEWEST).unwrap().unwrap();
        heredoc.content = b"\t\ta\n\n\t b\tc\n\t".to_vec();
        assert_eq!(&*heredoc.chomped(), b"a\n\n b\tc\n");
        heredoc.chomp = false;
        assert_eq!(&*heredoc.chomped(), b"\t\ta\n\n\t b\tc\n\t");
    }
}
