//! Moves staged files into place.
//!
//! The process can be killed and the machine can stop between any two steps. So after each step the root must
//! have a state that a daemon can use without loss and that the next run can complete. Each step is synced to
//! disk before the next.
//!
//! The steps are a list ([`Staging::steps`]). For a root without a worker, where all of it is in that root:
//!
//! | step | content of the root after it |
//! |---|---|
//! | the worker's directory | records without results; a daemon starts cold on them |
//! | `cache.db` | everything |
//!
//! For an existing worker, and for a worker on a containerd:
//!
//! | step | content of the root after it |
//! |---|---|
//! | `containerdmeta.db` with only the new sequence | numbers that will never be drawn again; as after removed snapshots |
//! | `snapshots/metadata.db` | snapshots without a row: a daemon removes them at the next garbage collection, and draws other ids |
//! | blobs and directories of snapshots | blobs without a row, which a daemon does not see and removes in the same way |
//! | `containerdmeta.db` | leases without records; nothing uses what they keep. Renamed snapshots have both keys |
//! | `metadata_v2.db` | records without results |
//! | `containerdmeta.db` with only the new keys, if snapshots were renamed | the same |
//! | `cache.db` | everything |
//!
//! In a containerd other programs have leases too, so those of a conversion that was stopped have a label until
//! the end:
//!
//! | last step there | |
//! |---|---|
//! | `meta.db` without the labels | the same |
//!
//! If the new state lacks snapshots of the old one, as when a cache mount is replaced, they stay in
//! `snapshots/metadata.db` until nothing names them:
//!
//! | last steps there | |
//! |---|---|
//! | `snapshots/metadata.db` without them | directories of no snapshot, which the next run and garbage collection remove |
//! | their directories | everything |
//!
//! The sequences come first, because a daemon fails to create a snapshot if it draws a number whose directory
//! exists, and fails to commit one if it draws the number of an existing name.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use super::in_place::{self, InPlaceError};
use super::mend::with_former_rows;
use super::verify::other_workers;
use super::{Existing, History, Parts, Staging, StagingError, State, WorkerName};
use crate::bolt::{self, Db};
use crate::content::BlobStore;
use crate::dir::DirError;
use crate::encode::EncodeError;
use crate::metadata::{LABEL_PENDING, Metadata};
use crate::root;
use crate::snapshots::{Snapshots, Trees};
use crate::worker::{Commit, Part, Place, StateFile, Worker, is_made};

/// Suffix of the file with the state of a database's compaction.
const COMPACTION_STATE: &str = ".compact-state";

/// A file in the staging directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Staged {
    /// The file in its final form.
    File(StateFile),
    /// [`StateFile::Metadata`] with its old content and the new sequence.
    Reservation,
    /// [`StateFile::Metadata`] in its new form for the time in which the other files are replaced: with the
    /// former keys of renamed snapshots beside the new ones, and with labels on leases whose records do not
    /// exist yet.
    Between,
    /// [`StateFile::Snapshots`] in its new form, with the snapshots that the new state lacks.
    Leaving,
}

impl Staged {
    /// Returns the file that it becomes in the root.
    fn file(self) -> StateFile {
        match self {
            Self::File(file) => file,
            Self::Reservation | Self::Between => StateFile::Metadata,
            Self::Leaving => StateFile::Snapshots,
        }
    }

    /// Returns its place in the staging directory.
    fn place(self, worker: &Worker) -> Place {
        let place = worker.place(self.file());
        match self {
            Self::File(_) => place,
            Self::Reservation => Place { name: "reservation.db", ..place },
            Self::Between => Place { name: "between.db", ..place },
            Self::Leaving => Place { name: "leaving.db", ..place },
        }
    }
}

/// A step of publishing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// The directory of the worker, with everything in it.
    Worker,
    /// The blobs and the directories of snapshots.
    Files,
    /// A file, if it was written.
    Put(Staged),
    /// The directories of the snapshots that the new state lacks, which are removed.
    Removed,
}

/// The files that were written to the staging directory. Everything else stays as it is in the root.
#[derive(Debug)]
pub struct Written {
    files: BTreeSet<Staged>,
    /// The ids of the snapshots that the new state lacks.
    removed: BTreeSet<u64>,
    /// Whether they are those of another root.
    is_copy: bool,
}

