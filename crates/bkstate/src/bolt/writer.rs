//! Writes a whole database, once, in key order.
//!
//! Pages are filled completely and written when they are full, children before their parents, so memory holds
//! one page per level. Two rules of bbolt's rebalancing shape the trees: a branch page must have two children
//! or more (`node.rebalance`, node.go, asserts it when a child shrinks), and only the root page of a bucket
//! may be empty.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::format::{BUCKET_HEADER, FREELIST, META_PAGE, Meta, PageHeader, shown};
use super::pack::Packer;
use super::{MAX_BUCKET_DEPTH, MAX_KEY_BYTES, MAX_NODE_BYTES, WRITTEN_TXID};

/// Every new file has pages of 4 KiB. bbolt takes the page size from the file, so machines with other page sizes
/// can open it, and the bytes do not depend on the machine that wrote them.
const PAGE_SIZE: usize = 4096;
/// A bucket without nested buckets is stored in its element if its page is not longer than this part of a page
/// (`maxInlineBucketSize`, bucket.go).
const INLINE_PART: usize = 4;
/// Pages 0 and 1 are the meta pages, page 2 is the freelist, as in a new file of bbolt.
const FREELIST_PAGE: u64 = 2;
const FIRST_PAGE: u64 = 3;
/// Pages are written to the file in pieces of about this size.
const BUFFER: usize = 256 << 10;
/// Maximum data of a page with only one element: the element must still be readable.
const MAX_DATA: u64 = MAX_NODE_BYTES - PAGE_SIZE as u64;

/// Why a database cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The file could not be written.
    #[error("cannot write the database at byte {offset}")]
    Io {
        /// Offset in the file.
        offset: u64,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
    /// The file is not empty.
    #[error("the file to write the database to has {length} bytes already; it must be empty")]
    NotEmpty {
        /// Length of the file in bytes.
        length: u64,
    },
    /// A key is empty or longer than [`MAX_KEY_BYTES`].
    #[error(
        "the key \"{}\" is {} bytes long; keys have 1 to {MAX_KEY_BYTES} bytes",
        shown(key), key.len()
    )]
    KeyLength {
        /// The key.
        key: Vec<u8>,
    },
    /// A key is not greater than the key before it in the same bucket.
    #[error(
        "the key \"{}\" was written after \"{}\"; keys must ascend",
        shown(key),
        shown(previous)
    )]
    KeyOrder {
        /// The key.
        key: Vec<u8>,
        /// The key before it.
        previous: Vec<u8>,
    },
    /// A value is too large for [`MAX_NODE_BYTES`].
    #[error("the value of \"{}\" is too long: {length} bytes", shown(key))]
    ValueLength {
        /// The key of the value.
        key: Vec<u8>,
        /// Length of the value in bytes.
        length: usize,
    },
    /// A bucket is nested more than [`MAX_BUCKET_DEPTH`] deep.
    #[error("the bucket \"{}\" is nested more than {MAX_BUCKET_DEPTH} deep", shown(key))]
    BucketsTooDeep {
        /// The key of the bucket.
        key: Vec<u8>,
    },
    /// Part of the database could not be written, and the caller ignored the error.
    #[error("the database is incomplete because writing a part of it failed before")]
    Incomplete,
}

/// Writes a database into `file`, which must be empty. `fill` fills its root bucket.
///
/// The same content gives the same bytes. Both meta pages describe the written content, so a daemon that is
/// interrupted in its first transactions falls back to it. They are written last: until the function returns,
/// the file is not a database.
///
/// The data is not synced; call [`File::sync_all`] before renaming the file to its place.
///
/// # Errors
/// Returns the errors of `fill`, and every [`WriteError`]. The content of the file is unusable then.
pub fn write<E: From<WriteError>>(
    file: &File,
    fill: impl FnOnce(&mut BucketWriter<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let mut output = Output::new(file)?;
    let mut root = BucketWriter::new(&mut output, 0);
    fill(&mut root)?;
    let sequence = root.sequence;
    let root = root.finish()?;
    Ok(output.finish(root, sequence)?)
}

/// A bucket being written.
#[derive(Debug)]
pub struct BucketWriter<'a> {
    output: &'a mut Output,
    sequence: u64,
    depth: usize,
    last_key: Vec<u8>,
    has_buckets: bool,
    leaf: Packer,
    /// The branch pages above the leaf, lowest first; empty while one leaf page is enough.
    branches: Vec<Packer>,
}

impl<'a> BucketWriter<'a> {
    pub(super) fn new(output: &'a mut Output, depth: usize) -> Self {
        Self {
            output,
            sequence: 0,
            depth,
            last_key: Vec::new(),
            has_buckets: false,
            leaf: Packer::leaf(),
            branches: Vec::new(),
        }
    }

