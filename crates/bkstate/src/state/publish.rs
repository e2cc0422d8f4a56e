//! Moving what was staged to the place it belongs.
//!
//! A run may be killed and the machine may stop between any two of the steps, so what there is after
//! each of them has to be a state that a daemon can use without a loss, and that the next run can
//! complete. Before the next step, each is on disk.
//!
//! Into a root without a worker:
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

use std::fs::File;
use std::io::Write as _;
use std::sync::atomic::Ordering;

use super::mend::with_former_rows;
use super::staging::STAGING;
use super::verify::other_workers;
use super::{
    CACHE_DB, History, METADATA_DB, Parts, RECORDS_DB, SNAPSHOTS, SNAPSHOTS_DB, SNAPSHOTTER,
    Staging, StagingError, State, WORKER, WORKER_ID, WorkerName,
};
use crate::content::BlobStore;
use crate::dir::{Dir, DirError, if_there};
use crate::encode::EncodeError;
use crate::metadata::{Metadata, NAMESPACE};
use crate::snapshots::Trees;

/// What the name of the file with the state of a database's compaction ends in.
const COMPACTION_STATE: &str = ".compact-state";

/// `containerdmeta.db` as it was but for the sequence, in the staging area.
const RESERVATION: &str = "reservation.db";
/// `containerdmeta.db` as it will be, but with the former keys of renamed snapshots beside the new ones,
/// in the staging area.
const EITHER_KEY: &str = "either-key.db";

/// What of a state was written into the staging area. All else stays what the root has.
#[derive(Debug)]
pub struct Written {
    solver: bool,
    records: bool,
    metadata: bool,
    snapshots: bool,
    worker_id: bool,
    reservation: bool,
    either_key: bool,
}

