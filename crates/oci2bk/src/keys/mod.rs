//! Key sources and the keyring they make.
//!
//! An exported cache names the record of a step by a hash over the step's op digest, which cannot
//! be turned back (see `docs/format/keys.md`). The op digests come from a *key source*:
//! provenance of the build, in any of its wrappings, the LLB itself, what a builder keeps in its root
//! directory, or a [`KeysFile`] of our own, which may be [attached](attach()) to the cache. What a
//! source offers are [`Candidate`]s; only those whose hash is that of a record get into the
//! [`Keyring`], so a wrong or hostile source can leave records unresolved but never resolve one
//! wrongly.
//!
//! ```no_run
//! use oci2bk::keys::{KeysFile, read_source};
//! use oci2bk::limits::Limits;
//!
//! // What `oci2bk keys` does: digests only, without arguments or paths of the build.
//! let sources = read_source("provenance.json".as_ref(), &Limits::default())?;
//! std::fs::write("keys.json", KeysFile::from_sources(&sources).encode()?)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod artifact;
mod attestation;
mod bundle;
mod cache_db;
mod cache_debug;
mod database;
mod detect;
mod error;
mod file;
mod history;
mod keyring;
mod metadata_file;
mod read;
mod root;
mod source;

pub use artifact::{ArtifactError, AttachError, Attached, attach};
pub use attestation::AttestationError;
pub use bundle::BundleError;
pub use database::DatabaseError;
pub use error::SourceError;
pub use file::{KEYS_MEDIA_TYPE, KeysFile, KeysFileError, MAX_DOCUMENT_BYTES};
pub use history::HistoryError;
pub use keyring::{Keyring, Resolved, SourceSummary};
pub use metadata_file::MetadataFileError;
pub use read::{read_layout, read_source};
pub use source::{Candidate, KeySource, SourceDescription, SourceKind, Uncomputable};

#[cfg(test)]
mod tests;
