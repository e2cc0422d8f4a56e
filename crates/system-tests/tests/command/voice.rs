//! The messages of all errors follow the rules of docs/design/errors.md that can be checked automatically.

use std::fs;

use super::*;

/// One form for a failure, and one word for one thing.
const BANNED: [(&str, &str); 6] = [
    ("could not ", "cannot"),
    ("failed to ", "cannot"),
    ("unable to ", "cannot"),
    ("corrupt", "damaged"),
    ("broken", "damaged"),
    ("please", ""),
];

/// A message in the source, and its place.
struct Message {
    place: String,
    text: String,
}

/// Returns the message of each `#[error("…")]` below `dir`.
fn messages(dir: &Path) -> Vec<Message> {
    let mut messages = Vec::new();
    let mut pending = vec![dir.to_owned()];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let source = fs::read_to_string(&path).unwrap();
                messages.extend(source.split("#[error(").skip(1).filter_map(|rest| {
                    let text = literal(rest.trim_start().strip_prefix('"')?);
                    Some(Message { place: path.display().to_string(), text })
                }));
            }
        }
    }
    messages
}

/// Returns a string literal, given the text after its first quote, with its lines joined.
fn literal(source: &str) -> String {
    let mut text = String::new();
    let mut chars = source.chars().peekable();
    while let Some(c) = chars.next().filter(|c| *c != '"') {
        match (c, chars.peek()) {
            ('\\', Some('\n')) => while chars.next_if(|c| c.is_whitespace()).is_some() {},
            ('\\', Some(_)) => text.extend(chars.next()),
            _ => text.push(c),
        }
    }
    text
}

/// Returns the faults of a message.
fn faults(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let first = text.split(' ').next().unwrap_or_default();
    // A name keeps its capitals, as in PAX and BuildKit.
    if first.starts_with(char::is_uppercase) && first.chars().skip(1).all(char::is_lowercase) {
        faults.push("starts like a sentence".to_owned());
    }
    if text.ends_with(['.', '!']) || text.contains(". ") {
        faults.push("has a full stop".to_owned());
    }
    let passive = text.split("cannot be ").skip(1).filter_map(|rest| rest.split([' ', ';']).next());
    for word in passive.filter(|word| word.ends_with("ed") || ["read", "written"].contains(word)) {
        faults.push(format!("says \"cannot be {word}\" and not \"cannot\" with what is done"));
    }
    for (banned, instead) in BANNED {
        if text.contains(banned) {
            faults.push(format!("says {banned:?} and not {instead:?}"));
        }
    }
    faults
}

#[test]
fn errors_speak_with_one_voice() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut found = 0;
    let mut wrong = Vec::new();
    for name in ["bkstate", "codec", "llb", "oci2bk", "graph", "cli"] {
        for Message { place, text } in messages(&crates.join(name).join("src")) {
            found += 1;
            wrong.extend(faults(&text).iter().map(|fault| format!("{place}: {text:?} {fault}")));
        }
    }
    assert!(found > 350, "only {found} messages were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_rule_has_a_message_that_breaks_it() {
    for text in [
        "Cannot read {path}",
        "cannot read {path}.",
        "cannot read it. Try again",
        "{path} cannot be read; try again",
        "the lock cannot be acquired",
        "{} is corrupt",
    ] {
        assert_eq!(faults(text).len(), 1, "{text}");
    }
    for text in [
        "BuildKit {0} is too old",
        "{flags} cannot be there",
        "there is no tag",
        "cannot read {path}: a.b",
    ] {
        assert!(faults(text).is_empty(), "{text}");
    }
    assert_eq!(literal("a \\\n   b \\\"c\\\"\", path)]"), "a b \"c\"");
}
