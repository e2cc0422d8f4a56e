//! Reports of conversions as data, with the members of the schema `convert.json`.

use std::collections::BTreeSet;

use bkstate::Digest;
use bkstate::ids::WorkerId;
use serde::Serialize;
use serde::ser::Serializer;

use super::{LeftPacked, Report, Shares};
use crate::layout::BadCopy;

#[derive(Serialize)]
struct Document<'r> {
    root: String,
    worker_id: &'r WorkerId,
    stored: Stored,
    replaced_blobs: &'r BTreeSet<Digest>,
    mended_layer_count: usize,
    different_layers: &'r BTreeSet<Digest>,
    trailing_data: Vec<TrailingData>,
    bad_copies: &'r BTreeSet<BadCopy>,
    unleased_blobs: &'r BTreeSet<Digest>,
    left_packed: &'r [LeftPacked],
    shares: Shares,
}

/// Additions to the root: counts, and sizes in bytes.
#[derive(Serialize)]
struct Stored {
    snapshot_count: usize,
    blob_count: usize,
    blob_size: u64,
    /// Total of the uncompressed layers.
    unpacked_size: u64,
    disk_size: u64,
    /// Total of the layers' archives.
    entry_count: u64,
    /// Devices among them, which a rootless daemon leaves out.
    left_out_count: u64,
}

/// Trailing bytes after the gzip stream of a layer.
#[derive(Serialize)]
struct TrailingData {
    blob: Digest,
    size: u64,
}

impl Serialize for Report {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let trailing = self.trailing.iter();
        let document = Document {
            root: self.root.to_string_lossy().into_owned(),
            worker_id: &self.worker_id,
            stored: Stored {
                snapshot_count: self.snapshots,
                blob_count: self.blobs,
                blob_size: self.blob_bytes,
                unpacked_size: self.unpacked_bytes,
                disk_size: self.disk_bytes,
                entry_count: self.entries,
                left_out_count: self.left_out,
            },
            replaced_blobs: &self.mended,
            mended_layer_count: self.legacy.mended.len(),
            different_layers: &self.legacy.different,
            trailing_data: trailing.map(|(&blob, &size)| TrailingData { blob, size }).collect(),
            bad_copies: &self.bad_copies,
            unleased_blobs: &self.unleased,
            left_packed: &self.left_packed,
            shares: self.shares,
        };
        document.serialize(serializer)
    }
}
