//! Content digests, and texts that most often are digests.

mod text;

pub use codec::digest::{Digest, Hasher, ParseDigestError};
pub use text::DigestText;
