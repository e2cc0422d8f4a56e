//! Decodes gzip streams, member by member, and the bytes after them.
//!
//! Go's decompressor rejects a stream with anything but members. containerd prefers `unpigz`, which
//! BuildKit's own image has, and which ignores data after the last member, such as the zeros with which some
//! tools fill the last block of a tape or file. So do we. Facts: containerd v2.4.2
//! `pkg/archive/compression/compression.go` `gzipDecompress`, pigz v2.8 `pigz.c` `get_header`, `infchk`.
//!
//! | after a member | |
//! |---|---|
//! | the whole header of a member | it is the next member, and an error if that is truncated or damaged |
//! | anything else | ignored, to the end of the blob |
//! | the start of a zlib stream or a zip archive | an error: `unpigz` would unpack it |
//!
//! Format: RFC 1952.

use std::io::{self, BufRead, Read};

use flate2::{Crc, Decompress, FlushDecompress, Status};

/// The magic of a member.
const MAGIC: [u8; 2] = [0x1F, 0x8B];
/// The only compression method.
const DEFLATE: u8 = 8;
const HAS_HEADER_CRC: u8 = 1 << 1;
const HAS_EXTRA: u8 = 1 << 2;
const HAS_NAME: u8 = 1 << 3;
const HAS_COMMENT: u8 = 1 << 4;
/// Flags that must not be set.
const RESERVED: u8 = 0xE0;
/// The local header of a zip archive.
const ZIP: [u8; 2] = *b"PK";

/// The content of all members of a blob.
pub(crate) struct Members<R> {
    blob: R,
    inflate: Decompress,
    crc: Crc,
    next: Part,
    ignored: u64,
}

/// The next part to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    FirstHeader,
    Header,
    Data,
    Trailer,
    Nothing,
}

/// What follows in the blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Header {
    /// A member.
    Member,
    /// Something else.
    Other,
    /// A part of a header, or nothing.
    CutOff,
    /// The start of another format for `unpigz`.
    OtherFormat,
}

impl<R: BufRead> Members<R> {
    pub(super) fn new(blob: R) -> Self {
        let inflate = Decompress::new(false);
        Self { blob, inflate, crc: Crc::new(), next: Part::FirstHeader, ignored: 0 }
    }

    /// Returns the number of bytes after the last member, once the content was read to its end.
    pub(super) fn ignored(&self) -> u64 {
        self.ignored
    }

    /// Continues with the next member, or skips to the end of the blob if there is none.
    fn header(&mut self) -> io::Result<Part> {
        let mut bytes = Bytes { blob: &mut self.blob, read: 0 };
        let is_first = self.next == Part::FirstHeader;
        match bytes.header()? {
            Header::Member => {
                self.inflate.reset(false);
                self.crc.reset();
                Ok(Part::Data)
            }
            Header::CutOff if is_first => Err(cut_off()),
            Header::Other | Header::OtherFormat if is_first => Err(invalid("invalid gzip header")),
            Header::OtherFormat => {
                Err(invalid("a zlib stream or zip archive follows the gzip stream"))
            }
            Header::Other | Header::CutOff => {
                self.ignored = bytes.read + io::copy(&mut self.blob, &mut io::sink())?;
                Ok(Part::Nothing)
            }
        }
    }

    /// Decompresses a part of a member; 0 bytes at its end.
    fn data(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let input = self.blob.fill_buf()?;
            let ended = input.is_empty();
            let (read, written) = (self.inflate.total_in(), self.inflate.total_out());
            let status = self.inflate.decompress(input, buffer, FlushDecompress::None);
            let status = status.map_err(|_| invalid("corrupt deflate stream"))?;
            // Both are at most the lengths of the given slices.
            self.blob.consume((self.inflate.total_in() - read) as usize);
            let length = (self.inflate.total_out() - written) as usize;
            self.crc.update(&buffer[..length]);
            if status == Status::StreamEnd {
                self.next = Part::Trailer;
                return Ok(length);
            }
            if length > 0 {
                return Ok(length);
            }
            if ended {
                return Err(cut_off());
            }
        }
    }

    /// Compares the checksum and the length after the data with the data.
    fn trailer(&mut self) -> io::Result<Part> {
        let mut trailer = [0; 8];
        self.blob.read_exact(&mut trailer).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => cut_off(),
            _ => error,
        })?;
        // The length counts modulo 2^32.
        let expected = u64::from(self.crc.sum()) | self.inflate.total_out() << 32;
        if u64::from_le_bytes(trailer) == expected {
            Ok(Part::Header)
        } else {
            Err(invalid("the checksum or length in the gzip stream is not that of its content"))
        }
    }
}

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while !buffer.is_empty() {
            match self.next {
                Part::FirstHeader | Part::Header => self.next = self.header()?,
                Part::Data => match self.data(buffer)? {
                    0 => {}
                    length => return Ok(length),
                },
                Part::Trailer => self.next = self.trailer()?,
                Part::Nothing => break,
            }
        }
        Ok(0)
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn cut_off() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the gzip stream is cut off")
}

