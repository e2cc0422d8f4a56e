//! Witnesses: they show later whether a tree still has extended attributes and devices, which many tools lose
//! when they copy it.
//!
//! Without the extended attribute of opaque directories, and without whiteouts, which are devices, deleted
//! files are visible again; without `security.capability`, programs fail. Comparing a tree with its layer
//! detects that, but requires unpacking the layer. A copy that loses one attribute loses all in its
//! namespace. So for each namespace one entry with an attribute is recorded when the layer is unpacked, in
//! the labels of the snapshot, and checked when the root is verified.
//!
//! | label | value |
//! |---|---|
//! | `oci2bk.witness.trusted`, `.security`, `.system`, `.user` | the name of an extended attribute, a space, the path of a file or directory with it |
//! | `oci2bk.witness.whiteout` | the path of a whiteout |
//!
//! Bytes other than printable ASCII, the space and `%` are encoded as `%` and two hexadecimal digits. Labels
//! of a snapshot belong to the snapshotter; containerd only interprets those that begin with
//! `containerd.io/`, and keeps all others (containerd v2.4.2 `core/snapshots/storage/bolt.go`,
//! `plugins/snapshots/overlay/overlay.go`).

use std::collections::BTreeMap;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, FileType, MemfdFlags, OFlags, XattrFlags};
use rustix::io::Errno;

use super::paths::open_plain;

const LABEL: &str = "oci2bk.witness.";
const WHITEOUT: &str = "whiteout";
/// All namespaces of Linux that a layer may set.
const NAMESPACES: [&str; 4] = ["security", "system", "trusted", "user"];
/// Maximum number of entries of a kind to remember, in case the layer removes some of them again.
const CANDIDATES: usize = 16;
/// Maximum length of a remembered path.
const LONGEST: usize = 1024;

/// Entries of a layer that can become witnesses when all of it is unpacked: for each kind, with the name of
/// the attribute.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    of: BTreeMap<&'static str, Vec<Witness>>,
}

/// An entry with an extended attribute, or a whiteout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Witness {
    /// Its path in the snapshot, without symbolic links.
    pub(crate) path: Vec<u8>,
    /// The name of the attribute; `None` for a whiteout.
    pub(crate) attribute: Option<Vec<u8>>,
}

impl Candidates {
    /// Records that the file or directory `path` got the attribute.
    pub(super) fn attribute(&mut self, path: &[u8], attribute: &[u8]) {
        let namespace = attribute.split(|byte| *byte == b'.').next().unwrap_or_default();
        let known = NAMESPACES.into_iter().find(|name| name.as_bytes() == namespace);
        if let Some(namespace) = known {
            self.add(namespace, path, Some(attribute));
        }
    }

    /// Records that `path` is a whiteout.
    pub(super) fn whiteout(&mut self, path: &[u8]) {
        self.add(WHITEOUT, path, None);
    }

    fn add(&mut self, kind: &'static str, path: &[u8], attribute: Option<&[u8]>) {
        let known = self.of.entry(kind).or_default();
        if known.len() < CANDIDATES && path.len() <= LONGEST {
            let attribute = attribute.map(<[u8]>::to_vec);
            known.push(Witness { path: path.to_vec(), attribute });
        }
    }

    /// Returns labels with those that exist in the tree `root`, the first of each kind. Files that cannot be
    /// examined are skipped.
    pub(super) fn labels(self, root: &impl AsFd) -> BTreeMap<String, String> {
        let there = |witness: &Witness| witness.is_there(root).unwrap_or_default();
        let first = |(kind, known): (&str, Vec<Witness>)| {
            let witness = known.into_iter().find(there)?;
            Some((format!("{LABEL}{kind}"), witness.value()))
        };
        self.of.into_iter().filter_map(first).collect()
    }
}

impl Witness {
    /// Returns those in the labels of a snapshot.
    pub(crate) fn of(labels: &BTreeMap<String, String>) -> impl Iterator<Item = Self> {
        labels.iter().filter_map(|(label, value)| {
            let kind = label.strip_prefix(LABEL)?;
            if kind == WHITEOUT {
                return Some(Self { path: unescape(value)?, attribute: None });
            }
            let (attribute, path) = value.split_once(' ')?;
            Some(Self { path: unescape(path)?, attribute: Some(unescape(attribute)?) })
        })
    }

    fn value(&self) -> String {
        let path = escape(&self.path);
        match &self.attribute {
            None => path,
            Some(attribute) => format!("{} {path}", escape(attribute)),
        }
    }

    /// Returns whether only privileged processes see it.
    pub(crate) fn is_trusted(&self) -> bool {
        self.attribute.as_ref().is_some_and(|name| name.starts_with(b"trusted."))
    }

