use std::collections::HashMap;

use super::*;
use crate::limits::Limits;

impl Variables for HashMap<String, String> {
    fn get(&self, name: &str) -> Option<&str> {
        HashMap::get(self, name).map(String::as_str)
    }
}

fn variables() -> HashMap<String, String> {
    let pairs =
        [("A", "a"), ("E", ""), ("P", "x/y/z"), ("É", "e"), ("7", "seven"), ("Q", "'q' $A")];
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn expand_as(expander: Expander, word: &str) -> Result<String, String> {
    let mut budget = Budget::new(&Limits::default());
    expander.expand(word, &variables(), &mut budget).map_err(|reason| reason.to_string())
}

fn expand(word: &str) -> Result<String, String> {
    expand_as(Expander::new(Frontend::NEWEST, '\\'), word)
}

#[test]
fn quotes_and_escapes_vanish() {
    let table = [
        (r"a\ b", "a b"),
        (r#"'a\$A'"#, r"a\$A"),
        (r#""a'$A' \$A \" \\ \x""#, r#"a'a' $A " \ \x"#),
        (r"\", ""),
        ("a<<b <c", "a<<b <c"),
        ("\u{feff}a", "a"),
        ("$Q", "'q' $A"),
    ];
    for (word, expected) in table {
        assert_eq!(expand(word).as_deref(), Ok(expected), "{word}");
    }
    assert!(expand("'a").unwrap_err().contains("single-quote"));
    assert!(expand("\"a").unwrap_err().contains("double-quote"));
}

#[test]
fn variables_have_modifiers() {
    let table = [
        ("$A$A.$Ab$7x$", "aa.sevenx$"),
        ("${A}${X}$É", "ae"),
        ("$", "$"),
        ("$%", "$%"),
        ("${E:-$A}${E-b}${X-b}${X:-}", "ab"),
        ("${A:+b}${E:+b}${E+b}${X+b}", "bb"),
        ("${A:?b}${E?b}", "a"),
        ("${X:-${Y:-'}'}}", "}"),
        ("${P#*/}:${P##*/}:${P%/*}:${P%%/*}", "y/z:z:x/y:x"),
        (r"${P/\//-}:${P//\//\/}:${P/y}/}", r"x-y/z:x\/y\/z:x/y/z"),
        ("${@}${-}", ""),
    ];
    for (word, expected) in table {
        assert_eq!(expand(word).as_deref(), Ok(expected), "{word}");
    }
    for (word, problem) in [
        ("${X:?}", "X: is not allowed to be unset"),
        ("${E:?no $A}", "E: no a"),
        ("${}", "bad substitution"),
        ("${A", "unsupported modifier"),
        ("${", "missing '}'"),
        ("${A:-b", "missing '}'"),
        ("${A:#b}", "unsupported modifier (:#)"),
        ("${A!b}", "unsupported modifier (!)"),
    ] {
        assert!(expand(word).unwrap_err().contains(problem), "{word}");
    }
}

#[test]
fn releases_differ() {
    let of = |version: &str, word: &str| {
        let frontend = Frontend::of(version.parse().unwrap());
        expand_as(Expander::new(frontend, '\\'), word)
    };
    assert!(of("0.11.0", "${X-b}").is_err());
    assert_eq!(of("0.12.0", "${X-b}").as_deref(), Ok("b"));
    assert!(of("0.12.0", "${P#x}").is_err());
    // Quotes in a pattern make an escape character literal since v0.34.
    assert_eq!(of("0.32.2", r"${P#'x\/'}").as_deref(), Ok("y/z"));
    assert_eq!(of("0.34.0", r"${P#'x\/'}").as_deref(), Ok("x/y/z"));
}

#[test]
fn depth_and_growth_are_limited() {
    let nested = format!("{}b{}", "${X:-".repeat(200), "}".repeat(200));
    assert!(expand(&nested).unwrap_err().contains("nested too deeply"));
    let mut budget = Budget::new(&Limits { growth: 100, ..Limits::default() });
    let expander = Expander::new(Frontend::NEWEST, '\\');
    let error = expander.expand(&"$P".repeat(30), &variables(), &mut budget).unwrap_err();
    assert_eq!(error, Reason::TooMuch { limit: 100 });
}
