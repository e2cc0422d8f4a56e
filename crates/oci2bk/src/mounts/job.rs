//! A mount of an import, and what the root has of it.

use bkstate::Digest;
use bkstate::ids::{KeyId, RecordId};
use bkstate::mounts::key;
use bkstate::state::State;

use super::import::{ImportedMount, Outcome};
use super::list::MKDIR;
use super::{MountsError, Owner};
use crate::unpack::UnpackError;

/// A mount that was asked for, with its place.
pub(super) struct Job {
    pub(super) id: String,
    pub(super) owner: Option<Owner>,
    /// The index of its archive, and the digest of the uncompressed content.
    pub(super) archive: Option<(usize, Digest)>,
    /// The steps that make the directory below it, for the daemon that will use the root.
    pub(super) steps: Vec<KeyId>,
    /// The existing result of such a step.
    pub(super) base: Option<RecordId>,
    /// Whether an import was stopped before it published that as the result of the step, so that no build finds
    /// it, nor what is on it.
    pub(super) is_unfinished: bool,
    /// The existing record.
    pub(super) record: Option<RecordId>,
}

/// Returns the name from which the id of the directory is derived that a step makes.
pub(super) fn base_name(step: &KeyId) -> String {
    format!("cache mount permissions {step}")
}

impl Job {
    /// Finds what `state` has of the mount.
    pub(super) fn find(&mut self, state: &State) -> Result<(), MountsError> {
        self.find_base(state)?;
        if self.owner.is_some() && self.base.is_none() {
            return Ok(());
        }
        let key = key(&self.id, self.base.as_ref());
        let mounts = state.cache_mounts();
        let is_it = |record: &RecordId| {
            let record = state.records.by_id.get(record);
            record.is_some_and(|record| record.cache_dir.as_ref() == Some(&key))
        };
        self.record = mounts.into_iter().map(|mount| mount.record).find(is_it);
        Ok(())
    }

    /// Finds the directory below the mount, as a result of its step.
    pub(super) fn find_base(&mut self, state: &State) -> Result<(), MountsError> {
        let results = self.steps.iter().filter_map(|step| state.solver.results.get(step));
        let results = results.flat_map(|results| results.iter().map(|(result, _)| result));
        let records = results.filter(|result| result.worker == state.worker_id);
        for record in records.filter_map(|result| result.record.as_ref()) {
            match state.records.by_id.get(record) {
                Some(known) if known.is_lasting() => self.base = Some(record.clone()),
                Some(_) => return Err(MountsError::Unfinished { id: self.id.clone() }),
                None => continue,
            }
            self.is_unfinished = false;
            return Ok(());
        }
        let known = |step: &KeyId| {
            let id = RecordId::derive(&base_name(step));
            let record = state.records.by_id.get(&id)?;
            let is_ours = record.is_lasting() && record.description.as_deref() == Some(MKDIR);
            is_ours.then_some(id)
        };
        self.base = self.steps.first().and_then(known);
        self.is_unfinished = self.base.is_some();
        Ok(())
    }

    /// Returns whether builds find it in the root.
    pub(super) fn is_there(&self) -> bool {
        self.record.is_some() && !self.is_unfinished
    }

    pub(super) fn kept(&self) -> Option<ImportedMount> {
        let (id, owner, record) = (self.id.clone(), self.owner, self.record.clone()?);
        let outcome = Outcome::Kept;
        Some(ImportedMount { id, owner, outcome, record, entries: 0, bytes: 0 })
    }

    pub(super) fn failed(&self, source: UnpackError) -> MountsError {
        match source {
            UnpackError::Cancelled { .. } => MountsError::Cancelled,
            source => MountsError::Unpack { id: self.id.clone(), source: Box::new(source) },
        }
    }
}
