//! The first block of an EROFS image.
//!
//! | offset | bytes | |
//! |--:|--:|---|
//! | 0 | 4 | magic number |
//! | 4 | 4 | checksum: CRC-32C of the rest of the block, without the final inversion, itself as zero |
//! | 8 | 4 | compatible features; bit 0: there is a checksum |
//! | 12 | 1 | binary logarithm of the size of a block |
//! | 24 | 12 | time at which the image was made: seconds, nanoseconds |
//! | 48 | 16 | UUID |
//!
//! Source: Linux 6.18 `fs/erofs/erofs_fs.h` `struct erofs_super_block`, `fs/erofs/super.c`
//! `erofs_superblock_csum_verify`.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use super::Uuid;

/// Where it is in the image.
const OFFSET: u64 = 1024;
const LENGTH: usize = 128;
const MAGIC: u32 = 0xe0f5_e1e2;
/// The sizes of blocks that kernels read, as binary logarithms.
const BLOCK_BITS: std::ops::RangeInclusive<u8> = 9..=16;
const HAS_CHECKSUM: u32 = 1;

/// The first block of an EROFS image, with what tells one image from another.
///
/// ```
/// use std::fs::File;
///
/// use bkstate::packed::Superblock;
///
/// let file = tempfile::tempfile()?;
/// file.set_len(4096)?;
/// assert_eq!(Superblock::read(&file)?, None);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Superblock {
    /// The UUID of the file system.
    pub uuid: Uuid,
}

impl Superblock {
    /// Reads it from `image`; `None` if that is not EROFS.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read.
    pub fn read(image: &File) -> io::Result<Option<Self>> {
        let mut block = [0; LENGTH];
        match image.read_exact_at(&mut block, OFFSET) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            read => read?,
        }
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&block[48..64]);
        Ok((number(&block, 0) == MAGIC).then(|| Self { uuid: Uuid::from_bytes(uuid) }))
    }

    /// Sets the time at which `image` was made to the epoch, so that the same trees give the same bytes. Old
    /// releases of mkfs.erofs have no option for that. The inodes must have times of their own.
    ///
    /// ```
    /// use bkstate::packed::Superblock;
    ///
    /// let file = tempfile::tempfile()?;
    /// assert!(!Superblock::forget_time(&file)?, "it is not EROFS");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or written. Returns false if it is not EROFS.
    pub fn forget_time(image: &File) -> io::Result<bool> {
        if Self::read(image)?.is_none() {
            return Ok(false);
        }
        let mut start = [0; LENGTH];
        image.read_exact_at(&mut start, OFFSET)?;
        let bits = start[12];
        if !BLOCK_BITS.contains(&bits) {
            return Ok(false);
        }
        // The superblock is in the first block, or in the second if blocks are small.
        let offset = usize::try_from(OFFSET).unwrap_or_default();
        let length = (1_usize << bits).max(offset + LENGTH) - offset;
        let mut block = vec![0; length];
        image.read_exact_at(&mut block, OFFSET)?;
        block[24..36].fill(0);
        if number(&block, 8) & HAS_CHECKSUM != 0 {
            block[4..8].fill(0);
            let checksum = crc32c(&block);
            block[4..8].copy_from_slice(&checksum.to_le_bytes());
        }
        image.write_all_at(&block, OFFSET)?;
        Ok(true)
    }
}

fn number(block: &[u8], at: usize) -> u32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&block[at..at + 4]);
    u32::from_le_bytes(bytes)
}

/// CRC-32C as the kernel's `crc32c(~0, …)`: without the final inversion. It is for one block.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |sum: u32, _| (sum >> 1) ^ if sum & 1 == 1 { 0x82f6_3b78 } else { 0 };
    bytes.iter().fold(u32::MAX, |sum, byte| (0..8).fold(sum ^ u32::from(*byte), step))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_crc_32c() {
        // The check value of CRC-32C is that of "123456789", inverted.
        assert_eq!(!crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn only_the_time_and_the_checksum_change() {
        let file = tempfile::tempfile().unwrap();
        let mut image = vec![7; 8192];
        image[1024..1028].copy_from_slice(&MAGIC.to_le_bytes());
        image[1032..1036].copy_from_slice(&HAS_CHECKSUM.to_le_bytes());
        image[1036] = 12;
        file.write_all_at(&image, 0).unwrap();
        assert!(Superblock::forget_time(&file).unwrap());
        let mut changed = vec![0; image.len()];
        file.read_exact_at(&mut changed, 0).unwrap();
        let differs: Vec<_> = (0..image.len()).filter(|at| image[*at] != changed[*at]).collect();
        assert_eq!(differs, (1028..1032).chain(1048..1060).collect::<Vec<_>>());
        let stored = number(&changed, 1028);
        changed[1028..1032].fill(0);
        assert_eq!(stored, crc32c(&changed[1024..4096]));
    }
}
