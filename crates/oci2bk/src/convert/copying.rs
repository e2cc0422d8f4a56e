//! Stores blobs while they are unpacked, so that each is read once.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::OnceLock;

use crate::layout::BlobFile;
use crate::unpack::Blob;

/// A blob to unpack: in the store, being copied there, or elsewhere because it is not to be stored.
#[derive(Debug)]
pub(super) enum Stored {
    /// It is in the store.
    Whole(File),
    /// It stays in the layout.
    Left(BlobFile),
    /// It is copied to the store while it is read.
    Copying(Copying),
}

/// A blob that is copied from `from` to `to` while it is read.
#[derive(Debug)]
pub(super) struct Copying {
    from: BlobFile,
    to: File,
    /// Why it cannot be written.
    failure: OnceLock<io::Error>,
}

impl Stored {
    /// Creates a copy of the blob `from`, which is written to the empty file `to` while it is read.
    pub(super) fn copying(from: BlobFile, to: File) -> Self {
        Self::Copying(Copying { from, to, failure: OnceLock::new() })
    }

    /// Returns the blob to read.
    pub(super) fn blob(&self) -> &dyn Blob {
        match self {
            Self::Whole(file) => file,
            Self::Left(blob) => blob,
            Self::Copying(copying) => copying,
        }
    }

    /// Returns its state after all of it was read.
    ///
    /// # Errors
    /// Returns an error if it cannot be written.
    pub(super) fn after_reading(self) -> io::Result<Self> {
        let Self::Copying(copying) = self else { return Ok(self) };
        match copying.failure.into_inner() {
            Some(error) => Err(error),
            None => Ok(Self::Whole(copying.to)),
        }
    }
}

impl Blob for BlobFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.left())
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        BlobFile::read_at(self, buffer, position)
    }
}

impl Blob for Copying {
    fn size(&self) -> io::Result<u64> {
        self.from.size()
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let length = BlobFile::read_at(&self.from, buffer, position)?;
        if let Err(error) = self.to.write_all_at(&buffer[..length], position) {
            let kind = error.kind();
            // The first error is the cause of the others.
            let _ = self.failure.set(error);
            return Err(kind.into());
        }
        Ok(length)
    }
}
