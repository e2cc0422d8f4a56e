//! Reads and verifies blobs.

use std::io::{self, Read as _};

use bkstate::Digest;
use bkstate::digest::Hasher;

use super::open::{FileKind, OpenError};
use super::store::{BlobFile, Name};
use super::{Descriptor, Layout};
use crate::json::{self, TooComplex};
use crate::limits::Bound;

/// Size of the pieces in which a blob is hashed.
const CHUNK: usize = 256 << 10;

/// Why a blob of a layout cannot be read or does not match its descriptor.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BlobError {
    /// The layout has no such blob.
    #[error("blob {digest} is not in the layout; copy or export the cache again")]
    Missing {
        /// The blob.
        digest: Digest,
    },
    /// The name of the blob belongs to something other than a regular file.
    #[error("blob {digest} is {kind}, and only regular files are read; replace it by the file")]
    NotAFile {
        /// The blob.
        digest: Digest,
        /// Its kind.
        kind: FileKind,
    },
    /// The size of the file differs from its descriptor.
    #[error(
        "blob {digest} has {actual} bytes, but its descriptor says {expected}; copy or export the cache \
         again"
    )]
    Size {
        /// The blob.
        digest: Digest,
        /// The size in the descriptor, in bytes.
        expected: u64,
        /// The actual size, in bytes.
        actual: u64,
    },
    /// The blob is a document that is read into memory, and too large for that.
    #[error(
        "blob {digest} has {size} bytes, but {} is all that a document of its kind may have",
        limit.value
    )]
    TooLarge {
        /// The blob.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: Bound,
    },
    /// The blob is a document with more content than any real one.
    #[error("blob {digest} is not a document of a build")]
    TooComplex {
        /// The blob.
        digest: Digest,
        /// The exceeded limit.
        #[source]
        source: TooComplex,
    },
    /// The content does not match the digest.
    #[error(
        "blob {digest} is damaged: its content has the digest {actual}; copy or export the cache again"
    )]
    Digest {
        /// The blob.
        digest: Digest,
        /// The digest of the content.
        actual: Digest,
    },
    /// The system refused to open or read the file.
    #[error("cannot read blob {digest}")]
    Io {
        /// The blob.
        digest: Digest,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
}

impl Layout {
    /// Returns a descriptor of the blob `digest`, which need not be in any index, with the size of its file
    /// and without a media type.
    ///
    /// # Errors
    /// Returns an error if the blob is missing, not a regular file, or cannot be opened.
    pub fn describe_blob(&self, digest: Digest) -> Result<Descriptor, BlobError> {
        let size = self.open_any_size(digest)?.left();
        Ok(Descriptor {
            media_type: String::new(),
            digest,
            size,
            annotations: Default::default(),
            platform: None,
            artifact_type: None,
        })
    }

    /// Opens a blob and checks its size, but not its content.
    ///
    /// # Errors
    /// Returns an error if the blob is missing, not a regular file, cannot be opened, or has another size.
    pub fn open_blob(&self, descriptor: &Descriptor) -> Result<BlobFile, BlobError> {
        let blob = self.open_any_size(descriptor.digest)?;
        check_size(descriptor, blob.left())?;
        Ok(blob)
    }

    /// Reads a whole JSON blob of at most `limit` bytes, and checks its size, its digest and its number of
    /// values.
    ///
    /// # Errors
    /// Same as [`Layout::open_blob`]; also if the blob exceeds the limits or is corrupt.
    pub fn read_blob(&self, descriptor: &Descriptor, limit: Bound) -> Result<Vec<u8>, BlobError> {
        let digest = descriptor.digest;
        let mut file = self.open_blob(descriptor)?;
        let size = file.left();
        let too_large = || BlobError::TooLarge { digest, size, limit };
        if size > limit.value {
            return Err(too_large());
        }
        let mut content = Vec::with_capacity(usize::try_from(size).map_err(|_| too_large())?);
        file.read_to_end(&mut content).map_err(|source| BlobError::Io { digest, source })?;
        check_size(descriptor, content.len() as u64)?;
        check_digest(digest, Digest::of(&content))?;
        json::check(&content, self.limits())
            .map_err(|source| BlobError::TooComplex { digest, source })?;
        Ok(content)
    }

    /// Reads a blob of any size in pieces and checks its size and digest.
    ///
    /// # Errors
    /// Same as [`Layout::open_blob`]; also if the blob is corrupt.
    pub fn verify_blob(&self, descriptor: &Descriptor) -> Result<(), BlobError> {
        self.stream_blob(descriptor, |_| Ok(()))
    }

    /// Same as [`Layout::verify_blob`], and passes each piece to `sink`, before the whole blob is verified.
    ///
    /// # Errors
    /// Same as [`Layout::verify_blob`]; also the errors of `sink`.
    pub fn stream_blob<E: From<BlobError>>(
        &self,
        descriptor: &Descriptor,
        mut sink: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let digest = descriptor.digest;
        let mut file = self.open_blob(descriptor)?;
        let mut hasher = Hasher::new();
        // Not larger than the blob: a cache can have very many small blobs.
        let length = usize::try_from(file.left()).map_or(CHUNK, |left| left.clamp(1, CHUNK));
        let mut chunk = vec![0; length];
        let mut read = 0;
        loop {
            match file.read(&mut chunk) {
                Ok(0) => break,
                Ok(length) => {
                    hasher.update(&chunk[..length]);
                    sink(&chunk[..length])?;
                    read += length as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(BlobError::Io { digest, source }.into()),
            }
        }
        check_size(descriptor, read)?;
        Ok(check_digest(digest, hasher.finish())?)
    }

    fn open_any_size(&self, digest: Digest) -> Result<BlobFile, BlobError> {
        match self.store.file(Name::Blob(digest)) {
            Ok(file) => Ok(file),
            Err(OpenError::Missing) => Err(BlobError::Missing { digest }),
            Err(OpenError::NotRegular(kind)) => Err(BlobError::NotAFile { digest, kind }),
            Err(OpenError::Io(source)) => Err(BlobError::Io { digest, source }),
        }
    }
}

fn check_size(descriptor: &Descriptor, actual: u64) -> Result<(), BlobError> {
    let Descriptor { digest, size: expected, .. } = *descriptor;
    if actual == expected { Ok(()) } else { Err(BlobError::Size { digest, expected, actual }) }
}

fn check_digest(digest: Digest, actual: Digest) -> Result<(), BlobError> {
    if actual == digest { Ok(()) } else { Err(BlobError::Digest { digest, actual }) }
}
