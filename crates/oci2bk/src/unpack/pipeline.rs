//! The stages of unpacking a layer, each in a separate thread, so that a single large layer keeps several
//! processors busy:
//!
//! ```text
//! read the blob and hash it ─► decompress ─► hash and consume the tar stream (the caller)
//! ```
//!
//! Bounded queues of reused chunks connect them, so memory does not grow with the layer: an active layer has
//! at most [`BUFFERS`] bytes of them.

use std::io::{self, BufRead, Read};
use std::thread::{Builder, Scope, ScopedJoinHandle};

use bkstate::Digest;
use bkstate::digest::Hasher;
use crossbeam_channel::{Receiver, Sender, bounded};

use super::allowance::Allowance;
use super::chunks::{Chunks, chunk_to_fill, fill};
use super::decompress::{Decoder, Encoding};
use super::error::UnpackError;
use super::{Layer, Watch};
use crate::limits::Bound;

/// The size of a chunk of the blob.
const BLOB_CHUNK: usize = 128 << 10;
/// The size of a chunk of the tar stream.
const STREAM_CHUNK: usize = 256 << 10;
/// Maximum number of chunks waiting between two stages.
const QUEUED: usize = 3;
/// Number of chunks between two stages: the waiting ones, and one in each of the two.
const CHUNKS: usize = QUEUED + 2;

/// Total size of all chunks, in bytes.
pub(super) const BUFFERS: usize = CHUNKS * (BLOB_CHUNK + STREAM_CHUNK);

/// Runs `consume` on the tar stream of `layer`; returns its result, and the number of ignored bytes after a
/// gzip stream. A blob that does not match its descriptor is the reported error, because it explains all
/// others.
pub(super) fn run<T>(
    layer: &Layer<'_>,
    encoding: Encoding,
    allowance: &Allowance,
    watch: &dyn Watch,
    consume: impl FnOnce(TarStream) -> Result<T, UnpackError>,
) -> Result<(T, u64), UnpackError> {
    let found = layer.blob.size().map_err(read_error(layer))?;
    check_size(layer, found)?;
    let (blob, read) = bounded(QUEUED);
    let (stream, decompressed) = bounded(QUEUED);
    // Chunks on their way back. The queue has space for all, so no thread waits here.
    let (used_of_blob, free_of_blob) = bounded(CHUNKS);
    let (used_of_stream, free_of_stream) = bounded(CHUNKS);
    std::thread::scope(|scope| {
        let reader = start(layer, scope, move || read_blob(layer, watch, blob, &free_of_blob))?;
        let decompressor = start(layer, scope, move || {
            let blob = Chunks::new(read, used_of_blob);
            decompress(layer, blob, encoding, allowance, watch, &stream, &free_of_stream)
        })?;
        let chunks = Chunks::new(decompressed, used_of_stream);
        let consumed = consume(TarStream { chunks, hasher: Hasher::new() });
        join(reader)?;
        let ignored = join(decompressor)?;
        Ok((consumed?, ignored))
    })
}

/// Runs `consume` on the tar stream that `produce` writes in another thread. Returns the results of both.
pub(super) fn copy<P: Send, T>(
    produce: impl FnOnce(ChunkWriter) -> P + Send,
    consume: impl FnOnce(TarStream) -> T,
) -> io::Result<(P, T)> {
    let (stream, written) = bounded(QUEUED);
    let (used, free) = bounded(CHUNKS);
    std::thread::scope(|scope| {
        let writer = ChunkWriter { stream, free, chunk: Vec::new() };
        let producer = Builder::new().spawn_scoped(scope, move || produce(writer))?;
        let chunks = Chunks::new(written, used);
        let consumed = consume(TarStream { chunks, hasher: Hasher::new() });
        Ok((join(producer), consumed))
    })
}

/// The writing end of a tar stream. The last bytes are passed on by [`flush`](io::Write::flush).
pub(crate) struct ChunkWriter {
    stream: Sender<Vec<u8>>,
    free: Receiver<Vec<u8>>,
    chunk: Vec<u8>,
}

impl io::Write for ChunkWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.chunk.len() >= STREAM_CHUNK {
            self.flush()?;
        }
        if self.chunk.capacity() == 0 {
            self.chunk = chunk_to_fill(&self.free, STREAM_CHUNK);
            self.chunk.clear();
        }
        let length = bytes.len().min(STREAM_CHUNK - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..length]);
        Ok(length)
    }

    /// Fails if nobody reads any more.
    fn flush(&mut self) -> io::Result<()> {
        let chunk = std::mem::take(&mut self.chunk);
        if chunk.is_empty() {
            return Ok(());
        }
        self.stream.send(chunk).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

fn start<'scope, T: Send + 'scope>(
    layer: &Layer<'_>,
    scope: &'scope Scope<'scope, '_>,
    stage: impl FnOnce() -> T + Send + 'scope,
) -> Result<ScopedJoinHandle<'scope, T>, UnpackError> {
    let thread = Builder::new().spawn_scoped(scope, stage);
    thread.map_err(|source| UnpackError::Thread { layer: layer.digest, source })
}

