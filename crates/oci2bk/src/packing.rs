//! Files that are compressed as a whole, and what can be read only once.

use std::fs::File;
use std::io::{self, Read, Seek as _, Write as _};

/// How a file is compressed, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    /// Not at all, as far as is known.
    None,
    /// In a way that [`Decoder`](crate::unpack::decompress::Decoder) reads: gzip or zstd.
    Known,
    /// In one that it does not, by the program of this name.
    Unknown(&'static str),
}

/// How much of a file has to be seen.
pub(crate) const HEAD: usize = 6;

impl Packing {
    /// What a file is that starts with `head`.
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

/// How much is read at a time.
const CHUNK: usize = 128 << 10;

/// Why there is no file with what a stream gives.
#[derive(Debug)]
pub(crate) enum SpoolError {
    /// It cannot be read.
    Read(io::Error),
    /// There is no room for it in the directory of temporary files.
    Write(io::Error),
    /// It has more bytes than it may.
    TooLarge,
}

/// A file without a name that has all that `stream` gives, at its start, and its size in bytes, which is
/// `limit` at most.
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
