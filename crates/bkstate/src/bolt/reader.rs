//! Opening a database and reading its pages.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::bucket::Bucket;
use super::format::{META, Meta, MetaFault, PAGE_HEADER, PAGE_SIZES, PageHeader};
use super::node::{Node, Place};
use super::owners::{Owner, Owners};
use super::{MAX_BUCKET_DEPTH, MAX_KEY_BYTES, MAX_NODE_BYTES, MAX_TREE_HEIGHT};

/// Why a database cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The file could not be read.
    #[error("cannot read the database at byte {offset}")]
    Io {
        /// Offset in the file.
        offset: u64,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
    /// Neither meta page is valid: the file is not a BoltDB file, or is damaged beyond use.
    #[error(
        "the file is not a usable BoltDB file: of meta page 0, {meta0}; of meta page 1, {meta1}"
    )]
    NoMeta {
        /// The fault of the first meta page.
        meta0: MetaFault,
        /// The fault of the second meta page.
        meta1: MetaFault,
    },
    /// The file is shorter than the database in it.
    #[error(
        "the file has {length} bytes but the database in it has {pages} pages of {page_size} \
         bytes; it was cut off"
    )]
    Truncated {
        /// Length of the file in bytes.
        length: u64,
        /// Number of pages of the database.
        pages: u64,
        /// Size of a page in bytes.
        page_size: u32,
    },
    /// A reference points outside the file or to a meta page.
    #[error("{owner} refers to page {page}, but pages run from 2 to below {pages}")]
    PageOutside {
        /// The page referred to.
        page: u64,
        /// The owner of the reference.
        owner: Owner,
        /// Number of pages of the database.
        pages: u64,
    },
    /// The number in a page's header is not its own.
    #[error("page {page} says that it is page {found}")]
    PageNumber {
        /// The page that was read.
        page: u64,
        /// The number found.
        found: u64,
    },
    /// A page has the wrong type for its use.
    #[error("{place} has the type {flags:#x}, which cannot be there")]
    PageType {
        /// The page.
        place: Place,
        /// Its type: 1 branch, 2 leaf, 4 meta, 16 freelist.
        flags: u16,
    },
    /// A page with its overflow pages exceeds [`MAX_NODE_BYTES`].
    #[error("page {page} is {bytes} bytes long, more than {MAX_NODE_BYTES}")]
    PageTooLarge {
        /// The page.
        page: u64,
        /// Its length with all overflow pages.
        bytes: u64,
    },
    /// Two references point to the same page: the tree has a cycle or a shared part.
    #[error("page {page} is referred to by {first} and again by {second}")]
    PageShared {
        /// The page.
        page: u64,
        /// The first reference seen, to this page or to one that overlaps it.
        first: Owner,
        /// The other reference.
        second: Owner,
    },
    /// An element is outside its page, or overlaps another one.
    #[error("element {index} of {place} does not fit into the page")]
    ElementOutside {
        /// The page.
        place: Place,
        /// The element's position on the page, from 0.
        index: usize,
    },
    /// A key is empty or longer than [`MAX_KEY_BYTES`].
    #[error(
        "element {index} of {place} has a key of {length} bytes; keys have 1 to {MAX_KEY_BYTES}"
    )]
    KeyLength {
        /// The page.
        place: Place,
        /// The element's position on the page, from 0.
        index: usize,
        /// Length of the key in bytes.
        length: usize,
    },
    /// A key is not greater than the key before it.
    #[error("the key of element {index} of {place} is not above the key before it")]
    KeyOrder {
        /// The page.
        place: Place,
        /// The element's position on the page, from 0.
        index: usize,
    },
    /// A branch page has no children.
    #[error("branch {place} has no children")]
    EmptyBranch {
        /// The page.
        place: Place,
    },
    /// A bucket's value is shorter than a bucket's header.
    #[error("the bucket in element {index} of {place} is too short")]
    ShortBucket {
        /// The page of the bucket's element.
        place: Place,
        /// The element's position on the page, from 0.
        index: usize,
    },
    /// An inline bucket's page is shorter than a page's header.
    #[error("{place} is too short to be a page")]
    ShortInline {
        /// The page.
        place: Place,
    },
    /// An inline bucket contains a bucket, which bbolt never writes.
    #[error("element {index} of {place} is a bucket, which an inline bucket cannot hold")]
    BucketInInline {
        /// The inline bucket.
        place: Place,
        /// The element's position in the inline bucket, from 0.
        index: usize,
    },
    /// Buckets are nested more than [`MAX_BUCKET_DEPTH`] deep.
    #[error("the bucket in element {index} of {place} is nested more than {MAX_BUCKET_DEPTH} deep")]
    BucketsTooDeep {
        /// The page of the bucket's element.
        place: Place,
        /// The element's position on the page, from 0.
        index: usize,
    },
    /// The tree of a bucket is higher than [`MAX_TREE_HEIGHT`].
    #[error("{place} is more than {MAX_TREE_HEIGHT} pages below the root of its bucket")]
    TreeTooHigh {
        /// The page.
        place: Place,
    },
    /// The freelist is longer than its page.
    #[error("the freelist on page {page} has {count} entries, more than fit into the page")]
    FreelistTooLong {
        /// The page.
        page: u64,
        /// Number of entries that it claims to have.
        count: u64,
    },
}

