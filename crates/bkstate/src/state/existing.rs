//! The content of a root before something is added to it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::PathBuf;

use super::mend::Renamed;
use super::verify::{open_to_others, other_workers};
use super::{
    Damage, DirectoryDamage, History, LeaseDamage, Parts, RecordDamage, SnapshotDamage, State,
    Verified, VerifyError, WorkerName,
};
use crate::content::BlobStore;
use crate::digest::Digest;
use crate::dir::{Dir, DirError, if_there};
use crate::ids::{RecordId, WorkerId};
use crate::metadata::{LABEL_PENDING, SUFFIX_VARIANTS, VERSION};
use crate::root::Root;
use crate::snapshots::Trees;
use crate::worker::{Part, StateFile, Worker, databases, is_made};

/// The state in a root, possibly empty, with its files.
///
/// Leftovers of interrupted conversions and killed daemons are not part of it: snapshots that
/// `containerdmeta.db` does not name; directories without a snapshot and blobs without a row, which a
/// daemon's garbage collection removes too; records that were being made or removed; and leases of nothing.
///
/// ```
/// use std::collections::BTreeMap;
/// use std::fs;
///
/// use bkstate::Root;
/// use bkstate::ids::WorkerId;
/// use bkstate::metadata::{SnapshotRow, SnapshotTable};
/// use bkstate::snapshots::{Kind, Snapshot};
/// use bkstate::state::{Existing, ExistingError, Staging, State};
/// use bkstate::worker::Worker;
///
/// // Two snapshots, one on top of the other.
/// let mut state = State::empty(Worker::default(), WorkerId::derive("worker"));
/// let mut table = SnapshotTable { sequence: 2, ..SnapshotTable::default() };
/// for (id, key, parent, child) in [(1, "base", None, Some("top")), (2, "top", Some("base"), None)] {
///     let row = SnapshotRow {
///         name: state.worker.snapshot_name(id, key),
///         parent: parent.map(str::to_owned),
///         children: child.map(str::to_owned).into_iter().collect(),
///         ..SnapshotRow::default()
///     };
///     let snapshot = Snapshot {
///         id,
///         kind: Kind::Committed,
///         parent: parent.map(|key| state.worker.snapshot_name(1, key)),
///         created_at: None,
///         updated_at: None,
///         inodes: Some(1),
///         size: Some(4096),
///         labels: BTreeMap::new(),
///     };
///     state.snapshots.by_name.insert(row.name.clone(), snapshot);
///     table.rows.insert(key.to_owned(), row);
/// }
/// state.snapshots.sequence = 2;
/// *state.worker.table_entry(state.worker.namespace_entry(&mut state.metadata)) = table;
/// assert!(state.named_snapshots().contains("buildkit/2/top"));
///
/// let temp = tempfile::tempdir()?;
/// let root = Root::open_to_write(temp.path())?;
/// let nothing = Existing::nothing(state.worker.clone(), state.worker_id.clone());
/// let staging = Staging::begin(&root, &nothing)?;
/// staging.trees().create_snapshot(1)?;
/// staging.trees().create_snapshot(2)?.create_file("file", 0o644)?;
/// let written = staging.write(&state)?;
/// staging.publish(written)?;
///
/// // An interrupted conversion left a directory, which is known but not part of the state.
/// let trees = temp.path().join("runc-overlayfs/snapshots/snapshots");
/// fs::create_dir(trees.join("3"))?;
/// let existing = Existing::read(&root, &state.worker_id)?;
/// assert!(existing.is_all_of(&state));
/// assert_eq!((existing.below(2), existing.below(1)), (Some(1), None));
/// assert_eq!(existing.tree(2)?.size("file")?, Some(0));
/// assert!(existing.unpacked().is_some_and(|trees| trees.find(2).is_ok_and(|found| found.fs)));
/// assert!(existing.trees.contains(&2) && !existing.trees.contains(&3));
/// assert!(existing.unshared().is_empty());
/// assert!(existing.new_damage(root.verify_databases()?).is_empty());
/// existing.remove_leftovers()?;
/// assert!(!trees.join("3").exists());
///
/// // Nothing is added to a damaged state, or to the state of another worker.
/// fs::remove_dir_all(trees.join("1"))?;
/// let damaged = Existing::read(&root, &state.worker_id);
/// assert!(matches!(damaged, Err(ExistingError::Damaged { damage, .. }) if damage.len() == 1));
/// fs::rename(temp.path().join("runc-overlayfs"), temp.path().join("runc-native"))?;
/// let other = Existing::check_workers(&root);
/// assert!(matches!(other, Err(ExistingError::OtherWorker { found, .. }) if found == "runc-native"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Existing {
    /// The databases. Missing ones are empty.
    pub state: State,
    /// The files of blobs that have a row, with their sizes in bytes.
    pub blobs: BTreeMap<Digest, u64>,
    /// The ids of the snapshots whose directories exist.
    pub trees: BTreeSet<u64>,
    store: Option<BlobStore>,
    directories: Option<Trees>,
    /// The id of each snapshot's parent.
    below: BTreeMap<u64, u64>,
    /// Whether the root has a worker.
    pub(super) has_worker: bool,
    /// The databases, and the worker id, that are missing or have leftovers.
    pub(super) stale: BTreeSet<StateFile>,
    /// The snapshots whose keys were changed after reading.
    pub(super) renamed: Renamed,
    /// The chains of legacy layers that were checked and keep their keys.
    pub(super) checked: BTreeSet<Digest>,
    stray_blobs: BTreeSet<Digest>,
    stray_directories: BTreeSet<String>,
    damage: Vec<Damage>,
}

