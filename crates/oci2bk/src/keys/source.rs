//! What a key source offers.

use std::fmt;
use std::path::PathBuf;

use crate::llb::{self, Encoding, NotComputable, Op, OpDigest, Provenance};

/// An op digest that a source offers, not proved yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// What the solver would call the op.
    pub op_digest: OpDigest,
    /// How many outputs to try: `0..outputs`.
    pub outputs: u32,
    /// The step in the words of a Dockerfile, where the source tells it.
    pub name: Option<String>,
    /// The releases that would call the op so, where the digest was computed.
    pub encoding: Option<Encoding>,
}

/// One document with op digests, or with ops.
#[derive(Debug)]
pub struct KeySource {
    /// What it is.
    pub description: SourceDescription,
    /// What it offers, the most likely encoding of each op first.
    pub candidates: Vec<Candidate>,
    /// The steps it has that no digest can be computed for, sources left out.
    pub uncomputable: Vec<Uncomputable>,
}

/// A step whose op digest its source does not determine.
#[derive(Debug)]
pub struct Uncomputable {
    /// The step in the words of a Dockerfile.
    pub name: String,
    /// Why.
    pub reason: NotComputable,
}

/// What a key source is, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceDescription {
    /// The file or directory.
    pub path: PathBuf,
    /// What kind of document.
    pub kind: SourceKind,
    /// Which part of it, if it has several: a platform, a target or the digest of a blob.
    pub part: Option<String>,
}

impl fmt::Display for SourceDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.path.display())?;
        match &self.part {
            Some(part) => write!(f, " ({part})"),
            None => Ok(()),
        }
    }
}

/// The kinds of key source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceKind {
    /// A file with SLSA provenance.
    Provenance,
    /// A metadata file of buildx.
    MetadataFile,
    /// Provenance attached to an image in an OCI layout.
    Attestation,
    /// The `cache.db` of a builder.
    CacheDb,
    /// A keys file of our own, or one that is attached to a cache.
    KeysFile,
}

impl fmt::Display for SourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Provenance => "provenance",
            Self::MetadataFile => "metadata file",
            Self::Attestation => "attestation",
            Self::CacheDb => "cache.db",
            Self::KeysFile => "keys file",
        })
    }
}

impl KeySource {
    /// What the ops of `provenance` offer.
    pub fn from_provenance(provenance: &Provenance, description: SourceDescription) -> Self {
        let mut candidates = Vec::new();
        let mut uncomputable = Vec::new();
        for op in &provenance.ops {
            match candidates_of(op, provenance) {
                Ok(of_op) => candidates.extend(of_op),
                // Neither has a record that a key could be missing for.
                Err(NotComputable::Source | NotComputable::Return) => {}
                Err(reason) => uncomputable.push(Uncomputable { name: llb::step_name(op), reason }),
            }
        }
        KeySource { description, candidates, uncomputable }
    }
}

/// The digests of `op` in all encodings, newest first, each once.
fn candidates_of(op: &Op, provenance: &Provenance) -> Result<Vec<Candidate>, NotComputable> {
    let mut candidates: Vec<Candidate> = Vec::new();
    for encoding in Encoding::ALL {
        let op_digest = llb::digest(op, encoding, &provenance.default_platform)?;
        if candidates.iter().all(|candidate| candidate.op_digest != op_digest) {
            candidates.push(Candidate {
                op_digest,
                outputs: op.outputs(),
                name: Some(llb::step_name(op)),
                encoding: Some(encoding),
            });
        }
    }
    Ok(candidates)
}
