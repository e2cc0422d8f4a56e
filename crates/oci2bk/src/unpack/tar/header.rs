//! The 512-byte header block.
//!
//! The fields of a block depend on its format, which is detected by magic bytes, with the same rules as Go's
//! `archive/tar` (Go 1.26 `format.go` `getFormat`, `reader.go` `readHeader`).

use super::TarError;
use super::number::{Timestamp, numeric, octal};

/// The size of all blocks of an archive.
pub(super) const BLOCK: usize = 512;

/// The content of one header block, before extended headers change it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) typeflag: u8,
    pub(super) name: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) size: i64,
    pub(super) mode: i64,
    pub(super) uid: i64,
    pub(super) gid: i64,
    pub(super) mtime: Timestamp,
    pub(super) atime: Timestamp,
    pub(super) major: i64,
    pub(super) minor: i64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    V7,
    Ustar,
    Star,
    Gnu,
}

impl Header {
    pub(super) fn parse(block: &[u8; BLOCK]) -> Result<Self, TarError> {
        let format = Format::of(block)?;
        let mut header = Self {
            typeflag: block[156],
            name: text(&block[..100]),
            link: text(&block[157..257]),
            size: numeric(&block[124..136])?,
            mode: numeric(&block[100..108])?,
            uid: numeric(&block[108..116])?,
            gid: numeric(&block[116..124])?,
            mtime: seconds(&block[136..148])?,
            atime: Timestamp::default(),
            major: 0,
            minor: 0,
        };
        if format == Format::V7 {
            return Ok(header);
        }
        header.major = numeric(&block[329..337])?;
        header.minor = numeric(&block[337..345])?;
        let prefix = match format {
            Format::V7 => Vec::new(),
            Format::Ustar => text(&block[345..500]),
            Format::Star => {
                header.atime = seconds(&block[476..488])?;
                // The change time is not used, but a damaged one is rejected as in Go.
                seconds(&block[488..500])?;
                text(&block[345..476])
            }
            Format::Gnu => match gnu_times(block) {
                Ok(atime) => {
                    header.atime = atime;
                    Vec::new()
                }
                // Go before 1.8 wrote a prefix over these two fields (golang/go issue 12594).
                Err(_) => {
                    let prefix = text(&block[345..500]);
                    if prefix.is_ascii() { prefix } else { Vec::new() }
                }
            },
        };
        if !prefix.is_empty() {
            header.name = [&prefix, b"/".as_slice(), &header.name].concat();
        }
        Ok(header)
    }
}

impl Format {
    fn of(block: &[u8; BLOCK]) -> Result<Self, TarError> {
        let stored = octal(&block[148..156])?;
        // POSIX sums unsigned bytes, Sun's tar summed signed ones; the field itself counts as
        // spaces.
        let (mut unsigned, mut signed) = (0, 0);
        for (index, byte) in block.iter().enumerate() {
            let byte = if (148..156).contains(&index) { b' ' } else { *byte };
            unsigned += i64::from(byte);
            signed += i64::from(byte.cast_signed());
        }
        if stored != unsigned && stored != signed {
            return Err(TarError::Header);
        }
        Ok(match (&block[257..263], &block[263..265], &block[508..512]) {
            (b"ustar\0", _, b"tar\0") => Self::Star,
            (b"ustar\0", _, _) => Self::Ustar,
            (b"ustar ", b" \0", _) => Self::Gnu,
            _ => Self::V7,
        })
    }
}

fn gnu_times(block: &[u8; BLOCK]) -> Result<Timestamp, TarError> {
    let optional = |field: &[u8]| {
        if field[0] == 0 { Ok(Timestamp::default()) } else { seconds(field) }
    };
    let atime = optional(&block[345..357])?;
    optional(&block[357..369])?;
    Ok(atime)
}

fn seconds(field: &[u8]) -> Result<Timestamp, TarError> {
    Ok(Timestamp::from_unix(numeric(field)?, 0))
}

/// Returns the bytes up to the first NUL, or all of them.
pub(super) fn text(field: &[u8]) -> Vec<u8> {
    field.iter().copied().take_while(|byte| *byte != 0).collect()
}
