//! Messages of the libraries tell what is wrong, and not which option of which command helps: other programs
//! may call them. Advice in terms of the command is in the command (`cli/src/hint`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]

use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};

const LIBRARIES: [&str; 5] = ["bkstate", "codec", "graph", "llb", "oci2bk"];

const COMMANDS: [&str; 11] = [
    "convert",
    "sparse",
    "keys",
    "inspect",
    "explain",
    "verify",
    "du",
    "limits",
    "completions",
    "man",
    "help",
];

/// Facts about a daemon and a build with these options; they are not advice.
const FACTS: [&str; 2] = ["a daemon with --save-cache-debug crashes", "build with --no-cache"];

/// Options that mkfs.erofs is run with: texts that are nothing else.
const OF_MKFS: [&str; 3] = ["--help", "--mkfs-time", "--version"];

/// Returns the sources below `dir`, without tests.
fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() && name != "tests" {
            sources(&path, found);
        } else if name.ends_with(".rs") && name != "tests.rs" && name != "testing.rs" {
            found.push(path);
        }
    }
}

/// Returns the string literals in a source, without its documentation and its tests.
fn literals(tokens: TokenStream, found: &mut Vec<String>) {
    let mut tokens = tokens.into_iter().peekable();
    let mut in_test = false;
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Punct(punct) if punct.as_char() == '#' => {
                let is_inner =
                    |token: &TokenTree| matches!(token, TokenTree::Punct(p) if p.as_char() == '!');
                tokens.next_if(is_inner);
                if let Some(TokenTree::Group(attribute)) = tokens.next() {
                    let text = attribute.stream().to_string();
                    in_test |= text.replace(' ', "") == "cfg(test)";
                    if !text.starts_with("doc") {
                        literals(attribute.stream(), found);
                    }
                }
            }
            TokenTree::Punct(punct) if punct.as_char() == ';' => in_test = false,
            // The body is the last part of an item.
            TokenTree::Group(group) if in_test => {
                in_test = group.delimiter() != proc_macro2::Delimiter::Brace;
            }
            TokenTree::Group(group) => literals(group.stream(), found),
            TokenTree::Literal(literal) => {
                if let Ok(text) = syn::parse_str::<syn::LitStr>(&literal.to_string()) {
                    found.push(text.value());
                }
            }
            TokenTree::Ident(_) | TokenTree::Punct(_) => {}
        }
    }
}

fn texts(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    literals(source.parse().unwrap(), &mut found);
    found
}

/// Returns the option or command line that a text names.
fn named(text: &str) -> Option<&str> {
    if FACTS.iter().any(|fact| text.contains(fact)) || OF_MKFS.contains(&text) {
        return None;
    }
    let is_in_word = |c: char| c.is_alphanumeric() || c == '-';
    let option = text.match_indices("--").find(|(at, _)| {
        let before = text[..*at].chars().next_back();
        text[at + 2..].starts_with(|c: char| c.is_ascii_lowercase())
            && !before.is_some_and(is_in_word)
    });
    let command = text.match_indices("oci2bk ").find(|(at, ours)| {
        let rest = &text[at + ours.len()..];
        COMMANDS.contains(&rest.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default())
    });
    let (at, _) = option.or(command)?;
    Some(&text[at..])
}

#[test]
fn libraries_name_no_option_and_no_command() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut found = Vec::new();
    for library in LIBRARIES {
        sources(&crates.join(library).join("src"), &mut found);
    }
    assert!(found.len() > 200, "the sources were not found: {}", found.len());
    let (mut count, mut wrong) = (0, Vec::new());
    for path in found {
        for text in texts(&fs::read_to_string(&path).unwrap()) {
            count += 1;
            wrong.extend(named(&text).map(|named| format!("{}: {named:?}", path.display())));
        }
    }
    assert!(count > 2000, "only {count} texts were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn texts_are_those_of_the_code() {
    let source = r##"
        //! Of the file: "--doc".
        /// Of an item: `--doc`.
        #[error("{path} is \
                 wrong")]
        fn f() { g("a\"b", r#"raw"#, b"bytes", 'c') }
        #[cfg(test)]
        use x::y;
        #[cfg(test)]
        mod tests { const T: &str = "of a test"; }
        const LAST: &str = "last";
    "##;
    assert_eq!(texts(source), ["{path} is wrong", "a\"b", "raw", "last"]);
}

#[test]
fn options_and_commands_are_told_from_other_words() {
    for (text, expected) in [
        ("leave them packed with --no-extract", "--no-extract"),
        ("see `oci2bk verify ROOT`", "oci2bk verify ROOT`"),
        ("--limit {name}", "--limit {name}"),
    ] {
        assert_eq!(named(text), Some(expected));
    }
    for text in
        ["a -- b", "use a newer oci2bk, or", "this is a fault of oci2bk; report it", "a--b", "--"]
    {
        assert_eq!(named(text), None, "{text}");
    }
}

/// Returns whether a text is the kind of an error.
fn is_kind(text: &str) -> bool {
    let is_word = |part: &str| {
        let mut chars = part.chars();
        chars.next().is_some_and(|first| first.is_ascii_lowercase())
            && chars.all(|char| char == '-' || char.is_ascii_lowercase() || char.is_ascii_digit())
    };
    text.split_once('.').is_some_and(|(family, kind)| is_word(family) && is_word(kind))
}

/// Returns the first arguments of the functions that make kinds.
fn kinds(tokens: TokenStream, found: &mut Vec<String>) {
    let mut before = String::new();
    for token in tokens {
        match token {
            TokenTree::Group(group) => {
                let makes = ["new", "of_limit", "of_reading", "own"].contains(&before.as_str());
                if let Some(TokenTree::Literal(literal)) = group.stream().into_iter().next()
                    && makes
                    && let Ok(text) = syn::parse_str::<syn::LitStr>(&literal.to_string())
                    && is_kind(&text.value())
                {
                    found.push(text.value());
                }
                kinds(group.stream(), found);
                before.clear();
            }
            TokenTree::Ident(ident) => before = ident.to_string(),
            TokenTree::Punct(_) | TokenTree::Literal(_) => before.clear(),
        }
    }
}

#[test]
fn the_reference_lists_each_kind_of_error_once() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut files = vec![crates.join("cli/src/failure.rs")];
    for name in ["bkstate", "llb", "oci2bk", "cli"] {
        sources(&crates.join(name).join("src"), &mut files);
    }
    let is_of_classes = |path: &PathBuf| {
        let text = fs::read_to_string(path).unwrap();
        text.contains("impl Classified for") || path.ends_with("failure.rs")
    };
    files.retain(is_of_classes);
    files.sort_unstable();
    files.dedup();
    assert!(files.len() > 8, "the sources were not found: {files:?}");
    let mut found = Vec::new();
    for path in files {
        // A test has kinds of its own.
        if !path.ends_with("error_report.rs") {
            kinds(fs::read_to_string(path).unwrap().parse().unwrap(), &mut found);
        }
    }
    found.sort_unstable();
    assert!(found.len() > 300, "{}", found.len());
    let page = fs::read_to_string(crates.join("../docs/reference/errors.md")).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let listed: Vec<_> = rows.map(|(kind, _)| kind.to_owned()).collect();
    assert_eq!(listed, found);
}