/// Why nothing can be added to a root.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExistingError {
    /// The root has the state of another worker and none of ours. Both would share `cache.db`.
    #[error(
        "{} holds the state of another worker ({found}); convert into an empty directory, or into \
         the root of a buildkitd with {wanted}",
        root.display()
    )]
    OtherWorker {
        /// The root.
        root: PathBuf,
        /// The directory of the other worker.
        found: String,
        /// The worker of the conversion.
        wanted: Box<Worker>,
    },
    /// The records have their leases in another namespace of the containerd.
    #[error(
        "the builder in {} keeps its layers in the namespace {found:?} of containerd, not in {namespace:?}",
        root.display()
    )]
    OtherNamespace {
        /// The root.
        root: PathBuf,
        /// The namespace of the conversion.
        namespace: String,
        /// The namespace with the leases.
        found: String,
    },
    /// The metadata of containerd has an unknown version.
    #[error(
        "{} has the version {version}, and {VERSION} is the highest known one; it was not changed",
        path.display()
    )]
    UnknownVersion {
        /// The database.
        path: PathBuf,
        /// Its version.
        version: i64,
    },
    /// The records are in their oldest format, which a daemon must migrate.
    #[error(
        "{} is the first form of the records; start a buildkitd of v0.11 to v0.27 on the root once, \
         which migrates them",
        path.display()
    )]
    OldRecords {
        /// The database.
        path: PathBuf,
    },
    /// A part of the root cannot be examined.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// The state is not sound.
    #[error(
        "the state in {} is damaged, so nothing was changed; 1 of {}: {}",
        root.display(), damage.len(), damage.first().map(ToString::to_string).unwrap_or_default()
    )]
    Damaged {
        /// The root.
        root: PathBuf,
        /// The damage.
        damage: Vec<Damage>,
    },
}

impl From<DirError> for ExistingError {
    fn from(error: DirError) -> Self {
        Self::Verify(error.into())
    }
}

impl Existing {
    /// Returns the content of an empty root; `worker_id` will be the id of `worker`.
    pub fn nothing(worker: Worker, worker_id: WorkerId) -> Self {
        Self {
            state: State::empty(worker, worker_id),
            blobs: BTreeMap::new(),
            trees: BTreeSet::new(),
            store: None,
            directories: None,
            below: BTreeMap::new(),
            has_worker: false,
            stale: OF_STATE.into(),
            renamed: Renamed::new(),
            checked: BTreeSet::new(),
            stray_blobs: BTreeSet::new(),
            stray_directories: BTreeSet::new(),
            damage: Vec::new(),
        }
    }

    /// Rejects a root whose workers prevent adding to it.
    ///
    /// # Errors
    /// Returns [`ExistingError::OtherWorker`], or an error if the root cannot be listed.
    pub fn check_workers(root: &Root) -> Result<(), ExistingError> {
        if root.worker().is_in(root.dir())? {
            return Ok(());
        }
        match other_workers(root)?.into_keys().next() {
            None => Ok(()),
            Some(found) => Err(ExistingError::OtherWorker {
                root: root.path().to_owned(),
                found,
                wanted: Box::new(root.worker().clone()),
            }),
        }
    }