/// The bytes of a header.
struct Bytes<'a, R> {
    blob: &'a mut R,
    read: u64,
}

impl<R: BufRead> Bytes<'_, R> {
    /// Reads the header of a member, or as much of one as there is.
    fn header(&mut self) -> io::Result<Header> {
        Ok(self.whole_header()?.unwrap_or(Header::CutOff))
    }

    /// Returns `None` if the blob ends before the header does.
    fn whole_header(&mut self) -> io::Result<Option<Header>> {
        let mut crc = Crc::new();
        let Some(magic) = self.array(&mut crc)? else { return Ok(None) };
        if magic != MAGIC {
            let other = magic == ZIP || is_zlib(magic);
            return Ok(Some(if other { Header::OtherFormat } else { Header::Other }));
        }
        let Some([method, flags]) = self.array(&mut crc)? else { return Ok(None) };
        if method != DEFLATE || flags & RESERVED != 0 {
            return Ok(Some(Header::Other));
        }
        // A time, a hint, and the system.
        let Some([_, _, _, _, _, _]) = self.array(&mut crc)? else { return Ok(None) };
        if flags & HAS_EXTRA != 0 {
            let Some(length) = self.array(&mut crc)? else { return Ok(None) };
            for _ in 0..u16::from_le_bytes(length) {
                let Some([_]) = self.array(&mut crc)? else { return Ok(None) };
            }
        }
        for text in [HAS_NAME, HAS_COMMENT] {
            let mut goes_on = flags & text != 0;
            while goes_on {
                let Some([byte]) = self.array(&mut crc)? else { return Ok(None) };
                goes_on = byte != 0;
            }
        }
        if flags & HAS_HEADER_CRC != 0 {
            let expected = crc.sum().to_le_bytes();
            let Some(found) = self.array::<2>(&mut crc)? else { return Ok(None) };
            if !expected.starts_with(&found) {
                return Ok(Some(Header::Other));
            }
        }
        Ok(Some(Header::Member))
    }

    fn array<const N: usize>(&mut self, crc: &mut Crc) -> io::Result<Option<[u8; N]>> {
        let mut array = [0; N];
        for byte in &mut array {
            let Some(next) = self.blob.fill_buf()?.first().copied() else { return Ok(None) };
            self.blob.consume(1);
            self.read += 1;
            *byte = next;
        }
        crc.update(&array);
        Ok(Some(array))
    }
}

