//! Verifies that the parts of a state are consistent.
//!
//! A daemon believes most of its databases without checking: a record without its snapshot fails a build, a
//! result without its record is deleted at start, a blob without its row disappears at the first garbage
//! collection. This module finds all of these, without a daemon.
//!
//! The files of a state are untrusted: no link is followed, recursion depth does not depend on a file, and
//! memory is bounded by the size of the databases.

mod abandoned;
mod access;
mod commits;
mod content;
mod damage;
mod database;
mod directories;
mod future;
mod keys;
mod leases;
mod packed;
mod parts;
mod records;
mod snapshots;
mod solver;

use std::collections::BTreeSet;

pub use access::AccessDamage;
pub use content::ContentDamage;
pub use damage::Damage;
pub use database::DatabaseDamage;
pub use directories::DirectoryDamage;
pub use future::{FutureDate, dated_ahead, is_ahead};
pub use leases::LeaseDamage;
pub use packed::PackedDamage;
pub use parts::{History, Parts, VerifyError, WorkerName};
pub use records::RecordDamage;
pub use snapshots::SnapshotDamage;
pub use solver::SolverDamage;

use database::{check_kept, sound, worker_id};
pub(super) use parts::other_workers;

use super::State;
use crate::dir::DirError;
use crate::metadata::Metadata;
use crate::records::Records;
use crate::root::Root;
use crate::snapshots::Snapshots;
use crate::solver::SolverCache;
use crate::worker::{StateFile, Worker, is_made};

/// The result of verifying a state.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Verified {
    /// The content of its databases; `None` if one of them cannot be read, which is damage.
    pub state: Option<State>,
    /// All damage.
    pub damage: Vec<Damage>,
    /// Leftovers of a daemon's normal operation, which it removes by itself. Only databases that a daemon has
    /// changed can have them; in others they are damage.
    pub leftovers: Vec<Damage>,
    /// Whether a daemon has changed any of its databases.
    pub used: bool,
}

/// Collects the findings.
#[derive(Default)]
struct Findings {
    damage: Vec<Damage>,
    leftovers: Vec<Damage>,
}

impl Findings {
    fn add(&mut self, damage: impl Into<Damage>) {
        self.damage.push(damage.into());
    }

    /// Adds a finding that is not damage if a daemon can have left it.
    fn add_unless(&mut self, leftover: bool, damage: impl Into<Damage>) {
        let list = if leftover { &mut self.leftovers } else { &mut self.damage };
        list.push(damage.into());
    }

    fn into_verified(self, state: Option<State>) -> Verified {
        let Self { damage, leftovers } = self;
        Verified { state, damage, leftovers, used: false }
    }
}

/// Verifies the state in `root`.
///
/// Blobs and the files of snapshots are not read; only their existence is checked.
///
/// # Errors
/// Returns an error if there is no state, or a part of it cannot be examined.
pub fn verify_databases(root: &Root) -> Result<Verified, VerifyError> {
    let mut verified = match Parts::of_root(root) {
        Ok(parts) => parts.verify_databases()?,
        Err(VerifyError::Incomplete(damage)) => {
            Verified { damage: vec![damage.into()], ..Verified::default() }
        }
        Err(error) => return Err(error),
    };
    verified.damage.extend(open_to_others(root)?);
    Ok(verified)
}

/// Returns the parts of the state in `root` that others can change.
pub(super) fn open_to_others(root: &Root) -> Result<Vec<Damage>, DirError> {
    let mut findings = Findings::default();
    access::check(root, &mut findings)?;
    Ok(findings.damage)
}

impl Parts {
    /// Verifies the state in these parts, as [`verify_databases`] does.
    ///
    /// # Errors
    /// Returns an error if a part of it cannot be examined.
    pub fn verify_databases(&self) -> Result<Verified, VerifyError> {
        let mut findings = Findings::default();
        let read = self.read(&mut findings)?;
        self.kept.iter().try_for_each(|place| check_kept(place, &mut findings))?;
        let Some(mut databases) = read else {
            // The others cannot be compared with a missing one.
            return Ok(findings.into_verified(None));
        };
        if databases.used.metadata {
            let completed = commits::complete(&mut databases.state);
            findings.leftovers.extend(completed.map(Damage::from));
        }
        self.compare(&databases, &mut findings)?;
        // containerd removes rows first and their files later (v2.3.3 core/metadata/db.go GarbageCollect), so
        // a daemon can be stopped in between.
        if self.history.stopped_conversion || databases.used.metadata {
            findings.leftovers.extend(findings.damage.extract_if(.., |damage| damage.is_unused()));
        }
        let Used { solver, records, metadata } = databases.used;
        let used = solver || records || metadata;
        Ok(Verified { used, ..findings.into_verified(Some(databases.state)) })
    }

