//! Why a key source cannot be used.

use std::io;
use std::path::PathBuf;

use bkstate::dir::DirError;
use bkstate::root::OpenRootError;
use llb::{DefinitionError, ProvenanceError};

use super::artifact::ArtifactError;
use super::attestation::AttestationError;
use super::bundle::BundleError;
use super::database::DatabaseError;
use super::envelope::EnvelopeError;
use super::file::KeysFileError;
use super::history::HistoryError;
use super::metadata_file::MetadataFileError;
use super::source::SourceDescription;
use crate::json::TooComplex;
use crate::layout::LayoutError;
use crate::limits::Bound;

/// Why a key source cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The file cannot be read.
    #[error("cannot read the key source {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A device, a FIFO with a name, or the like.
    #[error("the key source {path} is neither a file, a directory nor a pipe of a shell")]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// Too large to be what it should be.
    #[error("the key source {path} has more than {} bytes", limit.value)]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// How many it may have.
        limit: Bound,
    },
    /// There is no room for what comes out of it, which is read in any order.
    #[error(
        "cannot write the key source {path} to a file in {}; name a directory with room for it in TMPDIR",
        directory.display()
    )]
    Temporary {
        /// The pipe, or the compressed file.
        path: PathBuf,
        /// Where temporary files are made.
        directory: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// There is nothing in it.
    #[error(
        "the key source {path} is empty; look at what the command said that should have written it"
    )]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// What it is compressed to is damaged or cut off.
    #[error("cannot decompress the key source {path}")]
    Decompress {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: io::Error,
    },
    /// It is compressed in a way that is not read.
    #[error(
        "the key source {path} is compressed with {program}, which is not read; decompress it first, \
         with {program} -d"
    )]
    Compressed {
        /// The file.
        path: PathBuf,
        /// The program that decompresses it.
        program: &'static str,
    },
    /// Nothing that is known.
    #[error(
        "{path} is not a known key source; give SLSA provenance (mode=max), also signed or as docker \
         buildx imagetools prints it, a metadata file of docker buildx, the output of a build with its provenance, \
         an image in an OCI layout with attestations, a bundle of docker buildx history export, LLB, the \
         root directory of a builder or its cache.db, or a keys file"
    )]
    Unrecognised {
        /// The file.
        path: PathBuf,
        /// Why it is not JSON, if it is not.
        #[source]
        source: Option<serde_json::Error>,
    },
    /// A document with more in it than any real one.
    #[error("the key source {path} is not a document of a build")]
    TooComplex {
        /// The file.
        path: PathBuf,
        /// What there is too much of.
        #[source]
        source: TooComplex,
    },
    /// Provenance without what is needed.
    #[error("the {document} gives no keys")]
    Provenance {
        /// The document.
        document: SourceDescription,
        /// What is wrong with it.
        #[source]
        source: ProvenanceError,
    },
    /// Signed attestations that cannot be read.
    #[error("the attestations in {path} give no keys")]
    Envelope {
        /// The file.
        path: PathBuf,
        /// What is wrong with them.
        #[source]
        source: EnvelopeError,
    },
    /// Signed attestations, none of which is provenance.
    #[error("none of the attestations in {path} is SLSA provenance; give the one that is")]
    NoProvenance {
        /// The file.
        path: PathBuf,
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
    /// A database that is damaged, in use or of another kind.
    #[error("the database {path} gives no keys")]
    Database {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Box<DatabaseError>,
    },
    /// A build history that cannot be read.
    #[error("the build history {path} gives no keys")]
    History {
        /// The `history.db`.
        path: PathBuf,
        /// What is wrong with it, or with a blob of it.
        #[source]
        source: Box<HistoryError>,
    },
    /// A build history without the content store that has its provenance.
    #[error(
        "the build history {path} is not in a root; give the root directory of the builder, where the \
         provenance is beside it"
    )]
    NoContent {
        /// The `history.db`.
        path: PathBuf,
    },
    /// A build history without provenance.
    #[error(
        "no build in the history {path} has provenance that lists ops: a build that failed has none, and \
         that of old builds was removed; give another key source"
    )]
    EmptyHistory {
        /// The `history.db`.
        path: PathBuf,
    },
    /// A root directory that cannot be searched.
    #[error("cannot search the directory for keys")]
    Directory(#[from] DirError),
    /// A root directory without keys.
    #[error(
        "the builder of {path} has no keys, since it has not built anything; give that of the builder that made the cache"
    )]
    EmptyRoot {
        /// The directory.
        path: PathBuf,
    },
    /// An archive that cannot be read.
    #[error("the archive {path} gives no keys")]
    Archive {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Box<BundleError>,
    },
    /// A keys file that is damaged or of another version.
    #[error("the {document} gives no keys")]
    KeysFile {
        /// The document.
        document: SourceDescription,
        /// What is wrong with it.
        #[source]
        source: KeysFileError,
    },
    /// LLB in JSON that is malformed.
    #[error("the LLB {path} gives no keys")]
    Dump {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: DefinitionError,
    },
    /// A directory that is neither.
    #[error(
        "the key source {path} is a directory, but neither an OCI layout nor the root of a builder, and \
         it has no provenance.json"
    )]
    NoKnownDirectory {
        /// The directory.
        path: PathBuf,
    },
    /// It has more to try than may be tried for all sources.
    #[error(transparent)]
    TooManyOutputs(#[from] TooManyOutputs),
    /// A directory of Docker, or a part of a root.
    #[error(transparent)]
    Open(#[from] OpenRootError),
    /// A layout that cannot be used.
    #[error("cannot use the OCI layout {path}")]
    Layout {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Box<LayoutError>,
    },
    /// A layout whose attestations cannot be read.
    #[error("cannot read the attestations in {path}")]
    Attestations {
        /// The layout.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Box<AttestationError>,
    },
    /// A layout whose attached keys cannot be read.
    #[error("cannot read the keys attached in {path}")]
    AttachedKeys {
        /// The layout.
        path: PathBuf,
        /// What is wrong with them.
        #[source]
        source: Box<ArtifactError>,
    },
    /// A history bundle without provenance that helps.
    #[error(
        "the history bundle {path} has no provenance that lists ops; a build that failed has none: export \
         the history of the build that made the cache"
    )]
    NoHistory {
        /// The file.
        path: PathBuf,
    },
    /// A layout or archive without attestations that help, and without keys.
    #[error(
        "no keys are attached in {path} and nothing in it has provenance that lists the build's \
         ops"
    )]
    NoAttestations {
        /// The layout.
        path: PathBuf,
    },
}

/// Sources have more outputs of ops to try than may be tried for a keyring.
///
/// ```
/// use oci2bk::keys::{SourceError, TooManyOutputs};
/// use oci2bk::{CacheExport, Keyring, Limits};
///
/// let limits = Limits { key_outputs: 10, ..Limits::default() };
/// let exports = CacheExport::read_sources(&["../../fixtures/index/cache".parse()?], &limits)?;
/// let mut keyring = Keyring::for_exports(&exports);
/// let error = keyring.read("../../fixtures/index/keys/provenance.json", &limits).unwrap_err();
/// assert!(matches!(error, SourceError::TooManyOutputs(TooManyOutputs { limit: 10, .. })));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "with the {description}, the key sources have {outputs} outputs of ops to try, more than {limit}"
)]
pub struct TooManyOutputs {
    /// The source that has too many besides those before.
    pub description: SourceDescription,
    /// How many there are with its.
    pub outputs: u64,
    /// How many there may be ([`Limits::key_outputs`](crate::Limits::key_outputs)).
    pub limit: u64,
}
