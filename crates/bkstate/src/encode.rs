//! Writes models into the daemon's databases.
//!
//! Each is written as a whole into a new file, never over an existing one:
//!
//! ```
//! use bkstate::bolt::WriteError;
//! use bkstate::encode::EncodeError;
//! use bkstate::records::Records;
//!
//! let file = tempfile::tempfile()?;
//! Records::default().write(&file)?;
//! let length = file.metadata()?.len();
//!
//! let again = Records::default().write(&file);
//! assert!(matches!(again, Err(EncodeError::Bolt(WriteError::NotEmpty { length: l })) if l == length));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::BTreeMap;

use codec::FormatError;

use crate::bolt::{BucketWriter, WriteError};
use crate::time::Time;

/// Why a database could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The file cannot be written, or an entry cannot be stored.
    #[error("cannot write the database")]
    Bolt(#[from] WriteError),
    /// A value has no JSON form.
    #[error("a value has no JSON form")]
    Json(#[from] FormatError),
}

/// Writes the bucket `labels` unless there are none.
pub(crate) fn write_labels(
    bucket: &mut BucketWriter<'_>,
    labels: &BTreeMap<String, String>,
) -> Result<(), EncodeError> {
    if labels.is_empty() {
        return Ok(());
    }
    bucket.bucket(b"labels", |bucket| {
        for (key, value) in labels {
            bucket.put(key.as_bytes(), value.as_bytes())?;
        }
        Ok(())
    })
}

/// Writes a Go binary time unless it is unknown.
pub(crate) fn put_time(
    bucket: &mut BucketWriter<'_>,
    key: &[u8],
    time: Option<Time>,
) -> Result<(), EncodeError> {
    time.map_or(Ok(()), |time| Ok(bucket.put(key, &time.to_go_binary())?))
}
