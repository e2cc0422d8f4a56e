//! The output of `buildctl du` for a state, from the files alone.
//!
//! [`Root::usage`] lists what a daemon that has just started on the root would list. It measures sizes that
//! the daemon has not measured yet. See [`docs/format/usage.md`].
//!
//! ```
//! use bkstate::Root;
//! use bkstate::ids::{RecordId, WorkerId};
//! use bkstate::records::Record;
//! use bkstate::state::{Existing, Staging, State, VerifyError};
//! use bkstate::usage::{Filter, Filters, Totals, Usage, UsageError};
//! use bkstate::worker::Worker;
//!
//! let temp = tempfile::tempdir()?;
//! let root = Root::open_to_write(temp.path())?;
//! assert!(matches!(root.usage(), Err(UsageError::State(VerifyError::NoState { .. }))));
//!
//! // A root with two records, whose sizes a daemon has measured.
//! let mut state = State::empty(Worker::default(), WorkerId::derive("worker"));
//! let base = Record { committed: Some(true), size: Some(3000), ..Record::default() };
//! let made = Record {
//!     description: Some("mount / from exec make".to_owned()),
//!     size: Some(4000),
//!     ..base.clone()
//! };
//! state.records.by_id = [("base", base), ("made", made)]
//!     .map(|(name, record)| (RecordId::derive(name), record))
//!     .into();
//! let existing = Existing::nothing(state.worker.clone(), state.worker_id.clone());
//! let staging = Staging::begin(&root, &existing)?;
//! let written = staging.write(&state)?;
//! staging.publish(written)?;
//!
//! // Only builds use records, so all can be removed.
//! let usages: Vec<Usage> = root.usage()?;
//! let totals = Totals::of(&usages);
//! assert_eq!((totals.total, totals.reclaimable, totals.private()), (7000, 7000, 7000));
//!
//! let filter: Filter = "description~=make".parse()?;
//! let filters = Filters::new([filter]);
//! let matching: Vec<_> = usages.iter().filter(|usage| filters.matches(usage)).collect();
//! assert_eq!(matching.len(), 1);
//! assert_eq!((matching[0].id.clone(), matching[0].size), (RecordId::derive("made"), 4000));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`docs/format/usage.md`]: https://github.com/oci2bk/oci2bk/blob/main/docs/format/usage.md

mod data;
#[cfg(feature = "filters")]
mod filter;
mod loaded;
mod shared;
mod size;
#[cfg(test)]
mod tests;
mod tree;

use std::path::PathBuf;

#[cfg(feature = "filters")]
pub use filter::{Filter, Filters, ParseFilterError};

use shared::Images;

use crate::content::BlobStore;
use crate::dir::DirError;
use crate::ids::RecordId;
use crate::layers;
use crate::mounts;
use crate::records::Record;
use crate::root::Root;
use crate::state::{Damage, State, VerifyError};
use crate::time::Time;

/// The type of a record without a type entry (BuildKit v0.32.2 `client/diskusage.go`).
const REGULAR: &str = "regular";

/// A daemon's data about one record (BuildKit v0.32.2 `client/diskusage.go` `UsageInfo`). As JSON it has the names of
/// `docker buildx du --format json`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// The record.
    pub id: RecordId,
    /// Its parent records.
    pub parents: Vec<RecordId>,
    /// When it was created. A daemon gives a record without a time the time of its own start.
    pub created_at: Option<Time>,
    /// Whether it may change, like a cache mount or a local source.
    pub mutable: bool,
    /// Whether it is in use and cannot be removed. Without a daemon, no build uses it.
    pub in_use: bool,
    /// Whether an image in the containerd has the layers too, or a record that builds on it is such. The OCI
    /// worker has no images, so it is false there.
    pub shared: bool,
    /// Size on disk in bytes: its own snapshot and its blobs.
    pub size: i64,
    /// The step that made it.
    pub description: String,
    /// Number of uses.
    pub usage_count: i64,
    /// When it was last used.
    pub last_used_at: Option<Time>,
    /// Whether daemons since v0.33.1 do not share it with images and caches ([`crate::layers`]).
    pub legacy: bool,
    /// `regular`, `internal`, `frontend`, `source.local`, `source.git.checkout` or
    /// `exec.cachemount`.
    pub record_type: String,
    /// The id of the cache mount that it is ([`crate::mounts`]).
    pub cache_mount: Option<String>,
    /// Whether its tree is in an image ([`crate::packed`]). Removing it frees none of that.
    pub packed: bool,
}

