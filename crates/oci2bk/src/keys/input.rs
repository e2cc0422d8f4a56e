//! The input of a key source: a file, a pipe or stdin.

use std::fs::{File, FileType};
use std::io::{Read, Seek as _};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use bkstate::input::{self, InputError};

use super::error::SourceError;
use crate::limits::{Bound, Limits, name};
use crate::packing::{self, SpoolError};

/// The path that means stdin.
const STDIN: &str = "-";

/// An open key source.
pub(super) enum Input {
    Directory,
    /// A file that can be read at any position.
    File(File),
}

/// Opens the key source at `path`, and returns its name in messages.
pub(super) fn open(path: &Path, limits: &Limits) -> Result<(PathBuf, Input), SourceError> {
    if path == Path::new(STDIN) {
        let path = PathBuf::from("stdin");
        let stdin = input::stdin();
        let stdin = stdin.map_err(|source| SourceError::Read { path: path.clone(), source })?;
        let file = seekable(&path, stdin, limits)?;
        return Ok((path, Input::File(file)));
    }
    let path = path.to_owned();
    match input::open(&path) {
        Ok(file) => Ok((path.clone(), Input::File(seekable(&path, file, limits)?))),
        Err(InputError::Io(source)) => Err(SourceError::Read { path, source }),
        Err(InputError::Directory) => Ok((path, Input::Directory)),
        Err(_) => Err(SourceError::NotAFile { path }),
    }
}

fn is_read(kind: FileType) -> bool {
    kind.is_file() || kind.is_fifo() || kind.is_socket()
}

/// Returns `file`, or, if that is a pipe, an unnamed file with all of its content.
fn seekable(path: &Path, mut file: File, limits: &Limits) -> Result<File, SourceError> {
    let read_error = |source| SourceError::Read { path: path.to_owned(), source };
    let kind = file.metadata().map_err(read_error)?.file_type();
    if kind.is_file() {
        file.rewind().map_err(read_error)?;
        return Ok(file);
    }
    if !is_read(kind) {
        return Err(SourceError::NotAFile { path: path.to_owned() });
    }
    spooled(path, &file, limits)
}

/// Stores all of `stream`, of the key source at `path`, in an unnamed file.
pub(super) fn spooled(
    path: &Path,
    stream: impl Read,
    limits: &Limits,
) -> Result<File, SourceError> {
    let path = path.to_owned();
    let limit = Bound { value: limits.bundle_size, name: name::BUNDLE_SIZE };
    match packing::spooled(stream, limit.value) {
        Ok((file, _)) => Ok(file),
        Err(SpoolError::Read(source)) => Err(SourceError::Read { path, source }),
        Err(SpoolError::TooLarge) => Err(SourceError::TooLarge { path, limit }),
        Err(SpoolError::Write(source)) => {
            Err(SourceError::Temporary { path, directory: std::env::temp_dir(), source })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{SeekFrom, Write};
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn content(file: impl Into<OwnedFd>) -> Result<Vec<u8>, SourceError> {
        let file = File::from(file.into());
        let mut file = seekable(Path::new("source"), file, &Limits::default())?;
        let mut content = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut content).unwrap();
        Ok(content)
    }

    #[test]
    fn files_pipes_and_sockets_are_read_from_start_to_end() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"file").unwrap();
        file.seek(SeekFrom::Start(2)).unwrap();
        assert_eq!(content(file).unwrap(), b"file");
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(b"pipe").unwrap();
        drop(writer);
        assert_eq!(content(reader).unwrap(), b"pipe");
        let (reader, mut writer) = UnixStream::pair().unwrap();
        writer.write_all(b"socket").unwrap();
        drop(writer);
        assert_eq!(content(reader).unwrap(), b"socket");
    }

    #[test]
    fn what_is_none_of_these_is_refused() {
        let error = content(File::open("/dev/null").unwrap()).unwrap_err();
        assert!(matches!(error, SourceError::NotAFile { .. }), "{error}");
        assert_eq!(
            error.to_string(),
            "the key source source is neither a file, a directory nor a pipe of a shell"
        );
    }
}
