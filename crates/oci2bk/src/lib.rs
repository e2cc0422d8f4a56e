//! Turns a BuildKit cache export into the state directory of a buildkitd that has already run
//! those builds.
//!
//! Read the exports, collect keys for their records, make a [`Plan`](plan::Plan) and carry it out:
//!
//! ```no_run
//! use oci2bk::{CacheExport, Converter, Keyring, Limits, Plan};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let limits = Limits::default();
//!     let exports = CacheExport::read_sources(&["./cache".parse()?], &limits)?;
//!
//!     let mut keyring = Keyring::for_exports(&exports);
//!     keyring.read("provenance.json", &limits)?;
//!     keyring.read_layouts(&exports)?;
//!
//!     let plan = Plan::new(&exports, &keyring);
//!     assert_eq!(plan.unkeyed().count(), 0);
//!
//!     let report = Converter::new().convert(&plan, &exports, "/var/lib/buildkit")?;
//!     println!("{} snapshots", report.snapshots);
//!     Ok(())
//! }
//! ```
//!
//! The formats are described in `docs/format/`, one page per module of the same name.

mod assemble;
pub mod cancel;
pub mod config;
pub mod convert;
pub mod explain;
pub mod export;
pub mod gc;
pub mod graph;
pub mod image;
pub mod inspect;
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
pub mod root;
pub mod source;
pub mod unpack;
pub mod verify;

pub use bkstate;
pub use bkstate::state::State;
pub use bkstate::{Digest, Time};

pub use cancel::Cancel;
pub use convert::Converter;
pub use export::CacheExport;
pub use image::BaseImage;
pub use keys::Keyring;
pub use limits::Limits;
pub use plan::Plan;
pub use progress::{Event, Progress};
pub use release::Target;
pub use root::Root;
pub use source::Source;
pub use verify::Verifier;
