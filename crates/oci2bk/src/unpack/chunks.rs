//! Passes bytes from one thread to the next, in reused chunks.

use std::io::{self, BufRead, Read};

use crossbeam_channel::{Receiver, Sender};

/// Returns a chunk to fill, of `size` bytes: a returned one, or a new one.
pub(super) fn chunk_to_fill(free: &Receiver<Vec<u8>>, size: usize) -> Vec<u8> {
    let Ok(mut chunk) = free.try_recv() else { return vec![0; size] };
    // Only the last chunk of a stream is shorter.
    chunk.resize(size, 0);
    chunk
}

/// Reads until `chunk` is full or the stream ends, and truncates it to the bytes read.
pub(super) fn fill(
    chunk: &mut Vec<u8>,
    mut read: impl FnMut(&mut [u8], usize) -> io::Result<usize>,
) -> io::Result<()> {
    let mut filled = 0;
    while filled < chunk.len() {
        match read(&mut chunk[filled..], filled) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    chunk.truncate(filled);
    Ok(())
}

/// The receiving end: the bytes of all chunks. Each goes back after it was read.
#[derive(Debug)]
pub(super) struct Chunks {
    queue: Receiver<Vec<u8>>,
    used: Sender<Vec<u8>>,
    chunk: Vec<u8>,
    position: usize,
    arrived: u64,
}

impl Chunks {
    pub(super) fn new(queue: Receiver<Vec<u8>>, used: Sender<Vec<u8>>) -> Self {
        Self { queue, used, chunk: Vec::new(), position: 0, arrived: 0 }
    }

    /// Returns the number of received bytes.
    pub(super) fn arrived(&self) -> u64 {
        self.arrived
    }

    /// Returns the rest of the current chunk.
    pub(super) fn left(&self) -> &[u8] {
        &self.chunk[self.position..]
    }

    /// Takes the next chunk; returns whether there was one.
    pub(super) fn advance(&mut self) -> bool {
        let used = std::mem::take(&mut self.chunk);
        self.position = 0;
        if !used.is_empty() {
            // If the sender has ended, the chunk is dropped.
            let _ = self.used.send(used);
        }
        let Ok(chunk) = self.queue.recv() else { return false };
        self.arrived += chunk.len() as u64;
        self.chunk = chunk;
        true
    }
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.fill_buf()?.read(buffer)?;
        self.consume(length);
        Ok(length)
    }
}

impl BufRead for Chunks {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.left().is_empty() {
            self.advance();
        }
        Ok(self.left())
    }

    fn consume(&mut self, length: usize) {
        self.position = (self.position + length).min(self.chunk.len());
    }
}
