//! The JSON documents of the command that join several values.
//!
//! Most documents are one value: [`verify::Report`](crate::verify::Report), [`inspect::Export`](crate::inspect::Export),
//! [`inspect::Root`](crate::inspect::Root), [`Sparse`], [`Usage`](bkstate::usage::Usage),
//! [`ErrorReport`](crate::ErrorReport), [`Event`](crate::Event). The others are here. Their members are those of
//! [`docs/reference/json.md`], whose schemas tell what is stable.
//!
//! ```
//! use oci2bk::document::{Containerd, Conversion, Destination, Preview, StepCounts};
//! use oci2bk::text::to_json;
//! use oci2bk::{Converter, Preparer};
//!
//! let preparer = Preparer::new().keys(["fixtures/index/keys/provenance.json"]);
//! let prepared = preparer.prepare(&["fixtures/index/cache".parse()?])?;
//! let (plan, converter) = (&prepared.plan, Converter::new().extract(false));
//! let temporary = tempfile::tempdir()?;
//! let location = temporary.path().into();
//!
//! let destination = Destination::new(plan, &location);
//! assert!(matches!(destination.containerd, None::<Containerd>));
//! let shares = converter.preview(plan, temporary.path())?;
//! let preview = Preview::new(&prepared, &destination, shares);
//! assert!(to_json(&preview)?.contains(r#""complete": true"#));
//!
//! let StepCounts { total, converted, .. } = StepCounts::of(plan);
//! assert_eq!(total, converted);
//!
//! let report = converter.convert(plan, temporary.path())?;
//! let mut document = Conversion::new(&prepared, destination, &report);
//! document.stage_seconds.insert("layers", 1.5);
//! let json = to_json(&document)?;
//! assert!(json.contains(r#""step_counts""#) && json.contains(r#""layers": 1.5"#));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Of cache mounts, and of the explanation of a build:
//!
//! ```no_run
//! use oci2bk::document::{ExplainedBuild, MountsExport, MountsImport, MountsOfLayout, MountsOfRoot};
//! use oci2bk::explain::Explanation;
//! use oci2bk::mounts::{Exported, Imported, MountsArtifact, list};
//! use oci2bk::text::to_json;
//!
//! # fn all(artifacts: &[MountsArtifact], exported: &Exported, imported: Imported, explanation: Explanation)
//! # -> Result<(), Box<dyn std::error::Error>> {
//! let root = oci2bk::Root::open("/var/lib/buildkit")?;
//! println!("{}", to_json(&MountsOfRoot { root: root.path(), mounts: &list(&root)? })?);
//! println!("{}", to_json(&MountsOfLayout { layout: "mounts".as_ref(), artifacts })?);
//! println!("{}", to_json(&MountsExport { place: "mounts".as_ref(), exported })?);
//! println!("{}", to_json(&MountsImport { source: "oci:mounts".to_owned(), imported })?);
//! let description = "the provenance in provenance.json".to_owned();
//! println!("{}", to_json(&[ExplainedBuild { description, explanation }])?);
//! # Ok(())
//! # }
//! ```
//!
//! Of states as images:
//!
//! ```no_run
//! # #[cfg(feature = "zstd")] {
//! use oci2bk::document::{StateExport, StateImport};
//! use oci2bk::state_image::{StateExporter, StateImporter, StateTo};
//! use oci2bk::text::to_json;
//!
//! let (place, root) = ("state".as_ref(), oci2bk::Root::open("/var/lib/buildkit")?);
//! let exported = StateExporter::new().export(&root, StateTo::Layout { path: place, tag: None })?;
//! println!("{}", to_json(&StateExport { place, exported: &exported })?);
//! let imported = StateImporter::new().import(&"oci:state".parse()?, "/mnt")?;
//! println!("{}", to_json(&StateImport { source: "oci:state".to_owned(), imported: &imported })?);
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`docs/reference/json.md`]: https://github.com/oci2bk/oci2bk/blob/main/docs/reference/json.md

mod conversion;
mod mounts;
#[cfg(feature = "zstd")]
mod state_image;

use serde::Serialize;

pub use conversion::{Containerd, Conversion, Destination, Preview, StepCounts};
pub use mounts::{MountsExport, MountsImport, MountsOfLayout, MountsOfRoot};
#[cfg(feature = "zstd")]
pub use state_image::{StateExport, StateImport};

use crate::explain::Explanation;
#[cfg(doc)]
use crate::sparse::Sparse;

/// The explanation of one of several builds, an element of `explain.json`.
#[derive(Debug, Clone, Serialize)]
pub struct ExplainedBuild {
    /// The build, for people.
    pub description: String,
    /// Its steps.
    #[serde(flatten)]
    pub explanation: Explanation,
}
