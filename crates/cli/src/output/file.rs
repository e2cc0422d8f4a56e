//! Writes files named by the user.
//!
//! Other users may have prepared the path: a symbolic link there must not make root write elsewhere. So a
//! file is written beside its destination and renamed, as by `buildctl --metadata-file` (BuildKit v0.34.2
//! `cmd/buildctl/build.go`, containerd/continuity v0.5.0 `ioutils.go`).

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use bkstate::dir::{Dir, DirError, FileKind};
use rustix::fs::{Mode, OFlags, fcntl_setfl, openat};
use rustix::io::Errno;
use rustix::process::umask;

use super::write_stdout;

/// The mode of written files, before the umask.
const MODE: u32 = 0o644;
/// Maximum number of names to try for the temporary file.
const MOST_NAMES: u32 = 100;

/// Why a file cannot be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("it has no name of a file at its end")]
    NoName,
    #[error("it is {0}; a file, a pipe or a terminal can be written")]
    Kind(&'static str),
    #[error("it is a FIFO that nobody reads")]
    NoReader,
    #[error(transparent)]
    Dir(#[from] DirError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Writes `content` to the file named by the user: as a new file that replaces an existing file or link. A
/// pipe or a terminal is written to directly.
pub(crate) fn write_file(path: &Path, content: &[u8]) -> Result<(), FileError> {
    let (parent, name) = split(path)?;
    match descriptor(parent, name) {
        Some(descriptor) => write_descriptor(descriptor, content),
        None => write_into(&Dir::open(parent)?, name, content),
    }
}

/// Returns whether the path is one of those of our stdout.
pub(crate) fn is_stdout(path: &Path) -> bool {
    split(path).is_ok_and(|(parent, name)| descriptor(parent, name) == Some(1))
}

fn split(path: &Path) -> Result<(&Path, &OsStr), FileError> {
    let name = path.file_name().ok_or(FileError::NoName)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    Ok((parent.unwrap_or(Path::new(".")), name))
}

/// Same as [`write_file`], for the file `name` in a directory.
pub(crate) fn write_into(dir: &Dir, name: &OsStr, content: &[u8]) -> Result<(), FileError> {
    let name = CString::new(name.as_bytes()).map_err(|_| FileError::NoName)?;
    match dir.find(&*name)?.map(|found| found.kind) {
        None | Some(FileKind::File | FileKind::Link) => replace(dir, &name, content),
        Some(FileKind::Directory) => Err(FileError::Kind("a directory")),
        Some(FileKind::Stream) => write_stream(dir, &name, content),
        Some(FileKind::Other) => Err(FileError::Kind("a block device or a socket")),
    }
}

/// Returns the descriptor of this process that a path such as `/dev/stdout` or `/dev/fd/63` means. These
/// names are links, which must not be replaced.
fn descriptor(parent: &Path, name: &OsStr) -> Option<u32> {
    let parent = parent.canonicalize().ok()?;
    if parent == Path::new("/dev") {
        return match name.to_str()? {
            "stdout" => Some(1),
            "stderr" => Some(2),
            _ => None,
        };
    }
    // /dev/fd and /proc/self lead to this directory.
    let own = format!("/proc/{}/fd", std::process::id());
    if parent == Path::new(&own) { name.to_str()?.parse().ok() } else { None }
}

fn write_descriptor(descriptor: u32, content: &[u8]) -> Result<(), FileError> {
    match descriptor {
        1 => Ok(write_stdout(content)?),
        2 => Ok(io::stderr().lock().write_all(content)?),
        other => {
            let mut options = File::options();
            // Append to existing content, as a write to the descriptor would.
            options
                .append(true)
                .custom_flags((OFlags::NOCTTY | OFlags::NONBLOCK).bits().cast_signed());
            let file = options.open(format!("/proc/self/fd/{other}"))?;
            fcntl_setfl(&file, OFlags::APPEND).map_err(io::Error::from)?;
            Ok((&file).write_all(content)?)
        }
    }
}

/// Writes to a FIFO with a reader, or a character device, such as a terminal or `/dev/null`.
fn write_stream(dir: &Dir, name: &CString, content: &[u8]) -> Result<(), FileError> {
    let flags =
        OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let opened = openat(dir, &**name, flags, Mode::empty());
    let file = File::from(opened.map_err(|error| match error {
        Errno::NXIO => FileError::NoReader,
        error => FileError::Io(error.into()),
    })?);
    // The path may have been replaced in the meantime.
    let kind = file.metadata()?.file_type();
    if !kind.is_fifo() && !kind.is_char_device() {
        return Err(FileError::Kind("no pipe any more"));
    }
    fcntl_setfl(&file, OFlags::empty()).map_err(io::Error::from)?;
    Ok((&file).write_all(content)?)
}

fn replace(dir: &Dir, name: &CString, content: &[u8]) -> Result<(), FileError> {
    let new = NewFile::beside(dir, name)?;
    new.file().write_all(content)?;
    new.publish()
}

/// A file that is written beside its place, and replaces an existing file or link there. Dropping it removes it.
pub(crate) struct NewFile {
    dir: Dir,
    temporary: String,
    name: CString,
    file: File,
}

impl NewFile {
    /// Begins the file at `path`, which must not be anything else than a file or link.
    pub(crate) fn create(path: &Path) -> Result<Self, FileError> {
        let (parent, name) = split(path)?;
        let name = CString::new(name.as_bytes()).map_err(|_| FileError::NoName)?;
        let dir = Dir::open(parent)?;
        match dir.find(&*name)?.map(|found| found.kind) {
            None | Some(FileKind::File | FileKind::Link) => Self::beside(&dir, &name),
            Some(FileKind::Directory) => Err(FileError::Kind("a directory")),
            Some(FileKind::Stream | FileKind::Other) => Err(FileError::Kind("no file")),
        }
    }

    fn beside(dir: &Dir, name: &CString) -> Result<Self, FileError> {
        let (temporary, file) = beside(dir)?;
        Ok(Self { dir: dir.try_clone()?, temporary, name: name.clone(), file })
    }

    /// Returns the file, to write it.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Moves the file to its place.
    pub(crate) fn publish(self) -> Result<(), FileError> {
        Ok(self.dir.replace(&*self.temporary, &self.dir, &*self.name)?)
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        // It is not there any more if it was moved. Otherwise, the original error is the one to report.
        let _ = self.dir.remove_file(&*self.temporary);
    }
}

/// Creates a new file in `dir`, under a free name.
fn beside(dir: &Dir) -> Result<(String, File), DirError> {
    let mode = MODE & !current_umask();
    let mut number = 0;
    loop {
        let name = format!(".oci2bk-{}-{number}.tmp", std::process::id());
        match dir.create_file(&*name, mode) {
            Err(error)
                if error.source.kind() == io::ErrorKind::AlreadyExists && number < MOST_NAMES =>
            {
                number += 1;
            }
            made => return Ok((name, made?)),
        }
    }
}

/// The umask can only be read by setting it.
fn current_umask() -> u32 {
    let mask = umask(Mode::from_raw_mode(0o077));
    umask(mask);
    mask.as_raw_mode()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    use rustix::fs::{CWD, FileType, mknodat};

    use super::*;

    #[test]
    fn a_file_is_new_and_nothing_is_left_beside_it() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("out.json");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let other = temp.path().join("other name");
        fs::hard_link(&path, &other).unwrap();
        // As left by a killed run, and as another user could create it.
        symlink("out.json", temp.path().join(format!(".oci2bk-{}-0.tmp", std::process::id())))
            .unwrap();
        write_file(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read(&other).unwrap(), b"old");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, MODE & !current_umask());
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 3);
    }

    #[test]
    fn a_link_is_replaced_and_what_it_leads_to_stays() {
        let temp = tempfile::tempdir().unwrap();
        let [canary, link, dangling] =
            ["canary", "link", "dangling"].map(|name| temp.path().join(name));
        fs::write(&canary, "canary").unwrap();
        symlink(&canary, &link).unwrap();
        symlink(temp.path().join("nowhere"), &dangling).unwrap();
        for path in [link, dangling] {
            write_file(&path, b"new").unwrap();
            assert!(fs::symlink_metadata(&path).unwrap().is_file());
            assert_eq!(fs::read(&path).unwrap(), b"new");
        }
        assert_eq!(fs::read(canary).unwrap(), b"canary");
        assert!(!temp.path().join("nowhere").exists());
    }

    #[test]
    fn what_is_no_file_is_refused_or_written_to_without_waiting() {
        let temp = tempfile::tempdir().unwrap();
        let said = |path: &Path| write_file(path, b"new").unwrap_err().to_string();
        assert!(said(temp.path()).contains("a directory"));
        assert!(said(&temp.path().join("..")).contains("no name"));
        assert!(said(&temp.path().join("absent/file")).contains("cannot open the directory"));
        let fifo = temp.path().join("fifo");
        mknodat(CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        assert!(said(&fifo).contains("a FIFO that nobody reads"));
        let reader = File::options()
            .read(true)
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
            .open(&fifo);
        write_file(&fifo, b"new").unwrap();
        assert_eq!(io::read_to_string(reader.unwrap()).unwrap(), "new");
        write_file(Path::new("/dev/null"), b"new").unwrap();
        assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
        let _socket = std::os::unix::net::UnixListener::bind(temp.path().join("socket")).unwrap();
        assert!(said(&temp.path().join("socket")).contains("a socket"));
    }

    #[test]
    fn names_of_descriptors_are_not_replaced() {
        for (parent, name, found) in [
            ("/dev", "stdout", Some(1)),
            ("/dev/../dev", "stderr", Some(2)),
            ("/dev/fd", "63", Some(63)),
            ("/proc/self/fd", "1", Some(1)),
            ("/dev", "null", None),
            ("/proc/1/fd", "1", None),
            (".", "stdout", None),
        ] {
            assert_eq!(descriptor(Path::new(parent), OsStr::new(name)), found, "{parent}/{name}");
        }
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("log");
        fs::write(&path, "before ").unwrap();
        let open = File::options().append(true).open(&path).unwrap();
        let descriptor = format!("/dev/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&open));
        write_file(Path::new(&descriptor), b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"before new");
    }
}
