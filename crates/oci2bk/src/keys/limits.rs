//! How much is read of a key source. All of it may be hostile, and most of it is held in memory.

/// The most bytes read of one JSON document. The provenance of a build of a thousand steps has about
/// a million.
pub const MAX_DOCUMENT_BYTES: u64 = 64 << 20;

/// The most bytes read of LLB in protobuf. A daemon takes no more in a request: it is the limit for
/// messages of containerd's `defaults.DefaultMaxRecvMsgSize`, which BuildKit uses.
pub const MAX_DEFINITION_BYTES: u64 = 16 << 20;

/// The most bytes of all provenance in one build history or bundle together.
pub const MAX_HISTORY_BYTES: u64 = 512 << 20;

/// The most bytes of a bundle, decompressed. It holds logs and traces of the builds besides.
pub const MAX_BUNDLE_BYTES: u64 = 1 << 30;

/// The most members of a bundle. That of one build has about ten.
pub const MAX_BUNDLE_MEMBERS: usize = 20_000;