impl Staging<'_> {
    /// Writes the databases of `state`, which has everything of the existing one, as far as they
    /// change.
    ///
    /// # Errors
    /// If one could not be written.
    pub fn write(&self, state: &State) -> Result<Written, StagingError> {
        let before = &self.existing.state;
        let stale = |name| self.existing.stale.contains(name);
        let target = self.target()?;
        let (worker, snapshotter) = (target.worker.as_ref(), target.snapshotter.as_ref());
        let reservation = reservation(&before.metadata, sequence(&state.metadata));
        let written = Written {
            solver: stale(CACHE_DB) || state.solver != before.solver,
            records: stale(RECORDS_DB) || state.records != before.records,
            metadata: stale(METADATA_DB) || state.metadata != before.metadata,
            snapshots: stale(SNAPSHOTS_DB) || state.snapshots != before.snapshots,
            worker_id: stale(WORKER_ID),
            reservation: worker.is_some() && reservation.is_some(),
            either_key: !self.existing.renamed.is_empty(),
        };
        if let Some(reserved) = reservation.filter(|_| written.reservation) {
            let like = worker.map(|worker| (worker, METADATA_DB));
            write_like(&self.worker, RESERVATION, like, |file| reserved.write(file))?;
        }
        if written.snapshots {
            write_database(&self.snapshots, SNAPSHOTS_DB, snapshotter, |file| {
                state.snapshots.write(file)
            })?;
        }
        if written.metadata {
            write_database(&self.worker, METADATA_DB, worker, |file| state.metadata.write(file))?;
        }
        if written.either_key {
            let either = with_former_rows(&state.metadata, &self.existing.renamed);
            let like = worker.map(|worker| (worker, METADATA_DB));
            write_like(&self.worker, EITHER_KEY, like, |file| either.write(file))?;
        }
        if written.records {
            write_database(&self.worker, RECORDS_DB, worker, |file| state.records.write(file))?;
        }
        if written.solver {
            write_database(&self.top, CACHE_DB, Some(self.root), |file| state.solver.write(file))?;
        }
        if written.worker_id {
            self.write_worker_id(state)?;
        }
        Ok(written)
    }

    /// Where the parts of the state lie that there will be once `written` is published, so that it
    /// can be verified before.
    ///
    /// # Errors
    /// If they cannot be opened.
    pub fn parts(&self, written: &Written) -> Result<Parts, DirError> {
        let target = self.target()?;
        let either = |written: bool, staged: &Dir, there: Option<&Dir>| {
            there.filter(|_| !written).unwrap_or(staged).try_clone()
        };
        let worker = target.worker.as_ref();
        let mut blobs = vec![BlobStore::open(&self.worker)?];
        let mut trees = vec![Trees::open(&self.snapshots)?];
        if let Some(worker) = worker {
            blobs.extend(if_there(BlobStore::open(worker))?);
        }
        if let Some(snapshotter) = &target.snapshotter {
            trees.extend(if_there(Trees::open(snapshotter))?);
        }
        Ok(Parts {
            solver: Some(either(written.solver, &self.top, Some(self.root))?),
            records: Some(either(written.records, &self.worker, worker)?),
            metadata: Some(either(written.metadata, &self.worker, worker)?),
            snapshotter: Some(either(
                written.snapshots,
                &self.snapshots,
                target.snapshotter.as_ref(),
            )?),
            worker_id: WorkerName::In(either(written.worker_id, &self.worker, worker)?),
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
        self.root.sync_file_system()?;
        match self.target()? {
            Target { worker: Some(worker), snapshotter } => {
                self.publish_into(&worker, snapshotter, &written)?;
            }
            Target { worker: None, .. } => self.publish_worker(&written)?,
        }
        self.half_published.store(false, Ordering::Relaxed);
        self.root.remove_tree(STAGING)?;
        self.root.sync_file_system()?;
        Ok(())
    }

    fn target(&self) -> Result<Target, DirError> {
        if !self.existing.has_worker {
            return Ok(Target { worker: None, snapshotter: None });
        }
        let worker = self.root.dir(WORKER)?;
        Ok(Target { snapshotter: if_there(worker.dir(SNAPSHOTS))?, worker: Some(worker) })
    }

    fn publish_worker(&self, written: &Written) -> Result<(), StagingError> {
        let Self { root, top, .. } = self;
        top.rename(WORKER, root, WORKER)?;
        self.half_published.store(true, Ordering::Relaxed);
        root.sync_file_system()?;
        if written.solver
            && let Err(error) = replace_database(top, CACHE_DB, root, CACHE_DB)
        {
            // Whatever hinders this too, the next run completes what is there.
            let undone = root.rename(WORKER, top, WORKER);
            self.half_published.store(undone.is_err(), Ordering::Relaxed);
            return Err(error.into());
        }
        Ok(())
    }

    fn publish_into(
        &self,
        worker: &Dir,
        snapshotter: Option<Dir>,
        written: &Written,
    ) -> Result<(), StagingError> {
        let snapshotter = match snapshotter {
            Some(dir) => dir,
            None => worker.create_dir(SNAPSHOTS, 0o700)?,
        };
        let put = |from: &Dir, name: &str, to: &Dir, new: &str| -> Result<(), StagingError> {
            replace_database(from, name, to, new)?;
            self.half_published.store(true, Ordering::Relaxed);
            Ok(self.root.sync_file_system()?)
        };
        if written.reservation {
            put(&self.worker, RESERVATION, worker, METADATA_DB)?;
        }
        if written.snapshots {
            put(&self.snapshots, SNAPSHOTS_DB, &snapshotter, SNAPSHOTS_DB)?;
        }
        self.half_published.store(true, Ordering::Relaxed);
        self.blobs.move_all(&BlobStore::open_or_create(worker)?)?;
        self.trees.move_all(&Trees::open_or_create(&snapshotter)?)?;
        self.root.sync_file_system()?;
        if written.either_key {
            put(&self.worker, EITHER_KEY, worker, METADATA_DB)?;
        } else if written.metadata {
            put(&self.worker, METADATA_DB, worker, METADATA_DB)?;
        }
        if written.records {
            put(&self.worker, RECORDS_DB, worker, RECORDS_DB)?;
        }
        if written.either_key {
            put(&self.worker, METADATA_DB, worker, METADATA_DB)?;
        }
        if written.worker_id {
            self.worker.replace(WORKER_ID, worker, WORKER_ID)?;
            self.root.sync_file_system()?;
        }
        if written.solver {
            put(&self.top, CACHE_DB, self.root, CACHE_DB)?;
        }
        Ok(())
    }

    fn write_worker_id(&self, state: &State) -> Result<(), StagingError> {
        let mut file = self.worker.create_file(WORKER_ID, 0o400)?;
        file.write_all(state.worker_id.as_str().as_bytes()).map_err(|source| StagingError::File {
            path: self.worker.path().join(WORKER_ID),
            source,
        })
    }
}

/// The directories of the root that are added to.
struct Target {
    worker: Option<Dir>,
    snapshotter: Option<Dir>,
}

/// Puts the database `name` in the place of `new`. What the compaction of a daemon remembers of that is of
/// no other file (BuildKit v0.34.2 `util/db/compaction/file.go` `NewFile`).
fn replace_database(from: &Dir, name: &str, to: &Dir, new: &str) -> Result<(), DirError> {
    to.remove_tree(&*format!("{new}{COMPACTION_STATE}"))?;
    from.replace(name, to, new)
}

/// `before` with the sequence of the snapshots raised to `sequence`, if it is lower.
fn reservation(before: &Metadata, sequence: u64) -> Option<Metadata> {
    if self::sequence(before) >= sequence {
        return None;
    }
    let mut reserved = before.clone();
    let namespace = reserved.namespaces.entry(NAMESPACE.to_owned()).or_default();
    namespace.snapshots.entry(SNAPSHOTTER.to_owned()).or_default().sequence = sequence;
    Some(reserved)
}

fn sequence(metadata: &Metadata) -> u64 {
    let namespace = metadata.namespaces.get(NAMESPACE);
    let table = namespace.and_then(|namespace| namespace.snapshots.get(SNAPSHOTTER));
    table.map_or(0, |table| table.sequence)
}

/// Writes the database `name` in `dir`, with owner and permissions as its predecessor in `target`
/// has them.
fn write_database(
    dir: &Dir,
    name: &str,
    target: Option<&Dir>,
    write: impl FnOnce(&File) -> Result<(), EncodeError>,
) -> Result<(), StagingError> {
    write_like(dir, name, target.map(|target| (target, name)), write)
}

fn write_like(
    dir: &Dir,
    name: &str,
    like: Option<(&Dir, &str)>,
    write: impl FnOnce(&File) -> Result<(), EncodeError>,
) -> Result<(), StagingError> {
    // As a daemon makes them.
    let mode = if matches!(name, METADATA_DB | RESERVATION | EITHER_KEY) { 0o644 } else { 0o600 };
    let file = dir.create_file(name, mode)?;
    if let Some((target, name)) = like {
        target.copy_access(name, &file)?;
    }
    write(&file).map_err(|source| StagingError::Database { path: dir.path().join(name), source })
}
