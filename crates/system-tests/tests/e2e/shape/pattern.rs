//! Patterns that replace names and values by their form.

use serde_json::Value;

/// Lengths of the ids of records and keys (BuildKit `identity/randomid.go`), and of digests in hex.
const ID: usize = 25;
const HEX: usize = 64;

/// Names for some parts of the names and values of a record.
#[derive(Clone, Debug, Default)]
pub(super) struct Names(Vec<(String, &'static str)>);

impl Names {
    /// Gives this part, or the hex of this digest, a name, unless it has one.
    pub(super) fn add(&mut self, part: &str, name: &'static str) {
        let part = part.strip_prefix("sha256:").unwrap_or(part);
        if !part.is_empty() {
            self.0.push((part.to_owned(), name));
        }
    }

    /// Returns the same with this name first: the lowest layer's diffID is also its chainID.
    pub(super) fn preferring(&self, name: &str) -> Self {
        let mut names = self.clone();
        names.0.sort_by_key(|(_, other)| *other != name);
        names
    }

    fn of(&self, part: &str) -> Option<&'static str> {
        self.0.iter().find(|(known, _)| known == part).map(|(_, name)| *name)
    }
}

/// Returns the pattern of a name: digests, ids and numbers replaced.
pub(super) fn name(text: &str, names: &Names) -> String {
    if is_binary(text) {
        return "<bytes>".to_owned();
    }
    if is_time(text) {
        return "<time>".to_owned();
    }
    let mut pattern = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphanumeric()) {
        let (before, word) = rest.split_at(start);
        let end = word.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(word.len());
        let (word, after) = word.split_at(end);
        pattern.push_str(before);
        match kind_of(word, names) {
            Some(kind) => pattern.push_str(&format!("<{kind}>")),
            None => pattern.push_str(word),
        }
        rest = after;
    }
    pattern + rest
}

/// Returns the pattern of a key or value that may be JSON, or a link of the solver: JSON, `@` and a key.
pub(super) fn value(text: &str, names: &Names) -> String {
    if text.starts_with(['{', '[']) {
        if let Ok(parsed) = serde_json::from_str(text) {
            return json(&parsed, names);
        }
        if let Some((link, key)) = text.rsplit_once('@') {
            return format!("{}@{}", value(link, names), name(key, names));
        }
    }
    name(text, names)
}

/// Returns the pattern of a value that containerd wrote: text, or the output of Go's `encoding/binary` and
/// `time`.
pub(super) fn containerd(key: &str, text: &str, names: &Names) -> String {
    let Some(bytes) = bytes(text) else { return "<bytes>".to_owned() };
    let is_varint = matches!(bytes.split_last(), Some((last, first))
        if bytes.len() <= 10 && *last < 0x80 && first.iter().all(|byte| *byte >= 0x80));
    match &bytes[..] {
        [] => String::new(),
        // Kinds of snapshots and schema versions have few values.
        [byte] if ["kind", "version"].contains(&key) => format!("{byte:02x}"),
        _ if is_varint => "<n>".to_owned(),
        [1, ..] if bytes.len() == 15 => "<time>".to_owned(),
        _ => name(text, names),
    }
}

fn json(value: &Value, names: &Names) -> String {
    match value {
        Value::Null | Value::Bool(_) => value.to_string(),
        Value::Number(_) => "<n>".to_owned(),
        Value::String(text) => format!("\"{}\"", name(text, names)),
        Value::Array(items) => {
            let mut patterns: Vec<_> = items.iter().map(|item| json(item, names)).collect();
            patterns.sort();
            patterns.dedup();
            format!("[{}]", patterns.join(","))
        }
        Value::Object(members) => {
            let members = members
                .iter()
                .map(|(key, member)| format!("\"{}\":{}", name(key, names), json(member, names)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(","))
        }
    }
}

fn kind_of(word: &str, names: &Names) -> Option<&'static str> {
    let all = |of: fn(&u8) -> bool| word.as_bytes().iter().all(of);
    let is_hex = word.len() == HEX && all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
    let is_id = word.len() == ID && all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'z'));
    names.of(word).or_else(|| match () {
        () if is_hex => Some("digest"),
        () if is_id => Some("id"),
        () if all(u8::is_ascii_digit) => Some("n"),
        () => None,
    })
}

/// Returns whether `refstate dump` prints it as bytes, as 0x and hex or as text with control characters.
fn is_binary(text: &str) -> bool {
    (text.starts_with("0x") && bytes(text).is_some())
        || text.contains(|c: char| c.is_control() && c != '\n')
}

fn is_time(text: &str) -> bool {
    let bytes = text.as_bytes();
    text.len() >= 20
        && [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':')].iter().all(|(at, c)| bytes[*at] == *c)
        && bytes[..4].iter().all(u8::is_ascii_digit)
}

/// Decodes the bytes that `refstate dump` prints in this form.
fn bytes(text: &str) -> Option<Vec<u8>> {
    let Some(hex) = text.strip_prefix("0x") else { return Some(text.as_bytes().to_vec()) };
    let pairs = (0..hex.len()).step_by(2).map(|at| hex.get(at..at + 2));
    pairs.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect()
}
