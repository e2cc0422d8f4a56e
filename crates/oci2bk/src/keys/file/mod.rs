//! Keys files: op digests without the ops, to keep and to hand on.
//!
//! A keys file has the op digests that other sources gave, in every encoding that was known, and
//! for each op one word that says what kind of step it is. It has no arguments, environment, paths
//! or names, so whoever reads it learns no more than that (`docs/format/keys-file.md`). Like any
//! source it is not trusted: only digests that name a record count.

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

/// The most outputs that a keys file may have tried of an op, as of a donor's `cache.db`.
const MOST_OUTPUTS: u32 = 1024;

/// The content of a keys file: each op once, in an order that depends on nothing but the ops.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeysFile {
    ops: BTreeMap<Digests, About>,
    /// How SBOM scans show, without names of images.
    scans: Scans,
}

/// The digests of an op, newest class first; those of no known class before all others.
type Digests = Vec<(Option<Class>, OpDigest)>;

/// What is known of an op besides its digests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct About {
    outputs: u32,
    step: Option<&'static str>,
    builder: Option<Span>,
}

impl KeysFile {
    /// What `sources` offer, whatever their order.
    ///
    /// Only digests are taken, and the JSON that v0.11 and v0.12 have in the place of the digests
    /// of merge and diff ops. No release has anything else on a link; what a damaged or made up
    /// `cache.db` may have could be anything, and stays out.
    pub fn from_sources<'a>(sources: impl IntoIterator<Item = &'a KeySource>) -> Self {
        let mut ops = Self::default();
        for source in sources {
            ops.scans.extend(source.scans.unnamed());
            // The candidates of an op follow each other, newest class first.
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

    /// The ops that have one of the records `wanted` as output, and how many of these they name.
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

    /// How many outputs of ops there are to try.
    pub(super) fn outputs(&self) -> u64 {
        let of_op = |(digests, about): (&Digests, &About)| {
            u64::from(about.outputs).saturating_mul(digests.len() as u64)
        };
        self.ops.iter().map(of_op).fold(0, u64::saturating_add)
    }

    /// How many ops there are.
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Whether there are no ops.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// What the file offers; the candidates of an op follow each other, newest class first.
    pub fn candidates(&self) -> Vec<Candidate> {
        let mut ops: Vec<_> = self.ops.iter().collect();
        // Ops whose newest class is older come first: then no op starts with an older class than
        // the one before it ends with, and `from_sources` can tell them apart.
        ops.sort_by_key(|(digests, _)| std::cmp::Reverse(digests.first().and_then(|d| d.0)));
        let of_op = |(digests, about): (&Digests, &About)| -> Vec<Candidate> {
            let About { outputs, step, builder } = *about;
            let name = step.map(str::to_owned);
            let candidate = |(class, op_digest): &(Option<Class>, OpDigest)| Candidate {
                op_digest: op_digest.clone(),
                outputs,
                name: name.clone(),
                encoding: class.map(Encoding::from),
                // The digests of other classes are only the file's word, so there is no op.
                vertex: None,
                builder,
            };
            digests.iter().map(candidate).collect()
        };
        ops.into_iter().flat_map(of_op).collect()
    }

    /// Adds an op. Of two with the same digests it becomes one that has what either has.
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

    /// Lets ops of which only one digest is known, as a `cache.db` has them, go up in those that
    /// have this digest among others or know its class.
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
    /// What `file` offers.
    pub(crate) fn from_keys_file(file: &KeysFile, description: SourceDescription) -> Self {
        let scans = file.scans.clone();
        Self { scans, ..Self::from_digests(file.candidates(), description) }
    }
}

/// Whether nothing is known but one digest.
fn is_bare(digests: &Digests) -> bool {
    matches!(digests.as_slice(), [(None, _)])
}
