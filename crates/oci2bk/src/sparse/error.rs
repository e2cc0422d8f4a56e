//! Errors of writing a sparse layout.

use std::io;
use std::path::PathBuf;

use bkstate::Classified as _;
use bkstate::dir::DirError;

use crate::export::ExportError;
use crate::keys::{AttachError, SourceError};
use crate::layout::{LayoutError, WriteError};
use crate::manifest::{ManifestError, SelectError};

/// Why a sparse layout cannot be written.
///
/// ```
/// use oci2bk::sparse::{self, SparseError};
/// use oci2bk::{CacheExport, Limits};
///
/// let limits = Limits::default();
/// let exports = CacheExport::read_sources(&["../../fixtures/min/cache".parse()?], &limits)?;
/// let temporary = tempfile::tempdir()?;
/// std::fs::write(temporary.path().join("a file"), "of somebody")?;
/// let error = sparse::write(&exports, temporary.path(), &limits).unwrap_err();
/// assert!(matches!(error, SparseError::NotEmpty { .. }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SparseError {
    /// The path has no last component, such as `/` or `..`.
    #[error("{} has no name at its end; name a new directory", path.display())]
    NoName {
        /// The path.
        path: PathBuf,
    },
    /// The path is not a directory.
    #[error("{} is not a directory; name a new one", path.display())]
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// The directory has files that do not belong to a sparse layout.
    #[error(
        "{} is not empty, and not a sparse layout, which could be replaced; name a new directory",
        path.display()
    )]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
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
    /// The directory cannot be created or moved into its place.
    #[error("cannot write the sparse layout {}", path.display())]
    Place {
        /// The path.
        path: PathBuf,
        /// The cause.
        #[source]
        source: DirError,
    },
    /// A file of the layout cannot be written.
    #[error("cannot write {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
}

impl SparseError {
    /// Returns whether the input is the cause, and not the machine or the directory.
    ///
    /// ```
    /// use oci2bk::sparse::SparseError;
    ///
    /// assert!(!SparseError::NoName { path: "..".into() }.is_input());
    /// ```
    pub fn is_input(&self) -> bool {
        self.class().is_of_input()
    }
}