/// Returns whether these are the first bytes of a zlib stream without a dictionary (RFC 1950, 2.2).
fn is_zlib(magic: [u8; 2]) -> bool {
    let is_header = u16::from_be_bytes(magic).is_multiple_of(31);
    is_header && magic[0] & 0x8F == DEFLATE && magic[1] & 0x20 == 0
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn member(content: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    /// Returns a member of `content` whose header has the flags `flags` and then `fields`.
    fn with_header(flags: u8, fields: &[u8], content: &[u8]) -> Vec<u8> {
        let plain = member(content);
        let mut head = plain[..10].to_vec();
        head[3] = flags;
        [&head, fields, &plain[10..]].concat()
    }

    /// Reads the content of `blob`, in pieces of `size`, and the number of bytes after it.
    fn read(blob: &[u8], size: usize) -> io::Result<(Vec<u8>, u64)> {
        let mut members = Members::new(io::BufReader::with_capacity(size, blob));
        let mut content = Vec::new();
        members.read_to_end(&mut content)?;
        Ok((content, members.ignored()))
    }

    /// What follows a member, and the content and the ignored bytes; `None` for an error.
    type Ending = (&'static str, Vec<u8>, Option<(&'static str, u64)>);

    /// The results of `unpigz -d -c` of pigz 2.6 and 2.8; `None` if they fail.
    fn endings() -> Vec<Ending> {
        let more = member(b" more");
        let with_crc = |wrong: u8| {
            let head = with_header(HAS_HEADER_CRC, &[], b"")[..10].to_vec();
            let mut crc = Crc::new();
            crc.update(&head);
            let [low, high, ..] = crc.sum().to_le_bytes();
            with_header(HAS_HEADER_CRC, &[low ^ wrong, high], b" more")
        };
        let all = HAS_EXTRA | HAS_NAME | HAS_COMMENT;
        let named = with_header(all, b"\x02\x00exname\0comment\0", b" more");
        let zlib = [&[0x78, 0x9C][..], &more[10..more.len() - 8], &[0; 4]].concat();
        vec![
            ("nothing", vec![], Some(("text", 0))),
            ("a zero", vec![0], Some(("text", 1))),
            ("zeros", vec![0; 100_000], Some(("text", 100_000))),
            ("junk", b"junk".to_vec(), Some(("text", 4))),
            ("half a magic", vec![0x1F], Some(("text", 1))),
            ("a magic", vec![0x1F, 0x8B], Some(("text", 2))),
            ("a cut header", more[..9].to_vec(), Some(("text", 9))),
            ("a cut name", named[..16].to_vec(), Some(("text", 16))),
            ("another method", vec![0x1F, 0x8B, 7, 0, 0, 0, 0, 0, 0, 0, 9], Some(("text", 11))),
            ("reserved flags", with_header(0x20, &[], b" more"), Some(("text", 25))),
            ("a header", more[..10].to_vec(), None),
            ("cut data", more[..14].to_vec(), None),
            ("a cut trailer", more[..more.len() - 1].to_vec(), None),
            ("a wrong checksum", [&more[..more.len() - 8], &[0; 8]].concat(), None),
            ("a member", more.clone(), Some(("text more", 0))),
            ("a member with all fields", named, Some(("text more", 0))),
            ("a header's checksum", with_crc(0), Some(("text more", 0))),
            ("a member and zeros", [&more[..], &[0; 512]].concat(), Some(("text more", 512))),
            ("zeros and a member", [&[0; 512], &more[..]].concat(), Some(("text", 537))),
            ("an empty member", member(b""), Some(("text", 0))),
            ("a zlib stream", zlib, None),
            ("a zip archive", b"PK\x03\x04\x14\0\0\0\x08\0".repeat(9), None),
        ]
    }

    #[test]
    fn what_follows_a_member_is_taken_as_by_unpigz() {
        for (what, ending, expected) in endings() {
            let blob = [&member(b"text"), &ending[..]].concat();
            for size in [1, 3, 19, 1 << 16] {
                let found = read(&blob, size).ok();
                let expected = expected.map(|(text, ignored)| (text.as_bytes().to_vec(), ignored));
                assert_eq!(found, expected, "{what} in pieces of {size}");
            }
        }
    }

    #[test]
    fn a_stream_that_is_cut_off_is_an_error_wherever() {
        let blob = with_header(HAS_NAME, b"name\0", &[7; 100_000]);
        for length in 3..blob.len() {
            let error = read(&blob[..length], 1 << 16).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{length}");
            assert_eq!(error.to_string(), "the gzip stream is cut off");
        }
        assert_eq!(read(&blob, 1 << 16).unwrap().0.len(), 100_000);
    }

    #[test]
    fn a_damaged_stream_is_an_error() {
        let blob = member(b"text");
        for position in (0..3).chain(blob.len() - 8..blob.len()) {
            let mut damaged = blob.clone();
            damaged[position] ^= 1;
            let error = read(&damaged, 1 << 16).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{position}");
            let header = "invalid gzip header";
            let trailer = "the checksum or length in the gzip stream is not that of its content";
            assert_eq!(error.to_string(), if position < 3 { header } else { trailer });
        }
    }
}
