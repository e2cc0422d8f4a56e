//! Determines what an argument of the command line names: an export or a root.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use bkstate::dir::{Dir, DirError};
use bkstate::root::{self, Kind, RootError};

use crate::layout::{Layout, LayoutError};
use crate::limits::Limits;
use crate::source::{ParseSourceError, Source, hint};

/// Something to inspect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A cache export, or an image with an inline cache.
    Source(Source),
    /// The root of a buildkitd.
    Root(PathBuf),
}

/// Why an argument does not name anything to inspect.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlaceError {
    /// It has the form of a source, but is not valid.
    #[error(transparent)]
    Source(#[from] ParseSourceError),
    /// It cannot be examined.
    #[error("cannot look at {}{}", path.display(), meant(path, source))]
    Read {
        /// The path.
        path: PathBuf,
        /// The error of the system.
        #[source]
        source: std::io::Error,
    },
    /// A directory cannot be read.
    #[error(transparent)]
    Dir(#[from] DirError),
    /// It could be either.
    #[error(
        "{} has what a root has and what a layout has; name the layout as oci:DIR, or move one away",
        path.display()
    )]
    Both {
        /// The directory.
        path: PathBuf,
    },
    /// It is neither.
    #[error(
        "{} is neither a cache export (no index.json in it, no manifests/ and blobs/) nor the root of a buildkitd (no cache.db, \
         no directory of a worker)",
        path.display()
    )]
    Neither {
        /// The directory.
        path: PathBuf,
    },
    /// It is a directory of Docker, or a part of a root.
    #[error(transparent)]
    Root(#[from] RootError),
}

/// Returns another possible meaning of a path that does not exist.
fn meant(path: &Path, error: &std::io::Error) -> String {
    if error.kind() == std::io::ErrorKind::NotFound { hint(path) } else { String::new() }
}

/// Finds what `word` names. A form such as `oci:DIR` and a file are sources; the kind of a directory is
/// detected from its content. The root may be that of a Docker volume.
///
/// # Errors
/// See [`PlaceError`].
pub fn find(word: &OsStr) -> Result<Place, PlaceError> {
    let path = Path::new(word);
    let source = word.to_str().map(str::parse::<Source>).transpose()?;
    let source = source.map(|source| source.on_disk().into_owned());
    if let Some(source) = source.as_ref().filter(|source| source.path != path) {
        return Ok(Place::Source(source.clone()));
    }
    let metadata = std::fs::metadata(path)
        .map_err(|source| PlaceError::Read { path: path.to_owned(), source })?;
    match source {
        Some(source) if !metadata.is_dir() => Ok(Place::Source(source)),
        source => of_directory(path, source),
    }
}

fn of_directory(path: &Path, source: Option<Source>) -> Result<Place, PlaceError> {
    let (dir, kind) = root::find(Dir::open(path)?)?;
    let path = dir.path().to_owned();
    match (kind, source) {
        (Kind::Root, _) => Ok(Place::Root(path)),
        (Kind::Layout, Some(source)) => Ok(Place::Source(source)),
        (Kind::Other { .. }, Some(source)) if is_mirror(&path) => Ok(Place::Source(source)),
        (Kind::LayoutAndRoot, Some(_)) => Err(PlaceError::Both { path }),
        (Kind::Empty | Kind::Other { .. }, _) => Err(PlaceError::Neither { path }),
        (kind, _) => Err(RootError::NotARoot { path, kind }.into()),
    }
}

/// Returns whether the directory is read as a layout without being one.
fn is_mirror(path: &Path) -> bool {
    let layout = Layout::open(path, &Limits::default());
    !matches!(layout, Err(LayoutError::NoIndex { .. }))
}
