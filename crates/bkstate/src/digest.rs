//! Content digests, and texts that usually are digests.

mod text;

pub use codec::digest::{Digest, Hasher, ParseDigestError};
pub use text::DigestText;
