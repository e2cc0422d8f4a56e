//! Detects the type of a file from its content.

use codec::FormatError;

use super::envelope::{self, EnvelopeError, Fields};
use super::file;
use super::metadata_file::{self, Part};

/// Offset of the magic number of a BoltDB file: after the 16-byte header of page 0 (go.etcd.io/bbolt v1.5.0,
/// `internal/common/meta.go`).
const BOLT_MAGIC_AT: usize = 16;
const BOLT_MAGIC: u32 = 0xED0C_DAED;
const BOLT_HEAD: usize = BOLT_MAGIC_AT + 4;

/// Offset of the magic in the first header block of a tar archive (POSIX `ustar`, GNU tar).
const TAR_MAGIC_AT: usize = 257;
const TAR_MAGIC: &[u8] = b"ustar";
/// Number of bytes needed to detect the type of a file that is not a document.
pub(super) const HEAD: usize = TAR_MAGIC_AT + TAR_MAGIC.len();

/// Returns whether a file that starts with `head` is a BoltDB file, in either byte order.
pub(super) fn is_bolt(head: &[u8]) -> bool {
    head.get(BOLT_MAGIC_AT..BOLT_HEAD)
        .is_some_and(|magic| magic == BOLT_MAGIC.to_le_bytes() || magic == BOLT_MAGIC.to_be_bytes())
}

/// Returns whether a file that starts with `head` is a tar archive.
pub(super) fn is_tar(head: &[u8]) -> bool {
    head.get(TAR_MAGIC_AT..HEAD).is_some_and(|at| at == TAR_MAGIC)
}

/// A JSON document with op digests or ops.
#[derive(Debug)]
pub(super) enum Document<'a> {
    /// A keys file of our own, of any version.
    KeysFile,
    /// SLSA provenance, as statement or bare predicate.
    Provenance,
    /// The `--metadata-file` of `docker buildx build` or `bake`, with the provenance in it.
    MetadataFile(Vec<Part<'a>>),
    /// The output of `docker buildx imagetools inspect` for provenance.
    Printed(Vec<Part<'a>>),
    /// Signed attestations; the items are their statements.
    Envelopes(Vec<Vec<u8>>),
    /// The output of `buildctl debug dump-llb`, an object per op.
    Dump,
    /// A frontend's response to `frontend.convertllb`, possibly followed by other text.
    Definition(&'a [u8]),
}

/// Detects the type of the JSON document `json`; `None` if it is unknown.
///
/// # Errors
/// Returns an error if it is not a JSON object, or for a dump or signed attestations not a series of them.
pub(super) fn document(json: &[u8]) -> Result<Option<Document<'_>>, DetectError> {
    const DUMP: [&str; 2] = ["Op", "Digest"];
    const PROVENANCE: [&str; 4] = ["predicateType", "predicate", "buildDefinition", "invocation"];
    let of_answer = answer(json).unwrap_or(json);
    let answer = serde_json::Deserializer::from_slice(of_answer).into_iter::<Fields<'_>>().next();
    if answer.is_some_and(|fields| fields.is_ok_and(|fields| is_definition(&fields))) {
        return Ok(Some(Document::Definition(of_answer)));
    }
    let mut objects = serde_json::Deserializer::from_slice(json).into_iter::<Fields<'_>>();
    if let Some(Ok(first)) = objects.next() {
        if DUMP.iter().all(|key| first.contains_key(*key)) {
            return Ok(Some(Document::Dump));
        }
        if let Some(statement) = envelope::statement(&first) {
            return Ok(Some(Document::Envelopes(statements(statement?, objects)?)));
        }
    }
    let fields: Fields<'_> = crate::json::parse(json)?;
    let media_type =
        fields.get("mediaType").map(|value| serde_json::from_str::<String>(value.get()));
    if media_type.is_some_and(|kind| kind.is_ok_and(|kind| file::is_keys_file(&kind))) {
        return Ok(Some(Document::KeysFile));
    }
    if PROVENANCE.iter().any(|key| fields.contains_key(*key)) {
        return Ok(Some(Document::Provenance));
    }
    if let Some(parts) = envelope::printed(&fields) {
        return Ok(Some(Document::Printed(parts)));
    }
    Ok(metadata_file::parts(&fields).map(Document::MetadataFile))
}

/// Returns the JSON of a frontend's response that is printed after the name of the document: by buildctl, and
/// by buildx without `format=json`.
fn answer(text: &[u8]) -> Option<&[u8]> {
    const NAME: &[u8] = b"result.json";
    /// buildx prints the name of the call before it.
    const NAME_AT: usize = 100;
    let at = text.windows(NAME.len()).take(NAME_AT).position(|bytes| bytes == NAME)?;
    let json = text.get(at + NAME.len()..)?;
    matches!(text.first()?, b'N' | b'r').then_some(())?;
    json.strip_prefix(b":").or_else(|| json.strip_prefix(b"\n"))
}

/// Returns whether these are the fields of a definition with its ops by their digests.
fn is_definition(fields: &Fields<'_>) -> bool {
    let def = fields.get("def").is_some_and(|def| def.get().starts_with('{'));
    def && fields.contains_key("metadata")
}

/// Returns `first`, and the statements of the following envelopes.
fn statements<'a>(
    first: Vec<u8>,
    others: impl Iterator<Item = Result<Fields<'a>, serde_json::Error>>,
) -> Result<Vec<Vec<u8>>, DetectError> {
    let mut statements = vec![first];
    for fields in others {
        if let Some(statement) = envelope::statement(&fields.map_err(FormatError::new)?) {
            statements.push(statement?);
        }
    }
    Ok(statements)
}

/// Why the type of a document cannot be detected.
#[derive(Debug)]
pub(super) enum DetectError {
    Json(FormatError),
    Envelope(EnvelopeError),
}

impl From<FormatError> for DetectError {
    fn from(error: FormatError) -> Self {
        Self::Json(error)
    }
}

impl From<EnvelopeError> for DetectError {
    fn from(error: EnvelopeError) -> Self {
        Self::Envelope(error)
    }
}
