//! The holes of sparse files.

use std::fs::File;

use rustix::fs::{SeekFrom, Stat, seek};
use rustix::io::Errno;

use super::header::BLOCK;

/// The most parts with data that are stored; a file with more is stored as a whole.
const MOST: usize = 1 << 12;

/// Returns the offsets and lengths of the parts of `file` with data; `None` if it has no holes worth it.
pub(super) fn parts(file: &File, stat: &Stat) -> Option<Vec<(u64, u64)>> {
    let size = stat.st_size.cast_unsigned();
    // Units of 512 bytes on every file system.
    if stat.st_blocks.cast_unsigned().saturating_mul(512) >= size {
        return None;
    }
    let mut parts = Vec::new();
    let mut end = 0;
    while end < size {
        let start = match seek(file, SeekFrom::Data(end)) {
            // The rest is a hole.
            Err(Errno::NXIO) => break,
            start => start.ok()?,
        };
        end = seek(file, SeekFrom::Hole(start)).ok()?.min(size);
        if start >= end || parts.len() == MOST {
            break;
        }
        parts.push((start, end - start));
    }
    // Also back at its start for a reader that takes it as a whole.
    seek(file, SeekFrom::Start(0)).ok()?;
    let is_whole = parts == [(0, size)];
    (parts.len() < MOST && !is_whole).then_some(parts)
}

/// Returns the map of these parts, as it precedes the data in the archive.
pub(super) fn map(parts: &[(u64, u64)]) -> Vec<u8> {
    let mut map = format!("{}\n", parts.len());
    for (offset, length) in parts {
        map += &format!("{offset}\n{length}\n");
    }
    let mut map = map.into_bytes();
    map.resize(map.len().next_multiple_of(BLOCK), 0);
    map
}
