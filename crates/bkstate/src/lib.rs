//! The on-disk state of a BuildKit daemon (`buildkitd` with its OCI worker), as data.
//!
//! The crate reads, models, writes and verifies the files of a state directory such as
//! `/var/lib/buildkit`. It knows nothing of cache exports; the `oci2bk` crate builds on it.
//!
//! Facts about the formats are documented in the project's `docs/format/`, one page per module of
//! the same name.

pub mod bolt;
pub mod config;
pub mod content;
pub mod decode;
pub mod digest;
pub mod dir;
pub mod encode;
pub mod gc;
pub mod gojson;
pub mod ids;
pub mod metadata;
pub mod records;
pub mod snapshots;
pub mod solver;
pub mod state;
pub mod time;
pub mod usage;
pub mod varint;

pub use digest::Digest;
pub use time::Time;
