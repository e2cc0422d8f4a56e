//! The modes of everything that is published are those of a daemon, with any umask.
//!
//! The only test in this file: a umask applies to the whole process.
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use bkstate::ids::WorkerId;
use bkstate::state::{Existing, Staging, State};
use bkstate::worker::Worker;
use bkstate::{Digest, Root};
use rustix::fs::Mode;

fn modes(dir: &Path, prefix: &str, found: &mut BTreeMap<String, u32>) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        let metadata = entry.metadata().unwrap();
        found.insert(name.clone(), metadata.permissions().mode() & 0o7777);
        if metadata.is_dir() {
            modes(&entry.path(), &format!("{name}/"), found);
        }
    }
}

#[test]
fn modes_are_those_of_a_daemon_under_any_umask() {
    let blob = Digest::of("blob");
    let state = State::empty(Worker::default(), WorkerId::derive("worker"));
    let blob_path = format!("runc-overlayfs/content/blobs/sha256/{}", blob.hex());
    let expected: BTreeMap<String, u32> = [
        ("buildkitd.lock", 0o600),
        ("cache.db", 0o600),
        ("runc-overlayfs", 0o700),
        ("runc-overlayfs/workerid", 0o400),
        ("runc-overlayfs/metadata_v2.db", 0o600),
        ("runc-overlayfs/containerdmeta.db", 0o644),
        ("runc-overlayfs/content", 0o755),
        ("runc-overlayfs/content/blobs", 0o755),
        ("runc-overlayfs/content/blobs/sha256", 0o755),
        (&blob_path, 0o444),
        ("runc-overlayfs/snapshots", 0o700),
        ("runc-overlayfs/snapshots/metadata.db", 0o600),
        ("runc-overlayfs/snapshots/snapshots", 0o700),
        ("runc-overlayfs/snapshots/snapshots/1", 0o700),
        ("runc-overlayfs/snapshots/snapshots/1/fs", 0o755),
        ("runc-overlayfs/snapshots/snapshots/1/work", 0o711),
    ]
    .map(|(name, mode)| (name.to_owned(), mode))
    .into();

    // Without the right to search, only root can go on into what it makes.
    let of_root = rustix::process::geteuid().is_root().then_some(0o177);
    for umask in [0, 0o022, 0o077].into_iter().chain(of_root) {
        let temp = tempfile::tempdir().unwrap();
        let before = rustix::process::umask(Mode::from_raw_mode(umask));
        let published = (|| -> Result<(), Box<dyn std::error::Error>> {
            let root = Root::open_to_write(temp.path())?;
            let nothing = Existing::nothing(state.worker.clone(), state.worker_id.clone());
            let staging = Staging::begin(&root, &nothing)?;
            staging.blobs().create_blob(&blob)?;
            staging.trees().create_snapshot(1)?;
            let written = staging.write(&state)?;
            Ok(staging.publish(written)?)
        })();
        rustix::process::umask(before);
        published.unwrap();
        let mut found = BTreeMap::new();
        modes(temp.path(), "", &mut found);
        assert_eq!(found, expected, "umask {umask:o}");
    }
}
