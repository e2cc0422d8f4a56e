//! Values of `buildkitd.toml`. Keys match in any case, as in the daemon (go-toml v2).

use codec::FormatError;
use serde_json::Value;

use crate::gc::{ParseDiskSpaceError, ParseDurationError};
use crate::worker::Executor;

/// Why a text is not a valid configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The text is not TOML.
    #[error("it is not TOML: {message} in line {line}")]
    Toml {
        /// The line, from 1.
        line: usize,
        /// The message of the parser.
        message: String,
    },
    /// The program reads no TOML: the feature `config-file` is off.
    #[error("this program was built without the feature config-file, which reads TOML")]
    NoToml,
    /// The text is not JSON, or a value in it has the wrong type.
    #[error("it is not what the daemon reads")]
    Json(#[source] FormatError),
    /// A value has the wrong type.
    #[error("{key} has to be {expected}")]
    Type {
        /// Its key.
        key: &'static str,
        /// The expected type.
        expected: &'static str,
    },
    /// A value is not an amount of disk space.
    #[error("{key} is wrong")]
    DiskSpace {
        /// Its key.
        key: &'static str,
        /// The cause.
        #[source]
        source: ParseDiskSpaceError,
    },
    /// A value is not a duration.
    #[error("{key} is wrong")]
    Duration {
        /// Its key.
        key: &'static str,
        /// The cause.
        #[source]
        source: ParseDurationError,
    },
}

/// A table of TOML, or an object of JSON.
pub(crate) type Table = serde_json::Map<String, Value>;

/// Parses a whole configuration.
#[cfg(feature = "config-file")]
pub(crate) fn parse(text: &str) -> Result<Table, ConfigError> {
    toml::from_str(text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        ConfigError::Toml { line: before.split('\n').count(), message: error.message().to_owned() }
    })
}

#[cfg(not(feature = "config-file"))]
pub(crate) fn parse(_: &str) -> Result<Table, ConfigError> {
    Err(ConfigError::NoToml)
}

/// Returns the table of the worker with this executor.
pub(crate) fn worker_table(config: &Table, executor: Executor) -> Result<Table, ConfigError> {
    let name = match executor {
        Executor::Containerd => "containerd",
        Executor::Oci | Executor::Engine => "oci",
    };
    let Some(worker) = table(config, "worker")? else { return Ok(Table::new()) };
    Ok(table(worker, name)?.cloned().unwrap_or_default())
}

/// Returns the value of `key`, written in any case.
pub(crate) fn member<'a>(table: &'a Table, key: &str) -> Option<&'a Value> {
    let by_case = || table.iter().find(|(name, _)| name.eq_ignore_ascii_case(key));
    table.get(key).or_else(|| Some(by_case()?.1))
}

pub(crate) fn table<'a>(
    within: &'a Table,
    key: &'static str,
) -> Result<Option<&'a Table>, ConfigError> {
    match member(within, key) {
        None => Ok(None),
        Some(Value::Object(table)) => Ok(Some(table)),
        Some(_) => Err(ConfigError::Type { key, expected: "a table" }),
    }
}

pub(crate) fn boolean(table: &Table, key: &'static str) -> Result<Option<bool>, ConfigError> {
    match member(table, key) {
        None => Ok(None),
        Some(Value::Bool(value)) => Ok(Some(*value)),
        Some(_) => Err(ConfigError::Type { key, expected: "true or false" }),
    }
}

pub(crate) fn strings(table: &Table, key: &'static str) -> Result<Vec<String>, ConfigError> {
    let wrong = || ConfigError::Type { key, expected: "a list of texts" };
    match member(table, key) {
        None => Ok(Vec::new()),
        Some(Value::Array(values)) => {
            values.iter().map(|value| value.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
        }
        Some(_) => Err(wrong()),
    }
}

/// Returns a number or a text, as a text.
pub(crate) fn text(table: &Table, key: &'static str) -> Result<String, ConfigError> {
    match member(table, key) {
        None => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Number(number)) if number.is_i64() => Ok(number.to_string()),
        Some(_) => Err(ConfigError::Type { key, expected: "a number or a text" }),
    }
}
