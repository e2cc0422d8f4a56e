//! The content store: a file for each blob, named by its digest.
//!
//! Everything else that containerd knows of a blob is in its row, see [`Content`](crate::metadata::Content).
//! A blob needs both. Source: containerd v2.3.3 `plugins/content/local/store.go`.
//!
//! ```
//! use std::collections::BTreeMap;
//! use std::io::Write as _;
//!
//! use bkstate::Digest;
//! use bkstate::content::BlobStore;
//! use bkstate::dir::{Dir, FileKind, Found};
//!
//! let temp = tempfile::tempdir()?;
//! let dir = Dir::open(temp.path())?;
//! let store = BlobStore::create(&dir.create_dir("content", 0o755)?)?;
//! let blob = Digest::of("a layer");
//! store.create_blob(&blob)?.write_all(b"a layer")?;
//! let found = store.find(&blob)?;
//! assert!(matches!(found, Some(Found { kind: FileKind::File, size: 7, mode: 0o444, .. })));
//!
//! // On the same file system, a second store links the file itself.
//! let staged = BlobStore::open_or_create(&dir.create_dir("staging", 0o700)?)?;
//! assert!(staged.shares_file_system(&dir)?);
//! staged.link_blob(&blob, &store.blob(&blob)?)?;
//! store.remove(&blob)?;
//!
//! staged.move_all(&store)?;
//! assert!(staged.names()?.is_empty());
//! assert_eq!(store.files()?, BTreeMap::from([(blob, 7)]));
//! assert_eq!(store.path(), temp.path().join("content/blobs/sha256"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;

use crate::digest::Digest;
use crate::dir::{Dir, DirError, FileKind, Found, if_there};

pub(crate) const BLOBS: &str = "blobs";
pub(crate) const SHA256: &str = "sha256";

/// The directory `blobs/sha256` of a content store.
#[derive(Debug)]
pub struct BlobStore {
    blobs: Dir,
}

impl BlobStore {
    /// Creates an empty store in its directory ([`Part::Content`](crate::worker::Part::Content)).
    ///
    /// # Errors
    /// Returns an error if it exists or cannot be created.
    pub fn create(content: &Dir) -> Result<Self, DirError> {
        Ok(Self { blobs: content.create_dir(BLOBS, 0o755)?.create_dir(SHA256, 0o755)? })
    }

    /// Opens the store in its directory.
    ///
    /// # Errors
    /// Returns an error if it does not exist or cannot be opened.
    pub fn open(content: &Dir) -> Result<Self, DirError> {
        Ok(Self { blobs: content.dir(BLOBS)?.dir(SHA256)? })
    }

    /// Opens the store in its directory, and creates missing parts of it.
    ///
    /// # Errors
    /// Returns an error if it can be neither opened nor created.
    pub fn open_or_create(content: &Dir) -> Result<Self, DirError> {
        let open = |parent: &Dir, name| match if_there(parent.dir(name))? {
            Some(dir) => Ok::<_, DirError>(dir),
            None => parent.create_dir(name, 0o755),
        };
        Ok(Self { blobs: open(&open(content, BLOBS)?, SHA256)? })
    }

    /// Creates the empty file of a blob, open for reading and writing.
    ///
    /// # Errors
    /// Returns an error if it exists or cannot be created.
    pub fn create_blob(&self, digest: &Digest) -> Result<File, DirError> {
        self.blobs.create_file(digest.hex().as_str(), 0o444)
    }

    /// Makes `file` the file of a blob, by a hard link.
    ///
    /// # Errors
    /// Returns an error if the blob has a file, or the kernel refuses, as between file systems.
    pub fn link_blob(&self, digest: &Digest, file: &File) -> Result<(), DirError> {
        self.blobs.link_file(file, digest.hex().as_str())
    }

    /// Opens the file of a blob for reading.
    ///
    /// # Errors
    /// Returns an error if it does not exist, or is not a regular file.
    pub fn blob(&self, digest: &Digest) -> Result<File, DirError> {
        self.blobs.file(digest.hex().as_str())
    }

    /// Returns the blobs that have files, with their sizes in bytes. Files that are not named as blobs are
    /// ignored.
    ///
    /// # Errors
    /// Returns an error if the store cannot be listed.
    pub fn files(&self) -> Result<BTreeMap<Digest, u64>, DirError> {
        let mut files = BTreeMap::new();
        for entry in self.blobs.entries()? {
            let digest = entry.to_str().and_then(|hex| format!("sha256:{hex}").parse().ok());
            if let Some(digest) = digest
                && let Some(found) = self.find(&digest)?
                && found.kind == FileKind::File
            {
                files.insert(digest, found.size);
            }
        }
        Ok(files)
    }

    /// Removes the file of a blob.
    ///
    /// # Errors
    /// Returns an error if it does not exist or cannot be removed.
    pub fn remove(&self, digest: &Digest) -> Result<(), DirError> {
        self.blobs.remove_file(digest.hex().as_str())
    }

    /// Moves all blobs to `target`, and replaces files of the same names there.
    ///
    /// # Errors
    /// Returns an error if the kernel refuses. Blobs that were moved before stay moved.
    pub fn move_all(&self, target: &Self) -> Result<(), DirError> {
        for entry in self.blobs.entries()? {
            self.blobs.replace(&*entry.name, &target.blobs, &*entry.name)?;
        }
        target.blobs.sync()
    }

    /// Returns the path of the directory; for messages only.
    pub fn path(&self) -> &Path {
        self.blobs.path()
    }

    /// Returns whether files can be moved between this store and the directory `other`.
    ///
    /// # Errors
    /// Returns an error if one of them cannot be examined.
    pub fn shares_file_system(&self, other: &Dir) -> Result<bool, DirError> {
        self.blobs.shares_file_system(other)
    }

    /// Returns the file under a blob's name, of any kind, if there is one.
    ///
    /// # Errors
    /// Returns an error if the store cannot be searched.
    pub fn find(&self, digest: &Digest) -> Result<Option<Found>, DirError> {
        self.blobs.find(digest.hex().as_str())
    }

    /// Returns the names of all files in the store, including those that are not blobs.
    ///
    /// # Errors
    /// Returns an error if they cannot be listed.
    pub fn names(&self) -> Result<BTreeSet<String>, DirError> {
        let entries = self.blobs.entries()?;
        Ok(entries.iter().map(|entry| entry.name.to_string_lossy().into_owned()).collect())
    }
}
