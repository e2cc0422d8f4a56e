//! Reads tar archives exactly as Go's `archive/tar` does, because Go programs make and apply layers:
//! differences between two readers allow archives to smuggle entries.
//!
//! Facts: Go 1.26 `src/archive/tar/{reader,common,format,strconv}.go`. There is one difference: the map of an
//! old GNU sparse file is not read, because containerd does not unpack such files.

mod header;
mod number;
mod pax;
mod sparse;

use std::collections::BTreeMap;
use std::io::{self, BufRead, Seek};

use header::{BLOCK, Header};
pub(crate) use number::Timestamp;
use pax::Records;
pub(crate) use sparse::Fragment;

/// The type flag of sparse files in the old GNU format.
pub(crate) const OLD_SPARSE: u8 = b'S';

/// Go's limit on the body of extended headers and long names.
const SPECIAL_LIMIT: usize = 1 << 20;

/// Why an archive is invalid.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TarError {
    /// The stream ends within an entry.
    #[error("the archive ends in the middle of an entry")]
    Truncated,
    /// A header block has a wrong checksum, or an invalid number.
    #[error("the archive has a damaged header block")]
    Header,
    /// One block of zeros is followed by something else.
    #[error("the archive has data after a block of zeros")]
    DataAfterZeroBlock,
    /// The size of the entry is negative.
    #[error("the entry has a negative size")]
    NegativeSize,
    /// An extended header or a long name has more than 1 MiB.
    #[error("the extended header has {size} bytes, more than the 1048576 that are allowed")]
    SpecialTooLong {
        /// Its size in bytes.
        size: u64,
    },
    /// A record of a PAX extended header is malformed.
    #[error("the PAX extended header has a malformed record")]
    PaxRecord,
    /// The value of a PAX record is not a number or time.
    #[error("the PAX extended header has a malformed value for {key:?}")]
    PaxValue {
        /// The key of the record.
        key: String,
    },
    /// The map of a sparse file is malformed, unordered, too long or exceeds the file.
    #[error("the map of the sparse file is impossible")]
    SparseMap,
    /// The length of the entry's data differs from the map of the sparse file.
    #[error("the data of the sparse file does not match its map")]
    SparseData,
    /// The stream cannot be read.
    #[error("cannot read the archive")]
    Read(#[source] io::Error),
}

/// The kind of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Regular,
    HardLink,
    Symlink,
    CharDevice,
    BlockDevice,
    Directory,
    Fifo,
    /// PAX records for all entries that follow, which containerd ignores.
    GlobalHeader,
    /// A sparse file in the old GNU format; nothing after it can be read.
    OldSparse,
    /// Anything else, by its type flag.
    Other(u8),
}

/// One entry, with extended headers applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    pub(crate) name: Vec<u8>,
    pub(crate) link: Vec<u8>,
    /// The length of the file, including holes.
    pub(crate) size: u64,
    pub(crate) mode: i64,
    pub(crate) uid: i64,
    pub(crate) gid: i64,
    pub(crate) mtime: Timestamp,
    pub(crate) atime: Timestamp,
    pub(crate) major: i64,
    pub(crate) minor: i64,
    pub(crate) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The parts with data of a sparse file, in order and without overlap.
    pub(crate) fragments: Option<Vec<Fragment>>,
}

impl Entry {
    /// Returns the number of bytes of the file in holes.
    pub(crate) fn hole_bytes(&self) -> u64 {
        let Some(fragments) = &self.fragments else { return 0 };
        // They are within the file and do not overlap.
        self.size - fragments.iter().map(|fragment| fragment.length).sum::<u64>()
    }

    /// Returns whether the data in the archive differs from the file's content.
    pub(crate) fn is_sparse(&self) -> bool {
        self.kind == Kind::OldSparse || self.fragments.is_some()
    }
}

/// Reads the entries of an archive one after the other.
pub(crate) struct Reader<R> {
    input: R,
    /// Bytes of the current entry's data not yet read.
    remaining: u64,
    /// Bytes that fill the current entry's last block.
    padding: usize,
}

impl<R: BufRead> Reader<R> {
    pub(crate) fn new(input: R) -> Self {
        Self { input, remaining: 0, padding: 0 }
    }

