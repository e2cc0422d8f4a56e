//! Finds key sources beside a cache, which need not be named.
//!
//! A cache often has its provenance in the same directory. Only a few names are tried, and only in the
//! directory of a layout and in the parent directory of the layout or archive. A file with such a name may be
//! of any build, and from anybody: no link is followed, and a file counts only as a document of limited size.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use bkstate::dir::{Dir, FileKind, if_there};

use super::error::SourceError;
use super::exported;
use super::read::read_found;
use super::source::KeySource;
use crate::layout::Layout;
use crate::limits::Limits;

/// The names of provenance from BuildKit's exporters, of buildx' metadata file in Docker's documentation, and
/// of a keys file in ours.
const NAMES: [&str; 3] = ["provenance.json", "metadata.json", "keys.json"];

/// The directory of `--output type=local` in Docker's documentation.
const OUTPUT: &str = "out";

/// Maximum number of files to read in one place. Builds are for a few platforms.
const MAX_FILES: usize = 100;

/// A directory to search.
pub(super) struct Place {
    path: PathBuf,
    /// Whether it is the layout itself.
    is_layout: bool,
}

/// Returns the possible places of sources for these layouts, each once, with the limits of the layout.
pub(super) fn places<'l>(
    layouts: impl Iterator<Item = &'l Layout>,
) -> impl Iterator<Item = (&'l Limits, Place)> {
    let mut seen = BTreeSet::new();
    layouts.flat_map(around).filter(move |(_, place)| seen.insert(place.path.clone()))
}

fn around(layout: &Layout) -> [(&Limits, Place); 2] {
    let path = layout.path();
    [
        (layout.limits(), Place { path: path.to_owned(), is_layout: true }),
        (layout.limits(), Place { path: parent(path), is_layout: false }),
    ]
}

/// Returns the directory with the file or directory at `path`.
pub(super) fn parent(path: &Path) -> PathBuf {
    match (path.file_name(), path.parent()) {
        (Some(_), Some(parent)) if parent.as_os_str().is_empty() => PathBuf::from("."),
        (Some(_), Some(parent)) => parent.to_owned(),
        // Such as `.`, whose parent only the system knows.
        _ => path.join(".."),
    }
}

/// Reads the sources in one place.
pub(super) fn read(place: &Place, limits: &Limits) -> Vec<Result<KeySource, SourceError>> {
    let files = match files(place) {
        Ok(files) => files,
        Err(error) => return vec![Err(error)],
    };
    let mut left = limits.keys_documents;
    let mut sources = Vec::new();
    for (path, file) in files {
        match read_found(&path, file, &mut left, limits) {
            Ok(found) => sources.extend(found.into_iter().map(Ok)),
            Err(error) => sources.push(Err(error)),
        }
    }
    sources
}

fn files(place: &Place) -> Result<Vec<(PathBuf, File)>, SourceError> {
    // An archive is not a directory, and an unreadable directory is ignored.
    let Ok(dir) = Dir::open(&place.path) else { return Ok(Vec::new()) };
    let shown = |name: &str| match place.path.as_path() {
        here if here == Path::new(".") => PathBuf::from(name),
        path => path.join(name),
    };
    let mut files = Vec::new();
    for name in NAMES {
        if dir.find(name)?.is_some_and(|found| found.kind == FileKind::File) {
            files.extend(if_there(dir.file(name))?.map(|file| (shown(name), file)));
        }
    }
    let output = dir.find(OUTPUT)?.filter(|found| found.kind == FileKind::Directory);
    if !place.is_layout && output.is_some() {
        files.extend(exported::provenance(&dir.dir(OUTPUT)?)?);
    }
    files.truncate(MAX_FILES);
    Ok(files)
}
