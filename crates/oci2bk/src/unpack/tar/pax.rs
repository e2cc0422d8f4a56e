//! PAX extended headers: records of the form `<length> <key>=<value>\n`, where the length counts
//! the whole record in decimal (POSIX.1-2001; Go 1.26 `src/archive/tar/strconv.go`
//! `parsePAXRecord`, `reader.go` `parsePAX` and `mergePAX`).

use std::collections::BTreeMap;

use super::TarError;
use super::header::Header;
use super::number::{Timestamp, decimal};

/// The records of one extended header; the last record of a key counts.
pub(super) type Records = BTreeMap<Vec<u8>, Vec<u8>>;

/// The key of the sparse map of formats 0.0 and 0.1.
pub(super) const SPARSE_MAP: &[u8] = b"GNU.sparse.map";
const SPARSE_OFFSET: &[u8] = b"GNU.sparse.offset";
const SPARSE_NUMBYTES: &[u8] = b"GNU.sparse.numbytes";

/// The prefix of the keys of extended attributes.
pub(super) const XATTR: &[u8] = b"SCHILY.xattr.";

/// Parses the body of an extended header.
pub(super) fn parse(mut body: &[u8]) -> Result<Records, TarError> {
    let mut records = Records::new();
    // Sparse format 0.0 repeats two keys, which a map cannot represent; they become format 0.1.
    let mut sparse: Vec<&[u8]> = Vec::new();
    while !body.is_empty() {
        let (key, value, rest) = record(body).ok_or(TarError::PaxRecord)?;
        body = rest;
        if key == SPARSE_OFFSET || key == SPARSE_NUMBYTES {
            let expected =
                if sparse.len().is_multiple_of(2) { SPARSE_OFFSET } else { SPARSE_NUMBYTES };
            if key != expected || value.contains(&b',') {
                return Err(TarError::PaxRecord);
            }
            sparse.push(value);
        } else {
            records.insert(key.to_vec(), value.to_vec());
        }
    }
    if !sparse.is_empty() {
        records.insert(SPARSE_MAP.to_vec(), sparse.join(&b','));
    }
    Ok(records)
}

type Record<'a> = (&'a [u8], &'a [u8], &'a [u8]);

fn record(body: &[u8]) -> Option<Record<'_>> {
    let space = body.iter().position(|byte| *byte == b' ')?;
    let length = usize::try_from(decimal(&body[..space])?).ok()?;
    if length < 5 || length > body.len() || length <= space + 1 {
        return None;
    }
    let (record, rest) = body.split_at(length);
    let record = record[space + 1..].strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    let (key, value) = (&record[..equals], &record[equals + 1..]);
    let checked = match key {
        b"" => return None,
        b"path" | b"linkpath" | b"uname" | b"gname" => value,
        _ => key,
    };
    (!checked.contains(&0)).then_some((key, value, rest))
}

/// Replaces fields of the header block by the records. Empty values leave the block's.
pub(super) fn merge(header: &mut Header, records: &Records) -> Result<(), TarError> {
    for (key, value) in records.iter().filter(|(_, value)| !value.is_empty()) {
        let invalid = || TarError::PaxValue { key: String::from_utf8_lossy(key).into_owned() };
        let number = || decimal(value).ok_or_else(invalid);
        let time = || Timestamp::from_pax(value).ok_or_else(invalid);
        match key.as_slice() {
            b"path" => header.name.clone_from(value),
            b"linkpath" => header.link.clone_from(value),
            b"size" => header.size = number()?,
            b"uid" => header.uid = number()?,
            b"gid" => header.gid = number()?,
            b"mtime" => header.mtime = time()?,
            b"atime" => header.atime = time()?,
            // Not used, but a damaged one is rejected as in Go.
            b"ctime" => drop(time()?),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_split_by_their_length_and_the_last_of_a_key_counts() {
        let records = parse(b"9 path=a\n9 path=b\n16 comment=a=\nb\n").unwrap();
        assert_eq!(records[b"path".as_slice()], b"b");
        assert_eq!(records[b"comment".as_slice()], b"a=\nb");
        // The shortest one.
        assert_eq!(parse(b"5 a=\n").unwrap()[b"a".as_slice()], b"");
    }

    #[test]
    fn damaged_records_are_refused() {
        for body in [
            &b"\n"[..],
            b"9path=a\n",
            b"8 path=a\n",
            b"11 path=a\n",
            b"999999999999999999999 path=a\n",
            b"-9 path=a\n",
            b"0 path=a\n",
            b"5 a=b",
            b"8 patha\n",
            b"6 =ab\n",
            b"00005 a=\n",
            b"12 path=a\0b\n",
            b"9 a\0bc=d\n",
            b"27 GNU.sparse.numbytes=512\n",
        ] {
            let error = parse(body).unwrap_err();
            assert!(matches!(error, TarError::PaxRecord), "{}: {error}", body.escape_ascii());
            assert_eq!(error.to_string(), "the PAX extended header has a malformed record");
        }
    }

    #[test]
    fn the_repeated_keys_of_sparse_format_0_0_become_one_map() {
        let body = b"23 GNU.sparse.offset=1\n25 GNU.sparse.numbytes=2\n\
                     23 GNU.sparse.offset=3\n25 GNU.sparse.numbytes=4\n";
        assert_eq!(parse(body).unwrap()[SPARSE_MAP], b"1,2,3,4");
    }
}
