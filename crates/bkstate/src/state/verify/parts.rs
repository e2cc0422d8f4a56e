//! Where the parts of a state are, which need not be below one root while it is being built.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::content::BlobStore;
use crate::dir::{Dir, DirError};
use crate::ids::WorkerId;
use crate::snapshots::Trees;
use crate::state::read::read_worker_id;
use crate::state::staging::is_half_published;
use crate::state::{CACHE_DB, SNAPSHOTS, WORKER};

use super::DatabaseDamage;

/// Where the parts of a state are.
///
/// Blobs and snapshots may lie in several places; the first that has one counts.
#[derive(Debug)]
pub struct Parts {
    /// The directory with `cache.db`.
    pub solver: Dir,
    /// The directory with `metadata_v2.db`, `containerdmeta.db` and `workerid`.
    pub worker: Dir,
    /// The directory with the `metadata.db` of the snapshotter.
    pub snapshotter: Dir,
    /// The content stores.
    pub blobs: Vec<BlobStore>,
    /// The directories of snapshots.
    pub trees: Vec<Trees>,
    /// Other workers that results in `cache.db` may be of.
    pub other_workers: BTreeSet<WorkerId>,
}

/// Why a state could not be verified.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// Nothing of a state is there.
    #[error("{} holds no state: nothing was converted into it, and no buildkitd has run on it", root.display())]
    NoState {
        /// The root.
        root: PathBuf,
    },
    /// What is there was left by a conversion that was stopped.
    #[error(
        "{} holds no state yet: a conversion was stopped while it published one; run it again",
        root.display()
    )]
    HalfPublished {
        /// The root.
        root: PathBuf,
    },
    /// The state is that of a worker we do not know.
    #[error(
        "{} holds the state of the worker {found}; only that of the OCI worker with the overlayfs \
         snapshotter can be verified",
        root.display()
    )]
    OtherWorker {
        /// The root.
        root: PathBuf,
        /// The worker's directory.
        found: String,
    },
    /// A directory of it is missing.
    #[error("the state is not whole")]
    Incomplete(#[from] DatabaseDamage),
    /// The system refused to look at a part of it.
    #[error("the state cannot be looked at")]
    Dir(#[from] DirError),
}

impl Parts {
    /// The parts of the state in `root`.
    ///
    /// # Errors
    /// If there is no state or not all of one, or the system refuses to look for it.
    pub fn of_root(root: &Dir) -> Result<Self, VerifyError> {
        let path = || root.path().to_owned();
        if is_half_published(root)? {
            return Err(VerifyError::HalfPublished { root: path() });
        }
        let mut other_workers = BTreeSet::new();
        let mut other = None;
        for entry in root.entries()? {
            let Some(name) = entry.to_str().filter(|name| is_worker(name)) else { continue };
            if name == WORKER {
                continue;
            }
            if let Some(id) = root.dir(name).ok().and_then(|dir| read_worker_id(&dir).ok()) {
                other_workers.insert(id);
            }
            other.get_or_insert(name.to_owned());
        }
        if root.find(WORKER)?.is_none() {
            return match other {
                Some(found) => Err(VerifyError::OtherWorker { root: path(), found }),
                None if root.find(CACHE_DB)?.is_none() => {
                    Err(VerifyError::NoState { root: path() })
                }
                None => Err(DatabaseDamage::Missing { path: root.path().join(WORKER) }.into()),
            };
        }
        let solver = root.try_clone()?;
        let worker = required(root, WORKER)?;
        let snapshotter = required(&worker, SNAPSHOTS)?;
        // A daemon makes these two when it first needs them.
        let blobs = optional(BlobStore::open(&worker))?;
        let trees = optional(Trees::open(&snapshotter))?;
        Ok(Self { solver, worker, snapshotter, blobs, trees, other_workers })
    }
}

fn is_worker(name: &str) -> bool {
    name.starts_with("runc-") || name.starts_with("containerd-")
}

/// A directory that need not be there.
fn optional<T>(opened: Result<T, DirError>) -> Result<Vec<T>, DatabaseDamage> {
    match opened {
        Ok(opened) => Ok(vec![opened]),
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        Err(source) => Err(DatabaseDamage::Unreadable { path: source.path.clone(), source }),
    }
}

fn required(dir: &Dir, name: &'static str) -> Result<Dir, DatabaseDamage> {
    dir.dir(name).map_err(|source| {
        let path = source.path.clone();
        if source.is_not_found() {
            DatabaseDamage::Missing { path }
        } else {
            DatabaseDamage::Unreadable { path, source }
        }
    })
}