impl Usage {
    fn new(id: &RecordId, record: &Record, size: i64) -> Self {
        // Without a count, the daemon does not read the time (`cache/metadata.go` `getLastUsed`).
        let last_used =
            record.last_used_at.filter(|time| *time != 0 && record.usage_count.is_some());
        let record_type = record.record_type.clone().filter(|name| !name.is_empty());
        Self {
            id: id.clone(),
            parents: Vec::new(),
            created_at: record.created_at.map(Time::from_unix_nanos),
            mutable: false,
            in_use: false,
            shared: false,
            legacy: false,
            size,
            description: record.description.clone().unwrap_or_default(),
            usage_count: record.usage_count.unwrap_or_default(),
            last_used_at: last_used.map(Time::from_unix_nanos),
            record_type: record_type.unwrap_or_else(|| REGULAR.to_owned()),
            cache_mount: mounts::id_of(record).map(str::to_owned),
            packed: false,
        }
    }
}

/// The sums that `buildctl du` prints, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Totals {
    /// All records.
    pub total: i64,
    /// Records that are not in use.
    pub reclaimable: i64,
    /// Records that images have too.
    pub shared: i64,
    /// Records whose trees are in an image of the root. Removing them frees only their blobs.
    pub packed: i64,
}

impl Totals {
    /// Sums up `records`.
    pub fn of<'u>(records: impl IntoIterator<Item = &'u Usage>) -> Self {
        let mut totals = Self::default();
        for usage in records {
            let size = usage.size.max(0);
            totals.total = totals.total.saturating_add(size);
            if !usage.in_use {
                totals.reclaimable = totals.reclaimable.saturating_add(size);
            }
            if usage.shared {
                totals.shared = totals.shared.saturating_add(size);
            }
            if usage.packed {
                totals.packed = totals.packed.saturating_add(size);
            }
        }
        totals
    }

    /// Returns the size of records that no image has.
    pub fn private(&self) -> i64 {
        self.total.saturating_sub(self.shared)
    }
}

/// Why the usage of a root cannot be determined.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UsageError {
    /// The root has no state, or cannot be examined.
    #[error(transparent)]
    State(#[from] VerifyError),
    /// A database cannot be read.
    #[error(
        "{} is damaged, so what it takes is not known{}",
        root.display(),
        damage.first().map(|damage| format!(": {damage}")).unwrap_or_default()
    )]
    Damaged {
        /// The root.
        root: PathBuf,
        /// The damage.
        damage: Vec<Damage>,
    },
    /// The files of a cache mount or local source cannot be measured.
    #[error("cannot measure the files of the snapshot {id}")]
    Tree {
        /// The name of its directory.
        id: u64,
        /// The error of the system.
        #[source]
        source: DirError,
    },
}

impl Root {
    /// Returns what a daemon would list for each record of its state, smallest first.
    ///
    /// # Errors
    /// Returns an error if there is no state, a database cannot be read, or a directory that must be measured
    /// cannot be read.
    pub fn usage(&self) -> Result<Vec<Usage>, UsageError> {
        let verified = self.verify_databases()?;
        // Damage elsewhere in the state does not affect what its daemon would list.
        let Some(state) = verified.state else {
            return Err(UsageError::Damaged {
                root: self.path().to_owned(),
                damage: verified.damage,
            });
        };
        let parts = self.parts()?;
        let images = Images::read(&state, &parts.blobs);
        let mut usages = state.usage_of(&images, |id| tree::measure(&parts.trees, id))?;
        let packed = state.packed(&parts.trees).map_err(VerifyError::from)?;
        for usage in usages.iter_mut().filter(|_| !packed.is_empty()) {
            usage.packed = state.directory_of(&usage.id).is_some_and(|id| packed.contains_key(&id));
        }
        Ok(usages)
    }
}

