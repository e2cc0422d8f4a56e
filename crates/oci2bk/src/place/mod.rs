//! Where the parts of a plan have their place in the state that a root holds, be it empty.
//!
//! What is there already is used as it is, found as a daemon finds it (BuildKit v0.32.2
//! `cache/manager.go` `GetByBlob`): a layer by the chain of its blobs, a snapshot by the chain of
//! its trees. All else gets a place of its own beside it.

mod found;
pub(crate) mod steps;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use bkstate::Digest;
use bkstate::ids::RecordId;
use bkstate::state::Existing;
use serde::Serialize;
use typed_index_collections::{TiSlice, TiVec, ti_vec};

use crate::index::by_index;
use crate::plan::{Layer, LayerIndex, Plan, SnapshotIndex};
use found::{Found, Known};

/// The places of a plan in a state.
#[derive(Debug)]
pub(crate) struct Places {
    /// Of the layers of the plan.
    pub(crate) layers: TiVec<LayerIndex, LayerPlace>,
    /// Of the snapshots of the plan.
    pub(crate) snapshots: TiVec<SnapshotIndex, SnapshotPlace>,
    /// The blobs that the store has to have, and does not.
    pub(crate) blobs: BTreeSet<Digest>,
    /// The documents that the store does not have.
    pub(crate) documents: BTreeSet<Digest>,
    /// The records that know nothing but their snapshots and are to be given the rest.
    pub(crate) completed: BTreeSet<RecordId>,
    /// What is wanted of them.
    pub(crate) scope: Scope,
}

/// What of a plan is to be in a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scope {
    /// Whether every layer that a new record or a packed one stands for is to be unpacked.
    pub(crate) extract: bool,
    /// Whether the records of layers are to have their blobs. Those that name one need it either way.
    pub(crate) blobs: bool,
}

/// The record of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LayerPlace {
    /// There is none and need be none: what lies on the layer is there.
    Unneeded,
    /// It is there.
    Existing {
        /// The record to use.
        record: RecordId,
        /// Others with the same content.
        twins: Vec<RecordId>,
    },
    /// One is to be made.
    New(RecordId),
}

/// The snapshot of a chain of layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SnapshotPlace {
    /// It is there.
    Existing {
        /// What records call it.
        key: String,
        /// The id of its directory.
        id: u64,
    },
    /// It is to be unpacked.
    New {
        /// What records will call it.
        key: String,
        /// The id of its directory.
        id: u64,
        /// The blob to unpack, one of those with these files.
        blob: Digest,
    },
    /// There is none; the daemon will make it under this key if it needs it.
    Packed {
        /// What records call it.
        key: String,
    },
}

/// A part of a plan that has no place in the state and needs one. That is a fault of oci2bk, not of a cache or a root.
///
/// ```
/// use oci2bk::convert::{ConvertError, NoPlace};
/// use oci2bk::plan::LayerIndex;
///
/// let error = ConvertError::from(NoPlace::Record(LayerIndex(2)));
/// assert!(!error.is_input());
/// assert!(error.to_string().starts_with("layer 2 of the plan has no record"));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoPlace {
    /// A layer is used and has no record.
    #[error("layer {0} of the plan has no record; this is a fault of oci2bk; report it")]
    Record(LayerIndex),
    /// The record of a layer has no lease.
    #[error(
        "the record of layer {0} of the plan has no lease; this is a fault of oci2bk; report it"
    )]
    Lease(LayerIndex),
    /// A snapshot is handled as one to unpack, and has no place to be unpacked into.
    #[error(
        "snapshot {0} of the plan has no place to be unpacked into; this is a fault of oci2bk; report it"
    )]
    Unpacked(SnapshotIndex),
    /// A snapshot lies on one that is not there.
    #[error("snapshot {0} of the plan lies on nothing; this is a fault of oci2bk; report it")]
    Below(SnapshotIndex),
}

/// How much of something is there already, and how much is new.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Share {
    /// In the root already.
    #[serde(rename = "existing_count")]
    pub existing: usize,
    /// Added to it.
    #[serde(rename = "added_count")]
    pub added: usize,
}

/// How much of a plan a root has already. What the plan has and the root does not need, because
/// all that lies on it is there, does not count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Shares {
    /// Layer records.
    pub records: Share,
    /// Unpacked layers.
    pub snapshots: Share,
    /// Layer blobs.
    pub blobs: Share,
    /// Keys of the solver.
    pub steps: Share,
}

impl LayerPlace {
    pub(crate) fn record(&self) -> Option<&RecordId> {
        match self {
            Self::Unneeded => None,
            Self::Existing { record, .. } | Self::New(record) => Some(record),
        }
    }
}

