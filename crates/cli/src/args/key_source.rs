//! Key sources, as the user names them.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;

/// Separates the root of a builder from that of its containerd.
const CONTAINERD: &[u8] = b",containerd=";

/// A key source: `FILE`, or for a builder on a containerd `DIR,containerd=DIR`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyPath {
    /// The file or directory.
    pub(crate) path: PathBuf,
    /// The root of the containerd, if it is given.
    pub(crate) containerd: Option<PathBuf>,
}

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