impl Written {
    fn has(&self, file: StateFile) -> bool {
        self.files.contains(&Staged::File(file))
    }
}

impl Staging<'_> {
    /// Returns the steps that publish `written`, in order.
    fn steps(&self, written: &Written) -> Vec<Step> {
        use StateFile::{History, Metadata, Records, Snapshots, Solver, SolverDebug, WorkerId};
        let put = |file| Step::Put(Staged::File(file));
        let shared = self.root.worker().shares_storage();
        if !self.existing.has_worker && !shared {
            if written.is_copy {
                // A daemon does not look for a worker by these, and an import that was stopped begins again.
                return vec![put(History), put(SolverDebug), put(Solver), Step::Worker];
            }
            return vec![Step::Worker, put(Solver)];
        }
        let leaving = written.files.contains(&Staged::Leaving);
        let first = if leaving { Step::Put(Staged::Leaving) } else { put(Snapshots) };
        let mut steps = vec![Step::Put(Staged::Reservation), first, Step::Files];
        let between = written.files.contains(&Staged::Between);
        steps.push(if between { Step::Put(Staged::Between) } else { put(Metadata) });
        steps.push(put(Records));
        // Labels stay until the results name the records.
        steps.extend((between && !shared).then_some(put(Metadata)));
        steps.extend([put(WorkerId), put(Solver)]);
        steps.extend((between && shared).then_some(put(Metadata)));
        if leaving {
            steps.extend([put(Snapshots), Step::Removed]);
        }
        steps
    }

    /// Writes the changed databases of `state`, which includes everything of the existing one, except for
    /// snapshots that are to be removed.
    ///
    /// # Errors
    /// Returns an error if one cannot be written.
    pub fn write(&self, state: &State) -> Result<Written, StagingError> {
        let (existing, before) = (self.existing, &self.existing.state);
        let is_stale = |file| existing.stale.contains(&file);
        let mut written =
            Written { files: BTreeSet::new(), removed: BTreeSet::new(), is_copy: false };
        // Nobody draws numbers from a file that does not exist.
        let drawn = existing.has_worker || !is_stale(StateFile::Metadata);
        if let Some(reserved) = reservation(before, state).filter(|_| drawn) {
            self.write_database(Staged::Reservation, &mut written, |file| reserved.write(file))?;
        }
        if is_stale(StateFile::Snapshots) || state.snapshots != before.snapshots {
            let staged = Staged::File(StateFile::Snapshots);
            self.write_database(staged, &mut written, |file| state.snapshots.write(file))?;
        }
        if let Some(leaving) = leaving(before, state) {
            let gone = leaving
                .by_name
                .iter()
                .filter(|(name, _)| !state.snapshots.by_name.contains_key(*name));
            written.removed = gone.map(|(_, snapshot)| snapshot.id).collect();
            self.write_database(Staged::Leaving, &mut written, |file| leaving.write(file))?;
        }
        if is_stale(StateFile::Metadata) || state.metadata != before.metadata {
            let staged = Staged::File(StateFile::Metadata);
            self.write_database(staged, &mut written, |file| state.metadata.write(file))?;
        }
        if let Some(between) = between(existing, state) {
            self.write_database(Staged::Between, &mut written, |file| between.write(file))?;
        }
        if is_stale(StateFile::Records) || state.records != before.records {
            let staged = Staged::File(StateFile::Records);
            self.write_database(staged, &mut written, |file| state.records.write(file))?;
        }
        if is_stale(StateFile::Solver) || state.solver != before.solver {
            let staged = Staged::File(StateFile::Solver);
            self.write_database(staged, &mut written, |file| state.solver.write(file))?;
        }
        if is_stale(StateFile::WorkerId) {
            let (mut file, path) = self.create_file(Staged::File(StateFile::WorkerId))?;
            file.write_all(state.worker_id.as_str().as_bytes())
                .map_err(|source| StagingError::File { path, source })?;
            written.files.insert(Staged::File(StateFile::WorkerId));
        }
        Ok(written)
    }

    /// Creates an empty file in the staging directory, for the content that it has in another root.
    ///
    /// The databases of a state, as they are, in a root without one:
    ///
    /// ```
    /// use std::fs;
    ///
    /// use bkstate::Root;
    /// use bkstate::ids::WorkerId;
    /// use bkstate::state::{Existing, Staging, State};
    /// use bkstate::worker::{StateFile, Worker};
    ///
    /// let temp = tempfile::tempdir()?;
    /// let [from, to] = ["from", "to"].map(|name| temp.path().join(name));
    /// let state = State::empty(Worker::default(), WorkerId::derive("worker"));
    /// let nothing = Existing::nothing(state.worker.clone(), state.worker_id.clone());
    /// let root = Root::open_to_write(&from)?;
    /// let staging = Staging::begin(&root, &nothing)?;
    /// let written = staging.write(&state)?;
    /// staging.publish(written)?;
    ///
    /// let copy = Root::open_to_write(&to)?;
    /// let staging = Staging::begin(&copy, &nothing)?;
    /// for file in [
    ///     StateFile::Solver,
    ///     StateFile::Records,
    ///     StateFile::Metadata,
    ///     StateFile::Snapshots,
    ///     StateFile::WorkerId,
    /// ] {
    ///     let place = root.worker().place(file);
    ///     let dir = root.open_part(place.part)?.ok_or("no such part")?;
    ///     std::io::copy(&mut dir.file(place.name)?, &mut staging.create_copy(file)?)?;
    /// }
    /// let written = staging.written_copies()?;
    /// assert!(staging.parts(&written)?.verify_databases()?.damage.is_empty());
    /// staging.publish(written)?;
    /// assert_eq!(fs::read(from.join("cache.db"))?, fs::read(to.join("cache.db"))?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Returns an error if it exists or cannot be created.
    pub fn create_copy(&self, file: StateFile) -> Result<File, DirError> {
        Ok(self.create_file(Staged::File(file))?.0)
    }

    /// Returns the files that were [created](Self::create_copy) in the staging directory.
    ///
    /// ```
    /// use bkstate::Root;
    /// use bkstate::ids::WorkerId;
    /// use bkstate::state::{Existing, Staging, Written};
    /// use bkstate::worker::{StateFile, Worker};
    ///
    /// let temp = tempfile::tempdir()?;
    /// let root = Root::open_to_write(temp.path())?;
    /// let nothing = Existing::nothing(Worker::default(), WorkerId::derive("worker"));
    /// let staging = Staging::begin(&root, &nothing)?;
    /// staging.create_copy(StateFile::Solver)?;
    /// let written: Written = staging.written_copies()?;
    /// staging.publish(written)?;
    /// assert!(temp.path().join("cache.db").exists());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Returns an error if it cannot be searched.
    pub fn written_copies(&self) -> Result<Written, DirError> {
        let mut written =
            Written { files: BTreeSet::new(), removed: BTreeSet::new(), is_copy: true };
        let worker = self.root.worker();
        let all = StateFile::OF_ROOT.into_iter().chain(StateFile::OF_WORKER);
        for file in all.chain([StateFile::WorkerId]) {
            let staged = Staged::File(file);
            let place = staged.place(worker);
            let dir = worker.open_existing(&self.tops, place.part)?;
            if dir.find(place.name)?.is_some() {
                written.files.insert(staged);
            }
        }
        Ok(written)
    }

    fn write_database(
        &self,
        staged: Staged,
        written: &mut Written,
        write: impl FnOnce(&File) -> Result<(), EncodeError>,
    ) -> Result<(), StagingError> {
        let (file, path) = self.create_file(staged)?;
        let failed = |source| StagingError::Database { path: path.clone(), source };
        match self.stored(staged.file())? {
            None => write(&file).map_err(failed)?,
            Some((db, stored)) => {
                let worker = self.root.worker();
                let changed = in_place::changed(&db, staged.file(), worker, write);
                let changed = changed.map_err(|error| match error {
                    InPlaceError::Decode(source) => StagingError::Stored { path: stored, source },
                    InPlaceError::Encode(source) => failed(source),
                })?;
                bolt::write(&file, |root| changed.write(root))
                    .map_err(|error| failed(error.into()))?;
            }
        }
        written.files.insert(staged);
        Ok(())
    }

    /// Opens the database `file` of the root, if it exists and is changed in place. Returns its path, too.
    fn stored(&self, file: StateFile) -> Result<Option<(Db, PathBuf)>, StagingError> {
        let worker = self.root.worker();
        let Place { part, name, .. } = worker.place(file);
        let Some(dir) =
            self.root.open_part(part)?.filter(|_| worker.commit(file) == Commit::InPlace)
        else {
            return Ok(None);
        };
        if !is_made(&dir, name)? {
            return Ok(None);
        }
        let path = dir.path().join(name);
        match Db::open(dir.file(name)?) {
            Ok(db) => Ok(Some((db, path))),
            Err(error) => Err(StagingError::Stored { path, source: error.into() }),
        }
    }

    /// Creates an empty file in the staging directory, with the owner and permissions of the file that it
    /// will replace.
    fn create_file(&self, staged: Staged) -> Result<(File, PathBuf), DirError> {
        let worker = self.root.worker();
        let place = staged.place(worker);
        let dir = worker.open_existing(&self.tops, place.part)?;
        let file = dir.create_file(place.name, place.mode)?;
        if let Some(there) = self.root.open_part(place.part)? {
            there.copy_access(worker.name(staged.file()), &file)?;
        }
        Ok((file, dir.path().join(place.name)))
    }

    /// Opens the parts of the state as they will be after `written` is published, to verify them before.
    ///
    /// # Errors
    /// Returns an error if they cannot be opened.
    pub fn parts(&self, written: &Written) -> Result<Parts, DirError> {
        let worker = self.root.worker();
        let place = |file| {
            let part = worker.place(file).part;
            match self.root.open_part(part)?.filter(|_| !written.has(file)) {
                Some(there) => Ok(there),
                None => worker.open_existing(&self.tops, part),
            }
        };
        let staged = |part| worker.open_existing(&self.tops, part);
        let mut blobs = vec![BlobStore::open(&staged(Part::Content)?)?];
        blobs.extend(self.blobs_there()?);
        let mut trees = vec![Trees::open(&staged(Part::Snapshotter)?, worker.form())?];
        trees.extend(self.trees_there()?);
        Ok(Parts {
            worker: worker.clone(),
            solver: Some(place(StateFile::Solver)?),
            records: Some(place(StateFile::Records)?),
            metadata: Some(place(StateFile::Metadata)?),
            snapshotter: Some(place(StateFile::Snapshots)?),
            worker_id: WorkerName::In(place(StateFile::WorkerId)?),
            blobs,
            trees,
            other_workers: other_workers(self.root)?.into_values().flatten().collect(),
            // They are not written.
            kept: Vec::new(),
            // Our own staging directory is not one of a stopped conversion.
            history: History { stopped_conversion: false, ..History::of(self.root)? },
        })
    }

    /// Waits until everything is on disk, and moves the written files, the staged blobs and the trees into
    /// place.
    ///
    /// # Errors
    /// Returns an error if something cannot be moved. Parts that were moved before stay moved, see above.
    pub fn publish(self, written: Written) -> Result<(), StagingError> {
        let bases = self.root.bases();
        root::sync(bases)?;
        for step in self.steps(&written) {
            self.take(step, &written)?;
        }
        self.stays.store(false, Ordering::Relaxed);
        Self::remove_dead_run(self.root)?;
        root::sync(bases)?;
        Ok(())
    }

    /// Executes one step, and waits until it is on disk.
    fn take(&self, step: Step, written: &Written) -> Result<(), StagingError> {
        let (bases, worker) = (self.root.bases(), self.root.worker());
        match step {
            Step::Worker => {
                let directory = worker.directory();
                self.tops.root().rename(directory, bases.root(), directory)?;
                self.stays.store(true, Ordering::Relaxed);
            }
            Step::Files => {
                self.stays.store(true, Ordering::Relaxed);
                let content = worker.create(bases, Part::Content)?;
                self.blobs.move_all(&BlobStore::open_or_create(&content)?)?;
                let snapshotter = worker.create(bases, Part::Snapshotter)?;
                self.trees.move_all(&Trees::open_or_create(&snapshotter, worker.form())?)?;
            }
            Step::Put(staged) if written.files.contains(&staged) => {
                self.put(staged).inspect_err(|_| self.take_back())?;
                self.stays.store(true, Ordering::Relaxed);
            }
            Step::Put(_) => return Ok(()),
            Step::Removed => {
                if let Some(trees) = self.trees_there()? {
                    written.removed.iter().try_for_each(|id| trees.remove(&id.to_string()))?;
                }
            }
        }
        Ok(root::sync(bases)?)
    }

    /// Replaces a file.
    fn put(&self, staged: Staged) -> Result<(), StagingError> {
        let worker = self.root.worker();
        let (from, to) = (staged.place(worker), worker.place(staged.file()));
        let from_dir = worker.open_existing(&self.tops, from.part)?;
        let to_dir = worker.create(self.root.bases(), to.part)?;
        // The compaction state of a daemon is valid only for the replaced content (BuildKit v0.34.2
        // `util/db/compaction/file.go` `NewFile`).
        to_dir.remove_tree(&*format!("{}{COMPACTION_STATE}", to.name))?;
        match worker.commit(staged.file()) {
            Commit::Rename => Ok(from_dir.replace(from.name, &to_dir, to.name)?),
            Commit::InPlace if is_made(&to_dir, to.name)? => {
                let path = to_dir.path().join(to.name);
                let failed = |source| StagingError::Commit { path, source };
                let staged = Db::open(from_dir.file(from.name)?);
                let target = to_dir.file_to_change(to.name)?;
                match staged {
                    Ok(staged) => bolt::commit(&target, &staged).map_err(failed),
                    Err(error) => Err(failed(error.into())),
                }
            }
            Commit::InPlace => Ok(from_dir.rename(from.name, &to_dir, to.name)?),
        }
    }

    /// Moves the directory of a new worker back, so that a failed step leaves the root as it was.
    fn take_back(&self) {
        let moved = !self.existing.has_worker && !self.root.worker().shares_storage();
        if !moved || !self.stays.load(Ordering::Relaxed) {
            return;
        }
        // If this fails too, the next run completes the state.
        let directory = self.root.worker().directory();
        let undone = self.root.dir().rename(directory, self.tops.root(), directory);
        self.stays.store(undone.is_err(), Ordering::Relaxed);
    }
}

