//! The state of a builder as an OCI image: exports a root, and imports it elsewhere.
//!
//! A layer of an image cannot hold the files of a root as they are: a runtime that unpacks it would take the whiteouts
//! of snapshots for its own, and drop sockets and the marks of overlays. So an image of a state has only regular files:
//! archives of the snapshots, compressed and cut into parts, blobs, and databases. They are the same whether the image
//! is read as a layout or from the directory in which a runtime has put its files.
//!
//! ```text
//! root ─► trees: archives in parts ─► layers of several items ─► image in a layout or an archive
//! image, or the directory with its files ─► staging: trees, blobs, databases ─► verify ─► publish
//! ```
//!
//! [`docs/format/state-image.md`] describes the files and their layers.
//!
//! ```no_run
//! use oci2bk::Root;
//! use oci2bk::state_image::{
//!     ExportedState, ImportedState, StateExporter, StateImageError, StateImporter, StateTo,
//! };
//!
//! let root = Root::open("/var/lib/buildkit")?;
//! let to = StateTo::Layout { path: "state".as_ref(), tag: None };
//! let ExportedState { manifest, layers, .. } = StateExporter::new().export(&root, to)?;
//! println!("{manifest} with {layers} layers");
//!
//! match StateImporter::new().import(&"oci:state".parse()?, "/mnt/var/lib/buildkit") {
//!     Err(StateImageError::Exists { root }) => println!("{} is not empty", root.display()),
//!     imported => {
//!         let ImportedState { snapshots, .. } = imported?;
//!         println!("{snapshots} snapshots");
//!     }
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`docs/format/state-image.md`]: https://github.com/oci2bk/oci2bk/blob/main/docs/format/state-image.md

mod data;
mod document;
mod error;
mod export;
mod groups;
mod import;
mod parts;
mod sink;
mod source;

pub use error::StateImageError;
pub use export::{ExportedState, StateExporter, StateTo};
pub use import::{ImportedState, StateImporter};
