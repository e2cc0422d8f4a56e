//! Determines what a directory is, from its entries.

use std::path::Path;

use super::VOLUME_DATA;
use crate::dir::{Dir, DirEntry, DirError, if_there};
use crate::packed::PACKED;
use crate::worker::{Part, STAGING, StateFile, Worker};

/// Entries of a buildkitd root besides databases, lock and workers: networks of CNI
/// (`util/network/cniprovider`) and data for verifying signatures (BuildKit v0.34.2 `cmd/buildkitd/main.go`).
const OF_DAEMON: [&str; 2] = ["net", "policy"];
/// Entry of a new file system.
const OF_FILE_SYSTEM: &str = "lost+found";
/// Entries that only a layout has (OCI image-layout 1.0).
const OF_LAYOUT: [&str; 2] = ["index.json", "oci-layout"];
/// Docker's file beside those of a volume (v28.5.2 `volume/local/local.go`).
const VOLUME_OPTIONS: &str = "opts.json";
/// The directory of volumes in the data roots of Docker and Podman.
const VOLUMES: &str = "volumes";
/// Prefix and suffix of the names of docker buildx volumes (v0.38.2 `driver/docker-container/driver.go`).
const BUILDER_VOLUME: [&str; 2] = ["buildx_buildkit_", "_state"];
/// The snapshot database of Docker Engine's builder, with graph drivers (Docker v28.5.2
/// `daemon/internal/builder-next/controller.go`).
const OF_ENGINE: &str = "snapshots.db";
/// Maximum number of names in a message.
const LISTED: usize = 4;

/// What a directory is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// The root of a daemon.
    Root,
    /// An empty directory, which can become a root.
    Empty,
    /// A volume of Docker or Podman, which has its files in `_data`.
    Volume,
    /// An OCI layout, such as a cache export.
    Layout,
    /// It has entries of a layout and of a root.
    LayoutAndRoot,
    /// It has the `_data` of a volume, and entries of a root beside it.
    VolumeAndRoot,
    /// The directory of a worker, in a root.
    Worker,
    /// The root of the builder that is part of Docker Engine.
    Engine,
    /// The data root of Docker or Podman, or the directory of its volumes.
    DataRoot {
        /// The path of the volumes below the directory; empty if the directory has them itself.
        volumes: &'static str,
        /// Volumes of docker buildx builders in it.
        builders: Vec<String>,
    },
    /// Something else.
    Other {
        /// Its entries that a root does not have.
        names: Vec<String>,
    },
}

pub(super) fn of(dir: &Dir) -> Result<Kind, DirError> {
    let entries = dir.entries()?;
    let worker = Worker::default();
    let has = |name: &str| entries.iter().any(|entry| entry.to_str() == Some(name));
    let has_file = |file| has(worker.name(file));
    let has_dir =
        |name: &str| entries.iter().any(|entry| entry.is_dir && entry.to_str() == Some(name));
    let has_worker = has_worker(dir, &entries)?;
    let volumes =
        if has_dir(VOLUMES) { builders(&dir.dir(VOLUMES)?.entries()?) } else { Vec::new() };
    let builders = builders(&entries);
    let foreign: Vec<_> = entries.iter().filter(|entry| !is_of_root(entry)).collect();
    let is_layout = OF_LAYOUT.into_iter().any(has);
    let is_volume = has_dir(VOLUME_DATA)
        && foreign.iter().all(|entry| matches!(entry.to_str(), Some(VOLUME_DATA | VOLUME_OPTIONS)));
    let is_root = has_worker || foreign.is_empty();
    Ok(if has(OF_ENGINE) && has_file(StateFile::Records) {
        Kind::Engine
    } else if has_file(StateFile::WorkerId)
        || has_file(StateFile::Records) && has_file(StateFile::Metadata)
    {
        Kind::Worker
    } else if !volumes.is_empty() || has_dir(VOLUMES) && is_data_root(&has_dir) {
        Kind::DataRoot { volumes: VOLUMES, builders: volumes }
    } else if !builders.is_empty() {
        Kind::DataRoot { volumes: "", builders }
    } else if is_layout {
        let root = has_worker
            || StateFile::OF_ROOT.into_iter().any(has_file)
            || worker.lock().is_some_and(has);
        if root { Kind::LayoutAndRoot } else { Kind::Layout }
    } else if is_volume {
        let root = foreign.len() < entries.len();
        if root { Kind::VolumeAndRoot } else { Kind::Volume }
    } else if is_root {
        let is_new = |entry: &DirEntry| entry.to_str() == Some(OF_FILE_SYSTEM);
        if entries.iter().all(is_new) { Kind::Empty } else { Kind::Root }
    } else {
        let names = foreign.iter().map(|entry| entry.name.to_string_lossy().into_owned());
        Kind::Other { names: names.collect() }
    })
}

