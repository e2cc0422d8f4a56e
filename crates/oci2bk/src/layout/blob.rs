//! Reads and verifies blobs.

use std::io::{self, Read as _};

use bkstate::Digest;
use bkstate::digest::Hasher;

use super::open::{FileKind, OpenError};
use super::store::{BlobFile, Name};
use super::{Descriptor, Layout};
use crate::json::{self, TooComplex};
use crate::limits::Bound;

/// How much of a blob is in memory while it is streamed through the hash.
const CHUNK: usize = 256 << 10;

/// Why a blob of a layout could not be read or is not what its descriptor says.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BlobError {
    /// The layout has no such blob.
    #[error("blob {digest} is not in the layout; copy or export the cache again")]
    Missing {
        /// The blob.
        digest: Digest,
    },
    /// Something that is not a regular file has the blob's name.
    #[error("blob {digest} is {kind}, and only regular files are read; replace it by the file")]
    NotAFile {
        /// The blob.
        digest: Digest,
        /// What it is.
        kind: FileKind,
    },
    /// The file is larger or smaller than its descriptor says.
    #[error(
        "blob {digest} has {actual} bytes, but its descriptor says {expected}; copy or export the cache \
         again"
    )]
    Size {
        /// The blob.
        digest: Digest,
        /// The bytes that the descriptor promises.
        expected: u64,
        /// The bytes that are there.
        actual: u64,
    },
    /// The blob is a document that would have to be held in memory, and too large for it.
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
    /// The blob is a document with more in it than any real one.
    #[error("blob {digest} is not a document of a build")]
    TooComplex {
        /// The blob.
        digest: Digest,
        /// What there is too much of.
        #[source]
        source: TooComplex,
    },
    /// The content is not the one that the name promises.
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
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl Layout {
    /// A descriptor of the blob `digest`, which need not be mentioned in any index, with the size
    /// of its file and no media type.
    ///
    /// # Errors
    /// The blob is missing, not a regular file, or cannot be opened.
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
    /// The blob is missing, not a regular file, cannot be opened, or has another size.
    pub fn open_blob(&self, descriptor: &Descriptor) -> Result<BlobFile, BlobError> {
        let blob = self.open_any_size(descriptor.digest)?;
        check_size(descriptor, blob.left())?;
        Ok(blob)
    }

    /// Reads a whole blob of at most `limit` bytes, which is JSON, and checks its size and digest, and
    /// how many values it has.
    ///
    /// # Errors
    /// As for [`Layout::open_blob`]; also if the blob is over the limits or corrupt.
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
    /// As for [`Layout::open_blob`]; also if the blob is corrupt.
    pub fn verify_blob(&self, descriptor: &Descriptor) -> Result<(), BlobError> {
        self.stream_blob(descriptor, |_| Ok(()))
    }

    /// Like [`Layout::verify_blob`], and hands each piece to `sink` before it is known whether the
    /// whole is right.
    ///
    /// # Errors
    /// As for [`Layout::verify_blob`]; also those of `sink`.
    pub fn stream_blob<E: From<BlobError>>(
        &self,
        descriptor: &Descriptor,
        mut sink: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let digest = descriptor.digest;
        let mut file = self.open_blob(descriptor)?;
        let mut hasher = Hasher::new();
        // No more than there is: a cache may have very many small blobs.
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
