//! Reads key sources from files and directories.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _};
use std::path::Path;

use bkstate::dir::Dir;
use bkstate::root::Kind;
use llb::{Definition, Provenance, ProvenanceError};

use super::bundle::Found;
use super::detect::{self, DetectError, Document};
use super::error::SourceError;
use super::file::KeysFile;
use super::input::{self, Input};
use super::metadata_file::{MetadataFileError, Part};
use super::root::{self, Builder};
use super::source::{KeySource, SourceDescription, SourceKind};
use super::{artifact, attestation, bundle, exported};
use crate::json;
use crate::layout::Layout;
use crate::limits::{Bound, Limits};
use crate::packing::Packing;
use crate::unpack::decompress::{Decoder, Encoding};

/// Reads the key source at `path`, whose type is detected from its content; `-` is stdin. A directory must be
/// the root of a builder or the data root of a Docker Engine, of which everything with keys is read, an OCI
/// layout with an image that has attestations, or an exported build with its provenance. Returns one source for
/// each document in it.
///
/// The provenance of a builder on a containerd is in the root of that containerd. It is looked for in the data
/// root of the engine and in the root of this machine's containerd; see [`read_builder`](super::read_builder)
/// for others.
///
/// # Errors
/// Returns an error if it cannot be read, is too large, has an unknown type or no keys.
pub fn read_source(path: &Path, limits: &Limits) -> Result<Vec<KeySource>, SourceError> {
    match input::open(path, limits)? {
        (path, Input::Directory) => read_directory(&path, limits),
        (path, Input::File(file)) => read_file(&path, file, limits),
    }
}

/// Reads a file that the user did not name, so it is ignored unless it is a document. All such files in one
/// place may have `left` more bytes.
pub(super) fn read_found(
    path: &Path,
    file: File,
    left: &mut u64,
    limits: &Limits,
) -> Result<Vec<KeySource>, SourceError> {
    let read_error = |source| SourceError::Read { path: path.to_owned(), source };
    let document = within_limit(path, file, limits.of_keys_document(*left), read_error)?;
    *left = left.saturating_sub(document.len() as u64);
    if document.is_empty() {
        return Err(SourceError::Empty { path: path.to_owned() });
    }
    let sources = read_document(path, &document, limits)?.into_iter();
    Ok(sources.map(|source| KeySource { found: true, ..source }).collect())
}

fn read_file(path: &Path, mut file: File, limits: &Limits) -> Result<Vec<KeySource>, SourceError> {
    let read_error = |source| SourceError::Read { path: path.to_owned(), source };
    let head = head(&file).map_err(read_error)?;
    file.rewind().map_err(read_error)?;
    match Packing::of(&head) {
        _ if head.is_empty() => Err(SourceError::Empty { path: path.to_owned() }),
        _ if detect::is_bolt(&head) => root::read_file(path, file, None, limits),
        Packing::None if detect::is_tar(&head) => read_archive(path, &file, limits),
        Packing::None => {
            let limit = limits.of_keys_document(limits.keys_document);
            let document = within_limit(path, file, limit, read_error)?;
            read_document(path, &document, limits)
        }
        Packing::Known => read_packed(path, &file, limits),
        Packing::Unknown(program) => {
            Err(SourceError::Compressed { path: path.to_owned(), program })
        }
    }
}

/// Reads the content of a compressed file.
fn read_packed(path: &Path, file: &File, limits: &Limits) -> Result<Vec<KeySource>, SourceError> {
    let damaged = |source| SourceError::Decompress { path: path.to_owned(), source };
    let stream = |file| Decoder::new(BufReader::new(file), Encoding::Detect);
    let head = stream(file).and_then(head).map_err(damaged)?;
    let mut rewound = file;
    rewound.rewind().map_err(|source| SourceError::Read { path: path.to_owned(), source })?;
    if detect::is_tar(&head) {
        // It is decompressed while it is read.
        return read_archive(path, file, limits);
    }
    let stream = stream(file).map_err(damaged)?;
    if detect::is_bolt(&head) {
        let file = input::spooled(path, stream, limits)?;
        return root::read_file(path, file, None, limits);
    }
    let limit = limits.of_keys_document(limits.keys_document);
    let document = within_limit(path, stream, limit, damaged)?;
    read_document(path, &document, limits)
}