/// Returns the metadata for the time in which the other files are replaced, if it differs from that of `state`.
fn between(existing: &Existing, state: &State) -> Option<Metadata> {
    let shared = state.worker.shares_storage();
    let known = &existing.state.records.by_id;
    let added = state.records.by_id.keys().filter(|id| shared && !known.contains_key(*id));
    let mut added = added.peekable();
    if existing.renamed.is_empty() && added.peek().is_none() {
        return None;
    }
    let mut metadata = with_former_rows(state, &existing.renamed);
    if let Some(namespace) = state.worker.namespace_of_mut(&mut metadata) {
        for id in added {
            if let Some(lease) = namespace.leases.get_mut(id.as_str()) {
                lease.labels.insert(LABEL_PENDING.to_owned(), String::new());
            }
        }
    }
    Some(metadata)
}

/// Returns the snapshots of `after`, and those of `before` that it lacks, if there are any.
fn leaving(before: &State, after: &State) -> Option<Snapshots> {
    let mut leaving = after.snapshots.clone();
    for (name, snapshot) in &before.snapshots.by_name {
        leaving.by_name.entry(name.clone()).or_insert_with(|| snapshot.clone());
    }
    (leaving.by_name.len() > after.snapshots.by_name.len()).then_some(leaving)
}

/// Returns the metadata of `before` with the sequence of the worker's snapshots in `after`, if that is
/// higher.
fn reservation(before: &State, after: &State) -> Option<Metadata> {
    let sequence = sequence(after);
    if self::sequence(before) >= sequence {
        return None;
    }
    let mut reserved = before.metadata.clone();
    let namespace = before.worker.namespace_entry(&mut reserved);
    before.worker.table_entry(namespace).sequence = sequence;
    Some(reserved)
}

fn sequence(state: &State) -> u64 {
    let namespace = state.worker.namespace_of(&state.metadata);
    let table = namespace.and_then(|namespace| state.worker.table_of(namespace));
    table.map_or(0, |table| table.sequence)
}

#[cfg(test)]
mod tests;
