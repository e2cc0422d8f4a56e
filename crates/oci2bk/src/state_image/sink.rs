//! Puts the items of an image into the staging directory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use bkstate::Digest;
use bkstate::digest::Hasher;
use bkstate::state::Staging;
use bkstate::worker::{StateFile, Worker};

use super::StateImageError;
use super::document::{FILES, Item, List, Stream};
use crate::cancel::Cancel;
use crate::limits::Limits;
use crate::unpack::tree::{ChunkWriter, copy_snapshot};
use crate::unpack::{Allowance, UnpackError};

/// The largest window of a frame of zstd, as a power of two of bytes. What we write has less.
const WINDOW: u32 = 23;

/// What the list says about an item.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected {
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) parts: u64,
}

/// What a list names, by items.
#[derive(Debug)]
pub(super) struct Content(pub(super) BTreeMap<Item, Expected>);

impl Content {
    /// Returns the content of `list`, if it can be that of a state within the limits.
    pub(super) fn of(list: &List, limits: &Limits) -> Result<Self, StateImageError> {
        let mut all = BTreeMap::new();
        let mut put = |item: Item, expected: Expected| {
            let twice = all.insert(item, expected).is_some();
            if twice { Err(wrong(item, "is listed twice")) } else { Ok(()) }
        };
        let of_stream = |stream: &Stream| Expected {
            digest: stream.digest,
            size: stream.size,
            parts: stream.parts,
        };
        for tree in &list.trees {
            put(Item::Tree(tree.id), of_stream(&tree.stream))?;
        }
        for blob in &list.blobs {
            let expected = Expected { digest: blob.digest, size: blob.size, parts: 1 };
            put(Item::Blob(blob.digest), expected)?;
        }
        for database in &list.databases {
            let at = FILES.iter().position(|(_, word)| *word == database.name);
            let name: String = database.name.chars().take(100).collect();
            let unknown = StateImageError::Item { name, problem: "is not a known database" };
            put(Item::Database(at.ok_or(unknown)?), of_stream(&database.stream))?;
        }
        let needed = [StateFile::WorkerId, StateFile::Metadata, StateFile::Snapshots];
        for (at, (file, _)) in FILES.iter().enumerate() {
            let is_needed = needed.contains(file) || *file == StateFile::Records;
            if is_needed && !all.contains_key(&Item::Database(at)) {
                return Err(wrong(Item::Database(at), "is not listed"));
            }
        }
        let total = all.values().fold(0, |sum: u64, item| sum.saturating_add(item.size));
        let bound = limits.of_all_unpacked();
        if total > bound.value {
            let source =
                UnpackError::TotalReached { layer: Digest::of([]), what: "bytes", limit: bound };
            let name = "the state".to_owned();
            return Err(StateImageError::Unpack { name, source: Box::new(source) });
        }
        Ok(Self(all))
    }
}

pub(super) fn wrong(item: Item, problem: &'static str) -> StateImageError {
    StateImageError::Item { name: item.to_string(), problem }
}

/// Why the bytes of an item did not arrive.
#[derive(Debug)]
pub(super) enum FeedError {
    /// They cannot be read.
    Source(StateImageError),
    /// They cannot be passed on.
    Sink(io::Error),
}

/// Takes the items of an image, from several threads.
pub(super) struct Sink<'s> {
    pub(super) staging: &'s Staging<'s>,
    pub(super) worker: &'s Worker,
    pub(super) content: &'s Content,
    pub(super) allowance: Allowance,
    pub(super) cancel: &'s Cancel,
    pub(super) entries: AtomicU64,
    pub(super) taken: Mutex<BTreeSet<Item>>,
}

