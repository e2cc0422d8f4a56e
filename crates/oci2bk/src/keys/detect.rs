//! What a file is, by what is in it.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::file;
use super::metadata_file::{self, Part};

/// Where the magic number of a BoltDB file is: behind the 16-byte header of page 0
/// (go.etcd.io/bbolt v1.5.0, `internal/common/meta.go`).
const BOLT_MAGIC_AT: usize = 16;
const BOLT_MAGIC: u32 = 0xED0C_DAED;
const BOLT_HEAD: usize = BOLT_MAGIC_AT + 4;

/// The magic of a gzip stream with the one compression method that exists (RFC 1952).
const GZIP_MAGIC: &[u8] = &[0x1F, 0x8B, 0x08];
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

/// Whether a file that starts with `head` is a tar archive, or compressed, as such are.
pub(super) fn is_archive(head: &[u8]) -> bool {
    head.starts_with(GZIP_MAGIC) || head.get(TAR_MAGIC_AT..).is_some_and(|at| at == TAR_MAGIC)
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
    /// What `buildctl debug dump-llb` prints, an object per op.
    Dump,
}

/// What the JSON document `json` is; nothing if it is none of those known.
///
/// # Errors
/// When it is no JSON object, or for a dump no series of them.
pub(super) fn document(json: &[u8]) -> Result<Option<Document<'_>>, serde_json::Error> {
    const DUMP: [&str; 2] = ["Op", "Digest"];
    const PROVENANCE: [&str; 4] = ["predicateType", "predicate", "buildDefinition", "invocation"];
    type Fields<'a> = BTreeMap<String, &'a RawValue>;
    if let Some(first) = serde_json::Deserializer::from_slice(json).into_iter::<Fields<'_>>().next()
        && DUMP.iter().all(|key| first.as_ref().is_ok_and(|fields| fields.contains_key(*key)))
    {
        return Ok(Some(Document::Dump));
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
    Ok(metadata_file::parts(&fields).map(Document::MetadataFile))
}