    fn read(&self, findings: &mut Findings) -> Result<Option<Databases>, VerifyError> {
        let name = |file| self.worker.name(file);
        let worker_id = match &self.worker_id {
            WorkerName::In(dir) => worker_id(dir, &self.worker, findings),
            WorkerName::Given(id) => Some(id.clone()),
        };
        let records = sound(
            self.records.as_ref(),
            name(StateFile::Records),
            |db| Ok((Records::read(db)?, Records::read_index(db)?)),
            findings,
        );
        // A daemon creates it last, and without a record there has been no result.
        let mut solver = self.solver.as_ref();
        if let Some(dir) = solver
            && !is_made(dir, name(StateFile::Solver))?
            && records.as_ref().is_some_and(|records| records.content.0.by_id.is_empty())
        {
            solver = None;
        }
        let solver =
            sound(solver, name(StateFile::Solver), SolverCache::read_with_miswritten, findings);
        let read_metadata = |db: &_| Metadata::read(db, &self.worker);
        let metadata =
            sound(self.metadata.as_ref(), name(StateFile::Metadata), read_metadata, findings);
        let read = |db: &_| Ok((Snapshots::read(db)?, Snapshots::read_parents(db)?));
        // The snapshotter creates its database when it is first used.
        let mut snapshotter = self.snapshotter.as_ref();
        if let Some(dir) = snapshotter
            && !is_made(dir, name(StateFile::Snapshots))?
            && metadata
                .as_ref()
                .is_some_and(|metadata| !has_snapshots(&metadata.content, &self.worker))
        {
            snapshotter = None;
        }
        let snapshots = sound(snapshotter, name(StateFile::Snapshots), read, findings);
        let (Some(worker_id), Some(solver), Some(records), Some(metadata), Some(snapshots)) =
            (worker_id, solver, records, metadata, snapshots)
        else {
            return Ok(None);
        };
        for miswritten in solver.content.1 {
            findings.add(SolverDamage::Miswritten(miswritten));
        }
        Ok(Some(Databases {
            used: Used {
                solver: solver.used || self.history.daemon,
                records: records.used || self.history.daemon,
                metadata: metadata.used || self.history.daemon,
            },
            state: State {
                worker: self.worker.clone(),
                worker_id,
                solver: solver.content.0,
                records: records.content.0,
                metadata: metadata.content,
                snapshots: snapshots.content.0,
            },
            index: records.content.1,
            parents: snapshots.content.1,
        }))
    }

    fn compare(&self, databases: &Databases, findings: &mut Findings) -> Result<(), DirError> {
        let Databases { state, used, index, parents } = databases;
        let State { worker, worker_id, solver, records, metadata, .. } = state;
        let nothing = Default::default();
        let namespace = worker.namespace_of(metadata).unwrap_or(&nothing);
        let no_table = Default::default();
        let table = worker.table_of(namespace).unwrap_or(&no_table);
        solver::check(solver, worker_id, &self.other_workers, records, *used, findings);
        // Only a daemon leaves such records.
        let abandoned = if used.records {
            abandoned::abandoned(state, namespace, table)
        } else {
            BTreeSet::new()
        };
        records::check(state, index, table, &abandoned, *used, findings);
        leases::check(state, namespace, &abandoned, findings);
        content::check(state, namespace, table, &self.blobs, findings)?;
        snapshots::check(state, table, parents, *used, findings);
        directories::check(state, &self.trees, findings)
    }
}

/// Which databases a daemon has changed since they were written as a whole.
#[derive(Debug, Clone, Copy)]
struct Used {
    /// `cache.db`
    solver: bool,
    /// `metadata_v2.db`
    records: bool,
    /// `containerdmeta.db`
    metadata: bool,
}

/// The content of the databases.
struct Databases {
    state: State,
    used: Used,
    index: BTreeSet<String>,
    parents: snapshots::ParentIndex,
}

fn has_snapshots(metadata: &Metadata, worker: &Worker) -> bool {
    !metadata.snapshot_names(worker).is_empty()
}
