//! Assigns places in the state of a root, possibly empty, to the parts of a plan.
//!
//! Existing parts are used as they are, found as a daemon finds them (BuildKit v0.32.2 `cache/manager.go`
//! `GetByBlob`): a layer by the chain of its blobs, a snapshot by the chain of its trees. Everything else
//! gets a new place beside them.

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
    /// The places of the layers of the plan.
    pub(crate) layers: TiVec<LayerIndex, LayerPlace>,
    /// The places of the snapshots of the plan.
    pub(crate) snapshots: TiVec<SnapshotIndex, SnapshotPlace>,
    /// The required blobs that the store lacks.
    pub(crate) blobs: BTreeSet<Digest>,
    /// The required blobs that the store has for other programs only, so that they need no file but a row.
    pub(crate) adopted: BTreeSet<Digest>,
    /// The documents that the store lacks.
    pub(crate) documents: BTreeSet<Digest>,
    /// The records with only a snapshot that are to be completed.
    pub(crate) completed: BTreeSet<RecordId>,
    /// The required parts.
    pub(crate) scope: Scope,
}

/// The parts of a plan that a state must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scope {
    /// Whether every layer of a new record or a packed one is to be unpacked.
    pub(crate) extract: bool,
    /// Whether the records of layers must have their blobs. Those that name a blob need it in any case.
    pub(crate) blobs: bool,
}

/// The record of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LayerPlace {
    /// None, and none is needed: the layers above it exist.
    Unneeded,
    /// It exists.
    Existing {
        /// The record to use.
        record: RecordId,
        /// Others with the same content.
        twins: Vec<RecordId>,
    },
    /// One is to be created.
    New(RecordId),
}

/// The snapshot of a chain of layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SnapshotPlace {
    /// It exists.
    Existing {
        /// Its key in records.
        key: String,
        /// The id of its directory.
        id: u64,
    },
    /// It is to be unpacked.
    New {
        /// Its key in records.
        key: String,
        /// The id of its directory.
        id: u64,
        /// The blob to unpack, one of those with these files.
        blob: Digest,
    },
    /// It does not exist; the daemon will make it under this key if it needs it.
    Packed {
        /// Its key in records.
        key: String,
    },
}

/// A part of a plan that needs a place in the state but has none. That is a fault of oci2bk, not of a cache
/// or a root.
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
    /// A used layer has no record.
    #[error("layer {0} of the plan has no record; this is a fault of oci2bk; report it")]
    Record(LayerIndex),
    /// The record of a layer has no lease.
    #[error(
        "the record of layer {0} of the plan has no lease; this is a fault of oci2bk; report it"
    )]
    Lease(LayerIndex),
    /// A snapshot is treated as one to unpack, but has no place.
    #[error(
        "snapshot {0} of the plan has no place to be unpacked into; this is a fault of oci2bk; report it"
    )]
    Unpacked(SnapshotIndex),
    /// The parent of a snapshot does not exist.
    #[error("snapshot {0} of the plan lies on nothing; this is a fault of oci2bk; report it")]
    Below(SnapshotIndex),
}

/// The numbers of existing and of new items.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Share {
    /// Existing in the root.
    #[serde(rename = "existing_count")]
    pub existing: usize,
    /// Added to it.
    #[serde(rename = "added_count")]
    pub added: usize,
}

/// How much of a plan a root has already. Parts of the plan that the root does not need, because everything
/// above them exists, do not count.
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

    /// Returns the id of its directory, if it has one or will have one.
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
            // Layers come after those below them.
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
        let has_file = |blob: &Digest| {
            let size = plan.blobs.get(blob).map(|blob| blob.size);
            existing.blobs.get(blob).is_some_and(|found| Some(*found) == size)
        };
        let (adopted, blobs) = missing(&mut needs.blobs.iter()).into_iter().partition(has_file);
        Self {
            layers: layers.collect(),
            snapshots: snapshots.collect(),
            blobs,
            adopted,
            documents: missing(&mut plan.documents.keys()),
            completed: needs.completed,
            scope,
        }
    }

    /// Returns whether there is nothing to store or unpack.
    pub(crate) fn need_no_files(&self) -> bool {
        self.blobs.is_empty() && self.documents.is_empty() && !self.unpack_something()
    }

    /// Returns whether there is anything to unpack.
    pub(crate) fn unpack_something(&self) -> bool {
        self.snapshots.iter().any(|place| matches!(place, SnapshotPlace::New { .. }))
    }

    /// Returns the record of a layer.
    ///
    /// # Errors
    /// Returns an error if it has none.
    pub(crate) fn record(&self, layer: LayerIndex) -> Result<&RecordId, NoPlace> {
        self.layers[layer].record().ok_or(NoPlace::Record(layer))
    }

    /// Leaves the snapshots at these indexes packed, because they cannot be unpacked. Their reserved ids stay
    /// unused.
    pub(crate) fn leave_packed<'i>(
        &mut self,
        indexes: impl IntoIterator<Item = &'i SnapshotIndex>,
    ) {
        for index in indexes {
            let place = &mut self.snapshots[*index];
            *place = SnapshotPlace::Packed { key: place.key().to_owned() };
        }
    }

    /// Returns the blobs of `plan` that are in the store or will be, with the snapshots to unpack each into.
    /// Blobs of new records that stay packed are to be checked.
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

    /// Returns how much of `plan` exists, except steps, see [`steps`].
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

/// The parts of a plan that the state must have.
struct Needs {
    /// For each layer, whether it must have a record.
    records: TiVec<LayerIndex, bool>,
    /// For each snapshot to unpack, its blob.
    trees: TiVec<SnapshotIndex, Option<Digest>>,
    /// The blobs that the store must have.
    blobs: BTreeSet<Digest>,
    /// The records that are to be completed with data of their layers.
    completed: BTreeSet<RecordId>,
}

impl Needs {
    /// From the top down: results need their layers, new records their parents, new snapshots those below
    /// them.
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
            // A record that a conversion without blobs left is completed, and so are all below it: its chain
            // depends on theirs.
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

/// Returns, for each layer, whether a result or a document names it, or no layer of the plan is on top of it.
fn named_layers(plan: &Plan) -> TiVec<LayerIndex, bool> {
    let mut named = ti_vec![true; plan.layers.len()];
    let below = plan.layers.iter().filter_map(|layer: &Layer| layer.parent);
    below.for_each(|layer| named[layer] = false);
    let results = plan.steps.iter().flat_map(|step| &step.results).map(|result| result.layer);
    let documents = plan.documents.values().flat_map(|document| &document.layers).copied();
    results.chain(documents).for_each(|layer| named[layer] = true);
    named
}
