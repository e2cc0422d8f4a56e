//! GNU sparse files in PAX archives, versions 0.0, 0.1 and 1.0 (GNU tar manual, "Sparse
//! Formats"; Go 1.26 `src/archive/tar/reader.go` `readGNUSparsePAXHeaders`).
//!
//! | version | place of the map |
//! |---|---|
//! | 0.0 | repeated records `GNU.sparse.offset` and `GNU.sparse.numbytes` |
//! | 0.1 | record `GNU.sparse.map`: offsets and lengths joined by commas |
//! | 1.0 | before the data: decimal lines, the count first, padded to a whole block |

use std::io::BufRead;

use super::header::{BLOCK, Header};
use super::number::decimal;
use super::pax::{Records, SPARSE_MAP};
use super::{Reader, SPECIAL_LIMIT, TarError, is_header_only};

/// Maximum number of fragments, as in Go; the size of each encoding is limited before that.
const MAX_FRAGMENTS: i64 = 1 << 20;

/// A part of a sparse file with data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fragment {
    pub(in crate::unpack) offset: u64,
    pub(in crate::unpack) length: u64,
}

/// Returns the data fragments if the records describe a sparse file. Sets the header's name and size to those
/// of the file.
pub(super) fn fragments<R: BufRead>(
    reader: &mut Reader<R>,
    header: &mut Header,
    records: &Records,
) -> Result<Option<Vec<Fragment>>, TarError> {
    let get = |key: &[u8]| records.get(key).map_or(&[][..], Vec::as_slice);
    let before_data = match (get(b"GNU.sparse.major"), get(b"GNU.sparse.minor")) {
        (b"0", b"0" | b"1") => false,
        (b"1", b"0") => true,
        (b"", b"") if !get(SPARSE_MAP).is_empty() => false,
        _ => return Ok(None),
    };
    let name = get(b"GNU.sparse.name");
    if !name.is_empty() {
        header.name = name.to_vec();
    }
    let size = [get(b"GNU.sparse.size"), get(b"GNU.sparse.realsize")];
    if let Some(size) = size.into_iter().find(|size| !size.is_empty()) {
        header.size = decimal(size).ok_or(TarError::SparseMap)?;
    }
    let numbers = if before_data {
        map_before_data(reader)?
    } else {
        map_in_records(get(b"GNU.sparse.numblocks"), get(SPARSE_MAP))?
    };
    if is_header_only(header.typeflag) {
        return Err(TarError::SparseMap);
    }
    validated(&numbers, header.size).map(Some)
}

/// Reads the map of version 1.0 from the start of the entry's data.
fn map_before_data<R: BufRead>(reader: &mut Reader<R>) -> Result<Vec<i64>, TarError> {
    let mut lines = Lines { text: Vec::new(), read: 0, start: 0 };
    let count = lines.next(reader)?;
    if !(0..=MAX_FRAGMENTS).contains(&count) {
        return Err(TarError::SparseMap);
    }
    (0..2 * count).map(|_| lines.next(reader)).collect()
}

/// Decimal lines, read block by block and no further than needed.
struct Lines {
    text: Vec<u8>,
    read: usize,
    start: usize,
}

impl Lines {
    fn next<R: BufRead>(&mut self, reader: &mut Reader<R>) -> Result<i64, TarError> {
        // A line can be as long as the map, so no part of it is searched twice.
        let mut searched = 0;
        loop {
            let rest = &self.text[self.start..];
            if let Some(more) = rest[searched..].iter().position(|byte| *byte == b'\n') {
                let length = searched + more;
                let number = decimal(&rest[..length]).ok_or(TarError::SparseMap)?;
                self.start += length + 1;
                return Ok(number);
            }
            searched = rest.len();
            self.read += BLOCK;
            if self.read > SPECIAL_LIMIT {
                return Err(TarError::SparseMap);
            }
            self.text.drain(..self.start);
            self.start = 0;
            let mut block = [0; BLOCK];
            reader.read_body(&mut block)?;
            self.text.extend_from_slice(&block);
        }
    }
}

fn map_in_records(count: &[u8], map: &[u8]) -> Result<Vec<i64>, TarError> {
    let count = decimal(count)
        .filter(|count| (0..=MAX_FRAGMENTS).contains(count))
        .ok_or(TarError::SparseMap)?;
    let numbers: Vec<i64> = if map.is_empty() {
        Vec::new()
    } else {
        map.split(|byte| *byte == b',')
            .map(decimal)
            .collect::<Option<_>>()
            .ok_or(TarError::SparseMap)?
    };
    if i64::try_from(numbers.len()) != Ok(2 * count) {
        return Err(TarError::SparseMap);
    }
    Ok(numbers)
}

/// Checks that fragments are in order, do not overlap and are within the file.
fn validated(numbers: &[i64], size: i64) -> Result<Vec<Fragment>, TarError> {
    let size = u64::try_from(size).map_err(|_| TarError::SparseMap)?;
    let mut end = 0;
    let mut fragments = Vec::with_capacity(numbers.len() / 2);
    for pair in numbers.chunks_exact(2) {
        let number = |index: usize| u64::try_from(pair[index]).map_err(|_| TarError::SparseMap);
        let fragment = Fragment { offset: number(0)?, length: number(1)? };
        // Both are below 2^63, so the sum cannot overflow.
        let fragment_end = fragment.offset + fragment.length;
        if fragment.offset < end || fragment_end > size {
            return Err(TarError::SparseMap);
        }
        end = fragment_end;
        if fragment.length > 0 {
            fragments.push(fragment);
        }
    }
    Ok(fragments)
}
