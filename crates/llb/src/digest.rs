//! Op digests.

use std::fmt;

use codec::Digest;

use super::encoding::Encoding;
use super::op::{Kind, Op};
use super::platform::Platform;
use super::preimage;

/// The longest op digest, in bytes. The key of a link has it, and bbolt takes no key of more than twice
/// as many; JSON that is longer is that of a merge op with more inputs than overlayfs has layers.
pub const MAX_OP_DIGEST_BYTES: usize = 16 << 10;

/// What the solver calls an op (`CacheMap.Digest`), and what `cache.db` has on its links.
///
/// A digest in all releases but v0.11 and v0.12, which name merge and diff ops by the JSON that
/// was meant to be hashed (`solver/llbsolver/ops/{merge,diff}.go`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpDigest(String);

/// Why a text cannot be an op digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not an op digest: that has 1 to {MAX_OP_DIGEST_BYTES} bytes and no '@', which \
     ends it in cache.db"
)]
pub struct InvalidOpDigest {
    /// The text, shortened to 100 characters.
    pub text: String,
}

impl OpDigest {
    /// The digest as `cache.db` has it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What an export names the record of the op's output `output` by, if the op has inputs; and
    /// the key of a root, if it has none (`rootKey` in `solver/cachemanager.go`).
    pub fn record(&self, output: u32) -> Digest {
        Digest::of(format!("{}@{output}", self.0))
    }
}

impl From<Digest> for OpDigest {
    fn from(digest: Digest) -> Self {
        Self(digest.to_string())
    }
}

impl TryFrom<String> for OpDigest {
    type Error = InvalidOpDigest;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.is_empty() || text.len() > MAX_OP_DIGEST_BYTES || text.contains('@') {
            return Err(InvalidOpDigest { text: text.chars().take(100).collect() });
        }
        Ok(Self(text))
    }
}

impl fmt::Display for OpDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The most mounts of an exec op that is looked at. All of them are looked at again for every input of
/// every record of the op, and a hostile cache has millions of those.
const MAX_MOUNTS: usize = 4096;

/// Why the digest of an op cannot be computed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotComputable {
    /// The key of a source depends on what was fetched.
    #[error("it is a source, whose key depends on what was fetched")]
    Source,
    /// The last vertex of a definition has no key.
    #[error("it only names the result")]
    Return,
    /// An op of a release newer than this program knows.
    #[error("it is an op that no BuildKit release up to v0.34 has")]
    Unknown,
    /// The document left out what an action of a file op does.
    #[error(
        "the provenance does not say what action {index} does: BuildKit leaves symbolic links out \
         of it; take the key from the cache.db of the builder that made the cache"
    )]
    LostAction {
        /// The action, counted from 0.
        index: usize,
    },
    /// A nested build with a definition of its own.
    #[error("it is a nested build that carries its own definition")]
    NestedDefinition,
    /// An exec op of more mounts than any build has.
    #[error("it has {count} mounts; no build has a step with more than {MAX_MOUNTS}")]
    TooManyMounts {
        /// How many.
        count: usize,
    },
    /// A merge op of so many inputs that a release which names it by its JSON cannot store the name.
    #[error("its name in v0.11 and v0.12 would have {length} bytes, which no cache.db can hold")]
    TooLong {
        /// Length of the name in bytes.
        length: usize,
    },
    /// The op cannot be written as JSON.
    #[error("cannot write the op as JSON")]
    Json(#[from] serde_json::Error),
}

/// What a daemon of `encoding`, on a machine of `default_platform`, calls `op`
/// (BuildKit `CacheMap` in `solver/llbsolver/ops/*.go`).
///
/// # Errors
/// When the op does not determine its digest.
pub fn digest(
    op: &Op,
    encoding: Encoding,
    default_platform: &Platform,
) -> Result<OpDigest, NotComputable> {
    let document = document(op, encoding, default_platform)?;
    let is_named_by_it = matches!(op.kind, Kind::Merge(_) | Kind::Diff(_))
        && !encoding.release.hashes_merge_and_diff();
    match document.len() {
        _ if !is_named_by_it => Ok(Digest::of(document).into()),
        length if length > MAX_OP_DIGEST_BYTES => Err(NotComputable::TooLong { length }),
        _ => Ok(OpDigest(document)),
    }
}

/// The JSON that the digest is one of.
pub(super) fn document(
    op: &Op,
    encoding: Encoding,
    default_platform: &Platform,
) -> Result<String, NotComputable> {
    Ok(match &op.kind {
        Kind::Exec(exec) if exec.mounts.len() > MAX_MOUNTS => {
            return Err(NotComputable::TooManyMounts { count: exec.mounts.len() });
        }
        Kind::Exec(exec) => {
            let platform = op.platform.as_ref().unwrap_or(default_platform).normalized();
            preimage::exec(exec, &platform, encoding)?
        }
        Kind::File(file) => preimage::file(file, op.inputs, encoding)?,
        Kind::Merge(merge) => preimage::merge(merge, encoding)?,
        Kind::Diff(diff) => preimage::diff(diff, encoding)?,
        Kind::Build(build) if build.has_definition => return Err(NotComputable::NestedDefinition),
        Kind::Build(build) => preimage::build(build, encoding)?,
        Kind::Passthrough(op) => preimage::passthrough(op, encoding)?,
        Kind::Source => return Err(NotComputable::Source),
        Kind::Return => return Err(NotComputable::Return),
        Kind::Unknown => return Err(NotComputable::Unknown),
    })
}