    /// Reads and checks the content of `root`. A worker without an id gets `worker_id`.
    ///
    /// # Errors
    /// Returns an error if a part cannot be read, has an unknown format, or is damaged in a way that a
    /// starting daemon does not repair without loss.
    pub fn read(root: &Root, worker_id: &WorkerId) -> Result<Self, ExistingError> {
        Self::check_workers(root)?;
        let places = Places::of(root)?;
        let stale = places.missing()?;
        places.refuse_former_records(&stale)?;
        let found = places.parts(&stale, worker_id)?.verify_databases()?;
        if let Some(state) = &found.state {
            places.check_metadata(state)?;
        }
        let has_worker = places.has_worker();
        let open = if has_worker { open_to_others(root)? } else { Vec::new() };
        let (known, damage): (Vec<_>, Vec<_>) =
            found.damage.into_iter().chain(open).partition(Damage::is_harmless);
        let Some(state) = found.state.filter(|_| damage.is_empty()) else {
            return Err(ExistingError::Damaged { root: root.path().to_owned(), damage });
        };
        let damage = known.into_iter().chain(found.leftovers).collect();
        let nothing = Self::nothing(root.worker().clone(), worker_id.clone());
        let mut existing = Self { state, has_worker, stale, damage, ..nothing };
        // In the state that was read, the commit is completed.
        let half = |damage: &Damage| {
            matches!(damage, Damage::Snapshot(SnapshotDamage::HalfCommitted { .. }))
        };
        if existing.damage.iter().any(half) {
            existing.stale.insert(StateFile::Metadata);
        }
        existing.sort_out_records();
        existing.sort_out_leases();
        existing.drop_former_rows();
        existing.sort_out_snapshots(places.trees()?)?;
        existing.sort_out_blobs(places.blobs()?)?;
        Ok(existing)
    }

    /// Opens the file of a blob.
    ///
    /// # Errors
    /// Returns an error if it does not exist.
    pub fn blob(&self, digest: &Digest) -> Result<File, DirError> {
        match &self.store {
            Some(store) => store.blob(digest),
            None => Err(not_there("open the blob", &digest.to_string())),
        }
    }

    /// Opens the tree of the snapshot `id`.
    ///
    /// # Errors
    /// Returns an error if it does not exist.
    pub fn tree(&self, id: u64) -> Result<Dir, DirError> {
        match &self.directories {
            Some(trees) => trees.fs(id),
            None => Err(not_there("open the tree of the snapshot", &id.to_string())),
        }
    }

    /// Returns the content store, if any.
    pub fn store(&self) -> Option<&BlobStore> {
        self.store.as_ref()
    }

    /// Returns the directories of snapshots, if any.
    pub fn unpacked(&self) -> Option<&Trees> {
        self.directories.as_ref()
    }

    /// Returns the id of the parent of snapshot `id`. It is always lower, so following parents ends.
    pub fn below(&self, id: u64) -> Option<u64> {
        self.below.get(&id).copied().filter(|below| *below < id)
    }

    /// Returns the damage in `found` that is new since the state was read. What only a daemon may leave is
    /// damage here: a conversion leaves nothing. The directories of snapshots that the new state lacks are
    /// removed last.
    pub fn new_damage(&self, found: Verified) -> Vec<Damage> {
        let known: BTreeSet<_> = self.damage.iter().map(ToString::to_string).collect();
        let goes = |damage: &Damage| match damage {
            Damage::Directory(DirectoryDamage::Stray { name }) => {
                name.parse().is_ok_and(|id| self.trees.contains(&id))
            }
            _ => false,
        };
        let all = found.damage.into_iter().chain(found.leftovers);
        all.filter(|damage| !known.contains(&damage.to_string()) && !goes(damage)).collect()
    }

    /// Returns whether `state` is the complete content of the root, including every file.
    pub fn is_all_of(&self, state: &State) -> bool {
        self.stale.is_empty() && self.state == *state
    }

    /// Removes the files and directories that no database refers to, if they still exist.
    ///
    /// # Errors
    /// Returns an error if one of them cannot be removed.
    pub fn remove_leftovers(&self) -> Result<(), DirError> {
        if let Some(blobs) = &self.store {
            self.stray_blobs.iter().try_for_each(|blob| blobs.remove(blob))?;
        }
        if let Some(trees) = &self.directories {
            self.stray_directories.iter().try_for_each(|name| trees.remove(name))?;
        }
        Ok(())
    }

