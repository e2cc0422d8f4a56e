//! The place of a sparse layout, and its staging directory.

use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use bkstate::dir::{Dir, DirError, FileKind};
use serde_json::json;

use super::{ANNOTATION, SparseError};
use crate::layout::{INDEX, Layout, OCI_LAYOUT};
use crate::limits::Limits;
use crate::manifest::OCI_INDEX;

/// The modes of directories and files, as in BuildKit's layouts (v0.34.2 `client/ociindex/ociindex.go`).
const DIRECTORY_MODE: u32 = 0o755;
const FILE_MODE: u32 = 0o644;
/// The entries of a layout.
const OURS: [&str; 3] = [OCI_LAYOUT, INDEX, "blobs"];

/// A directory to create, and the directory beside it in which it is built. Dropping it removes the latter.
pub(super) struct Place {
    path: PathBuf,
    parent: Dir,
    name: OsString,
    beside: OsString,
    staging: Dir,
}

impl Place {
    /// Checks the place, and creates an empty layout beside it.
    pub(super) fn prepare(path: &Path) -> Result<Self, SparseError> {
        let (parent, name) = split(path)?;
        check_in(path, &parent, &name)?;
        let failed = |source| SparseError::Place { path: path.to_owned(), source };
        // The name of an interrupted run's leftover is not used for anything else.
        let mut beside = OsString::from(".");
        beside.push(&name);
        beside.push(".oci2bk");
        parent.remove_tree(&*beside).map_err(failed)?;
        let staging = parent.create_dir(&*beside, DIRECTORY_MODE).map_err(failed)?;
        let place = Self { path: path.to_owned(), parent, name, beside, staging };
        place.make_layout()?;
        Ok(place)
    }

    pub(super) fn staging(&self) -> &Dir {
        &self.staging
    }

    fn make_layout(&self) -> Result<(), SparseError> {
        let failed = |source| SparseError::Place { path: self.path.clone(), source };
        let blobs = self.staging.create_dir("blobs", DIRECTORY_MODE).map_err(failed)?;
        blobs.create_dir("sha256", DIRECTORY_MODE).map_err(failed)?;
        let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []});
        let files =
            [(OCI_LAYOUT, json!({"imageLayoutVersion": crate::layout::VERSION})), (INDEX, index)];
        for (name, content) in files {
            let mut file = self.staging.create_file(name, FILE_MODE).map_err(failed)?;
            let written = file.write_all(content.to_string().as_bytes());
            let path = || self.staging.path().join(name);
            written.map_err(|source| SparseError::File { path: path(), source })?;
        }
        Ok(())
    }

    /// Moves the layout to its place, and removes an old one.
    pub(super) fn publish(self) -> Result<(), SparseError> {
        // Another process may have created something there in the meantime.
        check_in(&self.path, &self.parent, &self.name)?;
        self.move_there().map_err(|source| SparseError::Place { path: self.path.clone(), source })
    }

    fn move_there(&self) -> Result<(), DirError> {
        self.staging.sync_file_system()?;
        match self.parent.find(&*self.name)? {
            None => self.parent.rename(&*self.beside, &self.parent, &*self.name)?,
            Some(_) => self.parent.exchange(&*self.beside, &self.parent, &*self.name)?,
        }
        self.parent.sync()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Either the old layout, or an unfinished one. The next run removes what is left.
        let _ = self.parent.remove_tree(&*self.beside);
    }
}

/// Rejects a place that is neither empty nor a sparse layout.
pub(super) fn check(path: &Path) -> Result<(), SparseError> {
    let (parent, name) = split(path)?;
    check_in(path, &parent, &name)
}

/// Returns the parent directory, and the name in it.
fn split(path: &Path) -> Result<(Dir, OsString), SparseError> {
    let name = path.file_name().ok_or_else(|| SparseError::NoName { path: path.to_owned() })?;
    let above = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = Dir::open(above.unwrap_or(Path::new(".")))
        .map_err(|source| SparseError::Place { path: path.to_owned(), source })?;
    Ok((parent, name.to_owned()))
}

fn check_in(path: &Path, parent: &Dir, name: &OsStr) -> Result<(), SparseError> {
    let failed = |source| SparseError::Place { path: path.to_owned(), source };
    match parent.find(name).map_err(failed)?.map(|found| found.kind) {
        None => return Ok(()),
        Some(FileKind::Directory) => {}
        Some(_) => return Err(SparseError::NotADirectory { path: path.to_owned() }),
    }
    let entries = parent.dir(name).map_err(failed)?.entries().map_err(failed)?;
    let are_ours =
        || entries.iter().all(|entry| entry.to_str().is_some_and(|name| OURS.contains(&name)));
    if entries.is_empty() || are_ours() && is_sparse(path) {
        return Ok(());
    }
    Err(SparseError::NotEmpty { path: path.to_owned() })
}

/// Returns whether the directory is a layout with the annotation.
fn is_sparse(path: &Path) -> bool {
    let layout = Layout::open(path, &Limits::default());
    layout.is_ok_and(|layout| layout.annotations().contains_key(ANNOTATION))
}
