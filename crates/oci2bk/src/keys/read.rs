//! Reads key sources from files and directories.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::path::{Path, PathBuf};

use super::artifact::{self, ArtifactError};
use super::attestation::{self, AttestationError};
use super::detect::{self, Document};
use super::donor::{self, DonorError};
use super::file::{KeysFile, KeysFileError};
use super::metadata_file::MetadataFileError;
use super::source::{KeySource, SourceDescription, SourceKind};
use crate::layout::{Layout, LayoutError};
use crate::llb::{Provenance, ProvenanceError};

/// The largest JSON document that is read, in bytes; the only limit of this module. The provenance
/// of a build of a thousand steps has about a million.
pub const MAX_DOCUMENT_BYTES: u64 = 64 << 20;

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
         docker buildx, an image in an OCI layout with attestations, the cache.db of a builder, or \
         what oci2bk keys wrote"
    )]
    Unrecognised {
        /// The file.
        path: PathBuf,
        /// Why it is no JSON, if it is not.
        #[source]
        source: Option<serde_json::Error>,
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
    /// A metadata file without what is needed.
    #[error("the metadata file {path} gives no keys")]
    MetadataFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: MetadataFileError,
    },
    /// A BoltDB file that is damaged or of another kind.
    #[error("the database {path} gives no keys")]
    CacheDb {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Box<DonorError>,
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
    /// A directory that is no OCI layout.
    #[error("the key source {path} is a directory, but not an OCI layout")]
    Layout {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Box<LayoutError>,
    },
    /// A layout whose attestations cannot be read.
    #[error("the attestations in {path} cannot be read")]
    Attestations {
        /// The layout.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Box<AttestationError>,
    },
    /// A layout whose attached keys cannot be read.
    #[error("the keys attached in {path} cannot be read")]
    AttachedKeys {
        /// The layout.
        path: PathBuf,
        /// What is wrong with them.
        #[source]
        source: Box<ArtifactError>,
    },
    /// A layout without attestations that help, and without keys.
    #[error(
        "no keys are attached in {path} and no image in it has provenance that lists the build's \
         operations; export it with --provenance=mode=max"
    )]
    NoAttestations {
        /// The layout.
        path: PathBuf,
    },
}

/// Reads the key source at `path`, whose kind shows from what is in it. A directory has to be an
/// OCI layout with an image that carries attestations. Gives one source for each provenance in it.
///
/// # Errors
/// When it cannot be read, is too large, is nothing known or holds no keys.
pub fn read_source(path: &Path) -> Result<Vec<KeySource>, SourceError> {
    let read_error = |source| SourceError::Read { path: path.to_owned(), source };
    // Looked at before it is opened, because opening a pipe waits for a writer.
    let kind = std::fs::metadata(path).map_err(read_error)?.file_type();
    if kind.is_dir() {
        let layout = Layout::open(path).map_err(|source| SourceError::Layout {
            path: path.to_owned(),
            source: source.into(),
        })?;
        let sources = read_layout(&layout)?;
        if sources.is_empty() {
            return Err(SourceError::NoAttestations { path: path.to_owned() });
        }
        return Ok(sources);
    }
    if !kind.is_file() {
        return Err(SourceError::NotAFile { path: path.to_owned() });
    }
    let mut file = File::open(path).map_err(read_error)?;
    let mut head = Vec::with_capacity(detect::BOLT_HEAD);
    (&file).take(detect::BOLT_HEAD as u64).read_to_end(&mut head).map_err(read_error)?;
    if detect::is_bolt(&head) {
        let candidates = donor::candidates(file).map_err(|source| SourceError::CacheDb {
            path: path.to_owned(),
            source: source.into(),
        })?;
        let description = describe(path, SourceKind::CacheDb, None);
        return Ok(vec![KeySource { description, candidates, uncomputable: Vec::new() }]);
    }
    file.rewind().map_err(read_error)?;
    // One byte more than allowed shows that there is more.
    let mut json = Vec::new();
    file.take(MAX_DOCUMENT_BYTES + 1).read_to_end(&mut json).map_err(read_error)?;
    if json.len() as u64 > MAX_DOCUMENT_BYTES {
        return Err(SourceError::TooLarge { path: path.to_owned() });
    }
    read_json(path, &json)
}

/// Reads the provenance attached to the images of a layout, such as the one that holds the cache,
/// and the keys attached to its caches. Gives nothing if there is none, or none that lists the
/// build's operations.
///
/// # Errors
/// When a manifest, an attestation or a keys file is corrupt or malformed.
pub fn read_layout(layout: &Layout) -> Result<Vec<KeySource>, SourceError> {
    let path = layout.path();
    let attestations = attestation::provenance(layout, MAX_DOCUMENT_BYTES).map_err(|source| {
        SourceError::Attestations { path: path.to_owned(), source: source.into() }
    })?;
    let mut sources = Vec::with_capacity(attestations.len());
    for attestation in attestations {
        let part = Some(attestation.digest.to_string());
        match read_provenance(&attestation.json, describe(path, SourceKind::Attestation, part)) {
            Err(SourceError::Provenance { source: ProvenanceError::NoOps, .. }) => {}
            source => sources.push(source?),
        }
    }
    let attached = artifact::keys_files(layout).map_err(|source| SourceError::AttachedKeys {
        path: path.to_owned(),
        source: source.into(),
    })?;
    for (digest, json) in attached {
        let part = Some(digest.to_string());
        sources.push(read_keys_file(&json, describe(path, SourceKind::KeysFile, part))?);
    }
    Ok(sources)
}

fn read_json(path: &Path, json: &[u8]) -> Result<Vec<KeySource>, SourceError> {
    let unrecognised = |source| SourceError::Unrecognised { path: path.to_owned(), source };
    match detect::document(json).map_err(|error| unrecognised(Some(error)))? {
        Some(Document::KeysFile) => {
            Ok(vec![read_keys_file(json, describe(path, SourceKind::KeysFile, None))?])
        }
        Some(Document::Provenance) => {
            let description = describe(path, SourceKind::Provenance, None);
            Ok(vec![read_provenance(json, description)?])
        }
        Some(Document::MetadataFile(parts)) if parts.is_empty() => {
            let source = MetadataFileError::NoProvenance;
            Err(SourceError::MetadataFile { path: path.to_owned(), source })
        }
        Some(Document::MetadataFile(parts)) => parts
            .into_iter()
            .map(|part| {
                let description = describe(path, SourceKind::MetadataFile, part.name);
                read_provenance(part.provenance.get().as_bytes(), description)
            })
            .collect(),
        None => Err(unrecognised(None)),
    }
}

fn read_provenance(json: &[u8], description: SourceDescription) -> Result<KeySource, SourceError> {
    match Provenance::from_json(json) {
        Ok(provenance) => Ok(KeySource::from_provenance(&provenance, description)),
        Err(source) => Err(SourceError::Provenance { document: description, source }),
    }
}

fn read_keys_file(json: &[u8], description: SourceDescription) -> Result<KeySource, SourceError> {
    match KeysFile::decode(json) {
        Ok(file) => {
            let candidates = file.candidates();
            Ok(KeySource { description, candidates, uncomputable: Vec::new() })
        }
        Err(source) => Err(SourceError::KeysFile { document: description, source }),
    }
}

fn describe(path: &Path, kind: SourceKind, part: Option<String>) -> SourceDescription {
    SourceDescription { path: path.to_owned(), kind, part }
}
