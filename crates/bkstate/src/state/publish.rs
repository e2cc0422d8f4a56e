//! Moves staged files into place.
//!
//! The process can be killed and the machine can stop between any two steps. So after each step the root must
//! have a state that a daemon can use without loss and that the next run can complete. Each step is synced to
//! disk before the next.
//!
//! The steps are a list ([`Staging::steps`]). For a root without a worker:
//!
//! | step | content of the root after it |
//! |---|---|
//! | the worker's directory | records without results; a daemon starts cold on them |
//! | `cache.db` | everything |
//!
//! For an existing worker:
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
//! The sequences come first, because a daemon fails to create a snapshot if it draws a number whose directory
//! exists, and fails to commit one if it draws the number of an existing name.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use super::mend::with_former_rows;
use super::verify::other_workers;
use super::{History, Parts, Staging, StagingError, State, WorkerName};
use crate::content::BlobStore;
use crate::dir::DirError;
use crate::encode::EncodeError;
use crate::metadata::Metadata;
use crate::snapshots::Trees;
use crate::worker::{Commit, Part, Place, STAGING, StateFile, Worker};

/// Suffix of the file with the state of a database's compaction.
const COMPACTION_STATE: &str = ".compact-state";

/// A file in the staging directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Staged {
    /// The file in its final form.
    File(StateFile),
    /// [`StateFile::Metadata`] with its old content and the new sequence.
    Reservation,
    /// [`StateFile::Metadata`] in its new form, with the former keys of renamed snapshots beside the new
    /// ones.
    EitherKey,
}

impl Staged {
    /// Returns the file that it becomes in the root.
    fn file(self) -> StateFile {
        match self {
            Self::File(file) => file,
            Self::Reservation | Self::EitherKey => StateFile::Metadata,
        }
    }

