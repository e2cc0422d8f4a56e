//! Checks the leases of `containerdmeta.db`: whether they keep what the records need, for as long as needed.

use std::collections::BTreeSet;

use crate::ids::RecordId;
use crate::metadata::{
    LABEL_GC_EXPIRE, LABEL_PENDING, LABEL_TEMPORARY, Lease, Namespace, SUFFIX_VARIANTS, SUFFIX_VIEW,
};
use crate::state::State;

use super::Findings;

/// Prefix of the leases of build history before v0.12, which keeps them beside those of layers (BuildKit
/// v0.11.6 `solver/llbsolver/history.go` `leaseID`).
const HISTORY_PREFIX: &str = "ref_";

/// Damage to a lease.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LeaseDamage {
    /// No lease of a record keeps its blob or its snapshot.
    #[error("metadata: no lease keeps the {what} of record {record}")]
    Unleased {
        /// The record.
        record: RecordId,
        /// `blob` or `snapshot`.
        what: &'static str,
    },
    /// A record's lease has the label of leases that a starting daemon deletes.
    #[error("metadata: the lease of record {record} is temporary")]
    Temporary {
        /// The record.
        record: RecordId,
    },
    /// A record's lease expires.
    #[error("metadata: the lease of record {record} expires at {at:?}")]
    Expires {
        /// The record.
        record: RecordId,
        /// The label.
        at: String,
    },
    /// A lease belongs to nothing, and no daemon will ever remove it.
    #[error("metadata: the lease {id:?} belongs to no record")]
    Stray {
        /// The lease.
        id: String,
    },
}

impl LeaseDamage {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Unleased { .. } => "unleased",
            Self::Temporary { .. } => "temporary-lease",
            Self::Expires { .. } => "expiring-lease",
            Self::Stray { .. } => "stray-lease",
        }
    }

    // containerd v2.3.3 core/metadata/gc.go scanRoots; BuildKit v0.32.2 control/control.go gc,
    // worker/base/worker.go NewWorker.
    pub(super) fn consequence(&self) -> &'static str {
        match self {
            Self::Unleased { .. } => {
                "the first collection of garbage, a second after the start, removes what no other \
                 lease keeps; the build that needs it fails"
            }
            Self::Temporary { .. } => {
                "the daemon deletes the lease when it starts, and then collects what it kept; the \
                 build that needs it fails"
            }
            Self::Expires { .. } => {
                "the lease does not count from then on, and what it keeps is collected; the build \
                 that needs it fails"
            }
            Self::Stray { .. } => "what the lease keeps is never removed; it costs space",
        }
    }
}

pub(super) fn check(
    state: &State,
    namespace: &Namespace,
    abandoned: &BTreeSet<RecordId>,
    findings: &mut Findings,
) {
    let State { worker, records, .. } = state;
    for (id, record) in &records.by_id {
        // The twin of a mutable record gets its lease together with its snapshot.
        if record.is_removed() || record.equal_mutable.is_some() || abandoned.contains(id) {
            continue;
        }
        let lease = namespace.leases.get(id.as_str());
        let snapshots = lease.and_then(|lease| worker.kept_by(lease));
        if !snapshots.is_some_and(|keys| keys.contains(record.snapshot_key(id))) {
            findings.add(LeaseDamage::Unleased { record: id.clone(), what: "snapshot" });
        }
        let keeps = |blob| lease.is_some_and(|lease| lease.content.contains(blob));
        if record.blob.as_ref().is_some_and(|blob| !keeps(blob)) {
            findings.add(LeaseDamage::Unleased { record: id.clone(), what: "blob" });
        }
        if let Some(lease) = lease {
            check_labels(id, lease, findings);
        }
    }
    for (id, lease) in &namespace.leases {
        let owner = id.strip_suffix(SUFFIX_VIEW).or_else(|| id.strip_suffix(SUFFIX_VARIANTS));
        let owner = RecordId::new(owner.unwrap_or(id)).ok();
        let owned = owner.is_some_and(|owner| records.by_id.contains_key(&owner));
        let passing = [LABEL_TEMPORARY, LABEL_GC_EXPIRE];
        let passes = passing.iter().any(|label| lease.labels.contains_key(*label));
        // Others have leases in a containerd.
        let ours = !worker.shares_storage() || lease.labels.contains_key(LABEL_PENDING);
        if ours && !owned && !passes && !id.starts_with(HISTORY_PREFIX) {
            findings.add(LeaseDamage::Stray { id: id.clone() });
        }
    }
}

fn check_labels(id: &RecordId, lease: &Lease, findings: &mut Findings) {
    if lease.labels.contains_key(LABEL_TEMPORARY) {
        findings.add(LeaseDamage::Temporary { record: id.clone() });
    }
    if let Some(at) = lease.labels.get(LABEL_GC_EXPIRE) {
        findings.add(LeaseDamage::Expires { record: id.clone(), at: at.clone() });
    }
}
