//! Headers of tar archives: blocks of ustar, with PAX records for what does not fit into them (POSIX.1-2001,
//! `pax`, "ustar Interchange Format" and "pax Interchange Format").

use std::collections::BTreeMap;
use std::io::{self, Write};

/// The size of all blocks of an archive.
pub(super) const BLOCK: usize = 512;

/// The name of extended headers, which no reader uses.
const PAX_NAME: &[u8] = b"./PaxHeaders";
/// Prefix of the keys of extended attributes, as in Go's `archive/tar` and GNU tar.
const XATTR: &[u8] = b"SCHILY.xattr.";
/// Numbers from here on do not fit into a field of seven octal digits.
const SMALL: u64 = 1 << 21;
/// Numbers from here on do not fit into a field of eleven octal digits.
const LARGE: u64 = 1 << 33;

/// The header of one entry.
#[derive(Debug)]
pub(crate) struct Header<'a> {
    /// The type flag.
    pub(crate) typeflag: u8,
    pub(crate) name: &'a [u8],
    /// The target of a link; empty for anything else.
    pub(crate) link: &'a [u8],
    /// The length of the data that follows.
    pub(crate) size: u64,
    /// The size of a sparse file, whose data begins with its map (GNU tar, "PAX Format, Version 1.0").
    pub(crate) sparse: Option<u64>,
    /// The major and minor number of a device.
    pub(crate) device: (u32, u32),
    /// The lower 12 bits count.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Seconds and nanoseconds since the Unix epoch.
    pub(crate) mtime: (u64, u32),
    pub(crate) xattrs: &'a BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Header<'_> {
    /// Writes it, after an extended header if it needs one. The same header is always the same bytes.
    pub(crate) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let records = self.records();
        if !records.is_empty() {
            let body = body(&records);
            let pax = Header {
                typeflag: b'x',
                name: PAX_NAME,
                link: b"",
                size: body.len() as u64,
                sparse: None,
                device: (0, 0),
                mode: 0o644,
                uid: 0,
                gid: 0,
                mtime: (0, 0),
                xattrs: &BTreeMap::new(),
            };
            out.write_all(&pax.block())?;
            out.write_all(&body)?;
            pad(out, body.len() as u64)?;
        }
        out.write_all(&self.block())
    }

    /// Returns the PAX records, by their keys.
    fn records(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let mut records: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        let mut put = |key: &[u8], value: Vec<u8>| drop(records.insert(key.to_vec(), value));
        if self.name.len() > 100 {
            put(b"path", self.name.to_vec());
        }
        if let Some(size) = self.sparse {
            put(b"GNU.sparse.major", b"1".to_vec());
            put(b"GNU.sparse.minor", b"0".to_vec());
            put(b"GNU.sparse.realsize", size.to_string().into());
        }
        if self.link.len() > 100 {
            put(b"linkpath", self.link.to_vec());
        }
        for (key, number) in [(&b"uid"[..], self.uid), (b"gid", self.gid)] {
            if u64::from(number) >= SMALL {
                put(key, number.to_string().into());
            }
        }
        match self.mtime {
            (seconds, 0) if seconds < LARGE => {}
            (seconds, 0) => put(b"mtime", seconds.to_string().into()),
            (seconds, nanoseconds) => {
                let time = format!("{seconds}.{nanoseconds:09}");
                put(b"mtime", time.trim_end_matches('0').into());
            }
        }
        for (name, value) in self.xattrs {
            put(&[XATTR, name].concat(), value.clone());
        }
        records
    }

    /// Returns the block, with the size in base 256 if it has too many digits.
    fn block(&self) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        let text = |block: &mut [u8; BLOCK], at: usize, text: &[u8]| {
            let text = &text[..text.len().min(100)];
            block[at..at + text.len()].copy_from_slice(text);
        };
        text(&mut block, 0, self.name);
        number(&mut block[100..108], u64::from(self.mode & 0o7777));
        number(&mut block[108..116], u64::from(self.uid));
        number(&mut block[116..124], u64::from(self.gid));
        size(&mut block[124..136], self.size);
        number(&mut block[136..148], self.mtime.0);
        block[148..156].fill(b' ');
        block[156] = self.typeflag;
        text(&mut block, 157, self.link);
        block[257..265].copy_from_slice(b"ustar\x0000");
        number(&mut block[329..337], u64::from(self.device.0));
        number(&mut block[337..345], u64::from(self.device.1));
        let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
        // Six digits, NUL, space.
        number(&mut block[148..155], sum);
        block
    }
}