impl Sink<'_> {
    /// Takes `item`, whose bytes `feed` writes as they are in the image.
    pub(super) fn take(
        &self,
        item: Item,
        feed: impl FnOnce(&Expected, &mut dyn Write) -> Result<(), FeedError> + Send,
    ) -> Result<(), StateImageError> {
        self.cancel.check(StateImageError::Cancelled)?;
        let expected = *self.content.0.get(&item).ok_or_else(|| wrong(item, "is not listed"))?;
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if !taken.insert(item) {
            return Err(wrong(item, "is there twice"));
        }
        drop(taken);
        let found = match item {
            Item::Tree(id) => self.tree(id, item, &expected, feed)?,
            Item::Blob(digest) => {
                let file = self.staging.blobs().create_blob(&digest)?;
                let mut out = self.hashed(file, expected.size);
                feed(&expected, &mut out).map_err(|error| failed(item, error))?;
                out.finish().1
            }
            Item::Database(at) => {
                let file = self.staging.create_copy(FILES[at].0)?;
                let out = self.hashed(file, expected.size);
                let out = decompress(out, |out| feed(&expected, out));
                out.map_err(|error| failed(item, error))?.finish().1
            }
        };
        if found.0 != expected.size {
            return Err(wrong(item, "has another size than the list says"));
        }
        if found.1 != expected.digest {
            let (name, expected, found) = (item.to_string(), expected.digest, found.1);
            return Err(StateImageError::Digest { name, expected, found });
        }
        Ok(())
    }

    /// Returns an error unless everything in the list was taken.
    pub(super) fn check_all(&self) -> Result<(), StateImageError> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        match self.content.0.keys().find(|item| !taken.contains(item)) {
            Some(item) => Err(wrong(*item, "is missing")),
            None => Ok(()),
        }
    }

    fn tree(
        &self,
        id: u64,
        item: Item,
        expected: &Expected,
        feed: impl FnOnce(&Expected, &mut dyn Write) -> Result<(), FeedError> + Send,
    ) -> Result<(u64, Digest), StateImageError> {
        let fs = self.staging.trees().create_snapshot(id)?;
        let cancel = self.cancel;
        let produce = |out: ChunkWriter| {
            let out = Bounded { out, left: expected.size, cancel };
            let mut out = decompress(out, |out| feed(expected, out))?;
            out.flush().map_err(FeedError::Sink)
        };
        let copied = copy_snapshot(produce, fs.as_fd(), self.worker, &self.allowance);
        let (fed, unpacked) = copied.map_err(StateImageError::Thread)?;
        match (fed, unpacked) {
            (Err(FeedError::Source(error)), _) => Err(error),
            (Ok(()), Ok(tree)) => {
                self.entries.fetch_add(tree.entries, Ordering::Relaxed);
                Ok((tree.bytes, tree.diff_id))
            }
            // Its reader had failed before.
            (_, Err(source)) => {
                let source = Box::new(source);
                Err(StateImageError::Unpack { name: item.to_string(), source })
            }
            (Err(error), Ok(_)) => Err(failed(item, error)),
        }
    }

    fn hashed(&self, file: File, size: u64) -> Hashed<'_> {
        let out = Bounded { out: file, left: size, cancel: self.cancel };
        Hashed { out, hasher: Hasher::new(), size: 0 }
    }
}

fn failed(item: Item, error: FeedError) -> StateImageError {
    match error {
        FeedError::Source(error) => error,
        FeedError::Sink(error) if error.kind() == io::ErrorKind::Interrupted => {
            StateImageError::Cancelled
        }
        FeedError::Sink(error) if error.kind() == io::ErrorKind::InvalidData => {
            wrong(item, "has other content than the list says")
        }
        FeedError::Sink(source) => StateImageError::WriteItem { name: item.to_string(), source },
    }
}

/// Passes to `out` the decompressed bytes that `feed` writes.
fn decompress<W: Write>(
    out: W,
    feed: impl FnOnce(&mut dyn Write) -> Result<(), FeedError>,
) -> Result<W, FeedError> {
    let mut decoder = zstd::stream::write::Decoder::new(out).map_err(FeedError::Sink)?;
    decoder.window_log_max(WINDOW).map_err(FeedError::Sink)?;
    feed(&mut decoder)?;
    decoder.flush().map_err(FeedError::Sink)?;
    Ok(decoder.into_inner())
}

/// Refuses more bytes than are expected.
struct Bounded<'c, W> {
    out: W,
    left: u64,
    cancel: &'c Cancel,
}

impl<W: Write> Write for Bounded<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.cancel.is_cancelled() {
            return Err(io::Error::other("cancelled"));
        }
        if bytes.len() as u64 > self.left {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let length = self.out.write(bytes)?;
        self.left -= length as u64;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Hashes what is written to a file.
struct Hashed<'c> {
    out: Bounded<'c, File>,
    hasher: Hasher,
    size: u64,
}

impl Hashed<'_> {
    fn finish(self) -> (File, (u64, Digest)) {
        (self.out.out, (self.size, self.hasher.finish()))
    }
}

impl Write for Hashed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.out.write(bytes)?;
        self.hasher.update(&bytes[..length]);
        self.size += length as u64;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
