//! Reads, checks and decompresses a blob on one thread while another takes the tar stream.
//!
//! The two are joined by a bounded queue of chunks that are used again, so memory does not grow
//! with the layer.

use std::fs::File;
use std::io::{self, BufRead, Read};
use std::os::unix::fs::FileExt as _;

use bkstate::Digest;
use bkstate::digest::Hasher;
use crossbeam_channel::{Receiver, Sender, bounded};

use super::decompress::{self, Encoding};
use super::error::UnpackError;
use super::{Layer, Watch};
use crate::limits::Limits;

/// The size of a chunk of the tar stream.
const CHUNK_BYTES: usize = 256 * 1024;
/// How many chunks wait between the threads.
const QUEUED_CHUNKS: usize = 4;

/// Runs `consume` on the tar stream of `layer`. Whatever it returns, a blob that is not what the
/// descriptor says is the error, because it explains all others.
pub(super) fn run<T>(
    layer: &Layer<'_>,
    encoding: Encoding,
    limits: &Limits,
    watch: &dyn Watch,
    consume: impl FnOnce(TarStream) -> Result<T, UnpackError>,
) -> Result<T, UnpackError> {
    let read_error = |source| UnpackError::ReadBlob { layer: layer.digest, source };
    let found = layer.blob.metadata().map_err(read_error)?.len();
    if found != layer.size {
        let (layer, expected) = (layer.digest, layer.size);
        return Err(UnpackError::WrongBlobSize { layer, expected, found });
    }
    let (chunks, queue) = bounded(QUEUED_CHUNKS);
    let (used, reusable) = bounded(QUEUED_CHUNKS + 2);
    std::thread::scope(|scope| {
        let producer = std::thread::Builder::new()
            .spawn_scoped(scope, || produce(layer, encoding, limits, watch, chunks, &reusable))
            .map_err(|source| UnpackError::Thread { layer: layer.digest, source })?;
        let consumed = consume(TarStream {
            queue,
            used,
            chunk: Vec::new(),
            position: 0,
            hasher: Hasher::new(),
            bytes: 0,
        });
        producer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        consumed
    })
}

fn produce(
    layer: &Layer<'_>,
    encoding: Encoding,
    limits: &Limits,
    watch: &dyn Watch,
    chunks: Sender<Vec<u8>>,
    reusable: &Receiver<Vec<u8>>,
) -> Result<(), UnpackError> {
    let digest = layer.digest;
    let mut blob =
        Blob { file: layer.blob, position: 0, hasher: Hasher::new(), failure: None, watch };
    let (limit, name) = limits.unpacked_bytes(layer.size);
    let decompressed = decompress(&mut blob, encoding, limit, chunks, reusable);
    // The stream may end before the blob does, and it does if one of the threads failed.
    let drained = io::copy(&mut blob, &mut io::sink());
    if watch.is_cancelled() {
        return Err(UnpackError::Cancelled { layer: digest });
    }
    if let Some(source) = blob.failure {
        return Err(UnpackError::ReadBlob { layer: digest, source });
    }
    drained.map_err(|source| UnpackError::ReadBlob { layer: digest, source })?;
    if blob.position != layer.size {
        let (expected, found) = (layer.size, blob.position);
        return Err(UnpackError::WrongBlobSize { layer: digest, expected, found });
    }
    let found = blob.hasher.finish();
    if found != digest {
        return Err(UnpackError::WrongBlobDigest { layer: digest, found });
    }
    match decompressed {
        Ok(true) => Ok(()),
        Ok(false) => Err(UnpackError::TooLarge { layer: digest, limit, name }),
        Err(source) => Err(UnpackError::Decompress { layer: digest, source }),
    }
}

/// Whether the stream has no more than `limit` bytes; those up to there are sent.
fn decompress(
    blob: &mut Blob<'_>,
    encoding: Encoding,
    limit: u64,
    chunks: Sender<Vec<u8>>,
    reusable: &Receiver<Vec<u8>>,
) -> io::Result<bool> {
    let watch = blob.watch;
    let mut sent = 0;
    let mut decoder = decompress::decoder(blob, encoding)?;
    loop {
        let mut chunk = reusable.try_recv().unwrap_or_default();
        // Chunks that come back are full, so that this fills new ones only.
        chunk.resize(CHUNK_BYTES, 0);
        let length = fill(&mut decoder, &mut chunk)?;
        chunk.truncate(length);
        sent += chunk.len() as u64;
        if sent > limit {
            return Ok(false);
        }
        // An error of the queue means that the consumer failed and says why itself.
        let ends = chunk.is_empty() || chunks.send(chunk).is_err();
        // A few bytes of a blob may be many chunks.
        if ends || watch.is_cancelled() {
            return Ok(true);
        }
    }
}

/// Reads until `buffer` is full or the stream ends; the number of bytes read.
fn fill(stream: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match stream.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// The blob's bytes, hashed as they are read.
struct Blob<'a> {
    file: &'a File,
    position: u64,
    hasher: Hasher,
    /// The first error of the file, which a decompressor may pass on as its own.
    failure: Option<io::Error>,
    watch: &'a dyn Watch,
}

impl Read for Blob<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.watch.is_cancelled() {
            return Err(io::ErrorKind::Other.into());
        }
        match self.file.read_at(buffer, self.position) {
            Ok(length) => {
                self.hasher.update(&buffer[..length]);
                self.position += length as u64;
                self.watch.read(self.position);
                Ok(length)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let kind = error.kind();
                self.failure.get_or_insert(error);
                Err(kind.into())
            }
        }
    }
}

/// The uncompressed tar stream, hashed as it is taken.
pub(super) struct TarStream {
    queue: Receiver<Vec<u8>>,
    used: Sender<Vec<u8>>,
    chunk: Vec<u8>,
    position: usize,
    hasher: Hasher,
    bytes: u64,
}

impl TarStream {
    /// How many bytes of the stream have arrived.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes what follows the archive; the diffID and the length of the whole stream.
    pub(super) fn finish(mut self) -> (Digest, u64) {
        while self.advance() {}
        (self.hasher.finish(), self.bytes)
    }

    /// Takes the next chunk; whether there was one.
    fn advance(&mut self) -> bool {
        let Ok(chunk) = self.queue.recv() else { return false };
        self.hasher.update(&chunk);
        self.bytes += chunk.len() as u64;
        let used = std::mem::replace(&mut self.chunk, chunk);
        self.position = 0;
        // If nobody wants it, it is dropped.
        let _ = self.used.try_send(used);
        true
    }
}

impl Read for TarStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.fill_buf()?.read(buffer)?;
        self.consume(length);
        Ok(length)
    }
}

impl BufRead for TarStream {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.position == self.chunk.len() && !self.advance() {
            return Ok(&[]);
        }
        Ok(&self.chunk[self.position..])
    }

    fn consume(&mut self, length: usize) {
        self.position = (self.position + length).min(self.chunk.len());
    }
}
