//! Verifying a whole root: its databases, its blobs and, if asked to, its unpacked trees.
//!
//! Nothing in the root is changed (but for when a symbolic link in a tree was last read), so it may be on a file system that is mounted read-only. The lock
//! of the daemon is held meanwhile if its file is there.
//!
//! What the databases have to say is the matter of [`bkstate::state::verify`]. Here every blob is
//! hashed, since a daemon never does so again, and the trees are compared with their layers.

pub(crate) mod blobs;
mod damage;
mod trees;

use std::num::NonZeroUsize;
use std::path::Path;

use bkstate::dir::{Dir, DirError};
use bkstate::state::{LockError, Parts, RootLock, State};

use crate::limits::Limits;
use crate::progress::{Event, Progress, Stage};
use crate::unpack::UnpackError;

pub use damage::Damage;
pub use trees::{Difference, TreeDamage};

/// How to verify a root.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Whether to compare the unpacked trees with their layers. That takes root, and room for the
    /// largest layers in the directory for temporary files.
    pub trees: bool,
    /// How many blobs or trees to work on at a time.
    pub jobs: NonZeroUsize,
    /// What unpacking a layer may cost.
    pub limits: Limits,
}

/// What was verified, and what was found.
#[derive(Debug, Default)]
pub struct Report {
    /// What there is.
    pub counts: Counts,
    /// What is wrong with it.
    pub damage: Vec<Damage>,
    /// What daemons leave behind in the normal course of things, and clear away by themselves.
    pub leftovers: Vec<Damage>,
}

/// What there is in a state. All of it is zero if a database cannot be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Keys of the solver.
    pub keys: usize,
    /// Keys with results.
    pub results: usize,
    /// Cache records.
    pub records: usize,
    /// Snapshots.
    pub snapshots: usize,
    /// Blobs that were hashed.
    pub blobs: usize,
    /// Their bytes.
    pub blob_bytes: u64,
    /// Unpacked trees that were compared with their layers.
    pub trees: usize,
}

impl Counts {
    fn of(state: &State) -> Self {
        let results = state.solver.results.values().filter(|results| !results.is_empty());
        Self {
            keys: state.solver.links.len(),
            results: results.count(),
            records: state.records.by_id.len(),
            snapshots: state.snapshots.by_name.len(),
            ..Self::default()
        }
    }
}

/// Why a root could not be verified.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A daemon works on it.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// It holds no state, or cannot be looked at.
    #[error(transparent)]
    State(#[from] bkstate::state::VerifyError),
    /// A directory cannot be used.
    #[error("the root cannot be verified")]
    Dir(#[from] DirError),
    /// There is no directory to unpack layers into.
    #[error(
        "cannot make a directory for temporary files; set TMPDIR to where there is room for layers"
    )]
    Temporary(#[source] std::io::Error),
    /// A layer could not be unpacked, for a reason other than the layer.
    #[error("a layer could not be unpacked to compare a snapshot with it")]
    Unpack(#[source] Box<UnpackError>),
}

/// Verifies the state in `root`.
///
/// # Errors
/// If there is no state, a daemon works on it, or the system refuses to look at it. Damage is no
/// error.
pub fn verify(
    root: &Path,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Report, VerifyError> {
    let root = Dir::open(root)?;
    let _lock = RootLock::acquire_existing(&root)?;
    let stage = |stage: Stage| {
        progress.event(Event::StageStarted(stage));
        move || progress.event(Event::StageFinished(stage))
    };

    let done = stage(Stage::Verify);
    let verified = bkstate::state::verify(&root)?;
    let mut report = Report {
        counts: verified.state.as_ref().map(Counts::of).unwrap_or_default(),
        damage: verified.damage.into_iter().map(Damage::State).collect(),
        leftovers: verified.leftovers.into_iter().map(Damage::State).collect(),
    };
    done();
    // Blobs and trees are known by what the databases say of them.
    let Some(state) = verified.state else { return Ok(report) };
    let parts = Parts::of_root(&root)?;

    let done = stage(Stage::Blobs);
    let hashed = blobs::hash(&state, &parts, options.jobs, progress);
    report.counts.blobs = hashed.blobs;
    report.counts.blob_bytes = hashed.bytes;
    report.damage.extend(hashed.damage.into_iter().map(Damage::from));
    done();

    if options.trees {
        let done = stage(Stage::Trees);
        let compared = trees::compare(&state, &parts, options, progress)?;
        report.counts.trees = compared.trees;
        report.damage.extend(compared.damage.into_iter().map(Damage::Tree));
        done();
    }
    Ok(report)
}
