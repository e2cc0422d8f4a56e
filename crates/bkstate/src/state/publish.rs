//! Moving what was staged to the place it belongs.
//!
//! A run may be killed and the machine may stop between any two of the steps, so what there is after
//! each of them has to be a state that a daemon can use without a loss, and that the next run can
//! complete. Before the next step, each is on disk.
//!
//! The steps are a list ([`Staging::steps`]). Into a root without a worker:
//!
//! | step | what there is then |
//! |---|---|
//! | the worker's directory | records that no result names; a daemon starts cold on them |
//! | `cache.db` | everything |
//!
//! Into the worker of a root:
//!
//! | step | what there is then |
//! |---|---|
//! | `containerdmeta.db` with the new sequence only | numbers that are never drawn again; as after snapshots that were removed |
//! | `snapshots/metadata.db` | snapshots that no row names: a daemon removes them when it collects garbage, and draws other ids |
//! | blobs and directories of snapshots | blobs without a row, which a daemon does not see and removes like those |
//! | `containerdmeta.db` | leases without records; nothing asks for what they keep. Snapshots that get other keys have either |
//! | `metadata_v2.db` | records that no result names |
//! | `containerdmeta.db` with the other keys only, if there are any | the same |
//! | `cache.db` | everything |
//!
//! The sequences come first because a daemon that draws a number whose directory is there fails to
//! make its snapshot, and one that draws the number of a name that is there fails to commit it.

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

/// What the name of the file with the state of a database's compaction ends in.
const COMPACTION_STATE: &str = ".compact-state";

/// A file in the staging area.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Staged {
    /// The file itself, as it will be.
    File(StateFile),
    /// [`StateFile::Metadata`] as it was but for the sequence.
    Reservation,
    /// [`StateFile::Metadata`] as it will be, but with the former keys of renamed snapshots beside the new
    /// ones.
    EitherKey,
}

impl Staged {
    /// The file that it will be in the root.
    fn file(self) -> StateFile {
        match self {
            Self::File(file) => file,
            Self::Reservation | Self::EitherKey => StateFile::Metadata,
        }
    }

    /// Where it lies in the staging area.
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
    /// The directory of the worker, with all in it.
    Worker,
    /// The blobs and the directories of snapshots.
    Files,
    /// A file, if it was written.
    Put(Staged),
}

/// What of a state was written into the staging area. All else stays what the root has.
#[derive(Debug)]
pub struct Written(BTreeSet<Staged>);

impl Written {
    fn has(&self, file: StateFile) -> bool {
        self.0.contains(&Staged::File(file))
    }
}

impl Staging<'_> {
    /// The steps that put what was `written` in its place, in their order.
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

    /// Writes the databases of `state`, which has everything of the existing one, as far as they
    /// change.
    ///
    /// # Errors
    /// If one could not be written.
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

    /// Makes an empty file in the staging area, with owner and permissions as the file has them whose place
    /// it will take.
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

    /// Where the parts of the state lie that there will be once `written` is published, so that it
    /// can be verified before.
    ///
    /// # Errors
    /// If they cannot be opened.
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
            // Nothing is written to them.
            kept: Vec::new(),
            // Our own staging area is not that of a conversion that was stopped.
            history: History { stopped_conversion: false, ..History::of(self.root)? },
        })
    }

    /// Waits until all is on disk and puts what was written in the place of what was there, with the
    /// blobs and trees that were staged.
    ///
    /// # Errors
    /// If something could not be moved. What was moved stays so, see above.
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

    /// Takes one step, and waits until it is on disk.
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

    /// Puts a file in the place of what is there.
    fn put(&self, staged: Staged) -> Result<(), DirError> {
        let worker = self.root.worker();
        let (from, to) = (staged.place(worker), worker.place(staged.file()));
        let from_dir = worker.open_existing(&self.top, from.part)?;
        let to_dir = worker.create(self.root.dir(), to.part)?;
        // What the compaction of a daemon remembers of a file is of no other (BuildKit v0.34.2
        // `util/db/compaction/file.go` `NewFile`).
        to_dir.remove_tree(&*format!("{}{COMPACTION_STATE}", to.name))?;
        match worker.commit() {
            Commit::Rename => from_dir.replace(from.name, &to_dir, to.name),
        }
    }

    /// Takes the directory of a worker that is new in the root back, so that a step that failed leaves the
    /// root as it was.
    fn take_back(&self) {
        if self.existing.has_worker || !self.half_published.load(Ordering::Relaxed) {
            return;
        }
        // Whatever hinders this too, the next run completes what is there.
        let directory = self.root.worker().directory();
        let undone = self.root.dir().rename(directory, &self.top, directory);
        self.half_published.store(undone.is_err(), Ordering::Relaxed);
    }
}

/// The metadata of `before` with the sequence of the worker's snapshots that `after` has, if that is higher.
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
