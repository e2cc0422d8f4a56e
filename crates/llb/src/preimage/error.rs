//! Why there is no document.

/// The most mounts of an exec op that is looked at. All of them are looked at again for every input of
/// every record of the op, and a hostile cache has millions of those.
pub(super) const MAX_MOUNTS: usize = 4096;

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
