//! Compressed files, and streams that can be read only once.

use std::fs::File;
use std::io::{self, Read, Seek as _, Write as _};

/// The compression of a file, according to its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    /// None known.
    None,
    /// Supported by [`Decoder`](crate::unpack::decompress::Decoder): gzip or zstd.
    Known,
    /// Not supported; the name is that of its program.
    Unknown(&'static str),
}

/// Number of bytes needed to detect it.
pub(crate) const HEAD: usize = 6;

impl Packing {
    /// Returns the compression of a file that starts with `head`.
    pub(crate) fn of(head: &[u8]) -> Self {
        match head {
            // RFC 1952, and RFC 8878 with its skippable frames.
            [0x1f, 0x8b, ..]
            | [0x28, 0xb5, 0x2f, 0xfd, ..]
            | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Known,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Unknown("xz"),
            [b'B', b'Z', b'h', ..] => Self::Unknown("bzip2"),
            [0x04, 0x22, 0x4d, 0x18, ..] => Self::Unknown("lz4"),
            _ => Self::None,
        }
    }
}

/// Size of a read, in bytes.
const CHUNK: usize = 128 << 10;

/// Why a stream cannot be stored in a file.
#[derive(Debug)]
pub(crate) enum SpoolError {
    /// It cannot be read.
    Read(io::Error),
    /// The directory of temporary files has no space for it.
    Write(io::Error),
    /// It exceeds the limit.
    TooLarge,
}

/// Stores all of `stream` in an unnamed file, positioned at its start; returns the file and its size in
/// bytes, which is `limit` at most.
pub(crate) fn spooled(mut stream: impl Read, limit: u64) -> Result<(File, u64), SpoolError> {
    let mut temporary = tempfile::tempfile().map_err(SpoolError::Write)?;
    let mut chunk = vec![0; CHUNK];
    let mut size = 0;
    loop {
        let length = match stream.read(&mut chunk) {
            Ok(0) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            length => length.map_err(SpoolError::Read)?,
        };
        size += length as u64;
        if size > limit {
            return Err(SpoolError::TooLarge);
        }
        temporary.write_all(&chunk[..length]).map_err(SpoolError::Write)?;
    }
    temporary.rewind().map_err(SpoolError::Write)?;
    Ok((temporary, size))
}
