//! Digests, JSON as BuildKit writes and reads it, and classes of errors.
//!
//! BuildKit names things by digests, many of which are digests of JSON. All crates that handle its state or
//! its caches need both, whether they read files (`bkstate`, `oci2bk`) or only compute (`llb`). This crate
//! does no I/O.
//!
//! - [`Digest`] is a SHA-256 digest; [`digest`] has related types.
//! - [`gojson`] writes JSON byte for byte as Go's `encoding/json`.
//! - [`class`]: the classes of all errors. [`FormatError`] is what the parsers of formats say.
//! - [`from_objects!`] makes `serde` read structs from objects only, as Go does.
//!
//! [`docs/semver.md`] of the project says what is stable. The crate has no features.
//!
//! [`docs/semver.md`]: https://github.com/oci2bk/oci2bk/blob/main/docs/semver.md

pub mod class;
pub mod digest;
mod format;
pub mod gojson;
mod objects;

pub use class::{About, Class, Classified};
pub use digest::Digest;
pub use format::FormatError;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
