//! Digests, JSON as BuildKit writes and reads it, and classes of errors.
//!
//! BuildKit names things by digests, many of which are digests of JSON. All crates that handle its state or
//! its caches need both, whether they read files (`bkstate`, `oci2bk`) or only compute (`llb`). This crate
//! does no I/O.
//!
//! - [`Digest`] is the SHA-256 of something; [`digest`] has the rest about it.
//! - [`gojson`] writes JSON as Go's `encoding/json` does, to the byte.
//! - [`class`] says what the errors of all of them are about.
//! - [`from_objects!`] makes `serde` read structs as Go does, from objects only.
//!
//! `docs/semver.md` of the project says what is stable. The crate has no features.

pub mod class;
pub mod digest;
pub mod gojson;
mod objects;

pub use class::{Class, Classified};
pub use digest::Digest;
