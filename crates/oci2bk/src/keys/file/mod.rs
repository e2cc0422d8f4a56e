//! Keys files: op digests without the ops, to keep and to share.
//!
//! A keys file has the op digests of other sources, in every known encoding, and for each op one word for the
//! kind of step. It has no arguments, environment, paths or names, so a reader learns nothing else
//! ([`docs/format/keys-file.md`]). Like any source it is not trusted: only digests that name a record count.
//!
//! [`docs/format/keys-file.md`]: https://github.com/oci2bk/oci2bk/blob/main/docs/format/keys-file.md

mod document;
mod step;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use bkstate::Digest;
use llb::release::Span;
use llb::{Encoding, OpDigest};

use super::scan::Scans;
use super::source::{Candidate, KeySource, SourceDescription};

use document::Class;
pub(super) use document::is_keys_file;
pub use document::{KEYS_MEDIA_TYPE, KeysFileError, MAX_DOCUMENT_BYTES};

/// Maximum number of outputs of an op in a keys file, as in a `cache.db`.
const MOST_OUTPUTS: u32 = 1024;

/// The content of a keys file: each op once, in an order that depends only on the ops.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeysFile {
    ops: BTreeMap<Digests, About>,
    /// The data to recognise SBOM scans, without names of images.
    scans: Scans,
}

/// The digests of an op, newest class first; those of unknown classes before all others.
type Digests = Vec<(Option<Class>, OpDigest)>;

/// The data about an op except its digests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct About {
    outputs: u32,
    step: Option<&'static str>,
    builder: Option<Span>,
}

impl KeysFile {
    /// Collects the keys of `sources`, independent of their order.
    ///
    /// Only digests are included, and the JSON that v0.11 and v0.12 have instead of the digests of merge and
    /// diff ops. No release has anything else on a link; other text in a damaged or false `cache.db` could be
    /// anything, and is excluded.
    pub fn from_sources<'a>(sources: impl IntoIterator<Item = &'a KeySource>) -> Self {
        let mut ops = Self::default();
        for source in sources {
            ops.scans.extend(source.scans.unnamed());
            // The candidates of an op are adjacent, newest class first.
            let of_ops = source.candidates.chunk_by(|before, next| {
                Option::zip(before.encoding, next.encoding)
                    .is_some_and(|(before, next)| Class::from(before) < Class::from(next))
            });
            for candidates in of_ops {
                let told = candidates.iter().filter(|c| document::tells_nothing(&c.op_digest));
                let digests = told.map(|c| (c.encoding.map(Class::from), c.op_digest.clone()));
                let outputs = candidates.iter().map(|candidate| candidate.outputs);
                let outputs = outputs.fold(1, u32::max).min(MOST_OUTPUTS);
                let step = candidates.iter().find_map(|c| step::kind(c.name.as_deref()?));
                let told = candidates.iter().map(|candidate| candidate.builder);
                let builder = told.fold(None, Span::of_either);
                ops.insert(digests.collect(), About { outputs, step, builder });
            }
        }
        ops.unite();
        ops
    }

    /// Returns the ops that have one of the records `wanted` as output, and the number of records that they
    /// name.
    pub fn of_records(&self, wanted: &BTreeSet<Digest>) -> (Self, usize) {
        let mut named = BTreeSet::new();
        let mut ops = BTreeMap::new();
        for (digests, about) in &self.ops {
            let records = digests.iter().flat_map(|(_, op_digest)| {
                (0..about.outputs).map(|output| op_digest.record(output))
            });
            let of_op: Vec<_> = records.filter(|record| wanted.contains(record)).collect();
            if !of_op.is_empty() {
                ops.insert(digests.clone(), *about);
            }
            named.extend(of_op);
        }
        (Self { ops, scans: self.scans.of_records(wanted) }, named.len())
    }

    /// Returns the number of outputs of ops to try.
    pub(super) fn outputs(&self) -> u64 {
        let of_op = |(digests, about): (&Digests, &About)| {
            u64::from(about.outputs).saturating_mul(digests.len() as u64)
        };
        self.ops.iter().map(of_op).fold(0, u64::saturating_add)
    }

    /// Returns the number of ops.
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Returns whether there are no ops.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Returns the candidates of the file; those of an op are adjacent, newest class first.
    pub fn candidates(&self) -> Vec<Candidate> {
        let mut ops: Vec<_> = self.ops.iter().collect();
        // Ops whose newest class is older come first: then no op starts with an older class than the one
        // before it ends with, and `from_sources` can separate them.
        ops.sort_by_key(|(digests, _)| std::cmp::Reverse(digests.first().and_then(|d| d.0)));
        let of_op = |(digests, about): (&Digests, &About)| -> Vec<Candidate> {
            let About { outputs, step, builder } = *about;
            let name = step.map(str::to_owned);
            let candidate = |(class, op_digest): &(Option<Class>, OpDigest)| Candidate {
                op_digest: op_digest.clone(),
                outputs,
                name: name.clone(),
                encoding: class.map(Encoding::from),
                // The digests of other classes are only the file's claim, so there is no op.
                vertex: None,
                builder,
            };
            digests.iter().map(candidate).collect()
        };
        ops.into_iter().flat_map(of_op).collect()
    }

    /// Adds an op. Two with the same digests become one with the data of both.
    fn insert(&mut self, mut digests: Digests, about: About) {
        digests.sort();
        digests.dedup();
        if digests.is_empty() {
            return;
        }
        let known = self.ops.entry(digests).or_insert(about);
        known.outputs = known.outputs.max(about.outputs);
        known.step = known.step.into_iter().chain(about.step).min();
        known.builder = Span::of_either(known.builder, about.builder);
    }

    /// Merges ops with only one known digest, as in a `cache.db`, into those that have this digest among
    /// others or know its class.
    fn unite(&mut self) {
        let mut holders = BTreeMap::<OpDigest, Vec<Digests>>::new();
        for digests in self.ops.keys().filter(|digests| !is_bare(digests)) {
            for (_, op_digest) in digests {
                holders.entry(op_digest.clone()).or_default().push(digests.clone());
            }
        }
        let bare: Vec<_> = self.ops.keys().filter(|digests| is_bare(digests)).cloned().collect();
        for digests in bare {
            let holders = digests.first().and_then(|(_, op_digest)| holders.get(op_digest));
            if let Some(holders) = holders
                && let Some(about) = self.ops.remove(&digests)
            {
                holders.iter().for_each(|holder| self.insert(holder.clone(), about));
            }
        }
    }
}

impl KeySource {
    /// Returns the candidates of `file`.
    pub(crate) fn from_keys_file(file: &KeysFile, description: SourceDescription) -> Self {
        let scans = file.scans.clone();
        Self { scans, ..Self::from_digests(file.candidates(), description) }
    }
}

/// Returns whether only one digest is known.
fn is_bare(digests: &Digests) -> bool {
    matches!(digests.as_slice(), [(None, _)])
}
