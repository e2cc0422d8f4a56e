//! Why there is no JSON document.

use codec::FormatError;

/// Maximum number of mounts of an exec op. All of them are visited for every input of every record of the op,
/// and a hostile cache can have millions of those.
pub(super) const MAX_MOUNTS: usize = 4096;

/// Why the digest of an op cannot be computed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotComputable {
    /// The key of a source depends on the fetched content.
    #[error("it is a source, whose key depends on what was fetched")]
    Source,
    /// The last vertex of a definition has no key.
    #[error("it only names the result")]
    Return,
    /// The op is of a release newer than this program knows.
    #[error("it is an op that no BuildKit release up to v0.34 has")]
    Unknown,
    /// The document omits what an action of a file op does.
    #[error(
        "the provenance does not say what action {index} does: BuildKit leaves symbolic links out \
         of it; take the key from the cache.db of the builder that made the cache"
    )]
    LostAction {
        /// The index of the action, from 0.
        index: usize,
    },
    /// A nested build contains a definition.
    #[error("it is a nested build that carries its own definition")]
    NestedDefinition,
    /// An exec op has more mounts than any build.
    #[error("it has {count} mounts; no build has a step with more than {MAX_MOUNTS}")]
    TooManyMounts {
        /// The number of mounts.
        count: usize,
    },
    /// A merge op has too many inputs: a release that names it by its JSON cannot store the name.
    #[error("its name in v0.11 and v0.12 would have {length} bytes, which no cache.db can hold")]
    TooLong {
        /// Length of the name in bytes.
        length: usize,
    },
    /// The op cannot be encoded as JSON.
    #[error("cannot write the op as JSON")]
    Json(#[from] FormatError),
}
