//! The snapshot keys of layers, and which layers daemons share.
//!
//! When a daemon unpacks a layer, the key of its snapshot is made from its chainID. Up to v0.33.0 the key was
//! the chainID itself, and these daemons did not check that the unpacked layer has the diffID that the image
//! claims. v0.33.1 and later have another form of key, and do not share a layer with an image or a cache if
//! it or a layer below it has the old one: it is *legacy*. Older daemons use the key that a record states, so
//! the new form works with every release (BuildKit v0.34.2 `snapshot/snapshotid.go`, `cache/manager.go`
//! `GetByBlob`, `isLegacyLayerRecord`).
//!
//! ```
//! use std::collections::BTreeMap;
//!
//! use bkstate::Digest;
//! use bkstate::ids::RecordId;
//! use bkstate::layers;
//! use bkstate::records::{Record, Records};
//!
//! let chain_id = Digest::of("a layer");
//! let key = layers::snapshot_key(&chain_id);
//! assert_eq!(key, format!("buildkit-layer-snapshot-v1-sha256-{}", chain_id.hex()));
//! let legacy = layers::legacy_snapshot_key(&chain_id);
//! assert_eq!(layers::legacy_chain_id(&legacy), Some(chain_id));
//! assert!(layers::is_unpacked(&key) && layers::is_unpacked(&legacy));
//! assert!(!layers::is_unpacked(RecordId::derive("a step").as_str()));
//!
//! let layer = Record {
//!     blob: Some(Digest::of("its blob")),
//!     chain_id: Some(chain_id),
//!     snapshot: Some(legacy),
//!     ..Record::default()
//! };
//! assert!(layers::is_legacy(&layer));
//! assert!(!layers::is_legacy(&Record { snapshot: Some(key), ..layer.clone() }));
//!
//! // A layer on top of a legacy layer is not shared either.
//! let (base, top) = (RecordId::derive("base"), RecordId::derive("top"));
//! let step = Record { parent: Some(base.clone()), ..Record::default() };
//! let by_id = BTreeMap::from([(base.clone(), layer), (top.clone(), step)]);
//! let records = Records { by_id, external: BTreeMap::new() };
//! assert_eq!(layers::depend_on_legacy(&records), [&base, &top].into());
//! ```

use std::collections::{BTreeMap, BTreeSet};

use crate::digest::Digest;
use crate::ids::RecordId;
use crate::records::{Record, Records};

/// The part of a snapshot key before algorithm and digest (BuildKit v0.34.2 `snapshot/snapshotid.go`).
const PREFIX: &str = "buildkit-layer-snapshot-v1-";

/// Returns the key that daemons since v0.33.1 give the snapshot of the layer with this chainID. It means that
/// the diffIDs of the layer and of all below it were checked when they were unpacked.
pub fn snapshot_key(chain_id: &Digest) -> String {
    format!("{PREFIX}sha256-{}", chain_id.hex())
}

/// Returns the key that daemons before v0.33.1 give it.
pub fn legacy_snapshot_key(chain_id: &Digest) -> String {
    chain_id.to_string()
}

/// Returns the chainID in `key`, if it is a [legacy key](legacy_snapshot_key).
pub fn legacy_chain_id(key: &str) -> Option<Digest> {
    key.parse().ok()
}

/// Returns the chainID in `key`, in either form.
///
/// ```
/// use bkstate::{Digest, layers};
///
/// let chain_id = Digest::of("a layer");
/// for key in [layers::snapshot_key(&chain_id), layers::legacy_snapshot_key(&chain_id)] {
///     assert_eq!(layers::chain_id_of(&key), Some(chain_id));
/// }
/// assert_eq!(layers::chain_id_of("the id of a record"), None);
/// ```
pub fn chain_id_of(key: &str) -> Option<Digest> {
    let hex = key.strip_prefix(PREFIX).and_then(|rest| rest.strip_prefix("sha256-"));
    match hex {
        Some(hex) => format!("sha256:{hex}").parse().ok(),
        None => legacy_chain_id(key),
    }
}

/// Returns whether a snapshot with this key was unpacked from a layer, by a daemon of any release. A snapshot
/// that a step made has the id of its record as key.
pub fn is_unpacked(key: &str) -> bool {
    key.starts_with(PREFIX) || legacy_chain_id(key).is_some()
}

/// Returns whether the record is of a layer whose snapshot has a key from before v0.33.1.
pub fn is_legacy(record: &Record) -> bool {
    let key = || record.chain_id.as_ref().map(legacy_snapshot_key);
    !record.is_composed()
        && record.blob.is_some()
        && record.snapshot.is_some()
        && record.snapshot == key()
}

/// Returns the records that are legacy or build on a legacy one. Daemons since v0.33.1 use them, but do not
/// share them with an image or a cache (BuildKit v0.34.2 `cache/manager.go` `hasLegacyLayerSnapshotID`).
pub fn depend_on_legacy(records: &Records) -> BTreeSet<&RecordId> {
    depend_on(records, is_legacy)
}

/// Returns the records that are `wanted` or build on one that is.
pub(crate) fn depend_on(
    records: &Records,
    wanted: impl Fn(&Record) -> bool,
) -> BTreeSet<&RecordId> {
    let mut above: BTreeMap<&RecordId, Vec<&RecordId>> = BTreeMap::new();
    for (id, record) in &records.by_id {
        record.parents().for_each(|parent| above.entry(parent).or_default().push(id));
    }
    let wanted = records.by_id.iter().filter(|(_, record)| wanted(record));
    let mut next: Vec<_> = wanted.map(|(id, _)| id).collect();
    let mut found = BTreeSet::new();
    while let Some(id) = next.pop() {
        if found.insert(id) {
            next.extend(above.get(id).into_iter().flatten().copied());
        }
    }
    found
}