    /// Adds a value.
    ///
    /// # Errors
    /// Returns an error if the length of `key` is not 1 to [`MAX_KEY_BYTES`] bytes, if `key` is not greater
    /// than all keys before it, if `value` is too long, or if writing fails.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), WriteError> {
        self.check_key(key)?;
        let length = value.len();
        if (key.len() + length) as u64 > MAX_DATA {
            return Err(WriteError::ValueLength { key: key.to_vec(), length });
        }
        self.make_room(key.len() + length)?;
        self.leaf.value(key, value);
        self.note_key(key);
        Ok(())
    }

    /// Adds a bucket; `fill` fills it. Small buckets are stored inline, as in bbolt.
    ///
    /// # Errors
    /// Returns the errors of `fill`, and an error if `key` is invalid as in [`BucketWriter::put`], if the
    /// bucket is nested too deep, or if writing fails.
    pub fn bucket<E: From<WriteError>>(
        &mut self,
        key: &[u8],
        fill: impl FnOnce(&mut BucketWriter<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.check_key(key)?;
        if self.depth >= MAX_BUCKET_DEPTH {
            return Err(WriteError::BucketsTooDeep { key: key.to_vec() }.into());
        }
        // If `fill` fails, nothing refers to the pages of the bucket that are already written.
        self.output.unfinished += 1;
        let mut bucket = BucketWriter::new(self.output, self.depth + 1);
        fill(&mut bucket)?;
        let value = bucket.into_value()?;
        self.output.unfinished -= 1;
        self.make_room(key.len() + value.len())?;
        self.leaf.bucket(key, &value);
        self.has_buckets = true;
        self.note_key(key);
        Ok(())
    }

    /// Sets the number from which bbolt's `NextSequence` continues; the default is 0.
    pub fn set_sequence(&mut self, sequence: u64) {
        self.sequence = sequence;
    }

    /// Bytes of memory held for pages that are not written yet.
    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        let branches: usize = self.branches.iter().map(Packer::size).sum();
        self.leaf.size() + branches + self.output.buffer.capacity()
    }

    fn check_key(&self, key: &[u8]) -> Result<(), WriteError> {
        if key.is_empty() || key.len() > MAX_KEY_BYTES {
            return Err(WriteError::KeyLength { key: key.to_vec() });
        }
        // Keys are not empty, so the initial empty key is below all of them.
        if key <= self.last_key.as_slice() {
            let (key, previous) = (key.to_vec(), self.last_key.clone());
            return Err(WriteError::KeyOrder { key, previous });
        }
        Ok(())
    }

    fn note_key(&mut self, key: &[u8]) {
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
    }

    /// Writes the leaf page if an element with `data` bytes of key and value does not fit into it.
    fn make_room(&mut self, data: usize) -> Result<(), WriteError> {
        if self.leaf.is_empty() || self.leaf.size_with(data) <= self.output.page_size {
            return Ok(());
        }
        self.write_leaf()
    }

    fn write_leaf(&mut self) -> Result<(), WriteError> {
        let page = self.output.append(&self.leaf)?;
        let key = self.leaf.first_key().to_vec();
        self.leaf.clear();
        self.add_child(0, key, page)
    }

    /// Adds a page to the branch page of `level`, and full branch pages to the level above.
    fn add_child(
        &mut self,
        mut level: usize,
        mut key: Vec<u8>,
        mut page: u64,
    ) -> Result<(), WriteError> {
        loop {
            if level == self.branches.len() {
                self.branches.push(Packer::branch());
            }
            let branch = &mut self.branches[level];
            if branch.len() < 3 || branch.size_with(key.len()) <= self.output.page_size {
                branch.child(&key, page);
                return Ok(());
            }
            // The last child moves to the next page, so that this one never ends up with a single child.
            let moved = branch.pop_child();
            let written = self.output.append(branch)?;
            let first_key = branch.first_key().to_vec();
            branch.clear();
            if let Some((key, page)) = moved {
                branch.child(&key, page);
            }
            branch.child(&key, page);
            (level, key, page) = (level + 1, first_key, written);
        }
    }

    /// Writes the remaining pages and returns the root page.
    pub(super) fn finish(mut self) -> Result<u64, WriteError> {
        if self.branches.is_empty() {
            return self.output.append(&self.leaf);
        }
        // The leaf has an element: the branches began when it did not fit into the previous leaf.
        self.write_leaf()?;
        let mut level = 0;
        loop {
            let branch = std::mem::replace(&mut self.branches[level], Packer::branch());
            let page = self.output.append(&branch)?;
            level += 1;
            if level == self.branches.len() {
                return Ok(page);
            }
            self.add_child(level, branch.first_key().to_vec(), page)?;
        }
    }

    /// Writes the remaining pages and returns the value of the bucket's element.
    fn into_value(self) -> Result<Vec<u8>, WriteError> {
        let sequence = self.sequence.to_le_bytes();
        let is_inline = !self.has_buckets
            && self.branches.is_empty()
            && self.leaf.size() <= self.output.page_size / INLINE_PART;
        let mut value = Vec::with_capacity(BUCKET_HEADER);
        if is_inline {
            value.extend_from_slice(&0_u64.to_le_bytes());
            value.extend_from_slice(&sequence);
            self.leaf.encode(0, 0, &mut value);
        } else {
            value.extend_from_slice(&self.finish()?.to_le_bytes());
            value.extend_from_slice(&sequence);
        }
        Ok(value)
    }
}

