//! What a file is, by what is in it.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::file;
use super::metadata_file::{self, Part};

/// Where the magic number of a BoltDB file is: behind the 16-byte header of page 0
/// (go.etcd.io/bbolt v1.5.0, `internal/common/meta.go`).
const BOLT_MAGIC_AT: usize = 16;
const BOLT_MAGIC: u32 = 0xED0C_DAED;
/// How much of a file [`is_bolt`] has to see.
pub(super) const BOLT_HEAD: usize = BOLT_MAGIC_AT + 4;

/// Whether a file that starts with `head` is a BoltDB file, of a machine of either byte order.
pub(super) fn is_bolt(head: &[u8]) -> bool {
    head.get(BOLT_MAGIC_AT..BOLT_HEAD)
        .is_some_and(|magic| magic == BOLT_MAGIC.to_le_bytes() || magic == BOLT_MAGIC.to_be_bytes())
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
}

/// What the JSON document `json` is; nothing if it is none of those known.
///
/// # Errors
/// When it is no JSON object.
pub(super) fn document(json: &[u8]) -> Result<Option<Document<'_>>, serde_json::Error> {
    const PROVENANCE: [&str; 4] = ["predicateType", "predicate", "buildDefinition", "invocation"];
    let fields: BTreeMap<String, &RawValue> = serde_json::from_slice(json)?;
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
