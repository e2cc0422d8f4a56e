//! What a file is, by what is in it.

use super::envelope::{self, EnvelopeError, Fields};
use super::file;
use super::metadata_file::{self, Part};

/// Where the magic number of a BoltDB file is: behind the 16-byte header of page 0
/// (go.etcd.io/bbolt v1.5.0, `internal/common/meta.go`).
const BOLT_MAGIC_AT: usize = 16;
const BOLT_MAGIC: u32 = 0xED0C_DAED;
const BOLT_HEAD: usize = BOLT_MAGIC_AT + 4;

/// Where the first header block of a tar archive says that it is one (POSIX `ustar`, GNU tar).
const TAR_MAGIC_AT: usize = 257;
const TAR_MAGIC: &[u8] = b"ustar";
/// How much of a file has to be seen to tell what it is, if it is no document.
pub(super) const HEAD: usize = TAR_MAGIC_AT + TAR_MAGIC.len();

/// Whether a file that starts with `head` is a BoltDB file, of a machine of either byte order.
pub(super) fn is_bolt(head: &[u8]) -> bool {
    head.get(BOLT_MAGIC_AT..BOLT_HEAD)
        .is_some_and(|magic| magic == BOLT_MAGIC.to_le_bytes() || magic == BOLT_MAGIC.to_be_bytes())
}

/// Whether a file that starts with `head` is a tar archive.
pub(super) fn is_tar(head: &[u8]) -> bool {
    head.get(TAR_MAGIC_AT..HEAD).is_some_and(|at| at == TAR_MAGIC)
}

/// A JSON document that op digests can come from.
#[derive(Debug)]
pub(super) enum Document<'a> {
    /// A keys file of our own, of whatever version.
    KeysFile,
    /// SLSA provenance, as statement or bare predicate.
    Provenance,
    /// The `--metadata-file` of `docker buildx build` or `bake`, with the provenance in it.
    MetadataFile(Vec<Part<'a>>),
    /// What `docker buildx imagetools inspect` prints of provenance.
    Printed(Vec<Part<'a>>),
    /// Signed attestations, by their statements.
    Envelopes(Vec<Vec<u8>>),
    /// What `buildctl debug dump-llb` prints, an object per op.
    Dump,
    /// What a frontend answers to `frontend.convertllb`, and perhaps something behind it.
    Definition(&'a [u8]),
}

/// What the JSON document `json` is; nothing if it is none of those known.
///
/// # Errors
/// When it is not a JSON object, or for a dump or signed attestations no series of them.
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
    let fields: Fields<'_> = serde_json::from_slice(json)?;
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

/// The JSON of what a frontend answers, where that is printed with the name of the document before it: by
/// buildctl, and by buildx unless it is told `format=json`.
fn answer(text: &[u8]) -> Option<&[u8]> {
    const NAME: &[u8] = b"result.json";
    /// buildx puts the name of the call before it.
    const NAME_AT: usize = 100;
    let at = text.windows(NAME.len()).take(NAME_AT).position(|bytes| bytes == NAME)?;
    let json = text.get(at + NAME.len()..)?;
    matches!(text.first()?, b'N' | b'r').then_some(())?;
    json.strip_prefix(b":").or_else(|| json.strip_prefix(b"\n"))
}

/// Whether these are the fields of a definition with its ops by their digests.
fn is_definition(fields: &Fields<'_>) -> bool {
    let def = fields.get("def").is_some_and(|def| def.get().starts_with('{'));
    def && fields.contains_key("metadata")
}

/// `first`, and the statements of the envelopes that follow.
fn statements<'a>(
    first: Vec<u8>,
    others: impl Iterator<Item = Result<Fields<'a>, serde_json::Error>>,
) -> Result<Vec<Vec<u8>>, DetectError> {
    let mut statements = vec![first];
    for fields in others {
        if let Some(statement) = envelope::statement(&fields?) {
            statements.push(statement?);
        }
    }
    Ok(statements)
}

/// Why a document cannot be told.
#[derive(Debug)]
pub(super) enum DetectError {
    Json(serde_json::Error),
    Envelope(EnvelopeError),
}

impl From<serde_json::Error> for DetectError {
    fn from(error: serde_json::Error) -> Self {
        Self::Json(error)
    }
}

impl From<EnvelopeError> for DetectError {
    fn from(error: EnvelopeError) -> Self {
        Self::Envelope(error)
    }
}