    /// Drops records that a daemon was making or removing when it stopped, with their leases, as the next
    /// daemon does.
    fn sort_out_records(&mut self) {
        for damage in &self.damage {
            let Damage::Record(RecordDamage::Abandoned { record }) = damage else { continue };
            self.state.records.by_id.remove(record);
            self.state.records.external.remove(record);
            self.stale.insert(StateFile::Records);
            let State { worker, metadata, .. } = &mut self.state;
            let Some(namespace) = worker.namespace_of_mut(metadata) else { continue };
            let leases = [record.to_string(), format!("{record}{SUFFIX_VARIANTS}")];
            for lease in leases {
                if namespace.leases.remove(&lease).is_some() {
                    self.stale.insert(StateFile::Metadata);
                }
            }
        }
    }

    /// Drops leases of nothing, such as those of a conversion that was interrupted before it published their
    /// records. No daemon would ever remove them.
    fn sort_out_leases(&mut self) {
        let State { worker, metadata, .. } = &mut self.state;
        let Some(namespace) = worker.namespace_of_mut(metadata) else { return };
        for damage in &self.damage {
            if let Damage::Lease(LeaseDamage::Stray { id }) = damage
                && namespace.leases.remove(id).is_some()
            {
                self.stale.insert(StateFile::Metadata);
            }
        }
        // The remaining ones have a record, so the conversion was complete except for this.
        for lease in namespace.leases.values_mut() {
            if lease.labels.remove(LABEL_PENDING).is_some() {
                self.stale.insert(StateFile::Metadata);
            }
        }
    }

    fn sort_out_snapshots(&mut self, directories: Option<Trees>) -> Result<(), ExistingError> {
        let shared = self.state.worker.shares_storage();
        if !shared {
            self.drop_unnamed_snapshots();
        }
        let by_name = &self.state.snapshots.by_name;
        let below = by_name
            .values()
            .filter_map(|snapshot| Some((snapshot.id, by_name.get(snapshot.parent.as_ref()?)?.id)));
        self.below = below.collect();
        self.directories = directories;
        let Some(trees) = &self.directories else { return Ok(()) };
        let ids = self.state.snapshots.by_name.values().map(|snapshot| snapshot.id);
        let mut ids: BTreeMap<String, u64> = ids.map(|id| (id.to_string(), id)).collect();
        for name in trees.names()? {
            match ids.remove(&name) {
                Some(id) => drop(self.trees.insert(id)),
                // The snapshotter removes it. Until then its id is not free.
                None if shared => {
                    let sequence = &mut self.state.snapshots.sequence;
                    *sequence = name.parse().map_or(*sequence, |id: u64| id.max(*sequence));
                }
                None => drop(self.stray_directories.insert(name)),
            }
        }
        Ok(())
    }

    fn drop_unnamed_snapshots(&mut self) {
        let named: BTreeSet<String> =
            self.state.named_snapshots().into_iter().map(str::to_owned).collect();
        let all = self.state.snapshots.by_name.len();
        self.state.snapshots.by_name.retain(|name, _| named.contains(name));
        if self.state.snapshots.by_name.len() < all {
            self.stale.insert(StateFile::Snapshots);
        }
    }

    fn sort_out_blobs(&mut self, store: Option<BlobStore>) -> Result<(), ExistingError> {
        self.store = store;
        let Some(store) = &self.store else { return Ok(()) };
        let mut known = self.state.metadata.blobs();
        known.extend(self.state.metadata.expected_blobs());
        let shared = self.state.worker.shares_storage();
        for (blob, size) in store.files()? {
            if known.contains(&blob) {
                self.blobs.insert(blob, size);
            } else if !shared {
                self.stray_blobs.insert(blob);
            }
        }
        Ok(())
    }
}

fn not_there(action: &'static str, name: &str) -> DirError {
    DirError { action, path: name.into(), source: std::io::ErrorKind::NotFound.into() }
}

/// The files of a state.
const OF_STATE: [StateFile; 5] = [
    StateFile::Solver,
    StateFile::WorkerId,
    StateFile::Records,
    StateFile::Metadata,
    StateFile::Snapshots,
];

/// The directories of the parts of a state, which may be missing.
struct Places<'r> {
    root: &'r Root,
    dirs: BTreeMap<Part, Dir>,
}

