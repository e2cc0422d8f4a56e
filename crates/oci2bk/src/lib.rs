//! Turns a BuildKit cache export into the state directory of a buildkitd that has already run
//! those builds.
//!
//! Read the exports, collect keys for their records, make a [`Plan`](plan::Plan) and carry it out:
//!
//! ```no_run
//! use std::path::Path;
//!
//! use oci2bk::convert::{Options, convert};
//! use oci2bk::export::CacheExport;
//! use oci2bk::keys::{Keyring, read_source};
//! use oci2bk::limits::Limits;
//! use oci2bk::plan::Plan;
//! use oci2bk::progress::Silent;
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let limits = Limits::default();
//!     let exports = CacheExport::read_all(&"./cache".parse()?, &limits)?;
//!
//!     let records = exports.iter().flat_map(|export| &export.config.records);
//!     let wanted = records.filter(|record| !record.inputs.is_empty()).map(|r| r.digest).collect();
//!     let mut keyring = Keyring::new();
//!     for source in read_source(Path::new("provenance.json"), &limits)? {
//!         keyring.add(source.description, source.candidates, &wanted);
//!     }
//!
//!     let plan = Plan::new(&exports, &keyring);
//!     assert_eq!(plan.unkeyed().count(), 0);
//!
//!     let options = Options { limits, ..Options::default() };
//!     let report = convert(&plan, &exports, Path::new("/var/lib/buildkit"), &options, &Silent)?;
//!     println!("{} snapshots", report.snapshots);
//!     Ok(())
//! }
//! ```
//!
//! The formats are described in `docs/format/`, one page per module of the same name.

mod assemble;
pub mod config;
pub mod convert;
pub mod export;
pub mod image;
pub mod json;
pub mod keys;
pub mod layout;
pub mod limits;
pub mod llb;
pub mod manifest;
mod merge;
pub mod plan;
pub mod progress;
pub mod release;
pub mod source;
pub mod unpack;
pub mod verify;
