//! Blobs that come into the store while they are unpacked, so that each is read once.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Mutex;

use rustix::fs::ioctl_ficlone;

use crate::layout::BlobFile;
use crate::unpack::Blob;

/// A blob in the store, or on its way there.
#[derive(Debug)]
pub(super) enum Stored {
    /// It is there.
    Whole(File),
    /// What is read of it is written there.
    Copying(Copying),
}

/// What is read of `from` is written to `to`.
#[derive(Debug)]
pub(super) struct Copying {
    from: BlobFile,
    to: File,
    /// Why it could not be written.
    failure: Mutex<Option<io::Error>>,
}

impl Stored {
    /// The blob `from`, whose file in the store is to be `to`, an empty one.
    pub(super) fn new(from: BlobFile, to: File) -> Self {
        // Some file systems let two files share what is on disk (Linux 6.18
        // `Documentation/filesystems/vfs.rst` `remap_file_range`). If not, `to` stays empty.
        if from.whole().is_some_and(|file| ioctl_ficlone(&to, file).is_ok()) {
            return Self::Whole(to);
        }
        Self::Copying(Copying { from, to, failure: Mutex::default() })
    }

    /// Where to read it.
    pub(super) fn blob(&self) -> &dyn Blob {
        match self {
            Self::Whole(file) => file,
            Self::Copying(copying) => copying,
        }
    }

    /// What it is once all of it was read.
    ///
    /// # Errors
    /// It could not be written.
    pub(super) fn after_reading(self) -> io::Result<Self> {
        let Self::Copying(copying) = self else { return Ok(self) };
        match copying.failure.into_inner() {
            Ok(Some(error)) => Err(error),
            _ => Ok(Self::Whole(copying.to)),
        }
    }
}

impl Blob for Copying {
    fn size(&self) -> io::Result<u64> {
        Ok(self.from.left())
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let length = self.from.read_at(buffer, position)?;
        if let Err(error) = self.to.write_all_at(&buffer[..length], position) {
            let kind = error.kind();
            if let Ok(mut failure) = self.failure.lock() {
                failure.get_or_insert(error);
            }
            return Err(kind.into());
        }
        Ok(length)
    }
}
