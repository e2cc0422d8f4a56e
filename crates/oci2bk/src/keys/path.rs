//! Key sources, as people name them.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use super::{KeySource, SourceError, read_builder, read_source};
use crate::limits::Limits;

/// Separates the root of a builder from that of its containerd.
const CONTAINERD: &[u8] = b",containerd=";

/// A key source as a path: a file or directory, and for a builder on a containerd also the root of that, if it
/// is not in its usual place.
///
/// ```
/// use oci2bk::Limits;
/// use oci2bk::keys::KeyPath;
///
/// let sources = KeyPath::from("fixtures/index/keys/provenance.json").read(&Limits::default())?;
/// assert_eq!(sources.len(), 1);
///
/// // As a word of the command line, where a path with `,containerd=` in it cannot be named.
/// let word = std::ffi::OsString::from("/var/lib/buildkit,containerd=/data/containerd");
/// let KeyPath { path, containerd } = word.into();
/// assert_eq!(path.to_str(), Some("/var/lib/buildkit"));
/// assert_eq!(containerd, Some("/data/containerd".into()));
/// # Ok::<(), oci2bk::keys::SourceError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPath {
    /// The file or directory.
    pub path: PathBuf,
    /// The root of the containerd, if it is given.
    pub containerd: Option<PathBuf>,
}

impl KeyPath {
    /// Reads it, whatever its type.
    ///
    /// # Errors
    /// See [`read_source`] and [`read_builder`].
    pub fn read(&self, limits: &Limits) -> Result<Vec<KeySource>, SourceError> {
        match &self.containerd {
            Some(containerd) => read_builder(&self.path, containerd, limits),
            None => read_source(&self.path, limits),
        }
    }
}

impl From<&str> for KeyPath {
    fn from(path: &str) -> Self {
        Self::from(Path::new(path))
    }
}

impl From<&Path> for KeyPath {
    fn from(path: &Path) -> Self {
        path.to_owned().into()
    }
}

impl From<PathBuf> for KeyPath {
    fn from(path: PathBuf) -> Self {
        Self { path, containerd: None }
    }
}

/// As the command line writes it: `FILE`, or `DIR,containerd=DIR`.
impl From<OsString> for KeyPath {
    fn from(word: OsString) -> Self {
        let bytes = word.as_bytes();
        let split = bytes.windows(CONTAINERD.len()).position(|window| window == CONTAINERD);
        let path = |bytes: &[u8]| PathBuf::from(OsString::from_vec(bytes.to_owned()));
        match split {
            Some(at) => Self {
                path: path(&bytes[..at]),
                containerd: Some(path(&bytes[at + CONTAINERD.len()..])),
            },
            None => Self { path: word.into(), containerd: None },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_containerd_can_be_behind_the_root() {
        let parsed = |word: &str| {
            let KeyPath { path, containerd } = OsString::from(word).into();
            (path, containerd)
        };
        let containerd = Some("/data/containerd".into());
        assert_eq!(parsed("/root,containerd=/data/containerd"), ("/root".into(), containerd));
        for path in ["-", "provenance.json", "a,b", "a,containerd", "containerd=/root"] {
            assert_eq!(parsed(path), (path.into(), None));
        }
        let bytes = OsString::from_vec(b"\xff,containerd=\xfe".to_vec());
        let KeyPath { path, containerd } = bytes.into();
        assert_eq!(path.as_os_str().as_bytes(), b"\xff");
        assert_eq!(containerd.unwrap().as_os_str().as_bytes(), b"\xfe");
    }
}