/// An open database, read-only.
///
/// It shows the state of the last complete transaction at the time of [`Db::open`]. The file must not change
/// while the database is open.
#[derive(Debug)]
pub struct Db {
    file: File,
    pub(super) metas: [Result<Meta, MetaFault>; 2],
    pub(super) meta: Meta,
    owners: Mutex<Owners>,
}

impl Db {
    /// Opens the database in `file`.
    ///
    /// The valid meta page with the higher transaction number counts, so a transaction that was interrupted
    /// while it wrote its meta page never happened. The page size comes from the meta pages, not from this
    /// machine.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read, has no valid meta page, or is shorter than its database.
    pub fn open(file: File) -> Result<Self, ReadError> {
        let length = file.metadata().map_err(|source| ReadError::Io { offset: 0, source })?.len();
        let metas = read_metas(&file)?;
        let meta = match &metas {
            [Ok(meta0), Ok(meta1)] if meta1.txid > meta0.txid => meta1,
            [Ok(meta0), _] => meta0,
            [Err(_), Ok(meta1)] => meta1,
            [Err(meta0), Err(meta1)] => {
                return Err(ReadError::NoMeta { meta0: meta0.clone(), meta1: meta1.clone() });
            }
        }
        .clone();
        if meta.high_water > length / u64::from(meta.page_size) {
            let (pages, page_size) = (meta.high_water, meta.page_size);
            return Err(ReadError::Truncated { length, pages, page_size });
        }
        Ok(Self { file, metas, meta, owners: Mutex::default() })
    }

