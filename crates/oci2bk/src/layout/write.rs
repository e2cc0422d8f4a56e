//! Adds blobs to a layout and changes its `index.json`.
//!
//! Every file is written to a temporary file, synced, and renamed, so readers of the layout find its old or
//! its new state, even if we were killed. Blobs are written before the index that names them.

use std::fs::{File, Metadata};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use bkstate::Digest;
use bkstate::digest::Hasher;
use bkstate::dir::{Dir, DirError};
use codec::FormatError;
use rustix::fs::{FlockOperation, Gid, Uid, fchown, flock, fstat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::open::{OpenError, regular_file};
use super::store::{INDEX, Name};
use super::{Descriptor, Layout, LayoutError, read_file};
use crate::json;

/// BuildKit's lock file for changes of the index, which it removes afterwards (v0.32.2
/// `client/ociindex/ociindex.go`).
const LOCK: &str = "index.json.lock";
/// The temporary file. We hold the lock, so an existing one is a leftover of an interrupted run.
const TEMPORARY: &str = ".oci2bk.tmp";

/// Write access to a layout. Until it is dropped, no BuildKit client writes to the layout.
#[derive(Debug)]
pub struct LayoutWriter<'a> {
    layout: &'a Layout,
    top: Dir,
    blobs: Dir,
    index: Vec<u8>,
    mode: u32,
    owner: (u32, u32),
    _lock: OwnedFd,
}

/// Why a layout cannot be changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// A BuildKit client, or another run of oci2bk, writes to the layout.
    #[error("{} is being written to by another program; try again when it is done", path.display())]
    InUse {
        /// The layout.
        path: PathBuf,
    },
    /// A file cannot be created, locked, moved or removed.
    #[error("cannot change {}", path.display())]
    Dir {
        /// The layout.
        path: PathBuf,
        /// The cause.
        #[source]
        source: DirError,
    },
    /// A file cannot be written.
    #[error("cannot write {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
    /// The layout is in an archive.
    #[error("{} is an archive, which is only read; unpack it and give the directory", path.display())]
    Archive {
        /// The archive.
        path: PathBuf,
    },
    /// It is not a layout, but is read as one.
    #[error("{} is the mirror of a cache in S3 or Azure, which is only read", path.display())]
    Mirror {
        /// The directory.
        path: PathBuf,
    },
    /// `index.json` cannot be read.
    #[error(transparent)]
    Index(#[from] LayoutError),
}

impl Layout {
    /// Opens the layout for writing, and reads its index again.
    ///
    /// # Errors
    /// Returns an error if another program writes to it, or we may not.
    pub fn writer(&self) -> Result<LayoutWriter<'_>, WriteError> {
        let path = self.path();
        let dir_error = |source| WriteError::Dir { path: path.to_owned(), source };
        let file_error = |name: &str, source| WriteError::File { path: path.join(name), source };
        let only_read = || match self.store.is_mirror() {
            true => WriteError::Mirror { path: path.to_owned() },
            false => WriteError::Archive { path: path.to_owned() },
        };
        let dir = self.store.directory().ok_or_else(only_read)?;
        let top = dir.try_clone().map_err(|source| file_error(".", source))?;
        let top = Dir::from_handle(top, path);
        let blobs = top.dir("blobs").and_then(|blobs| blobs.dir("sha256")).map_err(dir_error)?;
        let lock = lock(&top, path)?;
        let (index, attributes) = self.index_to_edit(dir).inspect_err(|_| {
            // As when the writer is dropped.
            let _ = top.remove_file(LOCK);
        })?;
        Ok(LayoutWriter {
            layout: self,
            top,
            blobs,
            index,
            mode: attributes.mode() & 0o666,
            owner: (attributes.uid(), attributes.gid()),
            _lock: lock,
        })
    }

    /// Reads the index, and the attributes of its file.
    fn index_to_edit(&self, dir: &OwnedFd) -> Result<(Vec<u8>, Metadata), WriteError> {
        let path = self.path();
        let index = read_file(&self.store, Name::Index, &path.join(INDEX), &self.limits)?
            .ok_or_else(|| LayoutError::NoIndex { path: path.to_owned() })?;
        let attributes = match regular_file(dir, INDEX) {
            Ok((file, _)) => file.metadata(),
            Err(OpenError::Io(source)) => Err(source),
            Err(OpenError::Missing | OpenError::NotRegular(_)) => Err(Errno::NOENT.into()),
        };
        let attributes =
            attributes.map_err(|source| WriteError::File { path: path.join(INDEX), source })?;
        Ok((index, attributes))
    }
}