/// Reads all of `stream`, unless that exceeds the limit on a document.
pub(super) fn within_limit(
    path: &Path,
    stream: impl Read,
    limit: Bound,
    failed: impl FnOnce(io::Error) -> SourceError,
) -> Result<Vec<u8>, SourceError> {
    let mut bytes = Vec::new();
    // One byte more than allowed shows that there is more.
    let read = stream.take(limit.value.saturating_add(1)).read_to_end(&mut bytes);
    if bytes.len() as u64 > limit.value {
        return Err(SourceError::TooLarge { path: path.to_owned(), limit });
    }
    read.map(|_| bytes).map_err(failed)
}

fn head(stream: impl Read) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(detect::HEAD);
    stream.take(detect::HEAD as u64).read_to_end(&mut head)?;
    Ok(head)
}

/// Reads the provenance attached to the images of a layout, such as the one with the cache, and the keys
/// attached to its caches. Returns an empty list if there is none, or none that lists the build's operations.
///
/// # Errors
/// Returns an error if a manifest, an attestation or a keys file is corrupt or malformed.
pub fn read_layout(layout: &Layout) -> Result<Vec<KeySource>, SourceError> {
    let path = layout.path();
    let attestations = attestation::provenance(layout).map_err(|source| {
        SourceError::Attestations { path: path.to_owned(), source: source.into() }
    })?;
    let mut sources = Vec::with_capacity(attestations.len());
    for attestation in attestations {
        let part = Some(attestation.digest.to_string());
        let description = describe(path, SourceKind::Attestation, part);
        sources.extend(read_one_of_many(&attestation.json, description)?);
    }
    let attached = artifact::keys_files(layout).map_err(|source| SourceError::AttachedKeys {
        path: path.to_owned(),
        source: source.into(),
    })?;
    for artifact::AttachedFile { digest, subject, json } in attached {
        let part = Some(digest.to_string());
        let source = read_keys_file(&json, describe(path, SourceKind::KeysFile, part))?;
        sources.push(KeySource { attached_to: subject, ..source });
    }
    for source in &mut sources {
        source.found = true;
    }
    Ok(sources)
}

fn read_directory(path: &Path, limits: &Limits) -> Result<Vec<KeySource>, SourceError> {
    let dir = Dir::open(path)?;
    let exported = exported::provenance(&dir)?;
    if !exported.is_empty() {
        let sources = exported.into_iter().map(|(path, file)| read_file(&path, file, limits));
        return Ok(sources.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect());
    }
    let (dir, kind) = bkstate::root::find(dir)?;
    if let Some(builder) = Builder::of(&dir, &kind)? {
        return builder.read(None, limits);
    }
    match kind {
        Kind::Layout => {}
        Kind::Empty | Kind::Other { .. } => {
            return Err(SourceError::NoKnownDirectory { path: dir.path().to_owned() });
        }
        kind => return Err(root::not_a_root(&dir, kind)),
    }
    let layout = Layout::open(path, limits)
        .map_err(|source| SourceError::Layout { path: path.to_owned(), source: source.into() })?;
    let mut sources = read_layout(&layout)?;
    for source in &mut sources {
        source.found = false;
    }
    if sources.is_empty() {
        return Err(SourceError::NoAttestations { path: path.to_owned() });
    }
    Ok(sources)
}

fn read_archive(path: &Path, file: &File, limits: &Limits) -> Result<Vec<KeySource>, SourceError> {
    let Found { parts, is_history } = bundle::provenance(file, limits)
        .map_err(|source| SourceError::Archive { path: path.to_owned(), source: source.into() })?;
    let mut sources = Vec::with_capacity(parts.len());
    for part in parts {
        let description = describe(path, part.kind, Some(part.name));
        sources.extend(read_one_of_many(&part.json, description)?);
    }
    match sources.is_empty() {
        true if is_history => Err(SourceError::NoHistory { path: path.to_owned() }),
        true => Err(SourceError::NoAttestations { path: path.to_owned() }),
        false => Ok(sources),
    }
}

