//! Errors of operations below a directory.

use std::io;
use std::path::PathBuf;

use rustix::io::Errno;

/// Why an operation below a directory failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", path.display())]
pub struct DirError {
    /// The attempted operation, as a verb.
    pub action: &'static str,
    /// The path of the operation.
    pub path: PathBuf,
    /// The error of the kernel.
    #[source]
    pub source: io::Error,
}

impl DirError {
    /// Returns whether the file does not exist.
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }

    /// Returns whether a directory was to be opened, and the path is a file or a link.
    pub(crate) fn is_no_directory(&self) -> bool {
        let errors = [Errno::NOTDIR, Errno::LOOP].map(Errno::raw_os_error);
        self.source.raw_os_error().is_some_and(|error| errors.contains(&error))
    }
}

/// Returns the value of `result`, or `None` if the file does not exist.
///
/// # Errors
/// Returns any other error of `result`.
pub fn if_there<T>(result: Result<T, DirError>) -> Result<Option<T>, DirError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}