    /// Returns the root bucket, which contains the top-level buckets (and, in bbolt, nothing else).
    pub fn root(&self) -> Bucket<'_> {
        Bucket::root(self)
    }

    /// Returns the size of a page in bytes.
    pub fn page_size(&self) -> u32 {
        self.meta.page_size
    }

    /// Returns the number of pages of the database, including free ones. The file can be longer, because
    /// bbolt grows it in large steps.
    pub fn page_count(&self) -> u64 {
        self.meta.high_water
    }

    /// Returns the number of the last complete transaction, whose state this is.
    pub fn txid(&self) -> u64 {
        self.meta.txid
    }

    /// Reads the branch or leaf page `page`.
    pub(super) fn node(&self, page: u64, owner: Owner) -> Result<Node, ReadError> {
        Node::parse(Place::Page(page), self.page(page, owner)?)
    }

    /// Reads page `page`, to which `owner` refers, with its overflow pages.
    pub(super) fn page(&self, page: u64, owner: Owner) -> Result<Vec<u8>, ReadError> {
        let pages = self.meta.high_water;
        let outside = || ReadError::PageOutside { page, owner, pages };
        if page < 2 || page >= pages {
            return Err(outside());
        }
        let page_size = u64::from(self.meta.page_size);
        // Cannot overflow: the file has at least `high_water` pages.
        let offset = page * page_size;
        let mut bytes = Vec::new();
        self.extend(&mut bytes, offset, page_size)?;
        let Some(header) = PageHeader::decode(&bytes) else { return Err(outside()) };
        if header.id != page {
            return Err(ReadError::PageNumber { page, found: header.id });
        }
        let last = page + u64::from(header.overflow);
        if last >= pages {
            return Err(ReadError::PageOutside { page: last, owner, pages });
        }
        let length = (u64::from(header.overflow) + 1) * page_size;
        if length > MAX_NODE_BYTES {
            return Err(ReadError::PageTooLarge { page, bytes: length });
        }
        self.owners().claim(page, last, owner).map_err(|first| ReadError::PageShared {
            page,
            first,
            second: owner,
        })?;
        self.extend(&mut bytes, offset + page_size, length - page_size)?;
        Ok(bytes)
    }

    /// Appends `length` bytes of the file, from `offset`, to `bytes`.
    fn extend(&self, bytes: &mut Vec<u8>, offset: u64, length: u64) -> Result<(), ReadError> {
        let failed = |source| ReadError::Io { offset, source };
        let start = bytes.len();
        // Callers have checked the length against MAX_NODE_BYTES.
        let length =
            usize::try_from(length).map_err(|_| failed(io::ErrorKind::FileTooLarge.into()))?;
        // Zeros of the allocator: `Vec::resize` sets byte after byte without optimisation.
        bytes.append(&mut vec![0; length]);
        self.file.read_exact_at(&mut bytes[start..], offset).map_err(failed)
    }

    /// Locks the set of pages reached so far.
    pub(super) fn owners(&self) -> MutexGuard<'_, Owners> {
        // A claim is a single insertion, so a panic cannot leave a half-made state.
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the page header of meta page `index`.
    pub(super) fn meta_header(&self, index: u64) -> Result<Option<PageHeader>, ReadError> {
        let mut header = [0; PAGE_HEADER];
        let offset = index * u64::from(self.meta.page_size);
        self.file
            .read_exact_at(&mut header, offset)
            .map_err(|source| ReadError::Io { offset, source })?;
        Ok(PageHeader::decode(&header))
    }
}

/// Reads both meta pages. The second one is one page size after the first. If the first is damaged, the page
/// size is unknown, and every possible distance is tried, as bbolt does.
fn read_metas(file: &File) -> Result<[Result<Meta, MetaFault>; 2], ReadError> {
    let meta0 = read_meta(file, 0)?;
    let meta1 = match &meta0 {
        Ok(meta) => meta_at_distance(file, meta.page_size)?,
        Err(_) => {
            let mut found = Err(MetaFault::Missing);
            let sizes = (0..u32::BITS).map(|bit| 1 << bit);
            for distance in sizes.filter(|size| PAGE_SIZES.contains(size)) {
                match meta_at_distance(file, distance)? {
                    Ok(meta) => {
                        found = Ok(meta);
                        break;
                    }
                    // The most common page size gives the most useful explanation.
                    Err(fault) if distance == 4096 => found = Err(fault),
                    Err(_) => {}
                }
            }
            found
        }
    };
    Ok([meta0, meta1])
}

fn meta_at_distance(file: &File, distance: u32) -> Result<Result<Meta, MetaFault>, ReadError> {
    Ok(read_meta(file, u64::from(distance))?.and_then(|meta| match meta.page_size {
        found if found == distance => Ok(meta),
        found => Err(MetaFault::PageSize { found }),
    }))
}

fn read_meta(file: &File, offset: u64) -> Result<Result<Meta, MetaFault>, ReadError> {
    let mut bytes = [0; PAGE_HEADER + META];
    match file.read_exact_at(&mut bytes, offset) {
        Ok(()) => Ok(Meta::decode(&bytes[PAGE_HEADER..])),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Err(MetaFault::Missing)),
        Err(source) => Err(ReadError::Io { offset, source }),
    }
}