/// The file: pages are appended, then the pages at its start are written.
#[derive(Debug)]
pub(super) struct Output {
    file: File,
    page_size: usize,
    /// Runs of pages before the end of the file that can be overwritten: the first page, and their number.
    free: Vec<(u64, u64)>,
    /// Pages not yet written to the file.
    buffer: Vec<u8>,
    /// The first page in the buffer.
    buffer_page: u64,
    /// The page to write next.
    next_page: u64,
    /// Number of buckets being written, and of failed writes.
    unfinished: usize,
}

impl Output {
    fn new(file: &File) -> Result<Self, WriteError> {
        let io = |source| WriteError::Io { offset: 0, source };
        let length = file.metadata().map_err(io)?.len();
        if length != 0 {
            return Err(WriteError::NotEmpty { length });
        }
        Self::from(file, PAGE_SIZE, FIRST_PAGE)
    }

    /// Returns an output that writes to the pages `free` of the database in `file`, whose current state `meta`
    /// describes, and then appends to it.
    pub(super) fn after(
        file: &File,
        meta: &Meta,
        free: Vec<(u64, u64)>,
    ) -> Result<Self, WriteError> {
        Ok(Self { free, ..Self::from(file, meta.page_size as usize, meta.high_water)? })
    }

    pub(super) fn from(file: &File, page_size: usize, first: u64) -> Result<Self, WriteError> {
        Ok(Self {
            file: file.try_clone().map_err(|source| WriteError::Io { offset: 0, source })?,
            page_size,
            free: Vec::new(),
            buffer: Vec::new(),
            buffer_page: first,
            next_page: first,
            unfinished: 0,
        })
    }

    /// Writes a page with the overflow pages it needs, and returns its number.
    fn append(&mut self, packer: &Packer) -> Result<u64, WriteError> {
        let pages = packer.size().div_ceil(self.page_size);
        // Page sizes are bounded by MAX_NODE_BYTES, so this is at most 16,384.
        let overflow = u32::try_from(pages - 1).unwrap_or(u32::MAX);
        if let Some(page) = self.take_free(pages as u64) {
            let mut bytes = Vec::with_capacity(pages * self.page_size);
            packer.encode(page, overflow, &mut bytes);
            bytes.resize(pages * self.page_size, 0);
            let offset = page * self.page_size as u64;
            return match self.file.write_all_at(&bytes, offset) {
                Ok(()) => Ok(page),
                Err(source) => {
                    self.unfinished += 1;
                    Err(WriteError::Io { offset, source })
                }
            };
        }
        let page = self.next_page;
        let start = self.buffer.len();
        packer.encode(page, overflow, &mut self.buffer);
        self.buffer.resize(start + pages * self.page_size, 0);
        self.next_page += pages as u64;
        if self.buffer.len() >= BUFFER {
            self.flush()?;
        }
        Ok(page)
    }

    /// Takes `pages` free pages in a row, if there are that many. Returns the first one.
    fn take_free(&mut self, pages: u64) -> Option<u64> {
        let run = self.free.iter().position(|(_, length)| *length >= pages)?;
        let (first, length) = self.free[run];
        if length == pages {
            self.free.remove(run);
        } else {
            self.free[run] = (first + pages, length - pages);
        }
        Some(first)
    }

    fn flush(&mut self) -> Result<(), WriteError> {
        let offset = self.buffer_page * self.page_size as u64;
        self.file.write_all_at(&self.buffer, offset).map_err(|source| {
            self.unfinished += 1;
            WriteError::Io { offset, source }
        })?;
        self.buffer_page = self.next_page;
        self.buffer.clear();
        Ok(())
    }

    /// Writes the remaining pages. Returns the number of pages of the file.
    pub(super) fn end(&mut self) -> Result<u64, WriteError> {
        if self.unfinished > 0 {
            return Err(WriteError::Incomplete);
        }
        self.flush()?;
        Ok(self.next_page)
    }

    /// Writes the remaining pages, an empty freelist, and both meta pages.
    fn finish(mut self, root: u64, sequence: u64) -> Result<(), WriteError> {
        self.end()?;
        let mut start = Vec::with_capacity(PAGE_SIZE * 3);
        // Transaction numbers as in a new file of bbolt (`DB.init`, db.go). The current one is 1, so bbolt's
        // first transaction replaces meta page 0.
        for txid in 0..=WRITTEN_TXID {
            let header = PageHeader { id: txid, flags: META_PAGE, count: 0, overflow: 0 };
            let meta = Meta {
                page_size: PAGE_SIZE as u32,
                root,
                sequence,
                freelist: FREELIST_PAGE,
                high_water: self.next_page,
                txid,
            };
            start.extend_from_slice(&header.encode());
            start.extend_from_slice(&meta.encode());
            start.resize(start.len().next_multiple_of(PAGE_SIZE), 0);
        }
        let freelist = PageHeader { id: FREELIST_PAGE, flags: FREELIST, count: 0, overflow: 0 };
        start.extend_from_slice(&freelist.encode());
        start.resize(start.len().next_multiple_of(PAGE_SIZE), 0);
        self.file.write_all_at(&start, 0).map_err(|source| WriteError::Io { offset: 0, source })
    }
}
