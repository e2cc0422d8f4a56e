//! The kinds of damage to a state.

use super::{
    AccessDamage, ContentDamage, DatabaseDamage, DirectoryDamage, FutureDate, LeaseDamage,
    PackedDamage, RecordDamage, SnapshotDamage, SolverDamage,
};

/// Something in a state that would break a daemon. The message says what and where.
///
/// ```
/// use bkstate::ids::{KeyId, RecordId, ResultId, WorkerId};
/// use bkstate::state::{
///     ContentDamage, Damage, DatabaseDamage, DirectoryDamage, Existing, LeaseDamage, RecordDamage,
///     SnapshotDamage, SolverDamage, Staging, State,
/// };
/// use bkstate::worker::Worker;
/// use bkstate::{Root, Time};
///
/// /// Returns what to examine next.
/// fn subject(damage: &Damage) -> String {
///     match damage {
///         Damage::Database(DatabaseDamage::Missing { path }) => path.display().to_string(),
///         Damage::Solver(SolverDamage::ResultWithoutRecord { key, .. }) => key.to_string(),
///         Damage::Record(RecordDamage::MissingParent { record, .. })
///         | Damage::Lease(LeaseDamage::Unleased { record, .. }) => record.to_string(),
///         Damage::Content(ContentDamage::NoFile { blob }) => blob.to_string(),
///         Damage::Snapshot(SnapshotDamage::MissingParent { name, .. })
///         | Damage::Directory(DirectoryDamage::Stray { name }) => name.clone(),
///         damage => damage.to_string(),
///     }
/// }
///
/// let temp = tempfile::tempdir()?;
/// let root = Root::open_to_write(temp.path())?;
/// let mut state = State::empty(Worker::default(), WorkerId::derive("worker"));
/// let existing = Existing::nothing(state.worker.clone(), state.worker_id.clone());
/// let staging = Staging::begin(&root, &existing)?;
/// // A directory that no database knows, and a result without its record.
/// staging.trees().create_snapshot(7)?;
/// let gone = ResultId { worker: state.worker_id.clone(), record: Some(RecordId::derive("gone")) };
/// let step = KeyId::derive("step");
/// state.solver.add_key(&step);
/// state.solver.add_result(&step, gone, Time::UNIX_EPOCH);
/// let written = staging.write(&state)?;
/// staging.publish(written)?;
///
/// let found = root.verify_databases()?.damage;
/// let kinds: Vec<_> = found.iter().map(|damage| (damage.kind(), damage.is_unused())).collect();
/// assert_eq!(kinds, [("result-without-record", false), ("stray-directory", true)]);
/// assert_eq!(
///     found[0].consequence(),
///     "the daemon deletes the result when it starts, and the step runs again"
/// );
/// assert!(found.iter().all(Damage::is_harmless));
/// assert!(found.iter().map(subject).eq([step.to_string(), "7".to_owned()]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    /// In a file itself.
    #[error(transparent)]
    Database(#[from] DatabaseDamage),
    /// In `cache.db`.
    #[error(transparent)]
    Solver(#[from] SolverDamage),
    /// In `metadata_v2.db`.
    #[error(transparent)]
    Record(#[from] RecordDamage),
    /// In the leases of `containerdmeta.db`.
    #[error(transparent)]
    Lease(#[from] LeaseDamage),
    /// In the content store.
    #[error(transparent)]
    Content(#[from] ContentDamage),
    /// In the two databases of snapshots.
    #[error(transparent)]
    Snapshot(#[from] SnapshotDamage),
    /// In the directories of snapshots.
    #[error(transparent)]
    Directory(#[from] DirectoryDamage),
    /// In the images with packed snapshots.
    #[error(transparent)]
    Packed(#[from] PackedDamage),
    /// In the access rights of files.
    #[error(transparent)]
    Access(#[from] AccessDamage),
    /// In a date; not damage, see [`dated_ahead`](super::dated_ahead).
    #[error(transparent)]
    Future(#[from] FutureDate),
}

impl Damage {
    /// Returns the kind of damage in a word, which is stable while messages can change.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Database(damage) => damage.kind(),
            Self::Solver(damage) => damage.kind(),
            Self::Record(damage) => damage.kind(),
            Self::Lease(damage) => damage.kind(),
            Self::Content(damage) => damage.kind(),
            Self::Snapshot(damage) => damage.kind(),
            Self::Directory(damage) => damage.kind(),
            Self::Packed(damage) => damage.kind(),
            Self::Access(damage) => damage.kind(),
            Self::Future(damage) => damage.kind(),
        }
    }

    /// Returns what a daemon would do about it.
    pub fn consequence(&self) -> &'static str {
        match self {
            Self::Database(damage) => damage.consequence(),
            Self::Solver(damage) => damage.consequence(),
            Self::Record(damage) => damage.consequence(),
            Self::Lease(damage) => damage.consequence(),
            Self::Content(damage) => damage.consequence(),
            Self::Snapshot(damage) => damage.consequence(),
            Self::Directory(damage) => damage.consequence(),
            Self::Packed(damage) => damage.consequence(),
            Self::Access(damage) => damage.consequence(),
            Self::Future(damage) => damage.consequence(),
        }
    }

    /// Returns whether it only wastes space: nothing refers to it.
    pub fn is_unused(&self) -> bool {
        matches!(
            self,
            Self::Snapshot(SnapshotDamage::NotInContainerd { .. })
                | Self::Directory(DirectoryDamage::Stray { .. })
                | Self::Content(ContentDamage::StrayFile { .. })
                | Self::Lease(LeaseDamage::Stray { .. })
        )
    }

    /// Returns whether an interrupted daemon or conversion can have left it in any state without harm to the
    /// next daemon.
    pub fn is_harmless(&self) -> bool {
        let result = matches!(
            self,
            Self::Solver(
                SolverDamage::ResultWithoutRecord { .. }
                    | SolverDamage::ResultOfUnknownWorker { .. }
            )
        );
        self.is_unused() || result
    }
}