    /// Returns its place in the staging directory.
    fn place(self, worker: &Worker) -> Place {
        let place = worker.place(self.file());
        match self {
            Self::File(_) => place,
            Self::Reservation => Place { name: "reservation.db", ..place },
            Self::EitherKey => Place { name: "either-key.db", ..place },
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
}

/// The files that were written to the staging directory. Everything else stays as it is in the root.
#[derive(Debug)]
pub struct Written(BTreeSet<Staged>);

impl Written {
    fn has(&self, file: StateFile) -> bool {
        self.0.contains(&Staged::File(file))
    }
}

impl Staging<'_> {
    /// Returns the steps that publish `written`, in order.
    fn steps(&self, written: &Written) -> Vec<Step> {
        use StateFile::{Metadata, Records, Snapshots, Solver, WorkerId};
        let put = |file| Step::Put(Staged::File(file));
        if !self.existing.has_worker {
            return vec![Step::Worker, put(Solver)];
        }
        let mut steps = vec![Step::Put(Staged::Reservation), put(Snapshots), Step::Files];
        if written.0.contains(&Staged::EitherKey) {
            steps.extend([Step::Put(Staged::EitherKey), put(Records), put(Metadata)]);
        } else {
            steps.extend([put(Metadata), put(Records)]);
        }
        steps.extend([put(WorkerId), put(Solver)]);
        steps
    }

    /// Writes the changed databases of `state`, which includes everything of the existing one.
    ///
    /// # Errors
    /// Returns an error if one cannot be written.
    pub fn write(&self, state: &State) -> Result<Written, StagingError> {
        let (existing, before) = (self.existing, &self.existing.state);
        let is_stale = |file| existing.stale.contains(&file);
        let mut written = Written(BTreeSet::new());
        if existing.has_worker
            && let Some(reserved) = reservation(before, state)
        {
            self.write_database(Staged::Reservation, &mut written, |file| reserved.write(file))?;
        }
        if is_stale(StateFile::Snapshots) || state.snapshots != before.snapshots {
            let staged = Staged::File(StateFile::Snapshots);
            self.write_database(staged, &mut written, |file| state.snapshots.write(file))?;
        }
        if is_stale(StateFile::Metadata) || state.metadata != before.metadata {
            let staged = Staged::File(StateFile::Metadata);
            self.write_database(staged, &mut written, |file| state.metadata.write(file))?;
        }
        if !existing.renamed.is_empty() {
            let either = with_former_rows(state, &existing.renamed);
            self.write_database(Staged::EitherKey, &mut written, |file| either.write(file))?;
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
            written.0.insert(Staged::File(StateFile::WorkerId));
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
        write(&file).map_err(|source| StagingError::Database { path, source })?;
        written.0.insert(staged);
        Ok(())
    }

    /// Creates an empty file in the staging directory, with the owner and permissions of the file that it
    /// will replace.
    fn create_file(&self, staged: Staged) -> Result<(File, PathBuf), DirError> {
        let worker = self.root.worker();
        let place = staged.place(worker);
        let dir = worker.open_existing(&self.top, place.part)?;
        let file = dir.create_file(place.name, place.mode)?;
        if let Some(there) = worker.open(self.root.dir(), place.part)? {
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
            match worker.open(self.root.dir(), part)?.filter(|_| !written.has(file)) {
                Some(there) => Ok(there),
                None => worker.open_existing(&self.top, part),
            }
        };
        let staged = |part| worker.open_existing(&self.top, part);
        let mut blobs = vec![BlobStore::open(&staged(Part::Content)?)?];
        blobs.extend(self.blobs_there()?);
        let mut trees = vec![Trees::open(&staged(Part::Snapshotter)?)?];
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
        let root = self.root.dir();
        root.sync_file_system()?;
        for step in self.steps(&written) {
            self.take(step, &written)?;
        }
        self.half_published.store(false, Ordering::Relaxed);
        root.remove_tree(STAGING)?;
        root.sync_file_system()?;
        Ok(())
    }

    /// Executes one step, and waits until it is on disk.
    fn take(&self, step: Step, written: &Written) -> Result<(), DirError> {
        let (root, worker) = (self.root.dir(), self.root.worker());
        match step {
            Step::Worker => {
                self.top.rename(worker.directory(), root, worker.directory())?;
                self.half_published.store(true, Ordering::Relaxed);
            }
            Step::Files => {
                self.half_published.store(true, Ordering::Relaxed);
                let content = worker.create(root, Part::Content)?;
                self.blobs.move_all(&BlobStore::open_or_create(&content)?)?;
                let snapshotter = worker.create(root, Part::Snapshotter)?;
                self.trees.move_all(&Trees::open_or_create(&snapshotter)?)?;
            }
            Step::Put(staged) if written.0.contains(&staged) => {
                self.put(staged).inspect_err(|_| self.take_back())?;
                self.half_published.store(true, Ordering::Relaxed);
            }
            Step::Put(_) => return Ok(()),
        }
        root.sync_file_system()
    }

    /// Replaces a file.
    fn put(&self, staged: Staged) -> Result<(), DirError> {
        let worker = self.root.worker();
        let (from, to) = (staged.place(worker), worker.place(staged.file()));
        let from_dir = worker.open_existing(&self.top, from.part)?;
        let to_dir = worker.create(self.root.dir(), to.part)?;
        // The compaction state of a daemon is valid only for the replaced file (BuildKit v0.34.2
        // `util/db/compaction/file.go` `NewFile`).
        to_dir.remove_tree(&*format!("{}{COMPACTION_STATE}", to.name))?;
        match worker.commit() {
            Commit::Rename => from_dir.replace(from.name, &to_dir, to.name),
        }
    }

    /// Moves the directory of a new worker back, so that a failed step leaves the root as it was.
    fn take_back(&self) {
        if self.existing.has_worker || !self.half_published.load(Ordering::Relaxed) {
            return;
        }
        // If this fails too, the next run completes the state.
        let directory = self.root.worker().directory();
        let undone = self.root.dir().rename(directory, &self.top, directory);
        self.half_published.store(undone.is_err(), Ordering::Relaxed);
    }
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
