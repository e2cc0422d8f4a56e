//! The containerds that can have the documents of a builder's history.
//!
//! A builder on a containerd has its content there, and its own root does not name that containerd. A document is
//! verified by its digest, so one may be looked for in several places, and a wrong place cannot give a wrong
//! document. No lock is needed: the file of a blob never changes.

use std::path::{Path, PathBuf};

use bkstate::config::ContainerdConfig;
use bkstate::dir::{Dir, DirError};
use bkstate::engine::{DATA_ROOT, containerd_in};
use bkstate::machine::{Machine, PlaceError};
use bkstate::root::{RootError, open_containerd};
use bkstate::worker::{Bases, Executor, Part, StateFile, Worker};

use super::beside;
use super::error::SourceError;

/// Those of one builder.
#[derive(Debug, Default)]
pub(super) struct Containerds {
    /// The directories of their content stores, as far as they exist.
    pub(super) content: Vec<Dir>,
    /// Their roots, existing or not.
    pub(super) searched: Vec<PathBuf>,
}

impl Containerds {
    /// Returns the containerd with the root `path`, which is that of the builder in `builder`.
    pub(super) fn known(builder: &Dir, path: &Path) -> Result<Self, SourceError> {
        let open = || Ok::<_, RootError>(content_in(builder, &open_containerd(path)?)?);
        let content = open().map_err(|error| SourceError::Open(error.into()))?;
        Ok(Self { content: content.into_iter().collect(), searched: vec![path.to_owned()] })
    }

    /// Looks for the containerd of the builder in `builder`, if it has one: in the data root of the engine, and in
    /// its place on the machine of the data root. One that cannot be opened counts as missing: the databases of the builder have
    /// keys, too.
    pub(super) fn search(builder: &Dir, data_root: Option<&Dir>) -> Result<Self, DirError> {
        let mut found = Self::default();
        let workers = Worker::in_root(builder)?;
        if workers.iter().all(|worker| worker.executor() == Executor::Oci) {
            return Ok(found);
        }
        let of_engine = Worker::of_engine(None).name(StateFile::History);
        let parent = match data_root {
            None if builder.find(of_engine)?.is_some() => {
                Dir::open(&beside::parent(builder.path())).ok()
            }
            _ => None,
        };
        if let Some(Ok(Some(own))) = data_root.or(parent.as_ref()).map(containerd_in) {
            let path = own.path().to_owned();
            found.add(builder, &path, Some(own));
        }
        let path = data_root.or(parent.as_ref()).map_or(builder.path(), Dir::path);
        let machine = Machine::with(path, Path::new(DATA_ROOT)).unwrap_or_default();
        if let Ok(path) = containerd_on(&machine) {
            let opened = open_containerd(&path).ok();
            found.add(builder, &path, opened);
        }
        Ok(found)
    }

    fn add(&mut self, builder: &Dir, path: &Path, opened: Option<Dir>) {
        self.searched.push(path.to_owned());
        let content = opened.and_then(|containerd| content_in(builder, &containerd).ok()?);
        self.content.extend(content);
    }
}

/// Returns the root of the containerd of `machine`, configured or not.
fn containerd_on(machine: &Machine) -> Result<PathBuf, PlaceError> {
    let path = machine.find(Path::new(ContainerdConfig::PATH))?;
    let config = ContainerdConfig::read_on(machine, &path).unwrap_or_default();
    Ok(config.directories(machine)?.0)
}

/// Opens the directory of the content store in `containerd`, if it exists.
fn content_in(builder: &Dir, containerd: &Dir) -> Result<Option<Dir>, DirError> {
    // All workers on a containerd have it in the same place.
    let worker = Worker::of_containerd(None);
    let mut bases = Bases::from(builder.try_clone()?);
    bases.add_containerd(containerd, &worker)?;
    worker.open(&bases, Part::Content)
}