fn read_document(
    path: &Path,
    bytes: &[u8],
    limits: &Limits,
) -> Result<Vec<KeySource>, SourceError> {
    json::check(bytes, limits)
        .map_err(|source| SourceError::TooComplex { path: path.to_owned(), source })?;
    let unrecognised = |source| SourceError::Unrecognised { path: path.to_owned(), source };
    let document = match detect::document(bytes) {
        Ok(document) => document,
        Err(DetectError::Envelope(source)) => {
            return Err(SourceError::Envelope { path: path.to_owned(), source });
        }
        Err(DetectError::Json(error)) => {
            let definition = read_definition(path, bytes);
            return Ok(vec![definition.ok_or_else(|| unrecognised(Some(error)))?]);
        }
    };
    match document {
        Some(Document::KeysFile) => {
            Ok(vec![read_keys_file(bytes, describe(path, SourceKind::KeysFile, None))?])
        }
        Some(Document::Provenance) => {
            let description = describe(path, SourceKind::Provenance, None);
            Ok(vec![read_provenance(bytes, description)?])
        }
        Some(Document::Dump) => {
            let definition = Definition::from_dump(bytes)
                .map_err(|source| SourceError::Dump { path: path.to_owned(), source })?;
            let description = describe(path, SourceKind::Dump, None);
            Ok(vec![KeySource::from_definition(&definition, description)])
        }
        Some(Document::Definition(json)) => {
            let definition = Definition::from_convertllb(json)
                .map_err(|source| SourceError::Dump { path: path.to_owned(), source })?;
            let description = describe(path, SourceKind::Definition, None);
            Ok(vec![KeySource::from_definition(&definition, description)])
        }
        Some(Document::MetadataFile(parts)) if parts.is_empty() => {
            let source = MetadataFileError::NoProvenance;
            Err(SourceError::MetadataFile { path: path.to_owned(), source })
        }
        Some(Document::MetadataFile(parts)) => read_parts(path, SourceKind::MetadataFile, parts),
        Some(Document::Printed(parts)) => read_parts(path, SourceKind::Provenance, parts),
        Some(Document::Envelopes(statements)) => read_statements(path, &statements, limits),
        None => Err(unrecognised(None)),
    }
}

fn read_parts(
    path: &Path,
    kind: SourceKind,
    parts: Vec<Part<'_>>,
) -> Result<Vec<KeySource>, SourceError> {
    let read = |part: Part<'_>| {
        read_provenance(part.provenance.get().as_bytes(), describe(path, kind, part.name))
    };
    parts.into_iter().map(read).collect()
}

/// Reads the provenance among signed statements.
fn read_statements(
    path: &Path,
    statements: &[Vec<u8>],
    limits: &Limits,
) -> Result<Vec<KeySource>, SourceError> {
    let mut sources = Vec::new();
    for statement in statements.iter().filter(|statement| attestation::is_statement(statement)) {
        json::check(statement, limits)
            .map_err(|source| SourceError::TooComplex { path: path.to_owned(), source })?;
        let source = read_provenance(statement, describe(path, SourceKind::Attestation, None))?;
        sources.push(KeySource { signed: true, ..source });
    }
    if sources.is_empty() {
        return Err(SourceError::NoProvenance { path: path.to_owned() });
    }
    Ok(sources)
}

/// Maximum size of LLB in protobuf. A daemon accepts no more in a request: it is the limit for messages of
/// containerd's `defaults.DefaultMaxRecvMsgSize`, which BuildKit uses.
const MAX_DEFINITION_BYTES: u64 = 16 << 20;

/// Reads LLB in protobuf, which can only be recognised by being complete.
fn read_definition(path: &Path, bytes: &[u8]) -> Option<KeySource> {
    if bytes.len() as u64 > MAX_DEFINITION_BYTES {
        return None;
    }
    let definition = Definition::from_protobuf(bytes).ok()?;
    let description = describe(path, SourceKind::Definition, None);
    Some(KeySource::from_definition(&definition, description))
}

/// Reads provenance that may be of no use, because there are others; `None` if it does not list the build's
/// operations.
pub(super) fn read_one_of_many(
    json: &[u8],
    description: SourceDescription,
) -> Result<Option<KeySource>, SourceError> {
    match read_provenance(json, description) {
        Err(SourceError::Provenance { source: ProvenanceError::NoOps, .. }) => Ok(None),
        source => source.map(Some),
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
        Ok(file) => Ok(KeySource::from_keys_file(&file, description)),
        Err(source) => Err(SourceError::KeysFile { document: description, source }),
    }
}

pub(super) fn describe(path: &Path, kind: SourceKind, part: Option<String>) -> SourceDescription {
    SourceDescription { path: path.to_owned(), kind, part }
}
