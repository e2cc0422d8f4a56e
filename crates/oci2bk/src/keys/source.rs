//! Reads key sources.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::detect::{self, Document};
use super::metadata_file::MetadataFileError;
use crate::llb::{self, Encoding, NotComputable, Op, OpDigest, Provenance, ProvenanceError};

/// The largest JSON document that is read, in bytes. The provenance of a build of a thousand steps
/// has about two million.
pub const MAX_DOCUMENT_BYTES: u64 = 64 << 20;

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
}

impl fmt::Display for SourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Provenance => "provenance",
            Self::MetadataFile => "metadata file",
        })
    }
}

/// Why a key source cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The file cannot be read.
    #[error("the key source {path} cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A device, a pipe or the like.
    #[error("the key source {path} is neither a file nor a directory")]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// Too large to be what it should be.
    #[error("the key source {path} is larger than {MAX_DOCUMENT_BYTES} bytes")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Nothing that is known.
    #[error(
        "{path} is no known key source; give SLSA provenance (mode=max), a metadata file of \
         docker buildx, an image in an OCI layout with attestations, or the cache.db of a builder"
    )]
    Unrecognised {
        /// The file.
        path: PathBuf,
        /// Why it is no JSON, if it is not.
        #[source]
        source: Option<serde_json::Error>,
    },
    /// Provenance without what is needed.
    #[error("{source_description} gives no keys")]
    Provenance {
        /// The document.
        source_description: SourceDescription,
        /// What is wrong with it.
        #[source]
        source: ProvenanceError,
    },
    /// A metadata file without what is needed.
    #[error("the metadata file {path} gives no keys")]
    MetadataFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: MetadataFileError,
    },
}

/// Reads the key source at `path`, whose kind shows from what is in it. Gives one source for each
/// provenance in it.
///
/// # Errors
/// When it cannot be read, is too large, is nothing known or holds no keys.
pub fn read_source(path: &Path) -> Result<Vec<KeySource>, SourceError> {
    let read_error = |source| SourceError::Read { path: path.to_owned(), source };
    let metadata = std::fs::metadata(path).map_err(read_error)?;
    if !metadata.is_file() {
        return Err(SourceError::NotAFile { path: path.to_owned() });
    }
    let json = read_document(path)?;
    let unrecognised = |source| SourceError::Unrecognised { path: path.to_owned(), source };
    let describe = |kind, part| SourceDescription { path: path.to_owned(), kind, part };
    match detect::document(&json).map_err(|error| unrecognised(Some(error)))? {
        Some(Document::Provenance) => {
            Ok(vec![from_provenance(&json, describe(SourceKind::Provenance, None))?])
        }
        Some(Document::MetadataFile(parts)) if parts.is_empty() => {
            let source = MetadataFileError::NoProvenance;
            Err(SourceError::MetadataFile { path: path.to_owned(), source })
        }
        Some(Document::MetadataFile(parts)) => parts
            .into_iter()
            .map(|part| {
                let description = describe(SourceKind::MetadataFile, part.name);
                from_provenance(part.provenance.get().as_bytes(), description)
            })
            .collect(),
        None => Err(unrecognised(None)),
    }
}

fn read_document(path: &Path) -> Result<Vec<u8>, SourceError> {
    let read_error = |source| SourceError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(read_error)?;
    let mut content = Vec::new();
    // One byte more than allowed shows that there is more.
    file.take(MAX_DOCUMENT_BYTES + 1).read_to_end(&mut content).map_err(read_error)?;
    if content.len() as u64 > MAX_DOCUMENT_BYTES {
        return Err(SourceError::TooLarge { path: path.to_owned() });
    }
    Ok(content)
}

/// The key source that the provenance document `json` is.
///
/// # Errors
/// When it is no provenance, or does not list the ops.
pub fn from_provenance(
    json: &[u8],
    description: SourceDescription,
) -> Result<KeySource, SourceError> {
    match Provenance::from_json(json) {
        Ok(provenance) => Ok(from_ops(&provenance, description)),
        Err(source) => Err(SourceError::Provenance { source_description: description, source }),
    }
}

fn from_ops(provenance: &Provenance, description: SourceDescription) -> KeySource {
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