/// Returns whether a directory is that of a worker, by more than its name.
fn has_worker(dir: &Dir, entries: &[DirEntry]) -> Result<bool, DirError> {
    for entry in entries.iter().filter(|entry| entry.is_dir) {
        let Some(worker) = entry.to_str().and_then(Worker::of_directory) else { continue };
        let Some(opened) = if_there(dir.dir(worker.directory()))? else { continue };
        let files = [StateFile::WorkerId, StateFile::Records, StateFile::Metadata];
        let files = files.into_iter().map(|file| worker.name(file));
        let parts = [Part::Content, Part::Snapshotter].into_iter().filter_map(|part| {
            // The part itself is in the directory of the worker.
            worker.way(part).last().map(|(name, _)| *name)
        });
        for name in files.chain(parts) {
            if opened.find(name)?.is_some() {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Returns whether a root, or a new file system, has such an entry.
fn is_of_root(entry: &DirEntry) -> bool {
    let Some(name) = entry.to_str() else { return false };
    // A daemon has backups of its databases beside them (BuildKit v0.34.2 `util/db/boltutil`).
    let worker = Worker::default();
    let is_database = |file| {
        let rest = name.strip_prefix(worker.name(file));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    StateFile::OF_ROOT.into_iter().any(is_database)
        || entry.is_dir && (name == PACKED || Worker::of_directory(name).is_some())
        || OF_DAEMON.contains(&name)
        || worker.lock() == Some(name)
        || [STAGING, OF_FILE_SYSTEM].contains(&name)
}

fn is_data_root(has_dir: &impl Fn(&str) -> bool) -> bool {
    // Docker's, and those of Podman.
    ["containers", "image", "overlay2", "buildkit", "overlay-containers", "libpod"]
        .into_iter()
        .any(has_dir)
}

fn builders(entries: &[DirEntry]) -> Vec<String> {
    let [start, end] = BUILDER_VOLUME;
    let names = entries.iter().filter(|entry| entry.is_dir).filter_map(DirEntry::to_str);
    names.filter(|name| name.starts_with(start) && name.ends_with(end)).map(str::to_owned).collect()
}

impl Kind {
    /// Explains why `path`, which is of this kind, is not a root, and what to do.
    pub(super) fn not_a_root(&self, path: &Path) -> String {
        let what = match self {
            Self::Root | Self::Empty | Self::Volume => {
                "is a volume within a volume; give the root of the buildkitd itself".to_owned()
            }
            Self::Layout => "is an OCI layout, not the root of a buildkitd; give the root directory of \
                             buildkitd, by default /var/lib/buildkit"
                .to_owned(),
            Self::LayoutAndRoot => "has what an OCI layout has and what the root of a buildkitd has; move \
                                    one of them to a directory of its own"
                .to_owned(),
            Self::VolumeAndRoot => format!(
                "is a volume of Docker and has what a root has beside its {VOLUME_DATA}, where no \
                 buildkitd looks for it; remove that, or move it into {VOLUME_DATA}"
            ),
            Self::Worker => "is the directory of a worker; give the root that it is in, which is the \
                             directory above"
                .to_owned(),
            Self::Engine => "is the root of the builder of Docker Engine, whose state has another form; \
                             give that of a builder with the docker-container driver, or of a buildkitd"
                .to_owned(),
            Self::DataRoot { volumes, builders } => {
                let volumes = path.join(volumes);
                let volume = |name: &String| volumes.join(name).display().to_string();
                let known: Vec<_> = builders.iter().take(LISTED).map(volume).collect();
                let known = if known.is_empty() {
                    volumes.join("buildx_buildkit_NAME0_state").display().to_string()
                } else {
                    known.join(", ")
                };
                format!(
                    "belongs to Docker or Podman and is not the root of a buildkitd; the root of a \
                     builder is in its volume, such as {known}"
                )
            }
            Self::Other { names } => {
                let shown: Vec<_> = names.iter().take(LISTED).map(|name| format!("{name:?}")).collect();
                let more = if names.len() > LISTED { ", …" } else { "" };
                format!(
                    "is neither empty nor the root of a buildkitd: it has {}{more}; give the \
                     root directory of buildkitd, by default /var/lib/buildkit",
                    shown.join(", ")
                )
            }
        };
        format!("{} {what}", path.display())
    }
}
