//! What a word of the command line names: an export or a root.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::source::{ParseSourceError, Source};

/// What only the root of a buildkitd has (BuildKit v0.32.2 `cmd/buildkitd/main.go`,
/// `worker/runc/runc.go`).
const OF_ROOT: [&str; 3] = ["cache.db", "buildkitd.lock", "history.db"];
/// What only a layout has (OCI image-layout 1.0).
const OF_LAYOUT: [&str; 2] = ["index.json", "oci-layout"];
/// How the directories of workers are called, up to the name of their snapshotter.
const WORKERS: [&str; 2] = ["runc-", "containerd-"];
/// Where a Docker volume has its files.
const VOLUME_DATA: &str = "_data";

/// Something to look into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A cache export, or an image with an inline cache.
    Source(Source),
    /// The root of a buildkitd.
    Root(PathBuf),
}

/// Why a word names nothing to look into.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlaceError {
    /// It has the form of a source, but is none.
    #[error(transparent)]
    Source(#[from] ParseSourceError),
    /// It is nothing that can be looked at.
    #[error("cannot look at {}", path.display())]
    Read {
        /// What was named.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
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
        "{} is neither a cache export (no index.json in it) nor the root of a buildkitd (no cache.db, \
         no directory of a worker)",
        path.display()
    )]
    Neither {
        /// The directory.
        path: PathBuf,
    },
}

/// What `word` names. A form such as `oci:DIR` and a file are sources; what a directory is shows from
/// what is in it. The root may be that of a Docker volume.
///
/// # Errors
/// See [`PlaceError`].
pub fn find(word: &OsStr) -> Result<Place, PlaceError> {
    let path = Path::new(word);
    let read_error = |source| PlaceError::Read { path: path.to_owned(), source };
    if let Some(text) = word.to_str() {
        let source: Source = text.parse()?;
        if source.path != path {
            return Ok(Place::Source(source));
        }
        if std::fs::metadata(path).map_err(read_error)?.is_file() {
            return Ok(Place::Source(source));
        }
        let (root, layout) = look(path).map_err(read_error)?;
        match (root, layout) {
            (None, true) => return Ok(Place::Source(source)),
            (Some(root), false) => return Ok(Place::Root(root)),
            (Some(_), true) => return Err(PlaceError::Both { path: path.to_owned() }),
            (None, false) => return Err(PlaceError::Neither { path: path.to_owned() }),
        }
    }
    // A name that is not UTF-8 can only be that of a root.
    match look(path).map_err(read_error)? {
        (Some(root), _) => Ok(Place::Root(root)),
        (None, _) => Err(PlaceError::Neither { path: path.to_owned() }),
    }
}

/// The root that is in `dir`, and whether a layout is.
fn look(dir: &Path) -> std::io::Result<(Option<PathBuf>, bool)> {
    let names = names_in(dir)?;
    let layout = names.iter().any(|name| OF_LAYOUT.contains(&name.as_str()));
    if is_root(&names) {
        return Ok((Some(dir.to_owned()), layout));
    }
    let data = dir.join(VOLUME_DATA);
    if names.iter().any(|name| name == VOLUME_DATA) && is_root(&names_in(&data)?) {
        return Ok((Some(data), layout));
    }
    Ok((None, layout))
}

fn names_in(dir: &Path) -> std::io::Result<Vec<String>> {
    let names = std::fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name().into_string().ok()));
    Ok(names.collect::<std::io::Result<Vec<_>>>()?.into_iter().flatten().collect())
}

fn is_root(names: &[String]) -> bool {
    let is_worker = |name: &str| WORKERS.iter().any(|prefix| name.starts_with(prefix));
    names.iter().any(|name| OF_ROOT.contains(&name.as_str()) || is_worker(name))
}
