//! Errors of reading a key source.

use std::io;
use std::path::PathBuf;

use bkstate::dir::DirError;
use bkstate::root::OpenRootError;
use codec::FormatError;
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
use crate::image::ImageError;
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
        /// The error of the system.
        #[source]
        source: io::Error,
    },
    /// The path is a device, a FIFO with a name, or similar.
    #[error("the key source {path} is neither a file, a directory nor a pipe of a shell")]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// The file exceeds the limit for its type.
    #[error("the key source {path} has more than {} bytes", limit.value)]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        limit: Bound,
    },
    /// There is no space for its content, which is read in any order.
    #[error(
        "cannot write the key source {path} to a file in {}; name a directory with room for it in TMPDIR",
        directory.display()
    )]
    Temporary {
        /// The pipe, or the compressed file.
        path: PathBuf,
        /// The directory of temporary files.
        directory: PathBuf,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
    /// The file is empty.
    #[error(
        "the key source {path} is empty; look at what the command said that should have written it"
    )]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The compressed data is damaged or truncated.
    #[error("cannot decompress the key source {path}")]
    Decompress {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The file is compressed in an unsupported format.
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
    /// The type of the file is unknown.
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
        source: Option<FormatError>,
    },
    /// A document has more content than any real one.
    #[error("the key source {path} is not a document of a build")]
    TooComplex {
        /// The file.
        path: PathBuf,
        /// The exceeded limit.
        #[source]
        source: TooComplex,
    },
    /// Provenance lacks necessary data.
    #[error("the {document} gives no keys")]
    Provenance {
        /// The document.
        document: SourceDescription,
        /// The cause.
        #[source]
        source: ProvenanceError,
    },
    /// Signed attestations cannot be read.
    #[error("the attestations in {path} give no keys")]
    Envelope {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: EnvelopeError,
    },
    /// None of the signed attestations is provenance.
    #[error("none of the attestations in {path} is SLSA provenance; give the one that is")]
    NoProvenance {
        /// The file.
        path: PathBuf,
    },
    /// A metadata file lacks necessary data.
    #[error("the metadata file {path} gives no keys")]
    MetadataFile {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: MetadataFileError,
    },
    /// A database is damaged, in use or of another kind.
    #[error("the database {path} gives no keys")]
    Database {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: Box<DatabaseError>,
    },
    /// A build history cannot be read.
    #[error("the build history {path} gives no keys")]
    History {
        /// The `history.db`.
        path: PathBuf,
        /// The cause, in it or in one of its blobs.
        #[source]
        source: Box<HistoryError>,
    },
    /// A build history is not beside the content store with its provenance.
    #[error(
        "the build history {path} is not in a root; give the root directory of the builder, where the \
         provenance is beside it"
    )]
    NoContent {
        /// The `history.db`.
        path: PathBuf,
    },
    /// A build history names provenance that is in a containerd, which was not found.
    #[error(transparent)]
    UnreadHistory(#[from] UnreadHistory),
    /// A build history has no provenance.
    #[error(
        "no build in the history {path} has provenance that lists ops: a build that failed has none, and \
         that of old builds was removed; give another key source"
    )]
    EmptyHistory {
        /// The `history.db`.
        path: PathBuf,
    },
    /// A root directory cannot be searched.
    #[error("cannot search the directory for keys")]
    Directory(#[from] DirError),
    /// A root directory has no keys.
    #[error(
        "the builder of {path} has no keys, since it has not built anything; give that of the builder that made the cache"
    )]
    EmptyRoot {
        /// The directory.
        path: PathBuf,
    },
    /// An archive cannot be read.
    #[error("the archive {path} gives no keys")]
    Archive {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: Box<BundleError>,
    },
    /// A keys file is damaged or of another version.
    #[error("the {document} gives no keys")]
    KeysFile {
        /// The document.
        document: SourceDescription,
        /// The cause.
        #[source]
        source: KeysFileError,
    },
    /// LLB in JSON is malformed.
    #[error("the LLB {path} gives no keys")]
    Dump {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: DefinitionError,
    },
    /// A Dockerfile cannot be read by any frontend.
    #[error("the Dockerfile {path} gives no keys")]
    Dockerfile {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: dockerfile::ParseError,
    },
    /// A Dockerfile has no stage with the name of the target.
    #[error("{} has no stage {name}", path.display())]
    NoStage {
        /// The file.
        path: PathBuf,
        /// The name.
        name: String,
    },
    /// An option of a build has a value that frontends refuse.
    #[error(transparent)]
    DockerfileOption(#[from] dockerfile::OptionError),
    /// The output of a bake has another form.
    #[error("{path} is not a bake file in JSON, as docker buildx bake prints it")]
    Bake {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: FormatError,
    },
    /// The name of a base image is none.
    #[error(transparent)]
    ImageName(#[from] dockerfile::ReferenceError),
    /// The config of a base image is malformed.
    #[error("{path} does not have the config of an image")]
    ImageConfig {
        /// The file, or the layout.
        path: PathBuf,
        /// The cause.
        #[source]
        source: FormatError,
    },
    /// A base image cannot be read.
    #[error("cannot read the images in {path}")]
    BaseImage {
        /// The layout.
        path: PathBuf,
        /// The cause.
        #[source]
        source: Box<ImageError>,
    },
    /// A directory is neither a layout nor a root nor an exported build.
    #[error(
        "the key source {path} is a directory, but neither an OCI layout nor the root of a builder, and \
         it has no provenance.json"
    )]
    NoKnownDirectory {
        /// The directory.
        path: PathBuf,
    },
    /// The source has more outputs to try than the limit for all sources.
    #[error(transparent)]
    TooManyOutputs(#[from] TooManyOutputs),
    /// The directory belongs to Docker, or is a part of a root.
    #[error(transparent)]
    Open(#[from] OpenRootError),
    /// A layout cannot be used.
    #[error("cannot use the OCI layout {path}")]
    Layout {
        /// The directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: Box<LayoutError>,
    },
    /// The attestations of a layout cannot be read.
    #[error("cannot read the attestations in {path}")]
    Attestations {
        /// The layout.
        path: PathBuf,
        /// The cause.
        #[source]
        source: Box<AttestationError>,
    },
    /// The keys attached in a layout cannot be read.
    #[error("cannot read the keys attached in {path}")]
    AttachedKeys {
        /// The layout.
        path: PathBuf,
        /// The cause.
        #[source]
        source: Box<ArtifactError>,
    },
    /// A history bundle has no usable provenance.
    #[error(
        "the history bundle {path} has no provenance that lists ops; a build that failed has none: export \
         the history of the build that made the cache"
    )]
    NoHistory {
        /// The file.
        path: PathBuf,
    },
    /// A layout or archive has no usable attestations, and no keys.
    #[error(
        "no keys are attached in {path} and nothing in it has provenance that lists the build's \
         ops"
    )]
    NoAttestations {
        /// The layout.
        path: PathBuf,
    },
}

