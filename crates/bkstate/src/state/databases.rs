//! Which database files a root has, of whatever worker, and which of them are no part of a [`State`](super::State).

use std::fs::File;

use super::{CACHE_DB, METADATA_DB, RECORDS_DB, SNAPSHOTS, SNAPSHOTS_DB, WORKER, is_worker};
use crate::dir::{Dir, DirError, FileKind, Found, if_there};

/// The records of past builds. A daemon makes it when it starts (BuildKit v0.32.2
/// `cmd/buildkitd/main.go`).
pub(super) const HISTORY_DB: &str = "history.db";
/// What a daemon with `--save-cache-debug` hashed (BuildKit v0.24 and later).
pub(super) const CACHE_DEBUG_DB: &str = "cache-debug.db";

/// The place of a database that a daemon opens, whether or not there is a file.
#[derive(Debug)]
pub struct DatabasePlace {
    pub(super) dir: Dir,
    pub(super) name: &'static str,
}

impl DatabasePlace {
    /// Opens what is there, if it is a regular file.
    pub(super) fn open(&self) -> Result<Option<File>, DirError> {
        match self.dir.find(self.name)? {
            Some(found) if found.kind == FileKind::File => if_there(self.dir.file(self.name)),
            _ => Ok(None),
        }
    }
}

/// The databases that daemons open in `root`: `cache.db`, `history.db` and `cache-debug.db`, and those of
/// each worker.
///
/// Sources: BuildKit v0.32.2 and v0.34.2 `cmd/buildkitd/main.go`, `worker/runc/runc.go`,
/// `worker/containerd/containerd.go`; containerd v2.4.2 `plugins/snapshots/overlay/overlay.go`.
pub(super) fn all(root: &Dir) -> Result<Vec<DatabasePlace>, DirError> {
    places(root, &[CACHE_DB, HISTORY_DB, CACHE_DEBUG_DB], |_| true)
}

/// Those of [`all`] that no [`State`](super::State) has: a conversion leaves them as they are.
pub(super) fn kept(root: &Dir) -> Result<Vec<DatabasePlace>, DirError> {
    places(root, &[HISTORY_DB, CACHE_DEBUG_DB], |worker| worker != WORKER)
}

/// The databases `of_root`, and those of the workers that are `wanted`.
fn places(
    root: &Dir,
    of_root: &[&'static str],
    wanted: impl Fn(&str) -> bool,
) -> Result<Vec<DatabasePlace>, DirError> {
    let place = |dir: &Dir, name| Ok(DatabasePlace { dir: dir.try_clone()?, name });
    let of_root = of_root.iter().map(|name| place(root, *name));
    let mut places: Vec<_> = of_root.collect::<Result<_, DirError>>()?;
    for name in worker_names(root)?.into_iter().filter(|name| wanted(name)) {
        let Some(worker) = directory(root, &name)? else { continue };
        for name in [RECORDS_DB, METADATA_DB] {
            places.push(place(&worker, name)?);
        }
        if let Some(snapshots) = directory(&worker, SNAPSHOTS)? {
            places.push(place(&snapshots, SNAPSHOTS_DB)?);
        }
    }
    Ok(places)
}

/// The names of the workers' directories.
pub(super) fn worker_names(root: &Dir) -> Result<Vec<String>, DirError> {
    let entries = root.entries()?;
    let names = entries.iter().filter(|entry| entry.is_dir).filter_map(|entry| entry.to_str());
    Ok(names.filter(|name| is_worker(name)).map(str::to_owned).collect())
}

/// Whether there is something at `name` other than a file without content, in which a daemon begins anew as
/// if it were not there: it was stopped when it made the database.
pub(super) fn is_made(dir: &Dir, name: &str) -> Result<bool, DirError> {
    let begins_anew = |found: Found| found.kind == FileKind::File && found.size == 0;
    Ok(dir.find(name)?.is_some_and(|found| !begins_anew(found)))
}

/// Opens the directory `name`, if there is one. A link to one is not.
pub(super) fn directory(dir: &Dir, name: &str) -> Result<Option<Dir>, DirError> {
    match dir.find(name)? {
        Some(found) if found.kind == FileKind::Directory => if_there(dir.dir(name)),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_is_no_part_of_a_state_is_kept() {
        let temp = tempfile::tempdir().unwrap();
        for dir in ["runc-overlayfs/snapshots", "runc-native/snapshots", "containerd-overlayfs"] {
            fs::create_dir_all(temp.path().join(dir)).unwrap();
        }
        symlink("runc-native", temp.path().join("runc-link")).unwrap();
        let root = Dir::open(temp.path()).unwrap();
        let paths = |places: Vec<DatabasePlace>| -> Vec<String> {
            let path = |place: &DatabasePlace| place.dir.path().join(place.name);
            let relative = |place| path(place).strip_prefix(temp.path()).unwrap().to_owned();
            let mut paths: Vec<_> = places.iter().map(relative).collect();
            paths.sort();
            paths.iter().map(|path| path.display().to_string()).collect()
        };
        let others = [
            "cache-debug.db",
            "containerd-overlayfs/containerdmeta.db",
            "containerd-overlayfs/metadata_v2.db",
            "history.db",
            "runc-native/containerdmeta.db",
            "runc-native/metadata_v2.db",
            "runc-native/snapshots/metadata.db",
        ];
        assert_eq!(paths(kept(&root).unwrap()), others);
        assert_eq!(paths(all(&root).unwrap()).len(), others.len() + 4);
    }

    #[test]
    fn only_files_are_opened_and_what_cannot_be_opened_is_an_error() {
        let temp = tempfile::tempdir().unwrap();
        let place = |name| DatabasePlace { dir: Dir::open(temp.path()).unwrap(), name };
        assert!(place(HISTORY_DB).open().unwrap().is_none());
        fs::create_dir(temp.path().join(HISTORY_DB)).unwrap();
        assert!(place(HISTORY_DB).open().unwrap().is_none());
        symlink("elsewhere", temp.path().join(CACHE_DB)).unwrap();
        assert!(place(CACHE_DB).open().unwrap().is_none());
        fs::write(temp.path().join(CACHE_DEBUG_DB), "").unwrap();
        assert!(place(CACHE_DEBUG_DB).open().unwrap().is_some());
        // Names that are too long are no names of files, and that is another answer than "not there".
        let long = Box::leak("x".repeat(300).into_boxed_str());
        assert!(place(long).open().is_err());
    }
}
