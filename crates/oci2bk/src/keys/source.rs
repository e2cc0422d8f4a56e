//! The content of a key source.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use bkstate::Digest;
use llb::release::Span;
use llb::{Definition, Encoding, Graph, NotComputable, Op, OpDigest, Platform, Provenance, Vertex};

use super::error::UnreadHistory;
use super::scan::Scans;

/// Minimum number of outputs of an op to try, if a source has digests and no ops. Ops with more are rare.
pub(super) const USUAL_OUTPUTS: u32 = 8;

/// An unproved op digest from a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The solver's name for the op.
    pub op_digest: OpDigest,
    /// The outputs to try: `0..outputs`.
    pub outputs: u32,
    /// The step in the words of a Dockerfile, if the source has it.
    pub name: Option<String>,
    /// The releases with this digest, if it was computed.
    pub encoding: Option<Encoding>,
    /// The op, if the digest was computed. Without it the digest for another release is unknown.
    pub vertex: Option<Arc<Vertex>>,
    /// The possible releases of the daemon that made the cache, if the source identifies them.
    pub builder: Option<Span>,
}

impl Candidate {
    /// Returns the records that it would name.
    pub(super) fn records(&self) -> impl Iterator<Item = Digest> {
        (0..self.outputs).map(|output| self.op_digest.record(output))
    }
}

/// One document with op digests, or with ops.
#[derive(Debug)]
#[non_exhaustive]
pub struct KeySource {
    /// Its description.
    pub description: SourceDescription,
    /// Its candidates, the most likely encoding of each op first.
    pub candidates: Vec<Candidate>,
    /// Its steps for which no digest can be computed, except sources.
    pub uncomputable: Vec<Uncomputable>,
    /// The whole build, if the source has it.
    pub graph: Option<Arc<Graph>>,
    /// The data to recognise the SBOM scans of the build.
    pub(super) scans: Scans,
    /// The cache to which it is attached, if any.
    pub attached_to: Option<Digest>,
    /// Whether it has a signature, which is not checked.
    pub signed: bool,
    /// Whether it was found inside an export or beside it, and not named by the user.
    pub found: bool,
    /// The build history of the same builder, if its provenance was not found.
    pub unread: Option<UnreadHistory>,
    /// What frontends refuse in it, if it is a Dockerfile. The other instructions have keys nevertheless.
    pub refused: Vec<dockerfile::ParseError>,
}

/// A step whose op digest its source does not determine.
#[derive(Debug)]
#[non_exhaustive]
pub struct Uncomputable {
    /// The step in the words of a Dockerfile.
    pub name: String,
    /// The cause.
    pub reason: NotComputable,
}

/// The description of a key source, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceDescription {
    /// The file or directory.
    pub path: PathBuf,
    /// The type of document.
    pub kind: SourceKind,
    /// The part of it, if it has several: a platform, a target or the digest of a blob.
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
#[non_exhaustive]
pub enum SourceKind {
    /// A file with SLSA provenance.
    Provenance,
    /// A metadata file of buildx.
    MetadataFile,
    /// Provenance attached to an image in an OCI layout.
    Attestation,
    /// The `cache.db` of a builder.
    CacheDb,
    /// The `cache-debug.db` of a builder.
    CacheDebug,
    /// The build history of a builder.
    History,
    /// A bundle of `docker buildx history export`.
    Bundle,
    /// LLB in protobuf, or in JSON from a frontend's response to `frontend.convertllb`.
    Definition,
    /// The output of `buildctl debug dump-llb`.
    Dump,
    /// A Dockerfile.
    Dockerfile,
    /// A keys file of our own, possibly attached to a cache.
    KeysFile,
    /// The image of an SBOM scanner.
    Scanner,
}

impl fmt::Display for SourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Provenance => "provenance",
            Self::MetadataFile => "metadata file",
            Self::Attestation => "attestation",
            Self::CacheDb => "cache.db",
            Self::CacheDebug => "cache-debug.db",
            Self::History => "build history",
            Self::Bundle => "history bundle",
            Self::Definition => "LLB",
            Self::Dump => "LLB dump",
            Self::Dockerfile => "Dockerfile",
            Self::KeysFile => "keys file",
            Self::Scanner => "scanner image",
        })
    }
}

impl KeySource {
    /// Returns the source with the candidates for the ops of `provenance`.
    pub fn from_provenance(provenance: &Provenance, description: SourceDescription) -> Self {
        let platforms = std::slice::from_ref(&provenance.default_platform);
        let graph = provenance.graph.clone();
        let (ops, scans) = (&provenance.ops, Scans::of(provenance));
        Self { graph, scans, ..Self::from_ops(ops, platforms, provenance.builder, description) }
    }

    /// Returns the source with the candidates for the ops of `definition`; ops without a platform may have
    /// run on any platform.
    pub fn from_definition(definition: &Definition, description: SourceDescription) -> Self {
        let platforms = Platform::released_for();
        let graph = definition.graph.clone();
        Self { graph, ..Self::from_ops(&definition.ops, &platforms, None, description) }
    }

    /// Returns a source of op digests themselves, proved or not, from any origin.
    pub fn from_digests(candidates: Vec<Candidate>, description: SourceDescription) -> Self {
        Self {
            description,
            candidates,
            uncomputable: Vec::new(),
            graph: None,
            scans: Scans::default(),
            attached_to: None,
            signed: false,
            found: false,
            unread: None,
            refused: Vec::new(),
        }
    }

    fn from_ops(
        ops: &[Op],
        platforms: &[Platform],
        builder: Option<Span>,
        description: SourceDescription,
    ) -> Self {
        let mut candidates = Vec::new();
        let mut uncomputable = Vec::new();
        for op in ops {
            match candidates_of(op, platforms, builder) {
                Ok(of_op) => candidates.extend(of_op),
                // Neither has a record that needs a key.
                Err(NotComputable::Source | NotComputable::Return) => {}
                Err(reason) => uncomputable.push(Uncomputable { name: llb::step_name(op), reason }),
            }
        }
        Self { uncomputable, ..Self::from_digests(candidates, description) }
    }
}

/// Returns the digests of `op` in all encodings, newest first, each once. An op without a platform runs on
/// one of `platforms`.
pub(super) fn candidates_of(
    op: &Op,
    platforms: &[Platform],
    builder: Option<Span>,
) -> Result<Vec<Candidate>, NotComputable> {
    let platforms =
        if op.platform.is_some() { platforms.get(..1).unwrap_or(platforms) } else { platforms };
    let vertex = |platform: &Platform| {
        Arc::new(Vertex { op: op.clone(), default_platform: platform.clone() })
    };
    let vertices: Vec<_> = platforms.iter().map(vertex).collect();
    let mut candidates: Vec<Candidate> = Vec::new();
    for encoding in Encoding::ALL {
        for vertex in &vertices {
            let op_digest = match vertex.digest(encoding) {
                // No daemon of such a release can have made the cache.
                Err(NotComputable::TooLong { .. }) => continue,
                op_digest => op_digest?,
            };
            if candidates.iter().all(|candidate| candidate.op_digest != op_digest) {
                candidates.push(Candidate {
                    op_digest,
                    outputs: op.outputs(),
                    name: Some(llb::step_name(op)),
                    encoding: Some(encoding),
                    vertex: Some(Arc::clone(vertex)),
                    builder,
                });
            }
        }
    }
    Ok(candidates)
}
