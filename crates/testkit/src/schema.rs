//! The JSON Schemas in `docs/reference/schemas`, and checks of the command's output against them.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context as _, Result, ensure};
use jsonschema::{Draft, Registry, Validator};
use serde_json::{Deserializer, Value};

use crate::process;

/// The base URI of references between the schemas of one version.
const BASE: &str = "schema:///";

/// All schemas, by the names of their files.
pub struct Schemas {
    /// The content of each file.
    pub documents: BTreeMap<String, Value>,
    validators: BTreeMap<String, Validator>,
}

/// Returns the schemas of the repository, after checking that they are valid.
pub fn schemas() -> Result<&'static Schemas> {
    static SCHEMAS: OnceLock<Schemas> = OnceLock::new();
    match SCHEMAS.get() {
        Some(schemas) => Ok(schemas),
        None => {
            let read = Schemas::read()?;
            Ok(SCHEMAS.get_or_init(|| read))
        }
    }
}

/// Ensures that the JSON output of `oci2bk` with the arguments `words` matches the schemas. Other output is
/// ignored.
pub fn ensure_output<'w>(
    words: impl IntoIterator<Item = &'w OsStr>,
    stdout: &[u8],
    stderr: &[u8],
) -> Result<()> {
    let words: Vec<_> = words.into_iter().filter_map(OsStr::to_str).collect();
    let ensure_all = |text: &[u8]| -> Result<()> {
        for value in Deserializer::from_slice(text).into_iter::<Value>() {
            let value = value.context("not JSON")?;
            ensure_valid(document(&words, &value).context("no schema")?, &value)?;
        }
        Ok(())
    };
    let asks = |option: &str, value: &str| {
        words.contains(&format!("{option}={value}").as_str())
            || words.windows(2).any(|pair| pair == [option, value])
    };
    if asks("--format", "json") || asks("-o", "-") || asks("--output", "-") {
        ensure_all(stdout).with_context(|| format!("what {words:?} prints"))?;
    }
    if asks("--progress", "rawjson") {
        let events = stderr.split(|&byte| byte == b'\n').filter(|line| line.starts_with(b"{"));
        for event in events {
            ensure_valid("progress.json", &serde_json::from_slice(event)?)?;
        }
    }
    Ok(())
}

/// Runs an `oci2bk` command with JSON output, and returns the output, which matches the schemas.
///
/// # Errors
/// Returns an error if it fails, or its output does not match.
pub fn run(command: &mut Command) -> Result<Value> {
    let printed = process::run(command)?;
    ensure_output(command.get_args(), printed.as_bytes(), &[])?;
    serde_json::from_str(&printed).with_context(|| format!("stdout of {command:?}"))
}

/// Ensures that `value` matches the schema `name`.
pub fn ensure_valid(name: &str, value: &Value) -> Result<()> {
    let validator = schemas()?.validators.get(name).with_context(|| format!("no schema {name}"))?;
    let errors = validator.iter_errors(value).map(|error| {
        let text: String = error.to_string().chars().take(500).collect();
        format!("{}: {text}", error.instance_path())
    });
    let errors: Vec<_> = errors.collect();
    ensure!(errors.is_empty(), "not as {name} says:\n{}", errors.join("\n"));
    Ok(())
}

/// Returns the file with the schema of a command's output.
fn document(words: &[&str], value: &Value) -> Option<&'static str> {
    let is_error = value.as_object().is_some_and(|document| document.keys().eq(["error"]));
    Some(match *words.first()? {
        _ if is_error => "error.json",
        "convert" if words.contains(&"--dry-run") => "plan.json",
        "convert" => "convert.json",
        "du" => "du.json",
        "explain" => "explain.json",
        "inspect" if value["kind"] == "root" => "inspect-root.json",
        "inspect" => "inspect-export.json",
        "keys" => "keys.json",
        "mounts" => match *words.get(1)? {
            "ls" if value["kind"] == "root" => "mounts-root.json",
            "ls" => "mounts-layout.json",
            "export" => "mounts-export.json",
            "import" => "mounts-import.json",
            _ => return None,
        },
        "pack" if words.contains(&"--undo") => "pack-undo.json",
        "pack" => "pack.json",
        "sparse" => "sparse.json",
        "state" => match *words.get(1)? {
            "export" => "state-export.json",
            "import" => "state-import.json",
            _ => return None,
        },
        "verify" => "verify.json",
        _ => return None,
    })
}

impl Schemas {
    fn read() -> Result<Self> {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/schemas");
        let mut documents = BTreeMap::new();
        let mut registry = Registry::new();
        for entry in fs::read_dir(&dir).with_context(|| dir.display().to_string())? {
            let path = entry?.path();
            let name = path.file_name().and_then(OsStr::to_str).context("a name")?.to_owned();
            let text = fs::read_to_string(&path)?;
            let schema: Value = serde_json::from_str(&text).with_context(|| name.clone())?;
            registry = registry.add(format!("{BASE}{name}"), schema.clone())?;
            documents.insert(name, schema);
        }
        let registry = registry.prepare()?;
        let mut validators = BTreeMap::new();
        for (name, schema) in &documents {
            let validator = jsonschema::options()
                .with_draft(Draft::Draft202012)
                .with_base_uri(format!("{BASE}{name}"))
                .with_registry(&registry)
                .should_validate_formats(true)
                .build(schema);
            let validator = validator.map_err(|error| anyhow::anyhow!("{name}: {error}"))?;
            validators.insert(name.clone(), validator);
        }
        Ok(Self { documents, validators })
    }
}
