//! What can go wrong below a directory.

use std::io;
use std::path::PathBuf;

use rustix::io::Errno;

/// Why something below a directory could not be done.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", path.display())]
pub struct DirError {
    /// What was tried, as a verb.
    pub action: &'static str,
    /// What it was tried on.
    pub path: PathBuf,
    /// What the kernel answered.
    #[source]
    pub source: io::Error,
}

impl DirError {
    /// Whether the thing does not exist.
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }

    /// Whether a directory was to be opened, and the thing is something else: a file, or a link.
    pub(super) fn is_no_directory(&self) -> bool {
        let errors = [Errno::NOTDIR, Errno::LOOP].map(Errno::raw_os_error);
        self.source.raw_os_error().is_some_and(|error| errors.contains(&error))
    }
}

/// What `result` has, or `None` if that is because there is no such thing.
///
/// # Errors
/// Any other error of `result`.
pub fn if_there<T>(result: Result<T, DirError>) -> Result<Option<T>, DirError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}
