//! Writes layouts as tar archives.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write};

use bkstate::Digest;
use bkstate::digest::Hasher;
use serde_json::json;

use super::VERSION;
use super::store::Name;
use crate::pack::{finish, member, pad};

/// A layout that is being written as an archive. Blobs come first, so that each is written as it is made.
#[derive(Debug)]
pub(crate) struct ArchiveWriter<'f> {
    file: &'f File,
    blobs: BTreeSet<Digest>,
}

/// A blob that is being written.
#[derive(Debug)]
pub(crate) struct MemberWriter<'w, 'f> {
    archive: &'w mut ArchiveWriter<'f>,
    /// The position of its header.
    start: u64,
    hasher: Hasher,
    size: u64,
}

impl<'f> ArchiveWriter<'f> {
    /// Begins an archive in the empty file `file`.
    pub(crate) fn new(file: &'f File) -> Self {
        Self { file, blobs: BTreeSet::new() }
    }

    /// Begins a blob of any size, which is written in pieces.
    pub(crate) fn begin_blob(&mut self) -> io::Result<MemberWriter<'_, 'f>> {
        let start = self.file.stream_position()?;
        // The header needs the size, and the name the digest.
        self.file.write_all(&[0; 512])?;
        Ok(MemberWriter { archive: self, start, hasher: Hasher::new(), size: 0 })
    }

    /// Adds a blob, and returns its digest.
    pub(crate) fn put_blob(&mut self, content: &[u8]) -> io::Result<Digest> {
        let mut blob = self.begin_blob()?;
        blob.write_all(content)?;
        Ok(blob.finish()?.0)
    }

    /// Adds the index, and ends the archive.
    pub(crate) fn finish(mut self, index: &[u8]) -> io::Result<()> {
        self.put(Name::Index, index)?;
        let version = json!({"imageLayoutVersion": VERSION}).to_string();
        self.put(Name::OciLayout, version.as_bytes())?;
        finish(&mut self.file)?;
        self.file.sync_all()
    }

    fn put(&mut self, name: Name, content: &[u8]) -> io::Result<()> {
        let size = content.len() as u64;
        self.file.write_all(&member(name.to_string().as_bytes(), size))?;
        self.file.write_all(content)?;
        pad(&mut self.file, size)
    }
}

impl Write for MemberWriter<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.archive.file.write(bytes)?;
        self.hasher.update(&bytes[..length]);
        self.size += length as u64;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.archive.file.flush()
    }
}

impl MemberWriter<'_, '_> {
    /// Completes the blob. Returns its digest and its size in bytes. A blob that the archive has already is not
    /// stored again.
    pub(crate) fn finish(self) -> io::Result<(Digest, u64)> {
        let Self { archive, start, hasher, size } = self;
        let digest = hasher.finish();
        let mut file = archive.file;
        if !archive.blobs.insert(digest) {
            file.set_len(start)?;
            file.seek(SeekFrom::Start(start))?;
            return Ok((digest, size));
        }
        pad(&mut file, size)?;
        let end = file.stream_position()?;
        file.seek(SeekFrom::Start(start))?;
        file.write_all(&member(Name::Blob(digest).to_string().as_bytes(), size))?;
        file.seek(SeekFrom::Start(end))?;
        Ok((digest, size))
    }
}