    /// Returns the stream.
    pub(crate) fn stream(&self) -> &R {
        &self.input
    }

    /// Returns the stream, after the last entry.
    pub(crate) fn into_inner(self) -> R {
        self.input
    }

    /// Returns the next entry; `None` at the end of the archive. Unread data is skipped.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, TarError> {
        let mut records = Records::new();
        let (mut long_name, mut long_link) = (Vec::new(), Vec::new());
        loop {
            self.skip_body()?;
            if !self.skip_padding()? {
                return Ok(None);
            }
            let Some(mut header) = self.header()? else { return Ok(None) };
            self.start_body(&header)?;
            match header.typeflag {
                b'x' => records = pax::parse(&self.special()?)?,
                b'g' => {
                    let globals = pax::parse(&self.special()?)?;
                    return Ok(Some(global(header, &globals)));
                }
                b'L' => long_name = header::text(&self.special()?),
                b'K' => long_link = header::text(&self.special()?),
                _ => {
                    pax::merge(&mut header, &records)?;
                    if !long_name.is_empty() {
                        header.name = long_name;
                    }
                    if !long_link.is_empty() {
                        header.link = long_link;
                    }
                    if header.typeflag == 0 {
                        // Archives older than POSIX mark directories by the slash.
                        header.typeflag = if header.name.ends_with(b"/") { b'5' } else { b'0' };
                    }
                    // The records may have changed the size.
                    self.start_body(&header)?;
                    let fragments = sparse::fragments(self, &mut header, &records)?;
                    return Ok(Some(entry(header, records, fragments)));
                }
            }
        }
    }

    /// Passes the data of `entry`, which must be the current one, to `write` piece by piece with the offset
    /// of each.
    pub(crate) fn copy_body<E: From<TarError>>(
        &mut self,
        entry: &Entry,
        mut write: impl FnMut(u64, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let whole = [Fragment { offset: 0, length: self.remaining }];
        for fragment in entry.fragments.as_deref().unwrap_or(&whole) {
            if fragment.length > self.remaining {
                return Err(TarError::SparseData.into());
            }
            let (mut offset, mut left) = (fragment.offset, fragment.length);
            while left > 0 {
                let available = self.input.fill_buf().map_err(TarError::Read)?;
                let length = clamp(left, available.len());
                if length == 0 {
                    return Err(TarError::Truncated.into());
                }
                write(offset, &available[..length])?;
                self.input.consume(length);
                let length = length as u64;
                self.remaining -= length;
                left -= length;
                offset += length;
            }
        }
        if self.remaining > 0 {
            return Err(TarError::SparseData.into());
        }
        Ok(())
    }

    fn start_body(&mut self, header: &Header) -> Result<(), TarError> {
        let size = if is_header_only(header.typeflag) { 0 } else { header.size };
        self.remaining = u64::try_from(size).map_err(|_| TarError::NegativeSize)?;
        // Both are below the size of a block.
        self.padding = (BLOCK - (self.remaining % BLOCK as u64) as usize) % BLOCK;
        Ok(())
    }

    /// Reads the whole body of an extended header or long name.
    fn special(&mut self) -> Result<Vec<u8>, TarError> {
        let size = self.remaining;
        match usize::try_from(size) {
            Ok(length) if length <= SPECIAL_LIMIT => {
                let mut body = vec![0; length];
                self.read_body(&mut body)?;
                Ok(body)
            }
            _ => Err(TarError::SpecialTooLong { size }),
        }
    }

    /// Fills `buffer` from the current entry's data.
    fn read_body(&mut self, buffer: &mut [u8]) -> Result<(), TarError> {
        let length = buffer.len() as u64;
        if length > self.remaining || self.read(buffer)? < buffer.len() {
            return Err(TarError::Truncated);
        }
        self.remaining -= length;
        Ok(())
    }

    fn skip_body(&mut self) -> Result<(), TarError> {
        while self.remaining > 0 {
            let available = self.input.fill_buf().map_err(TarError::Read)?.len();
            let length = clamp(self.remaining, available);
            if length == 0 {
                return Err(TarError::Truncated);
            }
            self.input.consume(length);
            self.remaining -= length as u64;
        }
        Ok(())
    }

    /// Skips the padding; returns whether it was complete. Go accepts an archive that ends within it.
    fn skip_padding(&mut self) -> Result<bool, TarError> {
        let padding = std::mem::take(&mut self.padding);
        Ok(self.read(&mut [0; BLOCK][..padding])? == padding)
    }

    /// Reads the next header block; `None` at the end: no block, one block of zeros, or two.
    fn header(&mut self) -> Result<Option<Header>, TarError> {
        let mut block = [0; BLOCK];
        if !self.block(&mut block)? {
            return Ok(None);
        }
        if block != [0; BLOCK] {
            return Header::parse(&block).map(Some);
        }
        if self.block(&mut block)? && block != [0; BLOCK] {
            return Err(TarError::DataAfterZeroBlock);
        }
        Ok(None)
    }

    /// Reads a block; returns whether there was one. A partial block is an error.
    fn block(&mut self, block: &mut [u8; BLOCK]) -> Result<bool, TarError> {
        match self.read(block)? {
            0 => Ok(false),
            BLOCK => Ok(true),
            _ => Err(TarError::Truncated),
        }
    }

    /// Reads until `buffer` is full or the stream ends; returns the number of bytes read.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, TarError> {
        let mut filled = 0;
        while filled < buffer.len() {
            let available = self.input.fill_buf().map_err(TarError::Read)?;
            let length = available.len().min(buffer.len() - filled);
            if length == 0 {
                break;
            }
            buffer[filled..filled + length].copy_from_slice(&available[..length]);
            self.input.consume(length);
            filled += length;
        }
        Ok(filled)
    }
}