impl SnapshotPlace {
    pub(crate) fn key(&self) -> &str {
        match self {
            Self::Existing { key, .. } | Self::New { key, .. } | Self::Packed { key } => key,
        }
    }

    /// The id of its directory, if it has one or will have one.
    pub(crate) fn id(&self) -> Option<u64> {
        match self {
            Self::Existing { id, .. } | Self::New { id, .. } => Some(*id),
            Self::Packed { .. } => None,
        }
    }
}

impl Places {
    /// Finds the places of `plan` in `existing`.
    pub(crate) fn new(plan: &Plan, existing: &Existing, scope: Scope) -> Self {
        let found = Found::new(existing);
        let mut records: TiVec<LayerIndex, Vec<Known<'_>>> =
            TiVec::with_capacity(plan.layers.len());
        for layer in &plan.layers {
            // Layers stand after those below them.
            let below = layer.parent.and_then(|parent| records[parent].first().copied());
            records.push(found.records_of(layer, below));
        }
        let mut owners: TiVec<SnapshotIndex, Vec<Known<'_>>> =
            ti_vec![Vec::new(); plan.snapshots.len()];
        for (layer, records) in plan.layers.iter().zip(&records) {
            owners[layer.snapshot].extend(records.first());
        }
        let trees = plan.snapshots.iter().zip(owners);
        let trees: TiVec<SnapshotIndex, _> =
            trees.map(|(snapshot, owners)| found.tree_of(&snapshot.chain_id, &owners)).collect();
        let needs = Needs::new(plan, &records, &trees, scope);
        let missing = |blobs: &mut dyn Iterator<Item = &Digest>| -> BTreeSet<Digest> {
            blobs.filter(|blob| !found.has_blob(blob)).copied().collect()
        };

        let mut taken = BTreeSet::new();
        let layers = plan.layers.iter().zip(records).zip(&needs.records).map(
            |((layer, records), &needed)| match records.as_slice() {
                [] if !needed => LayerPlace::Unneeded,
                [] => LayerPlace::New(found.free_record(layer, &mut taken)),
                [record, twins @ ..] => LayerPlace::Existing {
                    record: record.id.clone(),
                    twins: twins.iter().map(|twin| twin.id.clone()).collect(),
                },
            },
        );
        let (mut added, mut given) = (0, BTreeSet::new());
        let snapshots = plan.snapshots.iter().zip(trees).zip(&needs.trees);
        let snapshots = snapshots.map(|((snapshot, tree), unpack)| {
            let mut key = || found.free_snapshot(&snapshot.chain_id, &mut given);
            match (tree, unpack) {
                (Some((key, id)), _) => SnapshotPlace::Existing { key, id },
                (None, None) => SnapshotPlace::Packed { key: key() },
                (None, Some(blob)) => {
                    added += 1;
                    SnapshotPlace::New {
                        key: key(),
                        id: existing.state.snapshots.sequence + added,
                        blob: *blob,
                    }
                }
            }
        });
        Self {
            layers: layers.collect(),
            snapshots: snapshots.collect(),
            blobs: missing(&mut needs.blobs.iter()),
            documents: missing(&mut plan.documents.keys()),
            completed: needs.completed,
            scope,
        }
    }

    /// Whether there is nothing to be stored or unpacked.
    pub(crate) fn need_no_files(&self) -> bool {
        self.blobs.is_empty() && self.documents.is_empty() && !self.unpack_something()
    }

    /// Whether there is something to be unpacked.
    pub(crate) fn unpack_something(&self) -> bool {
        self.snapshots.iter().any(|place| matches!(place, SnapshotPlace::New { .. }))
    }

    /// The record of a layer.
    ///
    /// # Errors
    /// It has none.
    pub(crate) fn record(&self, layer: LayerIndex) -> Result<&RecordId, NoPlace> {
        self.layers[layer].record().ok_or(NoPlace::Record(layer))
    }

