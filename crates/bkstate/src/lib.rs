//! The on-disk state of a BuildKit daemon (`buildkitd` with its OCI worker), as data.
//!
//! The crate reads, models, writes and verifies the files of a state directory such as
//! `/var/lib/buildkit`. It knows nothing of cache exports; the `oci2bk` crate builds on it.
//!
//! ```no_run
//! use bkstate::Root;
//!
//! // Nobody works on the root, and no daemon starts on it for as long as this lives.
//! let root = Root::open("/var/lib/buildkit")?;
//! let state = root.state()?;
//! println!("{} records, {} keys", state.records.by_id.len(), state.solver.links.len());
//! for damage in root.verify()?.damage {
//!     println!("{}: {damage}", damage.kind());
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Where to begin
//! - [`Root`] is the one door to a state: it opens a directory as the root of a daemon, if it is one or can become
//!   one ([`root`]), and holds its lock.
//! - [`worker`] says where the files of a state lie and what they are called.
//! - [`state`] has the directory as a whole: who may touch it, how a state is written, verified and added to.
//! - A state is four databases, each a value that is read and written at once: [`solver`] (what is cached),
//!   [`records`] (what results are), [`metadata`] and [`snapshots`] (what containerd keeps for them). Their
//!   files are [`bolt`] databases.
//! - Beside them are the files of layers: packed in [`content`], unpacked in [`snapshots::Trees`], all reached
//!   through [`dir`], which follows no link.
//! - What a daemon will do with a state: [`usage`] says what it takes, [`gc`] what of it will be removed under
//!   which [`config`].
//! - [`layers`] says what the snapshots of layers are called, and which of them daemons share.
//! - [`input`] opens files that the user names, and [`kernel`] has what the kernel tells of files.
//! - All are tied together by [`ids`] and [`digest`]s; [`time`], [`varint`] and [`gojson`] write values as Go
//!   does; [`small_map`] holds what a key most often has one of.
//!
//! What it promises is what `docs/semver.md` of the project says. It has no features.
//!
//! Facts about the formats are documented in the project's `docs/format/`, one page per module of
//! the same name.

pub mod bolt;
mod class;
pub mod config;
pub mod content;
pub mod decode;
pub mod digest;
pub mod dir;
pub mod encode;
pub mod gc;
pub mod ids;
pub mod input;
pub mod kernel;
pub mod layers;
pub mod metadata;
pub mod records;
pub mod root;
mod short;
pub mod small_map;
pub mod snapshots;
pub mod solver;
pub mod state;
pub mod time;
pub mod usage;
pub mod varint;
pub mod worker;

pub use codec::{Class, Classified, gojson};
pub use digest::Digest;
pub use root::Root;
pub use time::Time;