fn join<T>(stage: ScopedJoinHandle<'_, T>) -> T {
    stage.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn read_error(layer: &Layer<'_>) -> impl Fn(io::Error) -> UnpackError + use<> {
    let layer = layer.digest;
    move |source| UnpackError::ReadBlob { layer, source }
}

fn check_size(layer: &Layer<'_>, found: u64) -> Result<(), UnpackError> {
    let (layer, expected) = (layer.digest, layer.size);
    let wrong = UnpackError::WrongBlobSize { layer, expected, found };
    if found == expected { Ok(()) } else { Err(wrong) }
}

fn check(layer: &Layer<'_>, watch: &dyn Watch) -> Result<(), UnpackError> {
    let layer = layer.digest;
    if watch.is_cancelled() { Err(UnpackError::Cancelled { layer }) } else { Ok(()) }
}

/// Reads the whole blob and verifies it.
fn read_blob(
    layer: &Layer<'_>,
    watch: &dyn Watch,
    blob: Sender<Vec<u8>>,
    free: &Receiver<Vec<u8>>,
) -> Result<(), UnpackError> {
    let mut hasher = Hasher::new();
    let mut position = 0;
    let mut wanted = true;
    // At most one chunk beyond its size, in case it grows.
    while position <= layer.size {
        check(layer, watch)?;
        let mut chunk = chunk_to_fill(free, BLOB_CHUNK);
        fill(&mut chunk, |buffer, filled| layer.blob.read_at(buffer, position + filled as u64))
            .map_err(read_error(layer))?;
        if chunk.is_empty() {
            break;
        }
        hasher.update(&chunk);
        position += chunk.len() as u64;
        watch.read(position);
        // The stream may end before the blob does, and does if another stage failed.
        wanted = wanted && blob.send(chunk).is_ok();
    }
    check_size(layer, position)?;
    let found = hasher.finish();
    let layer = layer.digest;
    if found == layer { Ok(()) } else { Err(UnpackError::WrongBlobDigest { layer, found }) }
}

/// Decompresses `blob`, within the limits, into `stream`; returns the number of trailing bytes that do not
/// belong to it.
fn decompress(
    layer: &Layer<'_>,
    blob: Chunks,
    encoding: Encoding,
    allowance: &Allowance,
    watch: &dyn Watch,
    stream: &Sender<Vec<u8>>,
    free: &Receiver<Vec<u8>>,
) -> Result<u64, UnpackError> {
    let failed = |source| UnpackError::Decompress { layer: layer.digest, source };
    let Bound { value: limit, name } = allowance.limits.of_unpacked(layer.size);
    let mut sent = 0;
    let mut decoder = Decoder::new(blob, encoding).map_err(failed)?;
    loop {
        // A few bytes of a blob may become many chunks.
        check(layer, watch)?;
        let mut chunk = chunk_to_fill(free, STREAM_CHUNK);
        fill(&mut chunk, |buffer, _| decoder.read(buffer)).map_err(failed)?;
        sent += chunk.len() as u64;
        if sent > limit {
            return Err(UnpackError::TooLarge { layer: layer.digest, limit, name });
        }
        allowance.take_stream(layer.digest, chunk.len() as u64)?;
        // An error of the queue means that the consumer failed, and reports its own error.
        if chunk.is_empty() || stream.send(chunk).is_err() {
            return Ok(decoder.ignored());
        }
    }
}

/// The uncompressed tar stream, hashed while it is read.
pub(super) struct TarStream {
    chunks: Chunks,
    hasher: Hasher,
}

impl TarStream {
    /// Returns the number of received bytes of the stream.
    pub(super) fn bytes(&self) -> u64 {
        self.chunks.arrived()
    }

    /// Reads the rest after the archive; returns the diffID and the length of the whole stream.
    pub(super) fn finish(mut self) -> (Digest, u64) {
        while self.advance() {}
        (self.hasher.finish(), self.chunks.arrived())
    }

    /// Takes the next chunk; returns whether there was one.
    fn advance(&mut self) -> bool {
        let there = self.chunks.advance();
        self.hasher.update(self.chunks.left());
        there
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
        if self.chunks.left().is_empty() {
            self.advance();
        }
        Ok(self.chunks.left())
    }

    fn consume(&mut self, length: usize) {
        self.chunks.consume(length);
    }
}
