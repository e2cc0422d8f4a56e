//! The relevant content of a directory tree, for comparison with another.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use bkstate::Digest;
use rustix::fs::{lgetxattr, llistxattr};

/// Maximum number of differences in a failure message.
const SHOWN: usize = 12;

const LAYERS: &str = "runc-overlayfs/snapshots/snapshots";

/// A line for each path: type, mode, owner, content, and for the files of layers also their times. The times
/// of the files of the state itself are those of the run.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Listing(BTreeMap<PathBuf, String>);

impl Listing {
    /// Lists `top`, except the names in it for which `skip` is true.
    pub(crate) fn of(top: &Path, skip: impl Fn(&str) -> bool) -> Result<Self> {
        let mut listing = Self::default();
        let mut pending = names_in(top)?;
        pending.retain(|path| !path.to_str().is_some_and(&skip));
        while let Some(name) = pending.pop() {
            let path = top.join(&name);
            let line = describe(&path, &name).with_context(|| path.display().to_string())?;
            if path.symlink_metadata()?.is_dir() {
                pending.extend(names_in(&path)?.into_iter().map(|inner| name.join(inner)));
            }
            listing.0.insert(name, line);
        }
        Ok(listing)
    }

    /// Returns the line of `path`, if it exists.
    pub(crate) fn line(&self, path: &Path) -> Option<&str> {
        self.0.get(path).map(String::as_str)
    }

    pub(crate) fn lines(&self) -> impl Iterator<Item = (&Path, &str)> {
        self.0.iter().map(|(path, line)| (path.as_path(), line.as_str()))
    }

    /// Returns the trees of all layers, independent of their numbers.
    pub(crate) fn layers(&self) -> Vec<String> {
        let mut layers: BTreeMap<_, String> = BTreeMap::new();
        for (path, line) in &self.0 {
            let Ok(inside) = path.strip_prefix(LAYERS) else { continue };
            let mut components = inside.components();
            if let Some(number) = components.next() {
                let text = layers.entry(number).or_default();
                *text += &format!("{}: {line}\n", components.as_path().display());
            }
        }
        let mut layers: Vec<_> = layers.into_values().collect();
        layers.sort_unstable();
        layers
    }

    /// Describes the differences between `self` and `other`.
    pub(crate) fn difference<'l>(&'l self, other: &'l Self) -> impl fmt::Display + 'l {
        let changed = self.0.iter().filter_map(|(path, line)| match other.0.get(path) {
            None => Some(format!("{} is gone", path.display())),
            Some(now) if now != line => Some(format!("{}: {line} became {now}", path.display())),
            Some(_) => None,
        });
        let added = other.0.keys().filter(|path| !self.0.contains_key(*path));
        let added = added.map(|path| format!("{} is new", path.display()));
        changed.chain(added).take(SHOWN).collect::<Vec<_>>().join("\n  ")
    }
}

fn names_in(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).with_context(|| dir.display().to_string())?;
    entries.map(|entry| Ok(PathBuf::from(entry?.file_name()))).collect()
}

fn describe(path: &Path, name: &Path) -> Result<String> {
    let metadata = path.symlink_metadata()?;
    let mut line = format!("{:o} {}:{}", metadata.mode(), metadata.uid(), metadata.gid());
    if name.components().any(|component| component.as_os_str() == "fs") {
        line += &format!(" {}.{:09}", metadata.mtime(), metadata.mtime_nsec());
        line += &format!(" {:x}", metadata.rdev());
    }
    if !metadata.is_dir() {
        line += &format!(" links {}", metadata.nlink());
    }
    let mut names = vec![0; 65536];
    let length = llistxattr(path, &mut names)?;
    let mut names: Vec<_> = names[..length].split(|&byte| byte == 0).collect();
    names.sort_unstable();
    for name in names.into_iter().filter(|name| !name.is_empty()) {
        let mut value = vec![0; 65536];
        let length = lgetxattr(path, name, &mut value)?;
        line += &format!(" {}={}", name.escape_ascii(), value[..length].escape_ascii());
    }
    if metadata.is_symlink() {
        line += &format!(" -> {}", fs::read_link(path)?.as_os_str().as_bytes().escape_ascii());
    } else if metadata.is_file() {
        line += &format!(" {} bytes {}", metadata.len(), Digest::of(fs::read(path)?));
    }
    Ok(line)
}
