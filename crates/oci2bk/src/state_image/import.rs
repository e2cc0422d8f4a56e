//! Imports a state.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bkstate::ids::WorkerId;
use bkstate::root::Location;
use bkstate::state::{Existing, History, Scratch, Staging};
use bkstate::worker::{Executor, StateFile, Worker};
use bkstate::{Digest, Root};

use super::StateImageError;
use super::sink::{Content, Sink};
use super::source::Opened;
use crate::cancel::Cancel;
use crate::limits::Limits;
use crate::progress::{Progress, Silent, Stage, stage};
use crate::source::Source;
use crate::unpack::{Allowance, check_rights};

/// The result of an import.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImportedState {
    /// The root; for a Docker volume, the directory with its files.
    pub root: PathBuf,
    /// The manifest of the image, if it was in a layout.
    pub manifest: Option<Digest>,
    /// Number of snapshots.
    pub snapshots: usize,
    /// Number of blobs.
    pub blobs: usize,
    /// Number of entries in the archives of the snapshots.
    pub entries: u64,
}

/// Imports a state into an empty root.
///
/// ```no_run
/// use oci2bk::state_image::StateImporter;
/// use oci2bk::{Cancel, Limits};
///
/// let importer = StateImporter::new()
///     .limits(Limits::untrusted())
///     .progress(std::sync::Arc::new(|_: oci2bk::Event<'_>| {}))
///     .cancel(Cancel::new());
/// // The directory in which a runtime has mounted the image.
/// importer.import(&"./state".parse()?, "/var/lib/buildkit")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct StateImporter {
    limits: Limits,
    progress: Arc<dyn Progress>,
    cancel: Cancel,
}

impl Default for StateImporter {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for StateImporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StateImporter").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl StateImporter {
    /// Creates an importer with the default limits.
    pub fn new() -> Self {
        Self { limits: Limits::default(), progress: Arc::new(Silent), cancel: Cancel::new() }
    }

    /// Sets the limits on the image.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Reports events to `progress`.
    #[must_use]
    pub fn progress(mut self, progress: Arc<dyn Progress>) -> Self {
        self.progress = progress;
        self
    }

    /// Stops with [`StateImageError::Cancelled`] as soon as `cancel` requests it. Once the state is being moved into
    /// place, the import continues to its end.
    #[must_use]
    pub fn cancel(mut self, cancel: Cancel) -> Self {
        self.cancel = cancel;
        self
    }

    /// Imports the image `source`, or the files of one in a directory, into `root`, which is created if it is missing.
    ///
    /// # Errors
    /// Returns an error if there is no such image, it is damaged, the root has a state, or it cannot be written. The
    /// root is then unchanged.
    pub fn import(
        &self,
        source: &Source,
        root: impl Into<Location>,
    ) -> Result<ImportedState, StateImageError> {
        let opened = Opened::open(source, &self.limits)?;
        let list = opened.list(&self.limits)?;
        let content = Content::of(&list, &self.limits)?;
        self.cancel.check(StateImageError::Cancelled)?;

        let root = Root::open_to_write(root)?;
        let worker = root.worker();
        if worker.executor() != Executor::Oci {
            return Err(StateImageError::Shared { worker: Box::new(worker.clone()) });
        }
        if worker.snapshotter() != list.snapshotter {
            let found = list.snapshotter.chars().take(100).collect();
            let (root, wanted) = (root.path().to_owned(), Box::new(worker.clone()));
            return Err(StateImageError::Snapshotter { root, found, wanted });
        }
        check_empty(&root)?;
        if !list.trees.is_empty() {
            let scratch = Scratch::create(&root)?;
            check_rights(scratch.dir(), worker).map_err(|source| StateImageError::Rights {
                root: root.path().to_owned(),
                source,
            })?;
        }

        let existing = Existing::nothing(worker.clone(), WorkerId::derive("state image"));
        let staging = Staging::begin(&root, &existing)?;
        let sink = Sink {
            staging: &staging,
            worker,
            content: &content,
            allowance: Allowance::of_run(&self.limits, u64::MAX),
            cancel: &self.cancel,
            entries: AtomicU64::new(0),
            taken: Mutex::new(BTreeSet::new()),
        };
        let done = stage(&*self.progress, Stage::Layers);
        opened.read(&sink)?;
        done();
        let entries = sink.entries.load(Ordering::Relaxed);
        drop(sink);

        let done = stage(&*self.progress, Stage::Verify);
        let written = staging.written_copies()?;
        let verified = staging.parts(&written)?.verify_databases()?;
        let damage: Vec<_> = verified.damage.into_iter().filter(|d| !d.is_harmless()).collect();
        if !damage.is_empty() {
            return Err(StateImageError::Damaged { damage });
        }
        done();
        self.cancel.check(StateImageError::Cancelled)?;
        let done = stage(&*self.progress, Stage::Publish);
        staging.publish(written)?;
        done();
        Ok(ImportedState {
            root: root.path().to_owned(),
            manifest: opened.manifest(),
            snapshots: list.trees.len(),
            blobs: list.blobs.len(),
            entries,
        })
    }
}

/// Refuses a root that has a state. An import that was stopped can have left databases without a worker, which no
/// daemon uses.
fn check_empty(root: &Root) -> Result<(), StateImageError> {
    let exists = || StateImageError::Exists { root: root.path().to_owned() };
    if !Worker::in_root(root.dir())?.is_empty() {
        return Err(exists());
    }
    if History::of(root)?.stopped_conversion {
        return Ok(());
    }
    for file in [StateFile::Solver, StateFile::History, StateFile::SolverDebug] {
        if root.dir().find(root.worker().name(file))?.is_some() {
            return Err(exists());
        }
    }
    Ok(())
}
