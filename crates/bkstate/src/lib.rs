//! The on-disk state of a BuildKit daemon (`buildkitd` with its OCI worker), as data.
//!
//! The crate reads, models, writes and verifies the files of a state directory such as `/var/lib/buildkit`.
//! It does not know cache exports; the `oci2bk` crate builds on it.
//!
//! ```no_run
//! use bkstate::Root;
//!
//! // While this value lives, no other program works on the root, and no daemon starts on it.
//! let root = Root::open("/var/lib/buildkit")?;
//! let state = root.state()?;
//! println!("{} records, {} keys", state.records.by_id.len(), state.solver.links.len());
//! for damage in root.verify_databases()?.damage {
//!     println!("{}: {damage}", damage.kind());
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Where to begin
//! - [`Root`] is the only entry to a state: it opens a directory as the root of a daemon, if it is one or can
//!   become one ([`root`]), and holds its lock.
//! - [`worker`] has the paths and names of the files of a state.
//! - [`state`] covers the directory as a whole: who may access it, and how a state is written, verified and
//!   extended.
//! - A state has four databases, each a value that is read and written as a whole: [`solver`] (cache keys and
//!   their results), [`records`] (the layers and mounts behind the results), [`metadata`] and [`snapshots`]
//!   (containerd's data about them). Their files are [`bolt`] databases.
//! - The files of layers are beside them: packed in [`content`], unpacked in [`snapshots::Trees`], all
//!   accessed through [`dir`], which follows no links.
//! - What a daemon will do with a state: [`usage`] computes its size, [`gc`] what a given [`config`] will
//!   remove.
//! - [`mounts`] lists cache mounts.
//! - [`layers`] has the snapshot keys of layers, and which layers daemons share.
//! - [`machine`] finds the files of a machine whose file system is in a directory.
//! - [`input`] opens files that the user names, and [`kernel`] wraps kernel interfaces for files.
//! - [`ids`] and [`digest`]s connect all of them; [`time`], [`varint`] and [`gojson`] write values as Go
//!   does; [`small_map`] holds maps that usually have one entry.
//!
//! [`docs/semver.md`] of the project says what is stable.
//!
//! The features `config-file` ([`config`] reads TOML) and `filters` ([`usage::Filter`]) are on by default.
//!
//! Facts about the formats are documented in the project's [`docs/format/`], one page per module of
//! the same name.
//!
//! [`docs/format/`]: https://github.com/oci2bk/oci2bk/blob/main/docs/format
//! [`docs/semver.md`]: https://github.com/oci2bk/oci2bk/blob/main/docs/semver.md

pub mod bolt;
mod class;
pub mod config;
pub mod content;
pub mod decode;
pub mod digest;
pub mod dir;
pub mod encode;
pub mod engine;
pub mod gc;
pub mod ids;
mod inline_text;
pub mod input;
pub mod kernel;
pub mod layers;
pub mod machine;
pub mod metadata;
pub mod mounts;
pub mod packed;
pub mod records;
pub mod root;
pub mod small_map;
pub mod snapshots;
pub mod solver;
pub mod state;
pub mod time;
pub mod usage;
mod userns;
pub mod varint;
pub mod worker;

pub use codec::{About, Class, Classified, FormatError, gojson};
pub use digest::Digest;
pub use root::Root;
pub use time::Time;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
