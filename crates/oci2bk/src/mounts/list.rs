//! The cache mounts of a root.

use bkstate::dir::{Dir, DirError, if_there};
use bkstate::ids::RecordId;
use bkstate::mounts::CacheMount;
use bkstate::snapshots::Trees;
use bkstate::state::State;
use bkstate::{Root, Time};

use super::MountsError;
use super::owner::{DIRECTORY, Owner};

/// The description of the record below a mount with `uid=`, `gid=` or `mode=`.
pub(super) const MKDIR: &str = "[internal] setting cache mount permissions";

/// A cache mount of a root.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RootMount {
    /// The id by which builds ask for it.
    pub id: String,
    /// What its files are on.
    pub base: MountBase,
    /// Its record.
    pub record: RecordId,
    /// Whether builds take another record of the same key first.
    pub is_copy: bool,
    /// The size of its files on disk in bytes, as `buildctl du` has it.
    pub size: i64,
    /// When a build used it last.
    pub last_used_at: Option<Time>,
    /// The id of the directory with its files.
    directory: Option<u64>,
}

/// What the files of a mount are on.
///
/// ```
/// use oci2bk::mounts::{MountBase, Owner, RootMount};
///
/// /// Whether the files are all that there is.
/// fn can_travel(mount: &RootMount) -> bool {
///     !matches!(mount.base, MountBase::Record(_))
/// }
///
/// let owner = Owner { uid: 1000, gid: 0, mode: 0o755 };
/// assert_eq!(MountBase::Owned(owner).owner(), Some(owner));
/// assert_eq!(MountBase::Empty.owner(), None);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum MountBase {
    /// Nothing.
    Empty,
    /// An empty directory with this owner, of a mount with `uid=`, `gid=` or `mode=`.
    Owned(Owner),
    /// The result of a stage or the files of an image, of a mount with `from=`.
    Record(RecordId),
}

impl MountBase {
    /// Returns the owner, if it is a directory with one.
    pub fn owner(&self) -> Option<Owner> {
        match self {
            Self::Owned(owner) => Some(*owner),
            Self::Empty | Self::Record(_) => None,
        }
    }
}

/// Returns the cache mounts of `root`, sorted by id.
///
/// # Errors
/// Returns an error if there is no state, a database cannot be read, or the files of a mount cannot be
/// measured.
pub fn list(root: &Root) -> Result<Vec<RootMount>, MountsError> {
    let usages = root.usage()?;
    let state = root.state()?;
    let files = Files::open(root)?;
    let mounts = state.cache_mounts().into_iter().map(|mount| {
        let base = base_of(&state, &files, &mount)?;
        let usage = usages.iter().find(|usage| usage.id == mount.record);
        let CacheMount { record, id, is_copy, directory, last_used_at, .. } = mount;
        let size = usage.map_or(0, |usage| usage.size);
        Ok(RootMount { id, base, record, is_copy, size, last_used_at, directory })
    });
    mounts.collect()
}

fn base_of(state: &State, files: &Files, mount: &CacheMount) -> Result<MountBase, MountsError> {
    let Some(base) = &mount.base else { return Ok(MountBase::Empty) };
    let other = || MountBase::Record(base.clone());
    let Some(directory) = files.of_record(state, base)? else { return Ok(other()) };
    let Some(made) = if_there(directory.dir(DIRECTORY))? else { return Ok(other()) };
    let stat = rustix::fs::fstat(&made).map_err(|errno| DirError {
        action: "look at",
        path: made.path().to_owned(),
        source: errno.into(),
    })?;
    let (uid, gid) = state
        .worker
        .owners()
        .in_layers(stat.st_uid, stat.st_gid)
        .map_err(|source| MountsError::Owner { path: made.path().to_owned(), source })?;
    let owner = Owner { uid, gid, mode: stat.st_mode & 0o777 };
    let record = state.records.by_id.get(base);
    if directory.entries()?.len() != 1 {
        return Ok(other());
    }
    // The key may have been pruned, but not by a daemon that keeps the record.
    let is_described = record.is_some_and(|record| record.description.as_deref() == Some(MKDIR));
    let asked_for = owner.asked_for(state, base).or(is_described.then_some(owner));
    Ok(asked_for.map_or_else(other, MountBase::Owned))
}

/// The directories of snapshots.
pub(super) struct Files(Option<Trees>);

impl Files {
    pub(super) fn open(root: &Root) -> Result<Self, DirError> {
        Ok(Self(root.trees()?))
    }

    /// Opens the files of the snapshot `id`, if they exist.
    fn of_snapshot(&self, id: u64) -> Result<Option<Dir>, DirError> {
        let Some(trees) = &self.0 else { return Ok(None) };
        if_there(trees.fs(id))
    }

    /// Opens the files of the record `id`, if they exist.
    fn of_record(&self, state: &State, id: &RecordId) -> Result<Option<Dir>, DirError> {
        let Some(record) = state.records.by_id.get(id) else { return Ok(None) };
        let namespace = state.worker.namespace_of(&state.metadata);
        let table = namespace.and_then(|namespace| state.worker.table_of(namespace));
        let row = table.and_then(|table| table.rows.get(record.snapshot_key(id)));
        let snapshot = row.and_then(|row| state.snapshots.by_name.get(&row.name));
        match snapshot {
            Some(snapshot) => self.of_snapshot(snapshot.id),
            None => Ok(None),
        }
    }

    /// Opens the files of a mount.
    pub(super) fn of_mount(&self, state: &State, mount: &RootMount) -> Result<Dir, MountsError> {
        let missing =
            || MountsError::NoFiles { id: mount.id.clone(), record: mount.record.clone() };
        let directory = mount.directory.ok_or_else(missing)?;
        let files = self.of_snapshot(directory)?.ok_or_else(missing)?;
        let MountBase::Owned(_) = mount.base else { return Ok(files) };
        // A mount that nothing was written to shows the directory below it.
        if let Some(written) = if_there(files.dir(DIRECTORY))? {
            return Ok(written);
        }
        let below = state.records.by_id.get(&mount.record).and_then(|record| record.parent.clone());
        let below = below.ok_or_else(missing)?;
        let below = self.of_record(state, &below)?.ok_or_else(missing)?;
        Ok(below.dir(DIRECTORY)?)
    }
}
