//! The files and permissions of a state that daemons made, and other properties that a converted state must
//! have.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::{build_small, keys};
use crate::build::Options;
use crate::host::Host;
use crate::state::{self, Place};
use crate::world::World;

/// The files in the root of containerd, with digests and numbers replaced.
const CONTAINERD: [&str; 13] = [
    "containerd/io.containerd.content.v1.content/ 0755",
    "containerd/io.containerd.content.v1.content/blobs/ 0755",
    "containerd/io.containerd.content.v1.content/blobs/sha256/ 0755",
    "containerd/io.containerd.content.v1.content/blobs/sha256/<hex> 0444",
    "containerd/io.containerd.content.v1.content/ingest/ 0755",
    "containerd/io.containerd.metadata.v1.bolt/ 0711",
    "containerd/io.containerd.metadata.v1.bolt/meta.db 0644",
    "containerd/io.containerd.snapshotter.v1.overlayfs/ 0700",
    "containerd/io.containerd.snapshotter.v1.overlayfs/metadata.db 0600",
    "containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/ 0700",
    "containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/<n>/ 0700",
    "containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/<n>/fs/ 0755",
    "containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/<n>/work/ 0711",
];

/// The files in the root of a running buildkitd.
const WORKER: [&str; 7] = [
    "builder/buildkitd.lock 0600",
    "builder/cache.db 0600",
    "builder/containerd-overlayfs/ 0700",
    "builder/containerd-overlayfs/cachemounts/ 0700",
    "builder/containerd-overlayfs/metadata_v2.db 0600",
    "builder/containerd-overlayfs/workerid 0400",
    "builder/history.db 0600",
];

/// The files of a running engine, which has no lock file.
const ENGINE: [&str; 7] = [
    "builder/buildkit/ 0711",
    "builder/buildkit/cache.db 0600",
    "builder/buildkit/containerd-overlayfs/ 0700",
    "builder/buildkit/containerd-overlayfs/cachemounts/ 0700",
    "builder/buildkit/containerd-overlayfs/metadata_v2.db 0600",
    "builder/buildkit/containerd-overlayfs/workerid 0400",
    "builder/buildkit/history_c8d.db 0600",
];

/// The length of a worker's id.
const WORKER_ID: usize = 25;

/// The field of a BoltDB meta page with the page of the freelist, and its value if there is none (bbolt
/// v1.5.0 `internal/common/meta.go`, `internal/common/page.go`).
const FREELIST: std::ops::Range<usize> = 48..56;
const NO_FREELIST: [u8; 8] = [0xff; 8];

/// Checks the paths, the permissions and some of the contents of the files, and that they are a source of keys.
pub(crate) fn prove(world: &World) -> Result<()> {
    let dir = tempfile::Builder::new().prefix("layout").tempdir_in(world.scratch())?;
    let root = dir.path().join("root");
    let daemon = world.start(&root)?;
    let cache = dir.path().join("cache");
    let export = Some((&*cache, ""));
    build_small(world, &daemon, dir.path(), &Options { export, ..Options::default() })?;
    let mut found = BTreeSet::new();
    walk(&root, &root, &mut found)?;
    daemon.stop()?;

    let in_builder: &[&str] = match world.host {
        Host::Engine { .. } => &ENGINE,
        Host::Worker { .. } | Host::Buildkitd => &WORKER,
    };
    let missing: Vec<_> =
        CONTAINERD.iter().chain(in_builder).filter(|line| !found.contains(**line)).collect();
    ensure!(missing.is_empty(), "{missing:#?} are not among {found:#?}");
    let has_lock = found.iter().any(|line| line.contains("buildkitd.lock"));
    ensure!(has_lock == matches!(world.host, Host::Worker { .. }), "{found:#?}");
    ensure!(!found.iter().any(|line| line.contains("runc-overlayfs")), "{found:#?}");
    ensure_as_expected(world, &world.place(&root))?;
    keys::ensure_source(world, &root, &cache)
}

fn ensure_as_expected(world: &World, place: &Place) -> Result<()> {
    let id = fs::read_to_string(place.worker.join("workerid"))?;
    let is_id = id.len() == WORKER_ID && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    ensure!(is_id, "the worker's id is {id:?}");
    let metadata = fs::read(place.metadata())?;
    let freelist = metadata.get(FREELIST).context("a short database")?;
    // containerd 1.6 writes the list; it also opens a file without one.
    let has_list = world.host.containerd() == Some(testkit::containerd::V1_6);
    ensure!((freelist != NO_FREELIST) == has_list, "the list of free pages is on {freelist:?}");
    let dump = state::dump(&world.tools, place.metadata())?;
    let version = dump["buckets"]["v1"]["keys"]["version"].as_str().context("no version")?;
    let is_new = world.host.containerd() == Some(testkit::containerd::NEWEST);
    let expected = if is_new { "\u{8}" } else { "\u{6}" };
    ensure!(version == expected, "the version is {version:?}");
    Ok(())
}

/// Lists everything below `dir` except the trees of snapshots; a daemon may be running.
fn walk(dir: &Path, root: &Path, found: &mut BTreeSet<String>) -> Result<()> {
    for entry in existing(fs::read_dir(dir))?.into_iter().flatten() {
        let entry = entry?;
        let Some(metadata) = existing(entry.metadata())? else { continue };
        let path = entry.path();
        let name: Vec<_> =
            path.strip_prefix(root)?.iter().map(|part| general(&part.to_string_lossy())).collect();
        let end = if metadata.is_dir() { "/" } else { "" };
        let mode = metadata.permissions().mode() & 0o7777;
        found.insert(format!("{}{end} {mode:04o}", name.join("/")));
        let is_tree = ["fs", "work"].iter().any(|name| entry.file_name() == *name);
        if metadata.is_dir() && !is_tree {
            walk(&path, root, found)?;
        }
    }
    Ok(())
}

/// Returns `None` if the entry no longer exists.
fn existing<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}

/// Replaces the variable parts of a path component.
fn general(part: &str) -> String {
    if part.len() == 64 && part.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        "<hex>".to_owned()
    } else if part.bytes().all(|byte| byte.is_ascii_digit()) {
        "<n>".to_owned()
    } else {
        part.to_owned()
    }
}
