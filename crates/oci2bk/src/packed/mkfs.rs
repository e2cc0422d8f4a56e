//! Runs mkfs.erofs and mount.

use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::str::FromStr;
use std::time::Duration;

use bkstate::Digest;
use bkstate::packed::Uuid;

use super::PackedError;
use super::content::LONGEST_NAME;
use crate::cancel::Cancel;

const MKFS: &str = "mkfs.erofs";
const MOUNT: &str = "mount";
/// The release with which all this was tried first; that of Debian 12.
const OLDEST: (u32, u32) = (1, 5);
const OLDEST_NAME: &str = "1.5";
/// The option of 1.9 and later that leaves the times of files alone when one is given for the image.
const OWN_TIMES: &str = "--mkfs-time";
/// The size of compressed clusters in bytes: larger ones compress better, and take Linux 5.13.
const CLUSTER: u32 = 64 << 10;
/// How often a running program is asked for its end.
const PAUSE: Duration = Duration::from_millis(20);
/// Maximum size of the messages of a program that are read, from their end.
const SAID: u64 = 2000;

/// How the files in an image are compressed.
///
/// ```
/// use oci2bk::packed::{Compression, UnknownCompression};
///
/// assert_eq!("lz4".parse(), Ok(Compression::Lz4));
/// let refused: Result<Compression, UnknownCompression> = "gzip".parse();
/// assert!(refused.is_err());
/// assert_eq!(Compression::ALL.map(Compression::name), ["none", "lz4", "zstd"]);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compression {
    /// Not at all.
    None,
    /// With LZ4, which takes little time to read.
    #[default]
    Lz4,
    /// With zstd, which makes smaller images. It takes erofs-utils 1.8 and Linux 6.10.
    Zstd,
}

/// The word names no compression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is none of none, lz4 and zstd")]
pub struct UnknownCompression(String);

impl Compression {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::None, Self::Lz4, Self::Zstd];

    /// Returns its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    fn algorithm(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Lz4 => Some("lz4"),
            Self::Zstd => Some("zstd,3"),
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Compression {
    type Err = UnknownCompression;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|compression| compression.name() == text);
        found.ok_or_else(|| UnknownCompression(text.to_owned()))
    }
}

/// The installed mkfs.erofs.
#[derive(Debug)]
pub(super) struct Mkfs {
    /// Whether it leaves the times of files alone when one is given for the image.
    pub(super) has_own_times: bool,
    compression: Compression,
}

impl Mkfs {
    /// Finds it, and what it can do.
    pub(super) fn find(compression: Compression) -> Result<Self, PackedError> {
        // Releases before 1.8 do not know the option, and say their name and the help.
        let version = text_of(Command::new(MKFS).arg("--version"), MKFS)?;
        let help = text_of(Command::new(MKFS).arg("--help"), MKFS)?;
        let found = release(&version);
        let is_old = || PackedError::OldMkfs {
            found: found.clone().unwrap_or_else(|| "of an unknown release".to_owned()),
            wanted: OLDEST_NAME,
        };
        let numbers = found.as_deref().and_then(numbers).ok_or_else(is_old)?;
        if numbers < OLDEST {
            return Err(is_old());
        }
        let algorithm = compression.algorithm().and_then(|name| name.split(',').next());
        if algorithm.is_some_and(|name| !help.contains(name)) {
            let found = found.unwrap_or_default();
            return Err(PackedError::NoCompression { found, compression });
        }
        Ok(Self { has_own_times: help.contains(OWN_TIMES), compression })
    }

    /// Returns whether it takes names of 255 bytes. Releases such as 1.5 cut off the last byte, and then fail.
    pub(super) fn takes_longest_names(&self, cancel: &Cancel) -> Result<bool, PackedError> {
        let failed = |source| PackedError::Run { program: MKFS, source };
        let directory = tempfile::tempdir().map_err(failed)?;
        let image = tempfile::tempfile().map_err(failed)?;
        File::create(directory.path().join("n".repeat(LONGEST_NAME))).map_err(failed)?;
        let uuid = Uuid::of(&Digest::of("a name"));
        match self.run(directory.path(), &image, directory.path(), uuid, cancel) {
            Err(PackedError::Mkfs { .. }) => Ok(false),
            made => made.map(|()| true),
        }
    }

    /// Writes an image of `directory` into the empty file `image`, which is called `name` in messages.
    pub(super) fn run(
        &self,
        directory: &Path,
        image: &File,
        name: &Path,
        uuid: Uuid,
        cancel: &Cancel,
    ) -> Result<(), PackedError> {
        let mut command = Command::new(MKFS);
        // By the handle, not by a path, which could lead to another file.
        let file = format!("/proc/{}/fd/{}", std::process::id(), image.as_raw_fd());
        command.args(["-U", &uuid.to_string()]);
        if self.has_own_times {
            command.args(["-T0", OWN_TIMES]);
        } else {
            // Those in the short form would have the time of the image.
            command.arg("-Eforce-inode-extended");
        }
        if let Some(algorithm) = self.compression.algorithm() {
            command.arg(format!("-z{algorithm}")).arg(format!("-C{CLUSTER}"));
        }
        // It would be the time of files, too.
        command.env_remove("SOURCE_DATE_EPOCH").arg(file).arg(directory);
        let (status, said) = run(&mut command, MKFS, cancel)?;
        if status.success() {
            return Ok(());
        }
        Err(PackedError::Mkfs { image: name.to_owned(), said: or_status(said, status) })
    }
}

