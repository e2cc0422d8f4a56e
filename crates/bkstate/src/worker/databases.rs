//! The database files of a root, of any worker, including those that are not part of a
//! [`State`](crate::state::State).

use std::fs::File;
use std::path::PathBuf;

use super::{Bases, Part, StateFile, Worker};
use crate::dir::{Dir, DirError, FileKind, if_there};

/// The place of a database that a daemon opens, whether or not the file exists.
///
/// ```
/// use bkstate::Root;
/// use bkstate::ids::WorkerId;
/// use bkstate::state::{Existing, Staging, State};
/// use bkstate::worker::{DatabasePlace, Worker};
///
/// let temp = tempfile::tempdir()?;
/// let root = Root::open_to_write(temp.path())?;
/// let state = State::empty(Worker::default(), WorkerId::derive("worker"));
/// let existing = Existing::nothing(state.worker.clone(), state.worker_id.clone());
/// let staging = Staging::begin(&root, &existing)?;
/// let written = staging.write(&state)?;
/// staging.publish(written)?;
/// // The databases that a conversion does not change.
/// let kept: Vec<DatabasePlace> = root.parts()?.kept;
/// assert_eq!(kept.len(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct DatabasePlace {
    pub(crate) dir: Dir,
    pub(crate) name: &'static str,
}

impl DatabasePlace {
    /// Returns the path of the file, existing or not.
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join(self.name)
    }

    /// Opens the file, if it exists and is a regular file.
    pub(crate) fn open(&self) -> Result<Option<File>, DirError> {
        match self.dir.find(self.name)? {
            Some(found) if found.kind == FileKind::File => if_there(self.dir.file(self.name)),
            _ => Ok(None),
        }
    }
}

/// Returns the databases that daemons open in the root of `worker`: those of the root itself, and those of
/// each worker in it.
pub(crate) fn all(bases: &Bases, worker: &Worker) -> Result<Vec<DatabasePlace>, DirError> {
    let mut places = of_root(bases, worker, |_| true)?;
    places.extend(of_worker(bases, worker)?);
    places.extend(of_others(bases, worker)?);
    Ok(places)
}

/// Returns those of [`all`] that are not part of a [`State`](crate::state::State): a conversion leaves them
/// as they are.
pub(crate) fn kept(bases: &Bases, worker: &Worker) -> Result<Vec<DatabasePlace>, DirError> {
    let mut places = of_root(bases, worker, |file| file != StateFile::Solver)?;
    places.extend(of_others(bases, worker)?);
    Ok(places)
}

fn of_root(
    bases: &Bases,
    worker: &Worker,
    wanted: impl Fn(StateFile) -> bool,
) -> Result<Vec<DatabasePlace>, DirError> {
    let files = StateFile::OF_ROOT.into_iter().filter(|file| wanted(*file));
    let place =
        |file| Ok(DatabasePlace { dir: bases.root().try_clone()?, name: worker.name(file) });
    files.map(place).collect()
}

/// Returns the databases of the workers in the root other than `worker`.
fn of_others(bases: &Bases, worker: &Worker) -> Result<Vec<DatabasePlace>, DirError> {
    // The root of their containerd, if they have one, is not known.
    let root = Bases::from(bases.root().try_clone()?);
    let workers = Worker::in_root(bases.root())?.into_iter();
    let others = workers.filter(|other| other.directory() != worker.directory());
    let places = others.map(|other| of_worker(&root, &other));
    Ok(places.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
}

fn of_worker(bases: &Bases, worker: &Worker) -> Result<Vec<DatabasePlace>, DirError> {
    let mut places = Vec::new();
    for file in StateFile::OF_WORKER {
        let place = worker.place(file);
        if let Some(dir) = directory(bases, worker, place.part)? {
            places.push(DatabasePlace { dir, name: place.name });
        }
    }
    Ok(places)
}

/// Opens `part` of a worker that may be incomplete. A link instead of a directory is not followed.
pub(crate) fn directory(
    bases: &Bases,
    worker: &Worker,
    part: Part,
) -> Result<Option<Dir>, DirError> {
    let Some(base) = bases.get(worker.base(part)) else { return Ok(None) };
    let mut dir = base.try_clone()?;
    for (name, _) in worker.way(part) {
        match dir.find(name)? {
            Some(found) if found.kind == FileKind::Directory => {}
            _ => return Ok(None),
        }
        let Some(next) = if_there(dir.dir(name))? else { return Ok(None) };
        dir = next;
    }
    Ok(Some(dir))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use rustix::io::Errno;

    use super::*;

    #[test]
    fn what_is_no_part_of_a_state_is_kept() {
        let temp = tempfile::tempdir().unwrap();
        for dir in ["runc-overlayfs/snapshots", "runc-native/snapshots", "containerd-overlayfs"] {
            fs::create_dir_all(temp.path().join(dir)).unwrap();
        }
        symlink("runc-native", temp.path().join("runc-link")).unwrap();
        let root = Bases::from(Dir::open(temp.path()).unwrap());
        let paths = |places: Vec<DatabasePlace>| -> Vec<String> {
            let path = |place: &DatabasePlace| place.dir.path().join(place.name);
            let relative = |place| path(place).strip_prefix(temp.path()).unwrap().to_owned();
            let mut paths: Vec<_> = places.iter().map(relative).collect();
            paths.sort();
            paths.iter().map(|path| path.display().to_string()).collect()
        };
        let others = [
            "cache-debug.db",
            "containerd-overlayfs/metadata_v2.db",
            "history.db",
            "runc-native/containerdmeta.db",
            "runc-native/metadata_v2.db",
            "runc-native/snapshots/metadata.db",
        ];
        let worker = Worker::default();
        assert_eq!(paths(kept(&root, &worker).unwrap()), others);
        assert_eq!(paths(all(&root, &worker).unwrap()).len(), others.len() + 4);
    }

    #[test]
    fn only_files_are_opened_and_what_cannot_be_opened_is_an_error() {
        let temp = tempfile::tempdir().unwrap();
        let place = |name| DatabasePlace { dir: Dir::open(temp.path()).unwrap(), name };
        assert!(place("history.db").open().unwrap().is_none());
        fs::create_dir(temp.path().join("history.db")).unwrap();
        assert!(place("history.db").open().unwrap().is_none());
        symlink("elsewhere", temp.path().join("cache.db")).unwrap();
        assert!(place("cache.db").open().unwrap().is_none());
        fs::write(temp.path().join("cache-debug.db"), "").unwrap();
        assert!(place("cache-debug.db").open().unwrap().is_some());
        // Over-long names cause another error than "not found".
        let long = Box::leak("x".repeat(300).into_boxed_str());
        let error = place(long).open().unwrap_err();
        assert_eq!(error.source.raw_os_error(), Some(Errno::NAMETOOLONG.raw_os_error()));
        assert!(error.to_string().starts_with("cannot "), "{error}");
        assert!(error.to_string().ends_with(&*long), "{error}");
    }
}
