//! Errors of writing a sparse layout.

use bkstate::Classified as _;

use crate::export::ExportError;
use crate::keys::{AttachError, SourceError};
use crate::layout::{LayoutError, NewDirectoryError, WriteError};
use crate::manifest::{ManifestError, SelectError};

/// Why a sparse layout cannot be written.
///
/// ```
/// use oci2bk::sparse::{self, SparseError};
/// use oci2bk::{CacheExport, Limits};
///
/// let limits = Limits::default();
/// let exports = CacheExport::read_sources(&["fixtures/min/cache".parse()?], &limits)?;
/// let temporary = tempfile::tempdir()?;
/// std::fs::write(temporary.path().join("a file"), "of somebody")?;
/// let error = sparse::write(&exports, temporary.path(), &limits).unwrap_err();
/// assert!(matches!(error, SparseError::Place(_)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SparseError {
    /// The directory cannot be written, or has something else in it.
    #[error(transparent)]
    Place(#[from] NewDirectoryError),
    /// None of the sources is a cache.
    #[error("there is no cache among the sources, so a sparse layout would be empty")]
    NoCache,
    /// A document of the cache cannot be read.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The manifests of an image cannot be listed.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// The keys that are attached to a cache cannot be read.
    #[error(transparent)]
    Keys(#[from] Box<SourceError>),
    /// The written layout cannot be read back.
    #[error(transparent)]
    Export(#[from] Box<ExportError>),
    /// The keys cannot be attached to the copy.
    #[error(transparent)]
    Attach(#[from] Box<AttachError>),
    /// The new layout cannot be opened.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A blob or the index cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl SparseError {
    /// Returns whether the input is the cause, and not the machine or the directory.
    ///
    /// ```
    /// use oci2bk::layout::NewDirectoryError;
    /// use oci2bk::sparse::SparseError;
    ///
    /// assert!(!SparseError::Place(NewDirectoryError::NoName { path: "..".into() }).is_input());
    /// ```
    pub fn is_input(&self) -> bool {
        self.class().is_of_input()
    }
}
