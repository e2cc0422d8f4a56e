//! An OCI image layout: a directory with `oci-layout`, `index.json` and `blobs/sha256/`.
//!
//! BuildKit's `type=local` cache exporter writes this form (BuildKit `client/ociindex/ociindex.go`
//! for the files at the top, containerd's local content store for the blobs). Nothing in a layout
//! is trusted: every file is reached from one directory handle without following a symbolic link,
//! must be a regular file, and is checked against its digest before its content counts.

mod blob;
mod descriptor;
pub mod limits;
mod open;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod write;

use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};
use serde::Deserialize;

pub use blob::{BlobError, BlobFile};
pub(crate) use descriptor::null_as_default;
pub use descriptor::{Descriptor, Platform};
pub use open::FileKind;
pub use write::{LayoutWriter, WriteError, edited_index};

use crate::manifest::{Document, DocumentError};
use open::{OpenError, regular_file};

const OCI_LAYOUT: &str = "oci-layout";
const INDEX: &str = "index.json";
/// The one version of the layout that exists (OCI image-spec 1.1, `image-layout.md`).
const VERSION: &str = "1.0.0";

/// An open layout.
#[derive(Debug)]
pub struct Layout {
    path: PathBuf,
    dir: OwnedFd,
    entries: Vec<Descriptor>,
}

/// Why a directory is not a usable layout.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// The directory cannot be opened.
    #[error("cannot open {path} as a directory")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// There is no `index.json`.
    #[error(
        "{} has no index.json, so it is not an OCI layout; give the directory that \
         --cache-to type=local,dest=DIR wrote",
        path.display()
    )]
    NoIndex {
        /// The directory.
        path: PathBuf,
    },
    /// `oci-layout` or `index.json` is something other than a regular file.
    #[error("{path} is {kind}, and only regular files are read")]
    NotAFile {
        /// The file.
        path: PathBuf,
        /// What it is.
        kind: FileKind,
    },
    /// `oci-layout` or `index.json` cannot be read.
    #[error("cannot read {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// `oci-layout` or `index.json` is too large to be one.
    #[error("{path} has more than {limit} bytes")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit in bytes, one of [`limits`].
        limit: u64,
    },
    /// `oci-layout` is not the JSON that it should be.
    #[error("{path} does not state the version of an OCI layout")]
    Version {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The layout has a version that is not known.
    #[error("{path} states version {version:?} of the OCI layout; only {VERSION} is known")]
    UnknownVersion {
        /// The file.
        path: PathBuf,
        /// The version, shortened to 100 characters.
        version: String,
    },
    /// `index.json` is not an index.
    #[error("{path} is not an index of manifests")]
    Index {
        /// The file.
        path: PathBuf,
        /// What is wrong with it; nothing if it is a well-formed manifest.
        #[source]
        source: Option<DocumentError>,
    },
}

impl Layout {
    /// Opens the layout in the directory `path`.
    ///
    /// `path` itself may be a symbolic link; everything below it may not. A missing `oci-layout`
    /// file is accepted, because BuildKit before v0.12 did not write one.
    ///
    /// # Errors
    /// The directory or one of its two files cannot be read or is malformed.
    pub fn open(path: &Path) -> Result<Self, LayoutError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = openat(CWD, path, flags, Mode::empty()).map_err(|source| {
            LayoutError::Directory { path: path.to_owned(), source: source.into() }
        })?;
        if let Some(content) = read_file(&dir, path, OCI_LAYOUT, limits::OCI_LAYOUT_FILE)? {
            check_version(&path.join(OCI_LAYOUT), &content)?;
        }
        let content = read_file(&dir, path, INDEX, limits::INDEX_FILE)?
            .ok_or_else(|| LayoutError::NoIndex { path: path.to_owned() })?;
        let index_error = |source| LayoutError::Index { path: path.join(INDEX), source };
        match Document::parse(&content) {
            Ok(Document::Index(index)) => {
                Ok(Self { path: path.to_owned(), dir, entries: index.manifests })
            }
            Ok(Document::Manifest(_)) => Err(index_error(None)),
            Err(error) => Err(index_error(Some(error))),
        }
    }

    /// The directory that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The entries of `index.json`, in its order.
    pub fn entries(&self) -> &[Descriptor] {
        &self.entries
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OciLayout {
    image_layout_version: String,
}

fn check_version(path: &Path, content: &[u8]) -> Result<(), LayoutError> {
    let OciLayout { image_layout_version: version } = serde_json::from_slice(content)
        .map_err(|source| LayoutError::Version { path: path.to_owned(), source })?;
    if version == VERSION {
        return Ok(());
    }
    let version = version.chars().take(100).collect();
    Err(LayoutError::UnknownVersion { path: path.to_owned(), version })
}

/// The content of the file `name` of the layout; `None` if there is no such file.
fn read_file(
    dir: &OwnedFd,
    layout: &Path,
    name: &str,
    limit: u64,
) -> Result<Option<Vec<u8>>, LayoutError> {
    let path = || layout.join(name);
    let file = match regular_file(dir, name) {
        Ok((_, size)) if size > limit => {
            return Err(LayoutError::TooLarge { path: path(), limit });
        }
        Ok((file, _)) => file,
        Err(OpenError::Missing) => return Ok(None),
        Err(OpenError::NotRegular(kind)) => {
            return Err(LayoutError::NotAFile { path: path(), kind });
        }
        Err(OpenError::Io(source)) => return Err(LayoutError::Io { path: path(), source }),
    };
    let mut content = Vec::new();
    file.take(limit + 1)
        .read_to_end(&mut content)
        .map_err(|source| LayoutError::Io { path: path(), source })?;
    // The file may have grown since its size was read.
    if content.len() as u64 > limit {
        return Err(LayoutError::TooLarge { path: path(), limit });
    }
    Ok(Some(content))
}