    /// Leaves packed what was to be unpacked at these places and cannot be. The ids that were meant for it
    /// are not given to anything.
    pub(crate) fn leave_packed<'i>(
        &mut self,
        indexes: impl IntoIterator<Item = &'i SnapshotIndex>,
    ) {
        for index in indexes {
            let place = &mut self.snapshots[*index];
            *place = SnapshotPlace::Packed { key: place.key().to_owned() };
        }
    }

    /// The blobs of `plan` that are in the store or will be, with what each is to be unpacked into. Those
    /// of new records that stay packed are to be checked.
    pub(crate) fn work(&self, plan: &Plan) -> BTreeMap<Digest, Vec<SnapshotIndex>> {
        let mut work: BTreeMap<_, Vec<_>> =
            self.blobs.iter().map(|blob| (*blob, Vec::new())).collect();
        for (index, place) in self.snapshots.iter_enumerated() {
            if let SnapshotPlace::New { blob, .. } = place {
                work.entry(*blob).or_default().push(index);
            }
        }
        for (layer, place) in plan.layers.iter().zip(&self.layers) {
            let snapshot = &self.snapshots[layer.snapshot];
            if let (LayerPlace::New(_), SnapshotPlace::Packed { .. }) = (place, snapshot) {
                work.entry(layer.blob).or_default();
            }
        }
        work
    }

    /// How much of `plan` is there; but for the steps, see [`steps`].
    pub(crate) fn shares(&self, plan: &Plan, existing: &Existing) -> Shares {
        let mut shares = Shares::default();
        for place in &self.layers {
            match place {
                LayerPlace::Unneeded => {}
                LayerPlace::Existing { .. } => shares.records.existing += 1,
                LayerPlace::New(_) => shares.records.added += 1,
            }
        }
        for place in &self.snapshots {
            match place {
                SnapshotPlace::Packed { .. } => {}
                SnapshotPlace::Existing { .. } => shares.snapshots.existing += 1,
                SnapshotPlace::New { .. } => shares.snapshots.added += 1,
            }
        }
        for blob in plan.blobs.keys() {
            if self.blobs.contains(blob) {
                shares.blobs.added += 1;
            } else if existing.blobs.contains_key(blob) {
                shares.blobs.existing += 1;
            }
        }
        shares
    }
}

/// What of a plan has to be in the state.
struct Needs {
    /// For each layer, whether it has to have a record.
    records: TiVec<LayerIndex, bool>,
    /// For each snapshot that is to be unpacked, from which blob.
    trees: TiVec<SnapshotIndex, Option<Digest>>,
    /// The blobs that have to be in the store.
    blobs: BTreeSet<Digest>,
    /// The records that are to be given what they lack of their layers.
    completed: BTreeSet<RecordId>,
}

impl Needs {
    /// From the top down: results need their layers, new records their parents, new snapshots what
    /// they lie on.
    fn new(
        plan: &Plan,
        records: &TiSlice<LayerIndex, Vec<Known<'_>>>,
        trees: &TiSlice<SnapshotIndex, Option<(String, u64)>>,
        scope: Scope,
    ) -> Self {
        let mut needs = Self {
            records: named_layers(plan),
            trees: ti_vec![None; plan.snapshots.len()],
            blobs: BTreeSet::new(),
            completed: BTreeSet::new(),
        };
        let mut carries_tree: TiVec<LayerIndex, bool> = ti_vec![false; plan.layers.len()];
        for (index, layer) in by_index(&plan.layers).iter_enumerated().rev() {
            if !needs.records[index] {
                continue;
            }
            let record = records[index].first().copied();
            let new = record.is_none();
            let packed = scope.extract && record.is_none_or(Known::is_packed);
            let unpack = (packed || carries_tree[index]) && trees[layer.snapshot].is_none();
            if unpack {
                needs.trees[layer.snapshot] = Some(layer.blob);
            }
            let names_blob = record.is_some_and(Known::names_blob);
            // One that a conversion without blobs left is given what it lacks, and so are all below
            // it: its chain is made of theirs.
            let blobless = record.filter(|record| scope.blobs && record.is_blobless());
            needs.completed.extend(blobless.map(|record| record.id.clone()));
            if names_blob || scope.blobs && (new || unpack || blobless.is_some()) {
                needs.blobs.insert(layer.blob);
            }
            if let Some(parent) = layer.parent.filter(|_| new || unpack || blobless.is_some()) {
                needs.records[parent] = true;
                carries_tree[parent] |= unpack;
            }
        }
        needs
    }
}

/// For each layer whether a result or a document names it, or nothing of the plan lies on it.
fn named_layers(plan: &Plan) -> TiVec<LayerIndex, bool> {
    let mut named = ti_vec![true; plan.layers.len()];
    let below = plan.layers.iter().filter_map(|layer: &Layer| layer.parent);
    below.for_each(|layer| named[layer] = false);
    let results = plan.steps.iter().flat_map(|step| &step.results).map(|result| result.layer);
    let documents = plan.documents.values().flat_map(|document| &document.layers).copied();
    results.chain(documents).for_each(|layer| named[layer] = true);
    named
}