/// Mounts `image` read-only on `point`, in the mount namespace of this thread.
pub(super) fn mount(image: &Path, point: &Path, cancel: &Cancel) -> Result<(), PackedError> {
    let mut command = Command::new(MOUNT);
    command.args(["-n", "-t", "erofs", "-o", "ro,loop"]).arg(image).arg(point);
    let (status, said) = run(&mut command, MOUNT, cancel)?;
    if status.success() {
        return Ok(());
    }
    Err(PackedError::Mount { image: image.to_owned(), said: or_status(said, status) })
}

fn or_status(said: String, status: ExitStatus) -> String {
    if said.is_empty() { status.to_string() } else { said }
}

/// Runs a program to its end, or kills it on cancellation. Returns how it ended, and the end of its messages in one
/// line.
fn run(
    command: &mut Command,
    program: &'static str,
    cancel: &Cancel,
) -> Result<(ExitStatus, String), PackedError> {
    let failed = |source| PackedError::Run { program, source };
    // A pipe that nobody reads could fill up.
    let mut messages = tempfile::tempfile().map_err(failed)?;
    let stderr = messages.try_clone().map_err(failed)?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
    let mut child = command.spawn().map_err(|error| not_started(program, error))?;
    let status = wait(&mut child, cancel).map_err(failed)?;
    let status = status.ok_or(PackedError::Cancelled)?;
    let length = messages.metadata().map_err(failed)?.len();
    messages.seek(SeekFrom::Start(length.saturating_sub(SAID))).map_err(failed)?;
    let mut said = Vec::new();
    messages.read_to_end(&mut said).map_err(failed)?;
    let said = String::from_utf8_lossy(&said);
    let lines: Vec<_> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    Ok((status, lines.join("; ")))
}

/// Returns `None` if it was cancelled.
fn wait(child: &mut Child, cancel: &Cancel) -> io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if cancel.is_cancelled() {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(PAUSE);
    }
}

fn not_started(program: &'static str, source: io::Error) -> PackedError {
    if program == MKFS && source.kind() == ErrorKind::NotFound {
        return PackedError::NoMkfs;
    }
    PackedError::Run { program, source }
}

/// Returns all that a program prints.
fn text_of(command: &mut Command, program: &'static str) -> Result<String, PackedError> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| not_started(program, error))?;
    let all = [output.stdout, output.stderr].concat();
    Ok(String::from_utf8_lossy(&all).into_owned())
}

/// Returns the release in `mkfs.erofs 1.5` and in `mkfs.erofs (erofs-utils) 1.9.3`.
fn release(text: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(MKFS))?;
    let word = line.split_whitespace().find(|word| numbers(word).is_some())?;
    Some(word.to_owned())
}

fn numbers(word: &str) -> Option<(u32, u32)> {
    let mut parts = word.trim_start_matches('v').split(['.', '-']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read_in_all_forms() {
        for (text, expected) in [
            ("mkfs.erofs 1.5\nmkfs.erofs: unrecognized option '--version'", Some("1.5")),
            ("mkfs.erofs (erofs-utils) 1.9.3\n", Some("1.9.3")),
            ("mkfs.erofs (erofs-utils) v1.8-g12\n", Some("v1.8-g12")),
            ("mkfs.erofs: unknown\n", None),
            ("", None),
        ] {
            assert_eq!(release(text).as_deref(), expected, "{text}");
        }
        assert_eq!(numbers("1.10.2"), Some((1, 10)));
        assert!(numbers("1.10").unwrap() > OLDEST && numbers("1.4").unwrap() < OLDEST);
    }

    #[test]
    fn a_program_that_is_missing_is_named() {
        let missing = || io::Error::from(ErrorKind::NotFound);
        assert!(matches!(not_started(MKFS, missing()), PackedError::NoMkfs));
        let error = not_started(MOUNT, missing());
        assert!(matches!(error, PackedError::Run { program: MOUNT, .. }), "{error}");
    }

    #[test]
    fn a_cancelled_program_is_killed() {
        let cancel = Cancel::new();
        cancel.cancel();
        let error = run(Command::new("sleep").arg("600"), "sleep", &cancel).unwrap_err();
        assert!(matches!(error, PackedError::Cancelled), "{error}");
        let (status, said) = run(
            Command::new("sh").args(["-c", "echo a >&2; echo b >&2; exit 3"]),
            "sh",
            &Cancel::new(),
        )
        .unwrap();
        assert_eq!((status.code(), said.as_str()), (Some(3), "a; b"));
    }
}
