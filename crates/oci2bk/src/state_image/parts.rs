//! Compressed streams in parts.

use std::io::{self, Write};

use bkstate::digest::Hasher;
use crossbeam_channel::Sender;

use super::document::Stream;

/// The size of a part in bytes, except for the last one. A file in an archive needs its size before its content, and so
/// a part is kept in memory.
pub(super) const PART: usize = 4 << 20;
/// The level of zstd that BuildKit uses by default.
const LEVEL: i32 = 3;

/// Takes a stream, compresses it, and sends it on in parts.
pub(super) struct PartWriter<'z> {
    encoder: zstd::Encoder<'z, Parts>,
    hasher: Hasher,
    size: u64,
}

struct Parts {
    part: Vec<u8>,
    sent: u64,
    to: Sender<Vec<u8>>,
}

impl PartWriter<'_> {
    pub(super) fn new(to: Sender<Vec<u8>>) -> io::Result<Self> {
        let parts = Parts { part: Vec::new(), sent: 0, to };
        let encoder = zstd::Encoder::new(parts, LEVEL)?;
        Ok(Self { encoder, hasher: Hasher::new(), size: 0 })
    }

    /// Sends the last part.
    pub(super) fn finish(self) -> io::Result<Stream> {
        let mut parts = self.encoder.finish()?;
        parts.send()?;
        Ok(Stream { digest: self.hasher.finish(), size: self.size, parts: parts.sent })
    }
}

impl Write for PartWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.encoder.write(bytes)?;
        self.hasher.update(&bytes[..length]);
        self.size += length as u64;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Parts {
    fn send(&mut self) -> io::Result<()> {
        let part = std::mem::take(&mut self.part);
        self.sent += 1;
        self.to.send(part).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Parts {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.part.len() >= PART {
            self.send()?;
        }
        let length = bytes.len().min(PART - self.part.len());
        self.part.extend_from_slice(&bytes[..length]);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