fn lock(top: &Dir, path: &Path) -> Result<OwnedFd, WriteError> {
    let unsupported =
        |error: Errno| WriteError::File { path: path.join(LOCK), source: error.into() };
    loop {
        let file = top
            .lock_file(LOCK)
            .map_err(|source| WriteError::Dir { path: path.to_owned(), source })?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(WriteError::InUse { path: path.to_owned() }),
            Err(error) => return Err(unsupported(error)),
        }
        // The previous owner removes it, perhaps after we opened it. A lock on an unlinked file excludes no
        // other program.
        if fstat(&file).map_err(unsupported)?.st_nlink > 0 {
            return Ok(file);
        }
    }
}

impl LayoutWriter<'_> {
    /// Returns the current content of `index.json`.
    pub fn index(&self) -> &[u8] {
        &self.index
    }

    /// Adds a blob, and returns its digest. An existing blob stays unless it is corrupt.
    ///
    /// # Errors
    /// Returns an error if it cannot be written.
    pub fn put_blob(&self, content: &[u8]) -> Result<Digest, WriteError> {
        let digest = Digest::of(content);
        let there = self.layout.describe_blob(digest);
        if there.is_ok_and(|blob| self.layout.verify_blob(&blob).is_ok()) {
            return Ok(digest);
        }
        self.write(content, &self.blobs, &digest.hex())?;
        Ok(digest)
    }

    /// Replaces `index.json` by `index`.
    ///
    /// # Errors
    /// Returns an error if it cannot be written.
    pub fn put_index(&mut self, index: Vec<u8>) -> Result<(), WriteError> {
        self.write(&index, &self.top, INDEX)?;
        self.index = index;
        Ok(())
    }

    /// Begins a blob of any size, which is written in pieces. Only one can be written at a time.
    pub(crate) fn begin_blob(&self) -> Result<BlobWriter<'_>, WriteError> {
        let file = self.temporary()?;
        Ok(BlobWriter { writer: self, file, hasher: Hasher::new(), size: 0, moved: false })
    }

    fn write(&self, content: &[u8], target: &Dir, name: &str) -> Result<(), WriteError> {
        let mut file = self.temporary()?;
        let written = file.write_all(content).map_err(|source| self.file_error(source));
        let moved = written.and_then(|()| self.put_into_place(&file, target, name));
        if moved.is_err() {
            // The original error is the one to report.
            let _ = self.top.remove_file(TEMPORARY);
        }
        moved
    }

    fn dir_error(&self) -> impl Fn(DirError) -> WriteError + use<> {
        let path = self.layout.path().to_owned();
        move |source| WriteError::Dir { path: path.clone(), source }
    }

    fn file_error(&self, source: io::Error) -> WriteError {
        WriteError::File { path: self.layout.path().join(TEMPORARY), source }
    }

    /// Creates the temporary file.
    fn temporary(&self) -> Result<File, WriteError> {
        match self.top.remove_file(TEMPORARY) {
            Err(error) if !error.is_not_found() => return Err(self.dir_error()(error)),
            _ => {}
        }
        self.top.create_file(TEMPORARY, self.mode).map_err(self.dir_error())
    }

    /// Moves the temporary file `file` to `name` in `target`, with the owner of the index: root may work on
    /// another user's layout.
    fn put_into_place(&self, file: &File, target: &Dir, name: &str) -> Result<(), WriteError> {
        let complete = || -> io::Result<()> {
            let made = file.metadata()?;
            if (made.uid(), made.gid()) != self.owner && rustix::process::geteuid().is_root() {
                let (uid, gid) = self.owner;
                fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
            }
            file.sync_all()
        };
        complete().map_err(|source| self.file_error(source))?;
        let moved = self.top.replace(TEMPORARY, target, name).and_then(|()| target.sync());
        moved.map_err(self.dir_error())
    }
}

/// A blob that is being written.
#[derive(Debug)]
pub(crate) struct BlobWriter<'w> {
    writer: &'w LayoutWriter<'w>,
    file: File,
    hasher: Hasher,
    size: u64,
    moved: bool,
}

impl Write for BlobWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.file.write(bytes)?;
        self.hasher.update(&bytes[..length]);
        self.size += length as u64;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl BlobWriter<'_> {
    /// Moves the blob to its place. Returns its digest and its size in bytes.
    pub(crate) fn finish(mut self) -> Result<(Digest, u64), WriteError> {
        let digest = std::mem::take(&mut self.hasher).finish();
        let blobs = &self.writer.blobs;
        self.writer.put_into_place(&self.file, blobs, &digest.hex())?;
        self.moved = true;
        Ok((digest, self.size))
    }
}

