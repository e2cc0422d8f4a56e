//! Digests, JSON as BuildKit writes and reads it, and classes of errors.
//!
//! BuildKit names things by digests, and many of these are digests of JSON. So both are the business of
//! whatever has to do with its state or its caches, whether it reads files (`bkstate`, `oci2bk`) or only
//! computes (`llb`). This crate is what all of them share. It does no I/O.
//!
//! - [`Digest`] is the SHA-256 of something; [`digest`] has the rest about it.
//! - [`gojson`] writes JSON as Go's `encoding/json` does, to the byte.
//! - [`class`] says what the errors of all of them are about.
//! - [`from_objects!`] makes `serde` read structs as Go does, from objects only.
//!
//! What it promises is what `docs/semver.md` of the project says. It has no features.

pub mod class;
pub mod digest;
pub mod gojson;
mod objects;

pub use class::{Class, Classified};
pub use digest::Digest;
