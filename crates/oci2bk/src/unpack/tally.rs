//! Counts what a layer takes as a tree, without unpacking it.

use std::collections::BTreeMap;

use super::error::Refusal;
use super::paths::{clean, split};
use super::tar::{Entry, Kind, Reader};
use super::usage::{ENTRY_BYTES, LONG_TARGET, Usage};
use super::whiteout::Whiteout;
use super::{
    Allowance, Layer, Placement, UnpackError, Walked, Watch, encoding, finish, pipeline, walk,
};

/// What a layer takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Measured {
    /// Number of entries in the archive.
    pub(crate) entries: u64,
    /// The size of the tar stream in bytes.
    pub(crate) stream: u64,
    /// The tree of the layer.
    pub(crate) tree: Usage,
}

/// Reads a layer, verifies it as [`check`](super::check) does, and counts what [`unpack`](super::unpack()) would write at
/// `placement`. A path that the archive has twice counts twice, and one that leads through a symbolic link of the
/// layer counts as a directory.
///
/// # Errors
/// Those of [`unpack`](super::unpack()), besides those of writing.
pub(crate) fn measure(
    layer: &Layer<'_>,
    placement: Placement,
    allowance: &Allowance,
    watch: &dyn Watch,
) -> Result<Measured, UnpackError> {
    let (measured, _) = pipeline::run(layer, encoding(layer)?, allowance, watch, |stream| {
        let mut archive = Reader::new(stream);
        let mut tally = Tally::new(placement, allowance.limits.layer_directories);
        let walked = walk(layer.digest, &mut archive, allowance, |_, entry| tally.add(entry));
        match walked {
            Ok(Walked { entries, .. }) => {
                let stream = finish(layer, archive.into_inner())?;
                Ok(Measured { entries, stream, tree: tally.finish() })
            }
            Err(error) => {
                if error.can_stay_packed() {
                    finish(layer, archive.into_inner())?;
                }
                Err(error)
            }
        }
    })?;
    Ok(measured)
}

/// What a directory takes in memory besides its path, in bytes.
const NODE_BYTES: usize = size_of::<(Vec<u8>, usize)>();

/// The tree so far.
struct Tally {
    placement: Placement,
    /// The bytes of the listing of each directory, by its path.
    directories: BTreeMap<Vec<u8>, usize>,
    /// What `directories` takes in memory, in bytes, and at most.
    memory: u64,
    limit: u64,
    usage: Usage,
}

impl Tally {
    fn new(placement: Placement, limit: u64) -> Self {
        let directories = BTreeMap::from([(Vec::new(), 0)]);
        Self { placement, directories, memory: 0, limit, usage: Usage::default() }
    }

    fn add(&mut self, entry: &Entry) -> Result<(), Refusal> {
        let name = clean(&entry.name);
        let (parent, base) = split(&name);
        if base.is_empty() || entry.kind == Kind::GlobalHeader {
            return Ok(());
        }
        match (Whiteout::of(base)?, self.placement) {
            (Some(_), Placement::Base) | (Some(Whiteout::Opaque), _) => {
                return self.directory(parent);
            }
            (Some(Whiteout::Of(hidden)), Placement::Overlay) => {
                self.listed(parent, hidden)?;
                self.usage.add(0);
                return Ok(());
            }
            (None, _) => {}
        }
        if entry.kind == Kind::Directory {
            return self.directory(&name);
        }
        self.listed(parent, base)?;
        match entry.kind {
            Kind::HardLink => {}
            Kind::Regular => self.usage.add(i64::try_from(entry.size).unwrap_or(i64::MAX)),
            Kind::Symlink => {
                let bytes = i64::try_from(entry.link.len()).unwrap_or(i64::MAX);
                self.usage.add(if bytes >= LONG_TARGET { bytes } else { 0 });
            }
            _ => self.usage.add(0),
        }
        Ok(())
    }

    /// Counts a name in the listing of a directory.
    fn listed(&mut self, directory: &[u8], name: &[u8]) -> Result<(), Refusal> {
        self.directory(directory)?;
        if let Some(listing) = self.directories.get_mut(directory) {
            *listing = listing.saturating_add(ENTRY_BYTES + name.len());
        }
        Ok(())
    }

    /// Counts a directory and those above it, each once.
    fn directory(&mut self, path: &[u8]) -> Result<(), Refusal> {
        if self.directories.contains_key(path) {
            return Ok(());
        }
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        for end in ends.chain([path.len()]) {
            let directory = &path[..end];
            if self.directories.contains_key(directory) {
                continue;
            }
            self.memory = self.memory.saturating_add((directory.len() + NODE_BYTES) as u64);
            if self.memory > self.limit {
                return Err(Refusal::TooManyDirectories { limit: self.limit });
            }
            self.directories.insert(directory.to_vec(), 0);
            let (parent, base) = split(directory);
            if let Some(listing) = self.directories.get_mut(parent) {
                *listing = listing.saturating_add(ENTRY_BYTES + base.len());
            }
        }
        Ok(())
    }

    /// Returns the usage, with that of the directories.
    fn finish(mut self) -> Usage {
        for listing in self.directories.into_values() {
            self.usage.add(i64::try_from(listing.max(1)).unwrap_or(i64::MAX));
        }
        self.usage
    }
}
