//! The records of SBOM scans for which there is no key.

use std::collections::BTreeSet;

use super::Translation;
use crate::config::{Input, Record};
use crate::keys::Keyring;

/// The records that others build on, if the key sources know of scanners.
pub(super) fn built_on(records: &[Record], keyring: &Keyring) -> BTreeSet<usize> {
    let records = records.iter().filter(|_| keyring.knows_scanners());
    records.flat_map(|record| record.inputs.iter().flatten()).map(|input| input.record).collect()
}

impl Translation<'_> {
    /// The scanner, as far as its name is known, if the record number `index` is that of an SBOM scan: it
    /// runs in an image that the build resolved and none of its ops fetches, it mounts what came of that
    /// very build, and nothing builds on it.
    pub(in crate::plan) fn scanner(&self, index: usize) -> Option<Option<&str>> {
        let record = self.records.get(index).filter(|_| !self.built_on.contains(&index))?;
        let (image, mounted) = record.inputs.split_first()?;
        let digest = |input: &Input| self.records.get(input.record).map(|record| record.digest);
        self.keyring.scanner(image.iter().filter_map(digest), |results| {
            mounted.iter().flatten().filter_map(digest).any(|digest| results.contains(&digest))
        })
    }
}

#[cfg(test)]
mod tests;