impl<R: BufRead + Seek> Reader<R> {
    /// Skips the data of the current entry without reading it; returns its offset in the archive, which has
    /// `size` bytes, and its length.
    pub(crate) fn seek_over_body(&mut self, size: u64) -> Result<(u64, u64), TarError> {
        let start = self.input.stream_position().map_err(TarError::Read)?;
        let length = std::mem::take(&mut self.remaining);
        // Seeking beyond the end is not an error.
        if start.checked_add(length).is_none_or(|end| end > size) {
            return Err(TarError::Truncated);
        }
        let distance = i64::try_from(length).map_err(|_| TarError::Truncated)?;
        self.input.seek_relative(distance).map_err(TarError::Read)?;
        Ok((start, length))
    }
}

/// Returns whether the size field of the type does not announce data: links, devices, directories and FIFOs.
const fn is_header_only(typeflag: u8) -> bool {
    matches!(typeflag, b'1'..=b'6')
}

/// Returns the smaller of the two.
fn clamp(wanted: u64, available: usize) -> usize {
    usize::try_from(wanted).map_or(available, |wanted| wanted.min(available))
}

/// Returns a global header: Go passes on only its name.
fn global(header: Header, records: &Records) -> Entry {
    let path = records.get(b"path".as_slice()).filter(|path| !path.is_empty());
    let name = path.cloned().unwrap_or_else(|| header.name.clone());
    let header = Header { name, link: Vec::new(), size: 0, uid: 0, gid: 0, ..header };
    entry(header, Records::new(), None)
}

fn entry(header: Header, records: Records, fragments: Option<Vec<Fragment>>) -> Entry {
    let kind = match header.typeflag {
        b'0' => Kind::Regular,
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'3' => Kind::CharDevice,
        b'4' => Kind::BlockDevice,
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        b'g' => Kind::GlobalHeader,
        OLD_SPARSE => Kind::OldSparse,
        other => Kind::Other(other),
    };
    let xattrs = records
        .into_iter()
        .filter_map(|(key, value)| Some((key.strip_prefix(pax::XATTR)?.to_vec(), value)))
        .collect();
    Entry {
        kind,
        name: header.name,
        link: header.link,
        size: header.size.max(0).cast_unsigned(),
        mode: header.mode,
        uid: header.uid,
        gid: header.gid,
        mtime: header.mtime,
        atime: header.atime,
        major: header.major,
        minor: header.minor,
        xattrs,
        fragments,
    }
}

#[cfg(test)]
mod tests;
