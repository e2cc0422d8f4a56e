//! One item of a root, and everything related to it.

use std::collections::BTreeSet;

use bkstate::Digest;
use bkstate::ids::{KeyId, RecordId};

use super::{Key, Record, Root};
use crate::inspect::names;

impl Root {
    /// Returns only the part that `word` names, with related parts: keys, the records of their results, their
    /// snapshots, blobs and leases, and the records and keys next to those. `word` is an id or a digest of
    /// any kind or a prefix of one. `None` if it names nothing.
    pub fn only(mut self, word: &str) -> Option<Self> {
        let is = |id: &str| names(word, id);
        let is_digest = |digest: &Digest| is(&digest.to_string());
        let of_key = |key: &Key| {
            is(&key.id.text()) || key.inputs.iter().any(|input| is(&input.link.digest.text()))
        };
        let keys: BTreeSet<KeyId> =
            self.keys.iter().filter(|key| of_key(key)).map(|key| key.id.clone()).collect();
        let of_record = |record: &Record| {
            let stored = &record.stored;
            let digests = [&stored.blob, &stored.diff_id, &stored.chain_id, &stored.blob_chain_id];
            let texts = [&stored.snapshot, &stored.cache_dir, &stored.shared_key];
            is(record.id.as_str())
                || digests.into_iter().flatten().any(is_digest)
                || texts.into_iter().flatten().any(|text| is(text))
                || record.keys.iter().any(|key| keys.contains(key))
        };
        let named = || self.records.iter().filter(|record| of_record(record));
        let mut records: BTreeSet<RecordId> = named().map(|record| record.id.clone()).collect();
        // Until a record is finalised, its mutable twin has the snapshot and the lease.
        records.extend(named().filter_map(|record| record.stored.equal_mutable.clone()));
        self.snapshots.retain(|snapshot| {
            is(&snapshot.key) || snapshot.records.iter().any(|id| records.contains(id))
        });
        let meant = || self.records.iter().filter(|record| records.contains(&record.id));
        let of_records: BTreeSet<Digest> =
            meant().filter_map(|record| record.stored.blob).collect();
        let snapshots: BTreeSet<String> =
            self.snapshots.iter().map(|snapshot| snapshot.key.clone()).collect();
        self.blobs.retain(|blob| of_records.contains(&blob.digest) || is_digest(&blob.digest));
        let blobs: BTreeSet<Digest> = self.blobs.iter().map(|blob| blob.digest).collect();
        self.leases.retain(|lease| {
            is(&lease.id)
                || lease.record.as_ref().is_some_and(|id| records.contains(id))
                || !lease.blobs.is_disjoint(&blobs)
                || !lease.snapshots.is_disjoint(&snapshots)
        });
        self.builds
            .retain(|build| is(&build.reference) || build.blobs.iter().any(|digest| is(digest)));
        let nothing = keys.is_empty()
            && records.is_empty()
            && snapshots.is_empty()
            && blobs.is_empty()
            && self.leases.is_empty()
            && self.builds.is_empty();
        if nothing {
            return None;
        }

        let of_results: BTreeSet<KeyId> =
            meant().flat_map(|record| &record.keys).chain(&keys).cloned().collect();
        let mut near = of_results.clone();
        for key in &self.keys {
            let leads_from = key.inputs.iter().map(|input| &input.from);
            if of_results.contains(&key.id) {
                near.extend(leads_from.cloned());
            } else if leads_from.into_iter().any(|from| of_results.contains(from)) {
                near.insert(key.id.clone());
            }
        }
        let mut kept = records.clone();
        for record in &self.records {
            if records.contains(&record.id) {
                kept.extend(record.parents().chain(&record.stored.equal_mutable).cloned());
            } else if record.parents().any(|parent| records.contains(parent)) {
                kept.insert(record.id.clone());
            }
        }
        self.keys.retain(|key| near.contains(&key.id));
        self.records.retain(|record| kept.contains(&record.id));
        Some(self)
    }
}