/// A build history none of whose provenance was found: it is in a containerd that is not one of the searched
/// ones.
///
/// ```
/// use oci2bk::keys::UnreadHistory;
///
/// /// Tells which directories do not have the provenance.
/// fn searched(UnreadHistory { searched, .. }: &UnreadHistory) -> String {
///     searched.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" ")
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the provenance that the build history {} names is not in {}; give the root of the containerd that the \
     builder uses",
    path.display(), listed(searched)
)]
#[non_exhaustive]
pub struct UnreadHistory {
    /// The database.
    pub path: PathBuf,
    /// The roots of the searched containerds.
    pub searched: Vec<PathBuf>,
}

fn listed(paths: &[PathBuf]) -> String {
    let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
    paths.join(" or ")
}

/// Sources have more outputs of ops to try than the limit for a keyring.
///
/// ```
/// use oci2bk::keys::{SourceError, TooManyOutputs};
/// use oci2bk::{CacheExport, Keyring, Limits};
///
/// let limits = Limits { key_outputs: 10, ..Limits::default() };
/// let exports = CacheExport::read_sources(&["fixtures/index/cache".parse()?], &limits)?;
/// let mut keyring = Keyring::for_exports(&exports);
/// let error = keyring.read("fixtures/index/keys/provenance.json", &limits).unwrap_err();
/// assert!(matches!(error, SourceError::TooManyOutputs(TooManyOutputs { limit: 10, .. })));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "with the {description}, the key sources have {outputs} outputs of ops to try, more than {limit}"
)]
#[non_exhaustive]
pub struct TooManyOutputs {
    /// The source that exceeded the limit.
    pub description: SourceDescription,
    /// The number of outputs, including its own.
    pub outputs: u64,
    /// The limit ([`Limits::key_outputs`](crate::Limits::key_outputs)).
    pub limit: u64,
}