    /// Returns whether it exists in the tree `root` as recorded.
    ///
    /// # Errors
    /// Returns an error if the system does not report it.
    pub(crate) fn is_there(&self, root: &impl AsFd) -> rustix::io::Result<bool> {
        let flags = match self.attribute {
            // Opening a device has side effects, an `O_PATH` handle has none.
            None => OFlags::PATH,
            Some(_) => OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY,
        };
        let found = match open_plain(root, &self.path, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV | Errno::NAMETOOLONG) => {
                return Ok(false);
            }
            found => found?,
        };
        let Some(attribute) = &self.attribute else {
            let stat = rustix::fs::statat(&found, "", AtFlags::EMPTY_PATH)?;
            let kind = FileType::from_raw_mode(stat.st_mode);
            return Ok(kind == FileType::CharacterDevice && stat.st_rdev == 0);
        };
        match rustix::fs::fgetxattr(&found, attribute.as_slice(), &mut [0_u8; 0]) {
            Err(Errno::NODATA | Errno::NOTSUP) => Ok(false),
            found => found.map(|_| true),
        }
    }
}

/// Returns whether this process sees the extended attributes of the namespace `trusted`. To others the kernel
/// hides them (Linux `fs/xattr.c` `xattr_permission`).
pub(crate) fn sees_trusted() -> bool {
    rustix::fs::memfd_create("oci2bk", MemfdFlags::CLOEXEC)
        .and_then(|file| rustix::fs::fsetxattr(file, "trusted.oci2bk", b"", XattrFlags::empty()))
        .is_ok()
}

fn escape(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    for byte in bytes {
        match byte {
            b'!'..=b'~' if *byte != b'%' => text.push(char::from(*byte)),
            // Writing to a String cannot fail.
            byte => drop(write!(text, "%{byte:02x}")),
        }
    }
    text
}

fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (digits, plain) = part.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend(plain.as_bytes());
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_keep_every_byte() {
        let all: Vec<u8> = (1..=255).collect();
        assert_eq!(unescape(&escape(&all)), Some(all));
        assert_eq!(escape(b"usr/lib/a b%c\xff"), "usr/lib/a%20b%25c%ff");
        assert_eq!(unescape("%"), None);
        assert_eq!(unescape("%4"), None);
        assert_eq!(unescape("%4\u{e4}"), None);
    }

    #[test]
    fn a_witness_is_read_as_it_was_written() {
        let attribute = Some(b"trusted.overlay.opaque".to_vec());
        let opaque = Witness { path: b"a dir".to_vec(), attribute };
        let whiteout = Witness { path: b"gone".to_vec(), attribute: None };
        let labels = BTreeMap::from([
            (format!("{LABEL}trusted"), opaque.value()),
            (format!("{LABEL}whiteout"), whiteout.value()),
            ("containerd.io/snapshot.ref".to_owned(), "x y".to_owned()),
        ]);
        assert_eq!(labels["oci2bk.witness.trusted"], "trusted.overlay.opaque a%20dir");
        assert_eq!(Witness::of(&labels).collect::<Vec<_>>(), [opaque, whiteout]);
    }

    #[test]
    fn a_witness_is_where_it_was_unpacked_and_nowhere_else() {
        let directory = tempfile::tempdir().unwrap();
        let root = std::fs::File::open(directory.path()).unwrap();
        std::fs::write(directory.path().join("f"), "").unwrap();
        let file = std::fs::File::open(directory.path().join("f")).unwrap();
        let mut candidates = Candidates::default();
        candidates.attribute(b"later/removed", b"user.a");
        candidates.attribute(b"f", b"user.a");
        candidates.attribute(b"f", b"unknown.a");
        candidates.whiteout(b"f");
        assert_eq!(candidates.labels(&root), BTreeMap::new());
        if rustix::fs::fsetxattr(&file, "user.a", b"", XattrFlags::empty()).is_err() {
            return;
        }
        let mut candidates = Candidates::default();
        candidates.attribute(b"later/removed", b"user.a");
        candidates.attribute(b"f", b"user.a");
        let labels = candidates.labels(&root);
        assert_eq!(labels, BTreeMap::from([("oci2bk.witness.user".into(), "user.a f".into())]));
        let [witness] = &Witness::of(&labels).collect::<Vec<_>>()[..] else { panic!("{labels:?}") };
        assert_eq!(witness.is_there(&root), Ok(true));
        rustix::fs::fremovexattr(&file, "user.a").unwrap();
        assert_eq!(witness.is_there(&root), Ok(false));
        for path in [&b"../f"[..], b"/f", b"none", b"f/x"] {
            let elsewhere = Witness { path: path.to_vec(), ..witness.clone() };
            assert_eq!(elsewhere.is_there(&root), Ok(false));
        }
    }
}
