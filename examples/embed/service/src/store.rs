//! The directories of the service.
//!
//! ```text
//! DATA/lock             held while a service uses the directory
//! DATA/work/ID/         a request: its upload, and the root while it is made
//! DATA/states/ID/       a state: root, and report.json
//! ```
//! A state appears and disappears with one rename, so no part of one is ever there.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use oci2bk::Root;
use oci2bk::bkstate::dir::{Dir, if_there};
use rustix::fs::{FlockOperation, flock};

use crate::failure::ServiceError;
use crate::log;

/// Letters and digits of an id.
const ID: usize = 16;

const UPLOAD: &str = "upload";
const ROOT: &str = "root";
const REPORT: &str = "report.json";

/// The directories of the service.
#[derive(Debug)]
pub(crate) struct Store {
    path: PathBuf,
    work: Dir,
    states: Dir,
    /// Held until the end.
    _lock: OwnedFd,
}

impl Store {
    /// Opens it, or creates it, and removes what a service that was killed had begun.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        for name in ["work", "states"] {
            let path = path.join(name);
            fs::create_dir_all(&path)
                .with_context(|| format!("cannot create {}", path.display()))?;
        }
        let path = path.canonicalize()?;
        let data = Dir::open(&path)?;
        let lock = data.lock_file("lock")?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .with_context(|| format!("another service uses {}", path.display()))?;
        let (work, states) = (data.dir("work")?, data.dir("states")?);
        for entry in work.entries()? {
            work.remove_tree(&*entry.name)?;
        }
        Ok(Self { path, work, states, _lock: lock })
    }

    /// Returns the ids of all states.
    pub(crate) fn ids(&self) -> Result<Vec<String>, ServiceError> {
        let names = self.states.entries()?.into_iter().map(|entry| entry.name);
        let mut ids: Vec<_> = names.filter_map(|name| name.into_string().ok()).collect();
        ids.sort();
        Ok(ids)
    }

    /// Returns the report of a state.
    pub(crate) fn report(&self, id: &str) -> Result<String, ServiceError> {
        let state = if_there(self.states.dir(checked(id)?))?.ok_or(ServiceError::NoState)?;
        Ok(std::io::read_to_string(state.file(REPORT)?)?)
    }

    /// Removes a state that no builder uses.
    pub(crate) fn remove(&self, id: &str) -> Result<(), ServiceError> {
        if self.states.find(checked(id)?)?.is_none() {
            return Err(ServiceError::NoState);
        }
        // This takes the lock of the daemon. A builder that runs has it, and none can start meanwhile.
        let _held = Root::open(self.path.join("states").join(id).join(ROOT))?;
        self.states.rename(id, &self.work, id)?;
        Ok(self.work.remove_tree(id)?)
    }
}

/// Returns the id if it has the form of one: it becomes the name of a directory.
fn checked(id: &str) -> Result<&str, ServiceError> {
    let is_id = id.len() == ID && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if is_id { Ok(id) } else { Err(ServiceError::NoState) }
}

/// The directory of one request. It is removed with this value, unless it is kept as a state.
///
/// The writer of the directory owns the value: while a blocking task converts, the task. So nothing is
/// removed before the last write, also when nobody waits for the task any more.
#[derive(Debug)]
pub(crate) struct Workspace {
    store: Arc<Store>,
    id: String,
    is_kept: bool,
}

impl Workspace {
    /// Creates it, and the file for the upload.
    pub(crate) fn create(store: Arc<Store>) -> Result<(Self, File), ServiceError> {
        let mut builder = tempfile::Builder::new();
        builder.prefix("").rand_bytes(ID);
        let path = builder.tempdir_in(store.path.join("work"))?.keep();
        let id = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let workspace = Self { store, id, is_kept: false };
        let upload = File::create_new(workspace.upload())?;
        Ok((workspace, upload))
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    fn path(&self) -> PathBuf {
        self.store.path.join("work").join(&self.id)
    }

    /// The file with the upload.
    pub(crate) fn upload(&self) -> PathBuf {
        self.path().join(UPLOAD)
    }

    /// The root for a builder.
    pub(crate) fn root(&self) -> PathBuf {
        self.path().join(ROOT)
    }

    /// The directory of all requests and states, whose path is nobody's business.
    pub(crate) fn data(&self) -> &Path {
        &self.store.path
    }

    /// Replaces the upload, which is not needed any more, by the report.
    pub(crate) fn finish(&self, report: &str) -> Result<(), ServiceError> {
        fs::remove_file(self.upload())?;
        let mut file = File::create_new(self.path().join(REPORT))?;
        file.write_all(report.as_bytes())?;
        Ok(file.sync_all()?)
    }

    /// Makes it a state, and returns the id.
    pub(crate) fn keep(mut self) -> Result<String, ServiceError> {
        let Self { store, id, is_kept } = &mut self;
        store.work.rename(id.as_str(), &store.states, id.as_str())?;
        *is_kept = true;
        store.states.sync()?;
        Ok(std::mem::take(id))
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        if self.is_kept {
            return;
        }
        // Layers can have deeper trees than the standard library is able to remove.
        match self.store.work.remove_tree(self.id.as_str()) {
            Ok(()) => log(format_args!("{}: removed", self.id)),
            Err(error) => log(format_args!("{}: cannot be removed: {error}", self.id)),
        }
    }
}