impl<'r> Places<'r> {
    fn of(root: &'r Root) -> Result<Self, DirError> {
        let parts = [Part::Root, Part::Worker, Part::Metadata, Part::Content, Part::Snapshotter]
            .into_iter();
        let opened = parts.map(|part| Ok((part, root.worker().open(root.bases(), part)?)));
        let opened: Vec<_> = opened.collect::<Result<_, DirError>>()?;
        let dirs = opened.into_iter().filter_map(|(part, dir)| Some((part, dir?)));
        Ok(Self { root, dirs: dirs.collect() })
    }

    fn has_worker(&self) -> bool {
        self.dirs.contains_key(&Part::Worker)
    }

    /// Returns the directory of `file`, if it exists, and the file's name in it.
    fn place(&self, file: StateFile) -> (Option<&Dir>, &'static str) {
        let place = self.root.worker().place(file);
        (self.dirs.get(&place.part), place.name)
    }

    /// Returns the files of the state that are missing, or are databases that a daemon starts over.
    fn missing(&self) -> Result<BTreeSet<StateFile>, DirError> {
        let mut missing = BTreeSet::new();
        for file in OF_STATE {
            let (dir, name) = self.place(file);
            let is_there = match dir {
                None => false,
                // The worker id is not a database.
                Some(dir) if file == StateFile::WorkerId => dir.find(name)?.is_some(),
                Some(dir) => is_made(dir, name)?,
            };
            if !is_there {
                missing.insert(file);
            }
        }
        Ok(missing)
    }

    fn refuse_former_records(&self, missing: &BTreeSet<StateFile>) -> Result<(), ExistingError> {
        if let (Some(dir), name) = self.place(StateFile::FormerRecords)
            && missing.contains(&StateFile::Records)
            && dir.size(name)?.is_some()
        {
            return Err(ExistingError::OldRecords { path: dir.path().join(name) });
        }
        Ok(())
    }

    /// Rejects metadata of a containerd that is not the one of the records, or of a later release.
    fn check_metadata(&self, state: &State) -> Result<(), ExistingError> {
        let State { worker, records, metadata, .. } = state;
        if !worker.shares_storage() {
            return Ok(());
        }
        let (dir, name) = self.place(StateFile::Metadata);
        if let Some(dir) = dir.filter(|_| metadata.version > VERSION) {
            let (path, version) = (dir.path().join(name), metadata.version);
            return Err(ExistingError::UnknownVersion { path, version });
        }
        let has_lease = |id: &RecordId| {
            let namespace = worker.namespace_of(metadata);
            namespace.is_some_and(|namespace| namespace.leases.contains_key(id.as_str()))
        };
        let others = || records.by_id.keys().find_map(|id| metadata.other_with_lease(id.as_str()));
        match others().filter(|_| !records.by_id.keys().any(has_lease)) {
            None => Ok(()),
            Some(found) => Err(ExistingError::OtherNamespace {
                root: self.root.path().to_owned(),
                namespace: worker.namespace().to_owned(),
                found: found.to_owned(),
            }),
        }
    }

    fn blobs(&self) -> Result<Option<BlobStore>, DirError> {
        let content = self.dirs.get(&Part::Content);
        Ok(content.map(BlobStore::open).map(if_there).transpose()?.flatten())
    }

    fn trees(&self) -> Result<Option<Trees>, DirError> {
        self.root.trees()
    }

    /// Returns the parts of the state; missing ones are empty.
    fn parts(
        &self,
        missing: &BTreeSet<StateFile>,
        worker_id: &WorkerId,
    ) -> Result<Parts, DirError> {
        let part = |file| {
            let (dir, _) = self.place(file);
            dir.filter(|_| !missing.contains(&file)).map(Dir::try_clone).transpose()
        };
        Ok(Parts {
            worker: self.root.worker().clone(),
            solver: part(StateFile::Solver)?,
            records: part(StateFile::Records)?,
            metadata: part(StateFile::Metadata)?,
            snapshotter: part(StateFile::Snapshots)?,
            worker_id: match part(StateFile::WorkerId)? {
                Some(dir) => WorkerName::In(dir),
                None => WorkerName::Given(worker_id.clone()),
            },
            blobs: self.blobs()?.into_iter().collect(),
            trees: self.trees()?.into_iter().collect(),
            other_workers: other_workers(self.root)?.into_values().flatten().collect(),
            kept: databases::kept(self.root.bases(), self.root.worker())?,
            history: History::of(self.root)?,
        })
    }
}
