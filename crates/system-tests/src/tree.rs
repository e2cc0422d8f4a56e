//! Compares two directory trees, including times and extended attributes.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::fs::{self, File, Metadata};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};

/// Maximum number of differences in a failure message.
const SHOWN: usize = 25;

/// Fails unless `ours` equals `theirs`, which was extracted not earlier than `extracted`.
///
/// It compares names, types, modes, owners, access and modification times, device numbers, link targets,
/// extended attributes, hard links, sizes and contents. There is one exception: a time in `theirs` that is
/// not before `extracted` is the clock of the extraction itself, because the archive does not set it
/// (whiteouts, implied parent directories, the root of a snapshot) or because the tree was read since (access
/// times); it is not compared.
pub fn ensure_equal(ours: &Path, theirs: &Path, extracted: SystemTime) -> Result<()> {
    let clock = extracted.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let (our_entries, their_entries) = (walk(ours)?, walk(theirs)?);
    let mut differences = Vec::new();
    for (path, their) in &their_entries {
        match our_entries.get(path) {
            Some(our) => their.compare(our, path, clock, &mut differences),
            None => differences.push(format!("{} is missing", path.display())),
        }
    }
    for path in our_entries.keys().filter(|path| !their_entries.contains_key(*path)) {
        differences.push(format!("{} should not exist", path.display()));
    }
    for path in their_entries.iter().filter(|(_, e)| e.metadata.is_file()).map(|(path, _)| path) {
        let both_files = our_entries.get(path).is_some_and(|entry| entry.metadata.is_file());
        if both_files && !same_contents(&ours.join(path), &theirs.join(path))? {
            differences.push(format!("{} has other contents", path.display()));
        }
    }
    let more = differences.len().saturating_sub(SHOWN);
    differences.truncate(SHOWN);
    ensure!(
        differences.is_empty(),
        "{} differs from {}:\n  {}\n  ({more} more)",
        ours.display(),
        theirs.display(),
        differences.join("\n  ")
    );
    Ok(())
}

#[derive(Debug)]
struct Entry {
    metadata: Metadata,
    target: Option<PathBuf>,
    xattrs: BTreeMap<CString, Vec<u8>>,
    /// The first name of the same inode, in the order of names.
    first_name: PathBuf,
}

impl Entry {
    fn compare(&self, our: &Self, path: &Path, clock: Duration, differences: &mut Vec<String>) {
        let mut field = |name: &str, ours: String, theirs: String| {
            if ours != theirs {
                let path = path.display();
                differences.push(format!("{path}: {name} is {ours}, should be {theirs}"));
            }
        };
        let (a, b) = (&our.metadata, &self.metadata);
        field("mode", format!("{:o}", a.mode()), format!("{:o}", b.mode()));
        field("owner", format!("{}:{}", a.uid(), a.gid()), format!("{}:{}", b.uid(), b.gid()));
        let device = b.file_type().is_char_device() || b.file_type().is_block_device();
        if device {
            field("device", format!("{:#x}", a.rdev()), format!("{:#x}", b.rdev()));
        }
        if b.is_file() {
            field("size", a.len().to_string(), b.len().to_string());
        }
        field("link target", format!("{:?}", our.target), format!("{:?}", self.target));
        field("xattrs", show_xattrs(&our.xattrs), show_xattrs(&self.xattrs));
        field("first name", show(&our.first_name), show(&self.first_name));
        let times = [
            ("mtime", (a.mtime(), a.mtime_nsec()), (b.mtime(), b.mtime_nsec())),
            ("atime", (a.atime(), a.atime_nsec()), (b.atime(), b.atime_nsec())),
        ];
        for (name, ours, theirs) in times {
            let since_epoch = Duration::new(
                u64::try_from(theirs.0).unwrap_or(0),
                u32::try_from(theirs.1).unwrap_or(0),
            );
            if since_epoch < clock {
                field(name, format!("{ours:?}"), format!("{theirs:?}"));
            }
        }
    }
}

fn show(path: &Path) -> String {
    path.display().to_string()
}

fn show_xattrs(xattrs: &BTreeMap<CString, Vec<u8>>) -> String {
    format!("{xattrs:x?}")
}

/// Returns every entry below and including `root`. Entries are read before the directories that contain them
/// are listed, so that access times are those from before.
fn walk(root: &Path) -> Result<BTreeMap<PathBuf, Entry>> {
    let mut entries = BTreeMap::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(relative) = pending.pop() {
        let path = join(root, &relative);
        let entry = read_entry(&path).with_context(|| path.display().to_string())?;
        if entry.metadata.is_dir() {
            for child in fs::read_dir(&path).with_context(|| path.display().to_string())? {
                pending.push(relative.join(child?.file_name()));
            }
        }
        entries.insert(relative, entry);
    }
    let mut first_names = BTreeMap::new();
    for (path, entry) in &mut entries {
        let inode = (entry.metadata.dev(), entry.metadata.ino());
        entry.first_name = first_names.entry(inode).or_insert_with(|| path.clone()).clone();
    }
    Ok(entries)
}

/// Joins paths without the trailing slash that joining an empty path adds.
fn join(root: &Path, relative: &Path) -> PathBuf {
    if relative.as_os_str().is_empty() { root.to_owned() } else { root.join(relative) }
}

fn read_entry(path: &Path) -> Result<Entry> {
    let metadata = fs::symlink_metadata(path)?;
    let target = metadata.is_symlink().then(|| fs::read_link(path)).transpose()?;
    Ok(Entry { metadata, target, xattrs: read_xattrs(path)?, first_name: PathBuf::new() })
}

fn read_xattrs(path: &Path) -> Result<BTreeMap<CString, Vec<u8>>> {
    let mut names = vec![0; 64 * 1024];
    let length = rustix::fs::llistxattr(path, &mut names)?;
    let mut xattrs = BTreeMap::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; 64 * 1024];
        let length = rustix::fs::lgetxattr(path, OsStr::from_bytes(name), &mut value)?;
        value.truncate(length);
        xattrs.insert(CString::new(name)?, value);
    }
    Ok(xattrs)
}

fn same_contents(a: &Path, b: &Path) -> Result<bool> {
    let open = |path: &Path| File::open(path).with_context(|| path.display().to_string());
    let (mut a, mut b) = (open(a)?, open(b)?);
    let (mut block_a, mut block_b) = (vec![0; 128 * 1024], vec![0; 128 * 1024]);
    loop {
        let (length_a, length_b) =
            (read_block(&mut a, &mut block_a)?, read_block(&mut b, &mut block_b)?);
        if block_a[..length_a] != block_b[..length_b] {
            return Ok(false);
        }
        if length_a == 0 {
            return Ok(true);
        }
    }
}

fn read_block(file: &mut File, block: &mut [u8]) -> Result<usize> {
    let mut filled = 0;
    while filled < block.len() {
        match file.read(&mut block[filled..])? {
            0 => break,
            length => filled += length,
        }
    }
    Ok(filled)
}