impl Drop for BlobWriter<'_> {
    fn drop(&mut self) {
        if !self.moved {
            // The next writer removes it too.
            let _ = self.writer.top.remove_file(TEMPORARY);
        }
    }
}

impl Drop for LayoutWriter<'_> {
    fn drop(&mut self) {
        // A remaining lock file does no harm.
        let _ = self.top.remove_file(LOCK);
    }
}

/// Returns `index` without the entries for which `drop` is true, and with the missing entries of `add`;
/// `None` if nothing changes. Everything else stays byte for byte.
///
/// # Errors
/// Returns an error if `index` is not an index.
pub fn edited_index<E: Serialize>(
    index: &[u8],
    drop: impl Fn(&Descriptor) -> bool,
    add: &[E],
) -> Result<Option<Vec<u8>>, FormatError> {
    #[derive(Deserialize)]
    struct Index<'a> {
        #[serde(borrow)]
        manifests: &'a RawValue,
    }
    let Index { manifests } = json::parse(index)?;
    let entries: Option<Vec<&RawValue>> = json::parse(manifests.get().as_bytes())?;
    let entries = entries.unwrap_or_default();
    let added = add.iter().map(|entry| serde_json::to_value(entry).map_err(FormatError::new));
    let mut missing: Vec<Value> = added.collect::<Result<_, _>>()?;
    let mut kept = Vec::with_capacity(entries.len());
    for entry in &entries {
        let value: Value = json::parse(entry.get().as_bytes())?;
        if let Some(position) = missing.iter().position(|added| *added == value) {
            missing.remove(position);
            kept.push(entry.get().to_owned());
        } else if !drop(&serde_json::from_value(value).map_err(FormatError::new)?) {
            kept.push(entry.get().to_owned());
        }
    }
    if missing.is_empty() && kept.len() == entries.len() {
        return Ok(None);
    }
    kept.extend(missing.iter().map(Value::to_string));
    let list = format!("[{}]", kept.join(","));
    // `manifests` is a slice of `index`.
    let start = manifests.get().as_ptr().addr() - index.as_ptr().addr();
    let end = start + manifests.get().len();
    Ok(Some([&index[..start], list.as_bytes(), &index[end..]].concat()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use serde_json::json;

    use super::*;
    use crate::layout::testing::TestLayout;

    fn entry(name: &str) -> Value {
        json!({"mediaType": "m", "digest": Digest::of(name), "size": name.len()})
    }

    #[test]
    fn everything_but_the_entries_stays_byte_for_byte() {
        let [a, b] = ["a", "b"].map(|name| {
            let digest = Digest::of(name);
            format!("{{ \"x\" : [1.10],\"digest\":\"{digest}\", \"size\":1}}")
        });
        let index =
            format!("{{ \"new\": [\"manifests\"],\n \"manifests\" :\t[{a} ,\n{b}], \"y\":1.0 }}\n");
        let c = entry("c");
        let of = |name: &'static str| move |d: &Descriptor| d.digest == Digest::of(name);
        let edited = edited_index(index.as_bytes(), of("a"), std::slice::from_ref(&c)).unwrap();
        let expected =
            format!("{{ \"new\": [\"manifests\"],\n \"manifests\" :\t[{b},{c}], \"y\":1.0 }}\n");
        assert_eq!(String::from_utf8(edited.unwrap()).unwrap(), expected);
        let again = edited_index(expected.as_bytes(), of("c"), &[c]).unwrap();
        assert_eq!(again, None);
    }

    #[test]
    fn an_index_without_entries_gets_some() {
        for empty in ["null", "[]", "[ ]"] {
            let index = format!("{{\"manifests\":{empty}}}");
            let edited = edited_index(index.as_bytes(), |_| true, &[entry("a")]).unwrap().unwrap();
            let edited: Value = serde_json::from_slice(&edited).unwrap();
            assert_eq!(edited, json!({"manifests": [entry("a")]}));
        }
    }

    #[test]
    fn what_is_no_index_is_refused() {
        for (text, message) in [
            ("", "EOF while parsing a value"),
            ("{}", "missing field `manifests`"),
            ("[]", "invalid length 0"),
            (r#"{"manifests":{}}"#, "invalid type: map, expected a sequence"),
            (r#"{"manifests":[],"manifests":[]}"#, "duplicate field `manifests`"),
        ] {
            let error = edited_index(text.as_bytes(), |_| false, &[] as &[Value]).unwrap_err();
            assert!(error.to_string().starts_with(message), "{text}: {error}");
        }
    }

    #[test]
    fn files_are_written_with_the_mode_of_the_index_and_nothing_else_is_left() {
        let layout = TestLayout::new();
        let index = layout.path().join("index.json");
        fs::set_permissions(&index, fs::Permissions::from_mode(0o640)).unwrap();
        let opened = layout.open();
        let mut writer = opened.writer().unwrap();
        let error = opened.writer().unwrap_err();
        assert!(matches!(error, WriteError::InUse { .. }), "{error}");
        assert!(
            error
                .to_string()
                .ends_with(" is being written to by another program; try again when it is done"),
            "{error}"
        );
        let digest = writer.put_blob(b"blob").unwrap();
        writer.put_index(br#"{"manifests":[]}"#.to_vec()).unwrap();
        drop(writer);
        for path in [&index, &layout.blob_path(digest)] {
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o7777, 0o640);
        }
        assert_eq!(fs::read(layout.blob_path(digest)).unwrap(), b"blob");
        assert_eq!(fs::read(index).unwrap(), br#"{"manifests":[]}"#);
        let mut names: Vec<_> =
            fs::read_dir(layout.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["blobs", "index.json", "oci-layout"]);
        assert!(opened.writer().is_ok());
    }

    #[test]
    fn what_a_dead_run_left_is_in_nobodys_way() {
        let layout = TestLayout::new();
        layout.write(TEMPORARY, "half");
        layout.write(LOCK, "");
        let opened = layout.open();
        let digest = opened.writer().unwrap().put_blob(b"blob").unwrap();
        assert_eq!(fs::read(layout.blob_path(digest)).unwrap(), b"blob");
        assert!(!layout.path().join(TEMPORARY).exists());
    }

    #[test]
    fn a_fifo_in_the_place_of_the_lock_does_not_make_us_wait() {
        let layout = TestLayout::new();
        let fifo = layout.path().join(LOCK);
        let mode = Mode::from_raw_mode(0o600);
        mknodat(CWD, &fifo, FileType::Fifo, mode, 0).unwrap();
        drop(layout.open().writer().unwrap());
        assert!(!fifo.exists());
    }

    #[test]
    fn a_blob_that_is_there_stays_and_a_damaged_one_is_replaced() {
        let layout = TestLayout::new();
        let opened = layout.open();
        let writer = opened.writer().unwrap();
        let digest = writer.put_blob(b"blob").unwrap();
        let inode = || fs::metadata(layout.blob_path(digest)).unwrap().ino();
        let before = inode();
        writer.put_blob(b"blob").unwrap();
        assert_eq!(inode(), before);
        fs::write(layout.blob_path(digest), "blub").unwrap();
        writer.put_blob(b"blob").unwrap();
        assert_eq!(fs::read(layout.blob_path(digest)).unwrap(), b"blob");
    }

    #[test]
    fn a_link_to_the_same_content_is_not_taken_for_the_blob() {
        let outside = tempfile::tempdir().unwrap();
        let elsewhere = outside.path().join("blob");
        fs::write(&elsewhere, "blob").unwrap();
        let layout = TestLayout::new();
        let place = layout.blob_path(Digest::of("blob"));
        symlink(&elsewhere, &place).unwrap();
        layout.open().writer().unwrap().put_blob(b"blob").unwrap();
        assert!(fs::symlink_metadata(&place).unwrap().is_file());
        // Later changes by its owner do not matter.
        fs::write(elsewhere, "blub").unwrap();
        assert_eq!(fs::read(place).unwrap(), b"blob");
    }

    #[test]
    fn no_link_in_the_layout_is_written_through() {
        let outside = tempfile::tempdir().unwrap();
        let victim = outside.path().join("victim");
        let digest = Digest::of("blob");
        fs::write(&victim, "untouched").unwrap();

        let layout = TestLayout::new();
        for name in [layout.path().join(TEMPORARY), layout.blob_path(digest)] {
            symlink(&victim, name).unwrap();
        }
        layout.open().writer().unwrap().put_blob(b"blob").unwrap();
        assert!(fs::symlink_metadata(layout.blob_path(digest)).unwrap().is_file());

        symlink(&victim, layout.path().join(LOCK)).unwrap();
        let error = layout.open().writer().unwrap_err();
        assert!(matches!(error, WriteError::Dir { .. }), "{error}");
        assert!(error.to_string().starts_with("cannot change "), "{error}");
        fs::remove_file(layout.path().join(LOCK)).unwrap();

        let blobs = layout.path().join("blobs/sha256");
        fs::rename(&blobs, outside.path().join("sha256")).unwrap();
        symlink(outside.path().join("sha256"), blobs).unwrap();
        let error = layout.open().writer().unwrap_err();
        assert!(matches!(error, WriteError::Dir { .. }), "{error}");
        assert!(error.to_string().starts_with("cannot change "), "{error}");
        assert_eq!(fs::read(victim).unwrap(), b"untouched");
    }
}
