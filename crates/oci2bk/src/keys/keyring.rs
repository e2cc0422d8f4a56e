//! Verified op digests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bkstate::Digest;

use super::source::{Candidate, SourceDescription};
use crate::llb::{Encoding, OpDigest, Vertex};

/// The op digest of a record, proved by the record's own digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// What the solver calls the op.
    pub op_digest: OpDigest,
    /// Which of the op's outputs the record is.
    pub output: u32,
    /// The step in the words of a Dockerfile, where the source tells it.
    pub name: Option<String>,
    /// The source it came from, as an index into [`Keyring::sources`].
    pub source: usize,
    /// The releases of BuildKit that call the op so, where the digest was computed.
    pub encoding: Option<Encoding>,
    /// The op, where any source has it.
    pub vertex: Option<Arc<Vertex>>,
}

/// What came of one key source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceSummary {
    /// What the source is.
    pub description: SourceDescription,
    /// How many op digests it offered.
    pub candidates: usize,
    /// How many records it resolved that no source before it had.
    pub resolved: usize,
}

/// The records whose op digests are known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Keyring {
    records: BTreeMap<Digest, Resolved>,
    sources: Vec<SourceSummary>,
}

impl Keyring {
    /// A keyring without keys.
    pub fn new() -> Self {
        Self::default()
    }

    /// Tries every output of every candidate and keeps those that name a record in `wanted`, which
    /// are the digests of all records that have inputs.
    ///
    /// A record that is already resolved stays as it is: the first source wins, and in a source
    /// the first candidate. Only the op is learnt later, if the first did not have it.
    pub fn add(
        &mut self,
        description: SourceDescription,
        candidates: impl IntoIterator<Item = Candidate>,
        wanted: &BTreeSet<Digest>,
    ) {
        let source = self.sources.len();
        let resolved_before = self.records.len();
        let mut count = 0;
        for candidate in candidates {
            count += 1;
            for output in 0..candidate.outputs {
                let record = candidate.op_digest.record(output);
                if wanted.contains(&record) {
                    let resolved = self.records.entry(record).or_insert_with(|| Resolved {
                        op_digest: candidate.op_digest.clone(),
                        output,
                        name: candidate.name.clone(),
                        source,
                        encoding: candidate.encoding,
                        vertex: None,
                    });
                    if resolved.vertex.is_none() {
                        resolved.vertex.clone_from(&candidate.vertex);
                    }
                }
            }
        }
        let resolved = self.records.len() - resolved_before;
        self.sources.push(SourceSummary { description, candidates: count, resolved });
    }

    /// The op digest of `record`, if it is known.
    pub fn get(&self, record: &Digest) -> Option<&Resolved> {
        self.records.get(record)
    }

    /// All resolved records, by their digests.
    pub fn iter(&self) -> impl Iterator<Item = (&Digest, &Resolved)> {
        self.records.iter()
    }

    /// How many records are resolved.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether no record is resolved.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The sources, in the order they were added.
    pub fn sources(&self) -> &[SourceSummary] {
        &self.sources
    }
}