/// Writes a number in octal digits and a NUL; one that is too large, which a PAX record has, as zero.
fn number(field: &mut [u8], number: u64) {
    let digits = field.len() - 1;
    let fits = number < 1 << (3 * digits);
    let text = format!("{:0digits$o}", if fits { number } else { 0 });
    field[..digits].copy_from_slice(text.as_bytes());
}

/// Writes a size; one with too many digits in base 256, as GNU tar and Go do, so that it never takes another
/// block.
fn size(field: &mut [u8], size: u64) {
    if size < LARGE {
        return number(field, size);
    }
    let at = field.len() - 8;
    field[0] = 0x80;
    field[at..].copy_from_slice(&size.to_be_bytes());
}

/// Returns the header of a regular file with a name that fits into it.
pub(crate) fn member(name: &[u8], size: u64) -> [u8; BLOCK] {
    let (typeflag, mode, mtime, xattrs) = (b'0', 0o644, (0, 0), &BTreeMap::new());
    let (link, sparse, device) = (b"", None, (0, 0));
    Header { typeflag, name, link, size, sparse, device, mode, uid: 0, gid: 0, mtime, xattrs }
        .block()
}

/// Returns the body of an extended header.
fn body(records: &BTreeMap<Vec<u8>, Vec<u8>>) -> Vec<u8> {
    let mut body = Vec::new();
    for (key, value) in records {
        // The length counts its own digits.
        let rest = key.len() + value.len() + 3;
        let mut length = rest;
        while rest + length.to_string().len() != length {
            length = rest + length.to_string().len();
        }
        body.extend([length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat());
    }
    body
}

/// Fills the last block of data of this size.
pub(crate) fn pad(out: &mut impl Write, size: u64) -> io::Result<()> {
    let over = (size % BLOCK as u64) as usize;
    let missing = if over == 0 { 0 } else { BLOCK - over };
    out.write_all(&[0; BLOCK][..missing])
}

/// Writes the end of an archive.
pub(crate) fn finish(out: &mut impl Write) -> io::Result<()> {
    out.write_all(&[0; 2 * BLOCK])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unpack::tar::{Entry, Kind, Reader};

    fn read(header: &Header<'_>) -> Entry {
        let mut archive = Vec::new();
        header.write(&mut archive).unwrap();
        finish(&mut archive).unwrap();
        Reader::new(&archive[..]).next().unwrap().unwrap()
    }

    const NONE: &BTreeMap<Vec<u8>, Vec<u8>> = &BTreeMap::new();

    fn header(name: &[u8]) -> Header<'_> {
        let (mode, mtime) = (0o644, (0, 0));
        Header {
            typeflag: b'0',
            name,
            link: b"",
            size: 0,
            sparse: None,
            device: (0, 0),
            mode,
            uid: 0,
            gid: 0,
            mtime,
            xattrs: NONE,
        }
    }

    #[test]
    fn what_fits_takes_one_block() {
        let mut archive = Vec::new();
        header(b"./a").write(&mut archive).unwrap();
        assert_eq!(archive.len(), BLOCK);
        let entry = read(&header(b"./a"));
        assert_eq!((entry.kind, &entry.name[..], entry.mode), (Kind::Regular, &b"./a"[..], 0o644));
    }

    #[test]
    fn what_does_not_fit_is_in_records() {
        let long = vec![b'n'; 300];
        let xattrs = BTreeMap::from([(b"user.a".to_vec(), b"\n=\0".to_vec())]);
        let entry = read(&Header {
            typeflag: b'2',
            link: &long,
            size: 1 << 34,
            mode: 0o104_777,
            uid: u32::MAX - 1,
            gid: 1 << 21,
            mtime: (1, 20_000_000),
            xattrs: &xattrs,
            ..header(&long)
        });
        assert_eq!((&entry.name, &entry.link), (&long, &long));
        assert_eq!((entry.size, entry.mode), (1 << 34, 0o4777));
        assert_eq!((entry.uid, entry.gid), (i64::from(u32::MAX - 1), 1 << 21));
        assert_eq!((entry.mtime.unix_seconds(), entry.mtime.nanoseconds()), (1, 20_000_000));
        assert_eq!(entry.xattrs, xattrs);
    }

    #[test]
    fn the_length_of_a_record_counts_its_own_digits() {
        for length in 0..300 {
            let value = vec![b'v'; length];
            let name = [b"user.".as_slice(), &value].concat();
            let xattrs = BTreeMap::from([(name, value)]);
            assert_eq!(read(&Header { xattrs: &xattrs, ..header(b"./a") }).xattrs, xattrs);
        }
    }
}
