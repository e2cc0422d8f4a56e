//! Reads typed values from the daemon's databases.
//!
//! A sound BoltDB file need not be one of BuildKit's. Errors name an unexpected entry by the buckets above
//! it:
//!
//! ```
//! use bkstate::bolt::{self, Db};
//! use bkstate::decode::DecodeError;
//! use bkstate::metadata::Metadata;
//! use bkstate::worker::Worker;
//!
//! let file = tempfile::tempfile()?;
//! bolt::write(&file, |root| root.bucket(b"v1", |v1| v1.put(b"version", b"four")))?;
//!
//! let error = Metadata::read(&Db::open(file)?, &Worker::default()).unwrap_err();
//! assert!(matches!(error, DecodeError::Value { .. }));
//! assert_eq!(
//!     error.to_string(),
//!     "metadata/v1/version holds four, which is not a zig-zag varint"
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::bolt::{Bucket, Entry, ReadError};
use crate::digest::Digest;
use crate::time::Time;
use crate::varint;

/// Why a database could not be read into its model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The file is not a sound BoltDB file.
    #[error("the database file is damaged; restore it from a backup or delete the state")]
    Bolt(#[from] ReadError),
    /// A bucket where a value is expected, or a value where a bucket is expected.
    #[error("{at} is not a {expected}, so the database was not written by a known release")]
    Kind {
        /// Buckets and key, joined by `/`.
        at: String,
        /// `bucket` or `value`.
        expected: &'static str,
    },
    /// A key or value does not have the required form.
    #[error("{at} holds {found}, which is not {expected}")]
    Value {
        /// Buckets and key, joined by `/`.
        at: String,
        /// The entry found, escaped and shortened.
        found: String,
        /// The required form.
        expected: &'static str,
    },
}

/// The position of a value in a database, for error messages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At<'a> {
    parent: Option<&'a At<'a>>,
    name: &'a [u8],
}

impl<'a> At<'a> {
    pub(crate) fn root(name: &'a [u8]) -> Self {
        Self { parent: None, name }
    }

    pub(crate) fn child(&'a self, name: &'a [u8]) -> Self {
        Self { parent: Some(self), name }
    }

    fn path(&self) -> String {
        let name = printable(self.name);
        self.parent.map_or(name.clone(), |parent| format!("{}/{name}", parent.path()))
    }

    pub(crate) fn value_error(&self, found: &[u8], expected: &'static str) -> DecodeError {
        DecodeError::Value { at: self.path(), found: printable(found), expected }
    }

    pub(crate) fn kind_error(&self, expected: &'static str) -> DecodeError {
        DecodeError::Kind { at: self.path(), expected }
    }

    pub(crate) fn text(&self, bytes: Vec<u8>) -> Result<String, DecodeError> {
        String::from_utf8(bytes)
            .map_err(|error| self.value_error(error.as_bytes(), "text in UTF-8"))
    }

    pub(crate) fn digest(&self, bytes: &[u8]) -> Result<Digest, DecodeError> {
        std::str::from_utf8(bytes)
            .ok()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| self.value_error(bytes, "a SHA-256 digest"))
    }

    pub(crate) fn time(&self, bytes: &[u8]) -> Result<Time, DecodeError> {
        Time::from_go_binary(bytes).map_err(|_| self.value_error(bytes, "a Go binary time"))
    }

    pub(crate) fn varint(&self, bytes: &[u8]) -> Result<i64, DecodeError> {
        varint::decode_signed(bytes).ok_or_else(|| self.value_error(bytes, "a zig-zag varint"))
    }

    pub(crate) fn uvarint(&self, bytes: &[u8]) -> Result<u64, DecodeError> {
        match varint::decode_unsigned(bytes) {
            Some((value, [])) => Ok(value),
            _ => Err(self.value_error(bytes, "a varint")),
        }
    }
}

/// Calls `visit` with every sub-bucket of the bucket `name`, which may be missing.
pub(crate) fn each_bucket<'db, E: From<DecodeError>>(
    parent: &Bucket<'db>,
    at: &At<'_>,
    name: &[u8],
    mut visit: impl FnMut(&At<'_>, Vec<u8>, Bucket<'db>) -> Result<(), E>,
) -> Result<(), E> {
    let here = at.child(name);
    let Some(bucket) = parent.bucket(name).map_err(DecodeError::from)? else {
        return Ok(());
    };
    for entry in bucket.entries() {
        match entry.map_err(DecodeError::from)? {
            (key, Entry::Bucket(child)) => {
                let name = key.clone();
                visit(&here.child(&name), key, child)?;
            }
            (key, Entry::Value(_)) => return Err(here.child(&key).kind_error("bucket").into()),
        }
    }
    Ok(())
}

/// Calls `visit` with every value of the bucket `name`, which may be missing.
pub(crate) fn each_value<E: From<DecodeError>>(
    parent: &Bucket<'_>,
    at: &At<'_>,
    name: &[u8],
    visit: impl FnMut(&At<'_>, Vec<u8>, Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    match parent.bucket(name).map_err(DecodeError::from)? {
        Some(bucket) => values(&bucket, &at.child(name), visit),
        None => Ok(()),
    }
}

/// Calls `visit` with every value of `bucket`, which must not contain buckets.
pub(crate) fn values<E: From<DecodeError>>(
    bucket: &Bucket<'_>,
    at: &At<'_>,
    mut visit: impl FnMut(&At<'_>, Vec<u8>, Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    for entry in bucket.entries() {
        match entry.map_err(DecodeError::from)? {
            (key, Entry::Value(value)) => {
                let name = key.clone();
                visit(&at.child(&name), key, value)?;
            }
            (key, Entry::Bucket(_)) => return Err(at.child(&key).kind_error("value").into()),
        }
    }
    Ok(())
}

/// Reads the bucket `labels`, which containerd omits if there are none.
pub(crate) fn read_labels(
    bucket: &Bucket<'_>,
    at: &At<'_>,
) -> Result<BTreeMap<String, String>, DecodeError> {
    let mut labels = BTreeMap::new();
    each_value(bucket, at, b"labels", |at, key, value| {
        labels.insert(at.text(key)?, at.text(value)?);
        Ok::<_, DecodeError>(())
    })?;
    Ok(labels)
}

/// Reads a struct from a JSON object. Serde alone would also accept an array, which Go does not.
pub(crate) fn json_object<'de, T: Deserialize<'de>>(json: &'de [u8]) -> Option<T> {
    let is_object = json.trim_ascii_start().starts_with(b"{");
    is_object.then(|| serde_json::from_slice(json).ok()).flatten()
}

/// Formats `bytes` for a message: at most 100 of them, escaped where not printable.
fn printable(bytes: &[u8]) -> String {
    let shown = bytes.get(..100).unwrap_or(bytes).escape_ascii();
    if bytes.len() > 100 { format!("{shown}…") } else { shown.to_string() }
}
