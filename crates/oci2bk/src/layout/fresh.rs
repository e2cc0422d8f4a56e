//! New directories, such as layouts: built beside their place, and moved there when they are complete.

use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use bkstate::dir::{Dir, DirError, FileKind};
use serde_json::json;

use super::{INDEX, OCI_LAYOUT, VERSION};
use crate::manifest::OCI_INDEX;

/// The modes of directories and files, as in BuildKit's layouts (v0.34.2 `client/ociindex/ociindex.go`).
const DIRECTORY_MODE: u32 = 0o755;
const FILE_MODE: u32 = 0o644;

/// Why a new directory cannot be written.
///
/// ```
/// use oci2bk::layout::NewDirectoryError;
/// use oci2bk::sparse::{SparseError, check_place};
///
/// let temporary = tempfile::tempdir()?;
/// std::fs::write(temporary.path().join("a file"), "of somebody")?;
/// let error = check_place(temporary.path()).unwrap_err();
/// assert!(matches!(error, SparseError::Place(NewDirectoryError::NotEmpty { .. })));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NewDirectoryError {
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
    /// The directory has files, and is not of a kind that is replaced.
    #[error("{} is not empty{replaced}; name a new directory", path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
        /// The kind that is replaced, for messages.
        replaced: &'static str,
    },
    /// The directory cannot be created or moved into its place.
    #[error("cannot write the directory {}", path.display())]
    Dir {
        /// The path.
        path: PathBuf,
        /// The cause.
        #[source]
        source: DirError,
    },
    /// A file in it cannot be written.
    #[error("cannot write {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        #[source]
        source: std::io::Error,
    },
}

/// The directories that are replaced, besides empty ones.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Replaced {
    /// Returns whether a directory with files is replaced.
    pub(crate) is: fn(&Path) -> bool,
    /// What they are, for messages.
    pub(crate) words: &'static str,
}

impl Replaced {
    /// Only empty ones.
    pub(crate) const NONE: Self = Self { is: |_| false, words: "" };
}

/// A directory to create, and the directory beside it in which it is built. Dropping it removes the latter.
#[derive(Debug)]
pub(crate) struct NewDirectory {
    path: PathBuf,
    parent: Dir,
    name: OsString,
    beside: OsString,
    staging: Dir,
    replaced: Replaced,
}

impl NewDirectory {
    /// Checks the place, and creates an empty directory beside it.
    pub(crate) fn prepare(path: &Path, replaced: Replaced) -> Result<Self, NewDirectoryError> {
        let (parent, name) = split(path)?;
        check_in(path, &parent, &name, replaced)?;
        let failed = |source| NewDirectoryError::Dir { path: path.to_owned(), source };
        // The name of an interrupted run's leftover is not used for anything else.
        let mut beside = OsString::from(".");
        beside.push(&name);
        beside.push(".oci2bk");
        parent.remove_tree(&*beside).map_err(failed)?;
        let staging = parent.create_dir(&*beside, DIRECTORY_MODE).map_err(failed)?;
        Ok(Self { path: path.to_owned(), parent, name, beside, staging, replaced })
    }

    /// Returns the directory beside the place.
    pub(crate) fn staging(&self) -> &Dir {
        &self.staging
    }

    /// Makes it an empty layout.
    pub(crate) fn make_layout(&self) -> Result<(), NewDirectoryError> {
        let failed = |source| NewDirectoryError::Dir { path: self.path.clone(), source };
        let blobs = self.staging.create_dir("blobs", DIRECTORY_MODE).map_err(failed)?;
        blobs.create_dir("sha256", DIRECTORY_MODE).map_err(failed)?;
        let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []});
        let files = [(OCI_LAYOUT, json!({"imageLayoutVersion": VERSION})), (INDEX, index)];
        for (name, content) in files {
            let mut file = self.staging.create_file(name, FILE_MODE).map_err(failed)?;
            let written = file.write_all(content.to_string().as_bytes());
            let path = || self.staging.path().join(name);
            written.map_err(|source| NewDirectoryError::File { path: path(), source })?;
        }
        Ok(())
    }

    /// Moves it to its place, and removes an old one.
    pub(crate) fn publish(self) -> Result<(), NewDirectoryError> {
        // Another process may have created something there in the meantime.
        check_in(&self.path, &self.parent, &self.name, self.replaced)?;
        let moved = self.move_there();
        moved.map_err(|source| NewDirectoryError::Dir { path: self.path.clone(), source })
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

impl Drop for NewDirectory {
    fn drop(&mut self) {
        // Either the old directory, or an unfinished one. The next run removes what is left.
        let _ = self.parent.remove_tree(&*self.beside);
    }
}

/// Rejects a place that is neither empty nor replaced.
pub(crate) fn check_place(path: &Path, replaced: Replaced) -> Result<(), NewDirectoryError> {
    let (parent, name) = split(path)?;
    check_in(path, &parent, &name, replaced)
}

/// Returns whether nothing is at `path`, or an empty directory.
pub(crate) fn is_free(path: &Path) -> bool {
    match Dir::open(path).and_then(|dir| dir.entries()) {
        Ok(entries) => entries.is_empty(),
        Err(error) => error.is_not_found(),
    }
}

/// Returns the parent directory, and the name in it.
fn split(path: &Path) -> Result<(Dir, OsString), NewDirectoryError> {
    let none = || NewDirectoryError::NoName { path: path.to_owned() };
    let name = path.file_name().ok_or_else(none)?;
    let above = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = Dir::open(above.unwrap_or(Path::new(".")))
        .map_err(|source| NewDirectoryError::Dir { path: path.to_owned(), source })?;
    Ok((parent, name.to_owned()))
}

fn check_in(
    path: &Path,
    parent: &Dir,
    name: &OsStr,
    replaced: Replaced,
) -> Result<(), NewDirectoryError> {
    let failed = |source| NewDirectoryError::Dir { path: path.to_owned(), source };
    match parent.find(name).map_err(failed)?.map(|found| found.kind) {
        None => return Ok(()),
        Some(FileKind::Directory) => {}
        Some(_) => return Err(NewDirectoryError::NotADirectory { path: path.to_owned() }),
    }
    let entries = parent.dir(name).map_err(failed)?.entries().map_err(failed)?;
    if entries.is_empty() || (replaced.is)(path) {
        return Ok(());
    }
    Err(NewDirectoryError::NotEmpty { path: path.to_owned(), replaced: replaced.words })
}
