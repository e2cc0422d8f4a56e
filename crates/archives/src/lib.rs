//! Builds tar archives byte by byte, valid or not, for tests and fuzz targets.

/// The default time of entries.
pub const MTIME: i64 = 1_700_000_000;

/// One header block and the data after it.
#[derive(Clone, Debug)]
pub struct Member {
    block: [u8; 512],
    data: Vec<u8>,
}

/// Creates a member with an arbitrary type flag.
pub fn member(typeflag: u8, name: impl AsRef<[u8]>) -> Member {
    let mut block = [0; 512];
    block[156] = typeflag;
    block[257..265].copy_from_slice(b"ustar\x0000");
    let mut member = Member { block, data: Vec::new() };
    let name = name.as_ref();
    member.put(0, &name[..name.len().min(100)]);
    member.mode(0o644).owner(0, 0).mtime(MTIME).size(0).device(0, 0)
}

/// Creates a regular file.
pub fn file(name: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Member {
    member(b'0', name).data(data)
}

/// Creates a directory.
pub fn dir(name: impl AsRef<[u8]>) -> Member {
    member(b'5', name).mode(0o755)
}

/// Creates a symbolic link.
pub fn symlink(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Member {
    member(b'2', name).mode(0o777).link(target)
}

/// Creates a hard link.
pub fn hard_link(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Member {
    member(b'1', name).link(target)
}

/// Creates an extended header with these records, for the next member.
pub fn pax(records: &[(&str, &[u8])]) -> Member {
    let mut body = Vec::new();
    for (key, value) in records {
        body.extend_from_slice(&pax_record(key.as_bytes(), value));
    }
    member(b'x', "PaxHeaders/x").data(body)
}

/// Encodes one record with its correct length.
pub fn pax_record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

/// Creates a GNU long name (`L`) or long link target (`K`) for the next member.
pub fn gnu_long(typeflag: u8, text: impl AsRef<[u8]>) -> Member {
    member(typeflag, "././@LongLink").gnu().data([text.as_ref(), b"\0"].concat())
}

impl Member {
    /// Writes bytes at an offset of the header block.
    pub fn put(&mut self, at: usize, bytes: &[u8]) {
        self.block[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Sets any bytes at any offset of the header block.
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

    /// Sets the permission bits.
    pub fn mode(self, mode: i64) -> Self {
        self.number(100, 7, mode)
    }

    /// Sets the ids of user and group.
    pub fn owner(self, uid: i64, gid: i64) -> Self {
        self.number(108, 7, uid).number(116, 7, gid)
    }

    /// Sets the size field.
    pub fn size(self, size: i64) -> Self {
        self.number(124, 11, size)
    }

    /// Sets the modification time, in seconds since the Unix epoch.
    pub fn mtime(self, seconds: i64) -> Self {
        self.number(136, 11, seconds)
    }

    /// Sets the device number.
    pub fn device(self, major: i64, minor: i64) -> Self {
        self.number(329, 7, major).number(337, 7, minor)
    }

    /// Sets the link target.
    pub fn link(mut self, target: impl AsRef<[u8]>) -> Self {
        let target = target.as_ref();
        self.put(157, &target[..target.len().min(100)]);
        self
    }

    /// Sets the magic of GNU tar.
    pub fn gnu(self) -> Self {
        self.raw(257, b"ustar  \0")
    }

    /// Sets the data and the size field.
    pub fn data(self, data: impl AsRef<[u8]>) -> Self {
        let size = (data.as_ref().len() as u64).cast_signed();
        self.size(size).data_unsized(data)
    }

    /// Sets the data, but not the size field.
    pub fn data_unsized(mut self, data: impl AsRef<[u8]>) -> Self {
        self.data = data.as_ref().to_vec();
        self
    }

    /// Returns the member's bytes with a correct checksum.
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

/// Returns a complete archive.
pub fn archive(members: &[Member]) -> Vec<u8> {
    let mut bytes = open_archive(members);
    bytes.extend_from_slice(&[0; 1024]);
    bytes
}

/// Returns an archive without the blocks of zeros at its end.
pub fn open_archive(members: &[Member]) -> Vec<u8> {
    members.iter().flat_map(Member::bytes).collect()
}
