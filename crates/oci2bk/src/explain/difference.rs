//! Differences between two ops, by field of the documents that are hashed.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::Value;

/// A field in which two ops differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Difference {
    /// The field, such as `meta.args[2]`, `meta.env.LEVEL`, `mounts[1].dest` or `Arch`.
    pub field: String,
    /// Its value in the cached op.
    pub cached: Option<String>,
    /// Its value in the requested op.
    pub asked: Option<String>,
}

/// The values of the document of an op, by their paths.
pub(super) struct Fields(BTreeMap<String, String>);

/// Returns the differences of `asked` from `cached`.
pub(super) fn between(cached: Fields, asked: &Fields) -> Vec<Difference> {
    let Fields(mut cached) = cached;
    let mut differences: Vec<_> = asked
        .0
        .iter()
        .filter_map(|(field, asked)| {
            let cached = cached.remove(field);
            (cached.as_ref() != Some(asked)).then(|| Difference {
                field: field.clone(),
                cached,
                asked: Some(asked.clone()),
            })
        })
        .collect();
    let only_cached = cached.into_iter();
    differences.extend(only_cached.map(|(field, cached)| Difference {
        field,
        cached: Some(cached),
        asked: None,
    }));
    differences.sort_by(|a, b| a.field.cmp(&b.field));
    differences
}

impl Fields {
    pub(super) fn of(document: &str) -> Option<Self> {
        let document: Value = serde_json::from_str(document).ok()?;
        Some(Self(fields(document)))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

fn fields(mut document: Value) -> BTreeMap<String, String> {
    // The actions of a file op are documents in base64.
    if let Some(Value::Array(actions)) = document.get_mut("Actions") {
        for action in actions {
            let json = action.as_str().and_then(|text| STANDARD.decode(text).ok());
            if let Some(decoded) = json.and_then(|json| serde_json::from_slice(&json).ok()) {
                *action = decoded;
            }
        }
    }
    let mut fields = BTreeMap::new();
    // The documents are ours and have few levels.
    let mut pending = vec![(String::new(), document)];
    while let Some((path, value)) = pending.pop() {
        match value {
            Value::Object(members) => pending.extend(members.into_iter().map(|(name, value)| {
                let outer = matches!(name.as_str(), "Exec" | "Merge" | "Diff" | "Passthrough");
                match (path.is_empty(), outer) {
                    (true, true) => (String::new(), value),
                    (true, false) => (name, value),
                    (false, _) => (format!("{path}.{name}"), value),
                }
            })),
            Value::Array(values) => {
                let is_environment = path == "meta.env";
                pending.extend(values.into_iter().enumerate().map(|(index, value)| {
                    let variable = value.as_str().filter(|_| is_environment);
                    match variable.and_then(|text| text.split_once('=')) {
                        Some((name, set)) => (format!("{path}.{name}"), Value::from(set)),
                        None => (format!("{path}[{index}]"), value),
                    }
                }));
            }
            Value::String(text) => drop(fields.insert(path, text)),
            other => drop(fields.insert(path, other.to_string())),
        }
    }
    fields
}
