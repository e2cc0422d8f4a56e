//! The error of reading or writing a format.

use std::fmt;

/// The message of a parser or an encoder: of JSON, base64, protobuf, or a regular expression.
///
/// It stands for the errors of the crates that read these formats, so that their types are not part of the
/// interface.
///
/// ```
/// use codec::FormatError;
///
/// let error = FormatError::new("abc".parse::<u8>().unwrap_err());
/// assert_eq!(error.to_string(), "invalid digit found in string");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct FormatError {
    message: String,
}

impl FormatError {
    /// Keeps the message of an error.
    pub fn new(error: impl fmt::Display) -> Self {
        Self { message: error.to_string() }
    }
}
