//! LLB: the operations BuildKit runs, and the digest it knows each one by.
//!
//! BuildKit finds a cached step by its *op digest*: the SHA-256 of a JSON document that the daemon
//! makes of the op. An exported cache holds only a hash over op digest and output number, so the op
//! digest itself has to be computed again from the op. This module has the ops ([`op`]), reads
//! them from the provenance BuildKit records ([`Provenance`]) and from LLB as clients hand it over
//! ([`Definition`]), and computes their digests as each release does ([`digest()`], [`Encoding`]).
//!
//! The formats are described in `docs/format/llb.md`.

mod base;
mod definition;
mod digest;
mod encoding;
mod graph;
mod json;
mod name;
pub mod op;
mod platform;
mod preimage;
mod proto;
mod provenance;
mod selector;
mod vertex;

pub use base::Base;
pub use definition::{Definition, DefinitionError, MAX_PARTS};
pub use digest::{InvalidOpDigest, MAX_OP_DIGEST_BYTES, NotComputable, OpDigest, digest};
pub use encoding::{Encoding, Release};
pub use graph::{Graph, Output, Step};
pub use name::step_name;
pub use op::Op;
pub use platform::{ParsePlatformError, Platform};
pub use provenance::{Provenance, ProvenanceError};
pub use selector::Selectors;
pub use vertex::{Patterns, Vertex};

#[cfg(test)]
mod tests;
