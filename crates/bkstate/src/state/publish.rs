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
//! | `containerdmeta.db` | leases without records; nothing asks for what they keep |
//! | `metadata_v2.db` | records that no result names |
//! | `cache.db` | everything |
//!
//! The sequences come first because a daemon that draws a number whose directory is there fails to
//! make its snapshot, and one that draws the number of a name that is there fails to commit it.

use std::fs::File;
use std::io::Write as _;

use super::staging::remove_staging;
use super::{
    CACHE_DB, METADATA_DB, RECORDS_DB, SNAPSHOTS, SNAPSHOTS_DB, SNAPSHOTTER, Staging, StagingError,
    State, WORKER, WORKER_ID,
};
use crate::content::BlobStore;
use crate::dir::{Dir, if_there};
use crate::encode::EncodeError;
use crate::metadata::{Metadata, NAMESPACE};
use crate::snapshots::Trees;

/// `containerdmeta.db` as it was but for the sequence, in the staging area.
const RESERVATION: &str = "reservation.db";

impl Staging<'_> {
    /// Puts `state`, which has everything of the existing one, in the place of that, with the blobs
    /// and trees that were staged. What does not change is not written.
    ///
    /// # Errors
    /// If anything could not be written or moved. Unless that is one of the moves themselves, the
    /// root is as it was.
    pub fn publish(self, state: &State) -> Result<(), StagingError> {
        if self.existing.has_worker {
            self.publish_into(&self.root.dir(WORKER)?, state)?;
        } else {
            self.publish_worker(state)?;
        }
        remove_staging(self.root)?;
        self.root.sync_file_system()?;
        Ok(())
    }

    fn publish_worker(&self, state: &State) -> Result<(), StagingError> {
        let Self { root, top, worker, snapshots, .. } = self;
        write_database(snapshots, SNAPSHOTS_DB, None, |file| state.snapshots.write(file))?;
        write_database(worker, METADATA_DB, None, |file| state.metadata.write(file))?;
        write_database(worker, RECORDS_DB, None, |file| state.records.write(file))?;
        write_database(top, CACHE_DB, Some(root), |file| state.solver.write(file))?;
        self.write_worker_id(state)?;
        root.sync_file_system()?;
        top.rename(WORKER, root, WORKER)?;
        root.sync_file_system()?;
        if let Err(error) = top.replace(CACHE_DB, root, CACHE_DB) {
            // Whatever hinders this too, the next run completes what is there.
            let _ = root.rename(WORKER, top, WORKER);
            return Err(error.into());
        }
        Ok(())
    }

    fn publish_into(&self, worker: &Dir, state: &State) -> Result<(), StagingError> {
        let before = &self.existing.state;
        let stale = |name| self.existing.stale.contains(name);
        let snapshots = stale(SNAPSHOTS_DB) || state.snapshots != before.snapshots;
        let metadata = stale(METADATA_DB) || state.metadata != before.metadata;
        let records = stale(RECORDS_DB) || state.records != before.records;
        let solver = stale(CACHE_DB) || state.solver != before.solver;
        let worker_id = stale(WORKER_ID);
        let reservation = reservation(&before.metadata, sequence(&state.metadata));

        let target_snapshots = match if_there(worker.dir(SNAPSHOTS))? {
            Some(dir) => dir,
            None => worker.create_dir(SNAPSHOTS, 0o700)?,
        };
        if let Some(reserved) = &reservation {
            let like = (worker, METADATA_DB);
            write_like(&self.worker, RESERVATION, Some(like), |file| reserved.write(file))?;
        }
        if snapshots {
            let like = Some(&target_snapshots);
            write_database(&self.snapshots, SNAPSHOTS_DB, like, |file| {
                state.snapshots.write(file)
            })?;
        }
        if metadata {
            write_database(&self.worker, METADATA_DB, Some(worker), |file| {
                state.metadata.write(file)
            })?;
        }
        if records {
            write_database(&self.worker, RECORDS_DB, Some(worker), |file| {
                state.records.write(file)
            })?;
        }
        if solver {
            write_database(&self.top, CACHE_DB, Some(self.root), |file| state.solver.write(file))?;
        }
        if worker_id {
            self.write_worker_id(state)?;
        }
        self.root.sync_file_system()?;

        let put = |from: &Dir, name: &str, to: &Dir, new: &str| -> Result<(), StagingError> {
            from.replace(name, to, new)?;
            Ok(self.root.sync_file_system()?)
        };
        if reservation.is_some() {
            put(&self.worker, RESERVATION, worker, METADATA_DB)?;
        }
        if snapshots {
            put(&self.snapshots, SNAPSHOTS_DB, &target_snapshots, SNAPSHOTS_DB)?;
        }
        self.blobs.move_all(&BlobStore::open_or_create(worker)?)?;
        self.trees.move_all(&Trees::open_or_create(&target_snapshots)?)?;
        self.root.sync_file_system()?;
        if metadata {
            put(&self.worker, METADATA_DB, worker, METADATA_DB)?;
        }
        if records {
            put(&self.worker, RECORDS_DB, worker, RECORDS_DB)?;
        }
        if worker_id {
            put(&self.worker, WORKER_ID, worker, WORKER_ID)?;
        }
        if solver {
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
    let mode = if matches!(name, METADATA_DB | RESERVATION) { 0o644 } else { 0o600 };
    let file = dir.create_file(name, mode)?;
    if let Some((target, name)) = like {
        target.copy_access(name, &file)?;
    }
    write(&file).map_err(|source| StagingError::Database { path: dir.path().join(name), source })
}
