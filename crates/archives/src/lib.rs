//! Builds tar archives byte by byte, valid or not, for tests and fuzz targets.

/// The time of entries that do not say theirs.
pub const MTIME: i64 = 1_700_000_000;

/// One header block and the data after it.
#[derive(Clone, Debug)]
pub struct Member {
    block: [u8; 512],
    data: Vec<u8>,
}

/// A member with an arbitrary type flag.
pub fn member(typeflag: u8, name: impl AsRef<[u8]>) -> Member {
    let mut block = [0; 512];
    block[156] = typeflag;
    block[257..265].copy_from_slice(b"ustar\x0000");
    let mut member = Member { block, data: Vec::new() };
    let name = name.as_ref();
    member.put(0, &name[..name.len().min(100)]);
    member.mode(0o644).owner(0, 0).mtime(MTIME).size(0).device(0, 0)
}

/// A regular file.
pub fn file(name: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Member {
    member(b'0', name).data(data)
}

/// A directory.
pub fn dir(name: impl AsRef<[u8]>) -> Member {
    member(b'5', name).mode(0o755)
}

/// A symbolic link.
pub fn symlink(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Member {
    member(b'2', name).mode(0o777).link(target)
}

/// A hard link.
pub fn hard_link(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Member {
    member(b'1', name).link(target)
}

/// An extended header with these records, for the next member.
pub fn pax(records: &[(&str, &[u8])]) -> Member {
    let mut body = Vec::new();
    for (key, value) in records {
        body.extend_from_slice(&pax_record(key.as_bytes(), value));
    }
    member(b'x', "PaxHeaders/x").data(body)
}

/// One record with its right length.
pub fn pax_record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

/// A GNU long name (`L`) or long link target (`K`) for the next member.
pub fn gnu_long(typeflag: u8, text: impl AsRef<[u8]>) -> Member {
    member(typeflag, "././@LongLink").gnu().data([text.as_ref(), b"\0"].concat())
}

impl Member {
    /// Puts bytes at a place of the header block.
    pub fn put(&mut self, at: usize, bytes: &[u8]) {
        self.block[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Any bytes at any place of the header block.
    pub fn raw(mut self, at: usize, bytes: &[u8]) -> Self {
        self.put(at, bytes);
        self
    }

    fn number(mut self, at: usize, digits: usize, value: i64) -> Self {
        let text = format!("{value:0digits$o}");
        assert_eq!(text.len(), digits, "{value} does not fit");
        self.put(at, text.as_bytes());
        self
    }

    /// The permission bits.
    pub fn mode(self, mode: i64) -> Self {
        self.number(100, 7, mode)
    }

    /// The ids of user and group.
    pub fn owner(self, uid: i64, gid: i64) -> Self {
        self.number(108, 7, uid).number(116, 7, gid)
    }

    /// What the size field says.
    pub fn size(self, size: i64) -> Self {
        self.number(124, 11, size)
    }

    /// The modification time, in seconds since the Unix epoch.
    pub fn mtime(self, seconds: i64) -> Self {
        self.number(136, 11, seconds)
    }

    /// The device number.
    pub fn device(self, major: i64, minor: i64) -> Self {
        self.number(329, 7, major).number(337, 7, minor)
    }

    /// The link target.
    pub fn link(mut self, target: impl AsRef<[u8]>) -> Self {
        let target = target.as_ref();
        self.put(157, &target[..target.len().min(100)]);
        self
    }

    /// As GNU tar marks its members.
    pub fn gnu(self) -> Self {
        self.raw(257, b"ustar  \0")
    }

    /// The data, with the size field to match.
    pub fn data(self, data: impl AsRef<[u8]>) -> Self {
        let size = (data.as_ref().len() as u64).cast_signed();
        self.size(size).data_unsized(data)
    }

    /// The data, whatever the size field says.
    pub fn data_unsized(mut self, data: impl AsRef<[u8]>) -> Self {
        self.data = data.as_ref().to_vec();
        self
    }

    /// The member's bytes with the checksum filled in.
    pub fn bytes(&self) -> Vec<u8> {
        let mut block = self.block;
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let mut bytes = block.to_vec();
        bytes.extend_from_slice(&self.data);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    }
}

/// A whole archive with its end.
pub fn archive(members: &[Member]) -> Vec<u8> {
    let mut bytes = open_archive(members);
    bytes.extend_from_slice(&[0; 1024]);
    bytes
}

/// An archive without the blocks of zeros at its end.
pub fn open_archive(members: &[Member]) -> Vec<u8> {
    members.iter().flat_map(Member::bytes).collect()
}