/// ```
/// use std::convert::Infallible;
///
/// use bkstate::ids::{RecordId, WorkerId};
/// use bkstate::records::Record;
/// use bkstate::state::State;
/// use bkstate::worker::Worker;
///
/// let (base, top) = (RecordId::derive("base"), RecordId::derive("top"));
/// let mut state = State::empty(Worker::default(), WorkerId::derive("worker"));
/// let record = Record { committed: Some(true), size: Some(1000), ..Record::default() };
/// let on_base = Record { parent: Some(base.clone()), size: Some(20), ..record.clone() };
/// state.records.by_id = [(base.clone(), record), (top.clone(), on_base)].into();
///
/// let Ok(usages) = state.usage_with(|_| Ok::<_, Infallible>(0));
/// assert_eq!((&usages[0].id, &usages[0].parents), (&top, &vec![base.clone()]));
/// assert_eq!(usages[1].id, base, "the largest");
/// assert_eq!(state.collected_bytes(None), 1020);
/// ```
impl State {
    /// Returns what a daemon would list for each record if there are no images, smallest first. `measure`
    /// returns the size on disk of the snapshot with a given id; it is called for those that are still writable.
    ///
    /// # Errors
    /// Returns the errors of `measure`.
    pub fn usage_with<E>(
        &self,
        measure: impl FnMut(u64) -> Result<i64, E>,
    ) -> Result<Vec<Usage>, E> {
        self.usage_of(&Images::default(), measure)
    }

    fn usage_of<E>(
        &self,
        images: &Images,
        measure: impl FnMut(u64) -> Result<i64, E>,
    ) -> Result<Vec<Usage>, E> {
        let loaded = loaded::load(self);
        let legacy = layers::depend_on_legacy(&self.records);
        let mut sizes = size::Sizes::new(self, measure);
        let mut usages = Vec::new();
        let listed = loaded::listed(&loaded);
        let shared = images.shared(self, &loaded, &listed);
        for (id, listed) in listed {
            let record = &loaded[id];
            let size = sizes.of(id, record, &loaded)?;
            usages.push(Usage {
                parents: record.parents.iter().copied().cloned().collect(),
                mutable: record.mutable,
                in_use: listed.in_use,
                shared: shared.contains(id),
                legacy: legacy.contains(id),
                ..Usage::new(id, record.record, size)
            });
        }
        usages.sort_by(|a, b| (a.size, &a.id).cmp(&(b.size, &b.id)));
        Ok(usages)
    }

    /// Returns the id of the snapshot of a record.
    fn directory_of(&self, id: &RecordId) -> Option<u64> {
        let record = self.records.by_id.get(id)?;
        let namespace = self.worker.namespace_of(&self.metadata)?;
        let row = self.worker.table_of(namespace)?.rows.get(record.snapshot_key(id))?;
        Some(self.snapshots.by_name.get(&row.name)?.id)
    }

    /// Returns the size of the state in bytes as its daemon's garbage collection counts it: without records that
    /// images have too, whose documents are in `stores` (BuildKit v0.34.2 `cache/manager.go` `prune`); and
    /// without the files of cache mounts and local sources that the daemon has not measured yet.
    pub fn collected_bytes<'s>(
        &self,
        stores: impl IntoIterator<Item = &'s BlobStore> + Copy,
    ) -> u64 {
        let images = Images::read(self, stores);
        let Ok(usages) = self.usage_of(&images, |_| Ok::<_, std::convert::Infallible>(0));
        Totals::of(&usages).private().cast_unsigned()
    }
}
