//! Op digests.

use std::fmt;

use codec::Digest;

use super::encoding::Encoding;
use super::op::{Kind, Op};
use super::platform::Platform;
use super::preimage::{NotComputable, document};

/// Maximum length of an op digest, in bytes. The key of a link contains it, and bbolt accepts keys of at most
/// twice this length. Longer JSON would be of a merge op with more inputs than overlayfs has layers.
pub const MAX_OP_DIGEST_BYTES: usize = 16 << 10;

/// The solver's name for an op (`CacheMap.Digest`), which `cache.db` has on its links.
///
/// It is a digest in all releases except v0.11 and v0.12, which name merge and diff ops by the unhashed JSON
/// (`solver/llbsolver/ops/{merge,diff}.go`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpDigest(String);

/// Why a text is not an op digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not an op digest: that has 1 to {MAX_OP_DIGEST_BYTES} bytes and no '@', which \
     ends it in cache.db"
)]
#[non_exhaustive]
pub struct InvalidOpDigest {
    /// The text, shortened to 100 characters.
    pub text: String,
}

impl OpDigest {
    /// Returns the digest as in `cache.db`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the name of the record of the op's output `output` in an export, if the op has inputs; for an
    /// op without inputs, the key of the root (`rootKey` in `solver/cachemanager.go`).
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

/// Computes the op digest of `op` as a daemon of `encoding` on a machine of `default_platform` does (BuildKit
/// `CacheMap` in `solver/llbsolver/ops/*.go`).
///
/// # Errors
/// Returns an error if the op does not determine its digest.
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
