//! Byte layouts: page headers and meta pages (bbolt 1.5.0, `internal/common/page.go`, `meta.go`).
//!
//! Go writes these structures in the byte order of the machine. BuildKit runs on little-endian machines only;
//! a file from a big-endian one fails with a wrong magic number.

/// Length of the header that starts every page.
pub(super) const PAGE_HEADER: usize = 16;
/// Length of one entry of the element table that follows the header, on branch and leaf pages.
pub(super) const ELEMENT: usize = 16;
/// Length of the root page number and sequence that start a bucket's value.
pub(super) const BUCKET_HEADER: usize = 16;
/// Length of the meta structure that follows the header of pages 0 and 1.
pub(super) const META: usize = 64;

/// Page flag: elements refer to child pages.
pub(super) const BRANCH: u16 = 0x01;
/// Page flag: elements hold values and buckets.
pub(super) const LEAF: u16 = 0x02;
/// Page flag: one of the two meta pages.
pub(super) const META_PAGE: u16 = 0x04;
/// Page flag: the list of free pages.
pub(super) const FREELIST: u16 = 0x10;
/// Leaf element flag: the value is a bucket.
pub(super) const BUCKET_ELEMENT: u32 = 0x01;

/// The freelist page number in a database written with `NoFreelistSync`: it has no freelist.
pub(super) const NO_FREELIST: u64 = u64::MAX;
/// Value of a page's count field when the real count of a freelist is its first entry.
pub(super) const LONG_FREELIST: u16 = 0xFFFF;

/// Valid page sizes. bbolt takes the machine's page size by default and looks for the second meta page at
/// these distances (`getPageSizeFromSecondMeta`, db.go).
pub(super) const PAGE_SIZES: std::ops::RangeInclusive<u32> = 1 << 10..=1 << 24;

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;
/// The checksum covers everything before itself.
const CHECKSUMMED: usize = META - 8;

/// Returns the `N` bytes at `at`; `None` if there are fewer.
pub(super) fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// Reads the little-endian number at `at`.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes_at(bytes, at).map(u32::from_le_bytes)
}

/// Reads the little-endian number at `at`.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes_at(bytes, at).map(u64::from_le_bytes)
}

/// The header of every page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PageHeader {
    /// The page's own number; 0 in the page of an inline bucket.
    pub(super) id: u64,
    /// Exactly one of the page flags.
    pub(super) flags: u16,
    /// Number of elements.
    pub(super) count: u16,
    /// Number of further pages that belong to this one.
    pub(super) overflow: u32,
}

impl PageHeader {
    pub(super) fn encode(&self) -> [u8; PAGE_HEADER] {
        let mut bytes = [0; PAGE_HEADER];
        bytes[..8].copy_from_slice(&self.id.to_le_bytes());
        bytes[8..10].copy_from_slice(&self.flags.to_le_bytes());
        bytes[10..12].copy_from_slice(&self.count.to_le_bytes());
        bytes[12..].copy_from_slice(&self.overflow.to_le_bytes());
        bytes
    }

    /// Decodes the header of `page`; `None` if `page` is too short.
    pub(super) fn decode(page: &[u8]) -> Option<Self> {
        Some(Self {
            id: u64_at(page, 0)?,
            flags: bytes_at(page, 8).map(u16::from_le_bytes)?,
            count: bytes_at(page, 10).map(u16::from_le_bytes)?,
            overflow: u32_at(page, 12)?,
        })
    }
}

/// One of the two meta structures, which locate the database. The valid one with the higher `txid` is in
/// force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) page_size: u32,
    /// Root page of the root bucket.
    pub(super) root: u64,
    /// Sequence of the root bucket.
    pub(super) sequence: u64,
    /// Page of the freelist, or [`NO_FREELIST`].
    pub(super) freelist: u64,
    /// First page number that was never used; all pages in use are below it.
    pub(super) high_water: u64,
    /// Transaction that wrote this meta page.
    pub(super) txid: u64,
}

/// Why a meta page is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetaFault {
    /// The file ends before or inside it.
    #[error("the file ends before it")]
    Missing,
    /// The magic number is not bbolt's.
    #[error("it has the magic number {found:#010x} instead of 0xed0cdaed")]
    Magic {
        /// The number found.
        found: u32,
    },
    /// The format version is not 2.
    #[error("it has format version {found} instead of 2")]
    Version {
        /// The version found.
        found: u32,
    },
    /// The checksum does not match: the page was written in part, or damaged later.
    #[error("its checksum is wrong")]
    Checksum,
    /// The page size is not a power of two from 1 KiB to 16 MiB, or does not match the distance of the page.
    #[error("its page size of {found} bytes is impossible there")]
    PageSize {
        /// The page size found.
        found: u32,
    },
}

impl Meta {
    pub(super) fn encode(&self) -> [u8; META] {
        let mut bytes = [0; META];
        bytes[..4].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[4..8].copy_from_slice(&VERSION.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.page_size.to_le_bytes());
        // 12..16: flags, unused.
        bytes[16..24].copy_from_slice(&self.root.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.freelist.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.high_water.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.txid.to_le_bytes());
        let checksum = fnv1a(&bytes[..CHECKSUMMED]);
        bytes[CHECKSUMMED..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Decodes and validates the structure; `bytes` start after the page header.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, MetaFault> {
        let bytes: &[u8; META] = bytes.first_chunk().ok_or(MetaFault::Missing)?;
        let u32_field = |at| u32_at(bytes, at).ok_or(MetaFault::Missing);
        let u64_field = |at| u64_at(bytes, at).ok_or(MetaFault::Missing);
        match (u32_field(0)?, u32_field(4)?) {
            (MAGIC, VERSION) => {}
            (MAGIC, found) => return Err(MetaFault::Version { found }),
            (found, _) => return Err(MetaFault::Magic { found }),
        }
        if u64_field(CHECKSUMMED)? != fnv1a(&bytes[..CHECKSUMMED]) {
            return Err(MetaFault::Checksum);
        }
        let page_size = u32_field(8)?;
        if !page_size.is_power_of_two() || !PAGE_SIZES.contains(&page_size) {
            return Err(MetaFault::PageSize { found: page_size });
        }
        Ok(Self {
            page_size,
            root: u64_field(16)?,
            sequence: u64_field(24)?,
            freelist: u64_field(32)?,
            high_water: u64_field(40)?,
            txid: u64_field(48)?,
        })
    }
}

/// 64-bit FNV-1a, as Go's `hash/fnv.New64a`.
pub(super) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Formats a key for messages: printable, and at most one line long.
pub(super) fn shown(key: &[u8]) -> String {
    const LONGEST: usize = 100;
    match key.get(..LONGEST) {
        Some(start) if key.len() > LONGEST => format!("{}...", start.escape_ascii()),
        _ => key.escape_ascii().to_string(),
    }
}
