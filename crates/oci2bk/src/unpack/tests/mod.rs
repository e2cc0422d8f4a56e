//! Tests with archives built byte by byte.

mod complete;
mod entries;
mod hostile;
mod limits;
mod parents;
mod rootless;
mod streams;
mod trees;
mod whiteouts;

use std::fs::File;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use bkstate::Digest;
use bkstate::worker::Worker;
use tempfile::TempDir;

use super::{
    Layer, Limits, Placement, Refusal, UnpackError, Unpacked, Usage, check, unpack, usage,
};

const PLAIN: &str = "application/vnd.oci.image.layer.v1.tar";

/// A snapshot directory beside a directory that must stay untouched.
struct Snapshot {
    directory: TempDir,
}

impl Snapshot {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("fs")).unwrap();
        std::fs::create_dir(directory.path().join("outside")).unwrap();
        std::fs::write(directory.path().join("outside/secret"), "untouched").unwrap();
        Self { directory }
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("fs")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    fn open(&self) -> File {
        File::open(self.root()).unwrap()
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    fn stat(&self, name: &str) -> std::fs::Metadata {
        std::fs::symlink_metadata(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    fn xattr(&self, name: &str, key: &str) -> Option<Vec<u8>> {
        let mut value = vec![0; 4096];
        let length = rustix::fs::lgetxattr(self.path(name), key, &mut value[..]).ok()?;
        value.truncate(length);
        Some(value)
    }

    fn apply(&self, tar: &[u8], placement: Placement) -> Result<Unpacked, UnpackError> {
        unpack_blob(self, tar, PLAIN, Digest::of(tar), placement)
    }

    fn base(&self, tar: &[u8]) -> Unpacked {
        self.apply(tar, Placement::Base).unwrap_or_else(|error| panic!("{}", chain(&error)))
    }

    fn overlay(&self, tar: &[u8]) -> Unpacked {
        self.apply(tar, Placement::Overlay).unwrap_or_else(|error| panic!("{}", chain(&error)))
    }

    /// Returns the names in the snapshot, sorted, after checking that nothing beside it changed.
    fn tree(&self) -> Vec<String> {
        let mut names = Vec::new();
        list(&self.root(), &self.root(), &mut names);
        names.sort();
        self.assert_contained();
        names
    }

    fn assert_contained(&self) {
        let outside = self.directory.path().join("outside");
        let beside: Vec<_> =
            self.directory.path().read_dir().unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(beside.len(), 2, "{beside:?}");
        assert_eq!(outside.read_dir().unwrap().count(), 1);
        let secret = outside.join("secret");
        assert_eq!(std::fs::read_to_string(&secret).unwrap(), "untouched");
        assert_eq!(secret.metadata().unwrap().nlink(), 1);
        assert_eq!(secret.metadata().unwrap().permissions().mode() & 0o7777, 0o644);
    }
}

fn list(root: &Path, directory: &Path, names: &mut Vec<String>) {
    for entry in directory.read_dir().unwrap() {
        let entry = entry.unwrap();
        let name = entry.path().strip_prefix(root).unwrap().to_string_lossy().into_owned();
        names.push(name);
        if entry.file_type().unwrap().is_dir() {
            list(root, &entry.path(), names);
        }
    }
}

/// Unpacks `blob`, whose descriptor is correct except for what the test changes.
fn unpack_blob(
    snapshot: &Snapshot,
    blob: &[u8],
    media_type: &str,
    diff_id: Digest,
    placement: Placement,
) -> Result<Unpacked, UnpackError> {
    let file = blob_file(blob);
    let size = blob.len() as u64;
    let layer = Layer { blob: &file, digest: Digest::of(blob), size, media_type, diff_id };
    unpack(
        &layer,
        snapshot.open().as_fd(),
        placement,
        &Worker::default(),
        &Limits::default(),
        &|_| (),
    )
}

fn blob_file(blob: &[u8]) -> File {
    use std::io::Write as _;
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(blob).unwrap();
    file
}

/// Returns why an entry was rejected.
fn refusal(error: UnpackError) -> Refusal {
    match error {
        UnpackError::Entry { reason, .. } => reason,
        other => panic!("{}", chain(&other)),
    }
}

/// Formats an error with its sources.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// Returns whether the test can run; it needs root to make devices, set owners and trusted attributes.
fn is_root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        assert!(
            std::env::var_os("OCI2BK_REQUIRE_ORACLE").is_none(),
            "{test} must run as root when OCI2BK_REQUIRE_ORACLE is set"
        );
        eprintln!("{test} skipped: it needs root");
    }
    root
}

/// Ends a test early, with the reason, if it does not run as root.
macro_rules! require_root {
    () => {
        if !super::is_root(module_path!()) {
            return;
        }
    };
}
use require_root;
