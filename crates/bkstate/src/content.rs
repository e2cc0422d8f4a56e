//! The content store: a file for each blob, named by its digest.
//!
//! What else containerd knows of a blob is in its row, see [`Content`](crate::metadata::Content).
//! A blob needs both. Source: containerd v2.3.3 `plugins/content/local/store.go`.

use std::collections::BTreeSet;
use std::fs::File;

use crate::digest::Digest;
use crate::dir::{Dir, DirError, Found};

const CONTENT: &str = "content";
const BLOBS: &str = "blobs";
const SHA256: &str = "sha256";

/// `content/blobs/sha256` of a worker.
#[derive(Debug)]
pub struct BlobStore {
    blobs: Dir,
}

impl BlobStore {
    /// Makes an empty store in the worker's directory.
    ///
    /// # Errors
    /// If it exists or cannot be made.
    pub fn create(worker: &Dir) -> Result<Self, DirError> {
        let content = worker.create_dir(CONTENT, 0o755)?;
        Ok(Self { blobs: content.create_dir(BLOBS, 0o755)?.create_dir(SHA256, 0o755)? })
    }

    /// Opens the store of a worker.
    ///
    /// # Errors
    /// If it is not there.
    pub fn open(worker: &Dir) -> Result<Self, DirError> {
        Ok(Self { blobs: worker.dir(CONTENT)?.dir(BLOBS)?.dir(SHA256)? })
    }

    /// Makes the empty file of a blob, open for reading and writing.
    ///
    /// # Errors
    /// If it exists or cannot be made.
    pub fn create_blob(&self, digest: &Digest) -> Result<File, DirError> {
        self.blobs.create_file(digest.hex().as_str(), 0o444)
    }

    /// What stands where the file of a blob belongs, if anything does.
    ///
    /// # Errors
    /// If the store cannot be searched.
    pub fn find(&self, digest: &Digest) -> Result<Option<Found>, DirError> {
        self.blobs.find(digest.hex().as_str())
    }

    /// Opens the file of a blob for reading.
    ///
    /// # Errors
    /// If it is not there, or is not a regular file.
    pub fn open_blob(&self, digest: &Digest) -> Result<File, DirError> {
        self.blobs.file(digest.hex().as_str())
    }

    /// The names of all files in the store, those of no blob included.
    ///
    /// # Errors
    /// If they cannot be listed.
    pub fn names(&self) -> Result<BTreeSet<String>, DirError> {
        let entries = self.blobs.entries()?;
        Ok(entries.iter().map(|entry| entry.name.to_string_lossy().into_owned()).collect())
    }
}
