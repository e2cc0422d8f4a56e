//! The records of SBOM scans without a key.

use std::collections::BTreeSet;

use super::Translation;
use crate::config::{Input, Record, RecordIndex};
use crate::keys::Keyring;

/// Returns the records that others build on, if the key sources know of scanners.
pub(super) fn built_on(records: &[Record], keyring: &Keyring) -> BTreeSet<RecordIndex> {
    let records = records.iter().filter(|_| keyring.knows_scanners());
    records.flat_map(|record| record.inputs.iter().flatten()).map(|input| input.record).collect()
}

impl Translation<'_> {
    /// Returns the scanner, with its name if known, if the record at `index` is that of an SBOM scan: it runs
    /// in an image that the build resolved and none of its ops fetches, it mounts the result of that build,
    /// and nothing builds on it.
    pub(in crate::plan) fn scanner(&self, index: RecordIndex) -> Option<Option<&str>> {
        let unused = !self.built_on.contains(&index);
        let (image, mounted) = self.records[index].inputs.split_first().filter(|_| unused)?;
        let digest = |input: &Input| self.records[input.record].digest;
        self.keyring.scanner(image.iter().map(digest), |results| {
            mounted.iter().flatten().map(digest).any(|digest| results.contains(&digest))
        })
    }
}

#[cfg(test)]
mod tests;
