//! Opens files named by the user for reading.
//!
//! The path may lead to something else by now: we must not wait on a FIFO that another user put there without
//! a writer. The pipe of a shell, as in `<(…)`, is read; it has no name.
//!
//! ```
//! use std::io::Read as _;
//!
//! use bkstate::input::{InputError, open, stdin};
//!
//! let temp = tempfile::tempdir()?;
//! let path = temp.path().join("file");
//! std::fs::write(&path, "content")?;
//! let mut content = String::new();
//! open(&path)?.read_to_string(&mut content)?;
//! assert_eq!(content, "content");
//!
//! assert!(matches!(open(temp.path()), Err(InputError::Directory)));
//! // The stdin of a test can be anything.
//! drop(stdin()?);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fs::{File, FileType};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl, fstatfs};

/// The file system of unnamed pipes (Linux `include/uapi/linux/magic.h` `PIPEFS_MAGIC`).
const PIPES: u64 = 0x5049_5045;

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InputError {
    /// It is a directory.
    #[error("it is a directory; only files, and the pipes of a shell, are read")]
    Directory,
    /// It is neither a regular file, an unnamed pipe nor a directory.
    #[error("it is {0}; only files, and the pipes of a shell, are read")]
    Kind(&'static str),
    /// It cannot be opened.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Opens the file, or the unnamed pipe, at `path` for reading. Links are followed.
///
/// # Errors
/// Returns an error if it is of another kind, such as a FIFO in the file system, or cannot be opened.
pub fn open(path: &Path) -> Result<File, InputError> {
    // Examined before it is opened, because opening a device can have side effects.
    check(std::fs::metadata(path)?.file_type())?;
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let mut options = File::options();
    options.read(true).custom_flags(flags.bits().cast_signed());
    let file = options.open(path)?;
    // The path may have been replaced in the meantime.
    let kind = file.metadata()?.file_type();
    check(kind)?;
    if kind.is_fifo() && !is_without_name(&file)? {
        return Err(InputError::Kind("a FIFO"));
    }
    Ok(waiting(file)?)
}

/// Returns stdin, of any kind.
///
/// # Errors
/// Returns an error if the system has no more handles.
pub fn stdin() -> io::Result<File> {
    waiting(io::stdin().as_fd().try_clone_to_owned()?.into())
}

/// Makes reads from `file` wait for the other end.
fn waiting(file: File) -> io::Result<File> {
    let flags = fcntl_getfl(&file)?;
    fcntl_setfl(&file, flags - OFlags::NONBLOCK)?;
    Ok(file)
}

fn is_without_name(pipe: impl AsFd) -> io::Result<bool> {
    let kind = fstatfs(pipe)?.f_type;
    Ok(u64::try_from(kind).is_ok_and(|kind| kind == PIPES))
}

fn check(kind: FileType) -> Result<(), InputError> {
    match kind {
        kind if kind.is_file() || kind.is_fifo() => Ok(()),
        kind if kind.is_dir() => Err(InputError::Directory),
        kind if kind.is_socket() => Err(InputError::Kind("a socket")),
        _ => Err(InputError::Kind("a device")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _, pipe};
    use std::os::fd::AsRawFd as _;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[test]
    fn a_fifo_is_refused_whether_anybody_writes_to_it_or_not() {
        let temp = tempfile::tempdir().unwrap();
        let fifo = temp.path().join("fifo");
        mknodat(CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        let error = open(&fifo).unwrap_err();
        assert!(matches!(error, InputError::Kind("a FIFO")), "{error}");
        assert_eq!(
            error.to_string(),
            "it is a FIFO; only files, and the pipes of a shell, are read"
        );
        let _silent = File::options().read(true).write(true).open(&fifo).unwrap();
        let error = open(&fifo).unwrap_err();
        assert!(matches!(error, InputError::Kind("a FIFO")), "{error}");
        assert_eq!(
            error.to_string(),
            "it is a FIFO; only files, and the pipes of a shell, are read"
        );
        let link = temp.path().join("link");
        std::os::unix::fs::symlink(&fifo, &link).unwrap();
        let error = open(&link).unwrap_err();
        assert!(matches!(error, InputError::Kind("a FIFO")), "{error}");
        assert_eq!(
            error.to_string(),
            "it is a FIFO; only files, and the pipes of a shell, are read"
        );
    }

    #[test]
    fn the_pipe_of_a_shell_is_read_to_its_end() {
        let (reader, mut writer) = pipe().unwrap();
        let path = format!("/dev/fd/{}", reader.as_raw_fd());
        let mut opened = open(Path::new(&path)).unwrap();
        // The read waits for it.
        let late = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(50));
            writer.write_all(b"content").unwrap();
        });
        let mut content = String::new();
        opened.read_to_string(&mut content).unwrap();
        assert_eq!(content, "content");
        late.join().unwrap();
    }

    #[test]
    fn devices_and_directories_are_refused() {
        for (path, what) in [("/dev/null", "a device"), ("/", "a directory")] {
            assert!(open(Path::new(path)).unwrap_err().to_string().contains(what), "{path}");
        }
        let error = open(Path::new("/nowhere/file")).unwrap_err();
        assert!(matches!(error, InputError::Io(_)), "{error}");
        assert_eq!(error.to_string(), "No such file or directory (os error 2)");
    }
}
