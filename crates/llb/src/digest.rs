//! Op digests.

use std::fmt;

use codec::Digest;

use super::encoding::Encoding;
use super::op::{Kind, Op};
use super::platform::Platform;
use super::preimage::{NotComputable, document};

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
