//! Decompresses a layer's blob to its tar stream.
//!
//! | media type | stream |
//! |---|---|
//! | `application/vnd.oci.image.layer.v1.tar`, `...layer.nondistributable.v1.tar` | unchanged |
//! | the same with `+gzip` or `+zstd` | detected from its first bytes |
//! | `application/vnd.docker.image.rootfs.diff.tar`, `...rootfs.foreign.diff.tar` | detected from its first bytes |
//! | the same with `.gzip`, the first also with `.zstd` | detected from its first bytes |
//!
//! A type with a compression only says that the blob is compressed: containerd looks at the magic bytes, so
//! blobs with the wrong one unpack. Facts: containerd v2.3.3 `core/images/mediatypes.go` `DiffCompression`,
//! `pkg/archive/compression/compression.go`.

use std::io::{self, BufRead, Read};

use super::frames::{self, Frames};
use super::gzip::Members;
use crate::manifest::Compression;

const GZIP_MAGIC: &[u8] = &[0x1F, 0x8B, 0x08];
/// The last three bytes of the magic of zstd's skippable frames; the first is 0x50 to 0x5F.
const ZSTD_SKIPPABLE_MAGIC: &[u8] = &[0x2A, 0x4D, 0x18];

/// Prefix of OCI's media types, unlike Docker's.
const OCI_PREFIX: &str = "application/vnd.oci.";

/// The encoding of the stream according to the media type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// The blob is the tar stream.
    Plain,
    /// The blob may be compressed, which is detected from its first bytes.
    Detect,
}

impl Encoding {
    /// Returns the encoding of a layer with this media type; `None` if it is not a layer that can be
    /// unpacked.
    pub(crate) fn of(media_type: &str) -> Option<Self> {
        let compression = Compression::of_media_type(media_type)?;
        // containerd detects compression in Docker's plain type as in its compressed ones.
        let plain = compression == Compression::None && media_type.starts_with(OCI_PREFIX);
        Some(if plain { Self::Plain } else { Self::Detect })
    }
}

/// Maximum number of first bytes needed to detect the compression of a blob.
pub(crate) const LONGEST_MAGIC: u64 = 4;

/// Detects the compression of a blob from its first bytes.
pub(crate) fn compression_of(start: &[u8]) -> Compression {
    let is_zstd = start.starts_with(frames::MAGIC)
        || matches!(start, [0x50..=0x5F, rest @ ..] if rest.starts_with(ZSTD_SKIPPABLE_MAGIC));
    if start.starts_with(GZIP_MAGIC) {
        Compression::Gzip
    } else if is_zstd {
        Compression::Zstd
    } else {
        Compression::None
    }
}

/// The tar stream of a blob.
pub(crate) enum Decoder<R> {
    /// The blob is the stream.
    Plain(R),
    /// gzip.
    Gzip(Members<R>),
    /// zstd.
    Zstd(Frames<R>),
}

impl<R: BufRead> Decoder<R> {
    /// Decodes the tar stream of `blob`, which is read in pieces larger than any magic.
    ///
    /// Gzip streams may have several members and zstd streams several frames (both are used by seekable
    /// formats such as eStargz). Anything else after zstd frames is an error.
    pub(crate) fn new(mut blob: R, encoding: Encoding) -> io::Result<Self> {
        if encoding == Encoding::Plain {
            return Ok(Self::Plain(blob));
        }
        // Only at the end of the file it is shorter than a magic.
        Ok(match compression_of(blob.fill_buf()?) {
            Compression::Gzip => Self::Gzip(Members::new(blob)),
            Compression::Zstd => Self::Zstd(Frames::new(blob)?),
            Compression::None => Self::Plain(blob),
        })
    }

    /// Returns the number of ignored bytes after a gzip stream, once the stream was read completely.
    pub(crate) fn ignored(&self) -> u64 {
        match self {
            Self::Plain(_) | Self::Zstd(_) => 0,
            Self::Gzip(members) => members.ignored(),
        }
    }
}

impl<R: BufRead> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(blob) => blob.read(buffer),
            Self::Gzip(members) => members.read(buffer),
            Self::Zstd(frames) => frames.read(buffer),
        }
    }
}
