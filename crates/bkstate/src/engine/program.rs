//! Reads which BuildKit a program contains, without running it.
//!
//! A Go program has the list of its modules in its build information. From Go 1.18 on that is a header of 32
//! bytes at a multiple of 16, followed by two strings, each after its length: the version of Go, and one line
//! per module (Go 1.26 `debug/buildinfo/buildinfo.go`).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;

use crate::varint;

const MAGIC: &[u8] = b"\xff Go buildinf:";
const ALIGNMENT: usize = 16;
const HEADER: usize = 32;
/// The flag of build information whose strings follow the header.
const INLINE: u8 = 2;
const FLAGS: usize = 15;
/// How much is read at a time. It is a multiple of the alignment.
const CHUNK: usize = 1 << 20;
/// Maximum size of build information. That of an engine has about 20 kB.
const LARGEST: usize = 1 << 20;
const BUILDKIT: &str = "github.com/moby/buildkit";

/// Returns the version of the BuildKit in the program, such as `v0.34.2`; `None` if it does not tell.
pub(super) fn buildkit_in(program: &Path) -> io::Result<Option<String>> {
    // A pipe would block.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(program)?;
    if !file.metadata()?.is_file() {
        return Ok(None);
    }
    let mut chunk = vec![0; CHUNK];
    for start in (0..).step_by(CHUNK) {
        let filled = fill(&file, &mut chunk, start)?;
        let read = &chunk[..filled];
        for (at, _) in starts(read) {
            let mut found = vec![0; LARGEST];
            let filled = fill(&file, &mut found, start + at as u64)?;
            // A program that reads build information has the magic elsewhere, too.
            if let Some(version) = modules(&found[..filled]).and_then(version_of_buildkit) {
                return Ok(Some(version.to_owned()));
            }
        }
        if filled < CHUNK {
            break;
        }
    }
    Ok(None)
}

/// Reads at `offset` until the buffer is full or the file ends. Returns the number of bytes.
fn fill(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64)? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

/// Returns the places in `bytes` where build information may begin.
fn starts(bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let blocks = (0..).step_by(ALIGNMENT).zip(bytes.chunks(ALIGNMENT));
    blocks.filter(|(_, block)| block.starts_with(MAGIC))
}

/// Returns the list of modules in the build information.
fn modules(info: &[u8]) -> Option<&str> {
    let strings = info.get(HEADER..).filter(|_| info[FLAGS] & INLINE != 0)?;
    let (_, rest) = string(strings)?;
    let (modules, _) = string(rest)?;
    // Sentinels of 16 bytes are around it, which are no text.
    let inside = modules.len().checked_sub(ALIGNMENT)?;
    std::str::from_utf8(modules.get(ALIGNMENT..inside)?).ok()
}

/// Returns the string at the start of `bytes`, and what follows it.
fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = varint::decode_unsigned(bytes)?;
    rest.split_at_checked(usize::try_from(length).ok()?)
}

/// Returns the version of BuildKit in a list of modules. A replacement is in the line after.
fn version_of_buildkit(modules: &str) -> Option<&str> {
    let mut lines = modules.lines().map(|line| line.split('\t').collect::<Vec<_>>());
    let used = lines.find(|line| line.starts_with(&["dep", BUILDKIT]))?;
    let replaced = lines.next().filter(|line| line.first() == Some(&"=>"));
    replaced.unwrap_or(used).get(2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string(text: &[u8]) -> Vec<u8> {
        [varint::encode_unsigned(text.len() as u64), text.to_vec()].concat()
    }

    /// A program with the magic in its data, and with build information of these lines.
    fn program(lines: &str, before: usize) -> tempfile::NamedTempFile {
        let sentinel = [0xff; ALIGNMENT];
        let mut header = [MAGIC, &[8, INLINE]].concat();
        header.resize(HEADER, 0);
        let modules = string(&[&sentinel, lines.as_bytes(), &sentinel].concat());
        let info = [header, string(b"go1.26.1"), modules].concat();
        let mut content = MAGIC.to_vec();
        content.resize(before, 0);
        content.extend(info);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        file
    }

    #[test]
    fn the_module_list_names_the_release() {
        let path = "path\tgithub.com/moby/moby/v2/cmd/dockerd\n";
        let other = "dep\tgithub.com/moby/buildkit-extra\tv9.0.0\th1:=\n";
        let buildkit = "dep\tgithub.com/moby/buildkit\tv0.25.2\th1:=\n";
        let replaced = "=>\tgithub.com/acme/buildkit\tv0.26.0\th1:=\n";
        let table = [
            (format!("{path}{other}{buildkit}{other}"), Some("v0.25.2")),
            (format!("{path}{buildkit}{replaced}{other}"), Some("v0.26.0")),
            (format!("{path}{other}"), None),
            (String::new(), None),
        ];
        for (lines, expected) in table {
            for before in [64, CHUNK - ALIGNMENT, CHUNK, CHUNK + 4096] {
                let file = program(&lines, before);
                let found = buildkit_in(file.path()).unwrap();
                assert_eq!(found.as_deref(), expected, "{lines} at {before}");
            }
        }
    }

    #[test]
    fn other_files_tell_nothing() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut cut = MAGIC.to_vec();
        cut.extend([8, INLINE]);
        for content in [&b""[..], b"#!/bin/sh\n", MAGIC, &cut] {
            std::fs::write(file.path(), content).unwrap();
            assert_eq!(buildkit_in(file.path()).unwrap(), None);
        }
        assert_eq!(buildkit_in(Path::new("/")).unwrap(), None);
        let pipe = tempfile::tempdir().unwrap();
        let pipe = pipe.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
        assert_eq!(buildkit_in(&pipe).unwrap(), None);
        let absent = buildkit_in(Path::new("/absent/dockerd")).unwrap_err();
        assert_eq!(absent.kind(), io::ErrorKind::NotFound);
    }
}
