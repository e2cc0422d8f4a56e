//! Describes everything visible in a directory tree.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use bkstate::Digest;
use rustix::fs::{lgetxattr, llistxattr};

/// Returns a line for each file of a root, in the order of their paths: path, mode, then
///
/// - in the trees of snapshots: owner, time, device number, extended attributes, and the first path of a hard
///   link;
/// - for files the digest of the content, and for links the target.
pub(super) fn describe(root: &Path) -> String {
    let mut text = String::new();
    let mut links = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(path) = pending.pop() {
        let name = path.strip_prefix(root).unwrap();
        if name != Path::new("") && name != Path::new("buildkitd.lock") {
            describe_file(&path, name, &mut links, &mut text);
        }
        if path.symlink_metadata().unwrap().is_dir() {
            let entries = fs::read_dir(&path).unwrap();
            let mut entries: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
            entries.sort();
            pending.extend(entries.into_iter().rev());
        }
    }
    text
}

fn describe_file(
    path: &Path,
    name: &Path,
    links: &mut BTreeMap<(u64, u64), PathBuf>,
    text: &mut String,
) {
    let metadata = path.symlink_metadata().unwrap();
    write!(text, "{} {:o}", name.as_os_str().as_bytes().escape_ascii(), metadata.mode()).unwrap();
    let in_layer = name.components().any(|component| component.as_os_str() == "fs");
    if in_layer {
        let (seconds, nanoseconds) = (metadata.mtime(), metadata.mtime_nsec());
        write!(text, " {}:{}", metadata.uid(), metadata.gid()).unwrap();
        write!(text, " {seconds}.{nanoseconds:09} {:x}", metadata.rdev()).unwrap();
        for (attribute, value) in xattrs(path) {
            write!(text, " {attribute}={}", value.escape_ascii()).unwrap();
        }
        if !metadata.is_dir() {
            let inode = (metadata.dev(), metadata.ino());
            let first = links.entry(inode).or_insert_with(|| name.to_owned());
            if first != name {
                write!(text, " is {}", first.display()).unwrap();
            }
        }
    }
    if metadata.is_symlink() {
        let target = fs::read_link(path).unwrap();
        write!(text, " -> {}", target.as_os_str().as_bytes().escape_ascii()).unwrap();
    } else if metadata.is_file() {
        write!(text, " {}", Digest::of(fs::read(path).unwrap())).unwrap();
    }
    text.push('\n');
}

fn xattrs(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut names = vec![0; 65536];
    let length = llistxattr(path, &mut names).unwrap();
    let names = names[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty());
    let read = |name: &[u8]| {
        let name = std::str::from_utf8(name).unwrap();
        let mut value = vec![0; 65536];
        let length = lgetxattr(path, name, &mut value).unwrap();
        value.truncate(length);
        (name.to_owned(), value)
    };
    // The labels of a host with SELinux do not belong to the layer.
    names.map(read).filter(|(name, _)| name != "security.selinux").collect()
}
