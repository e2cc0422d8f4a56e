//! Cache mounts (`RUN --mount=type=cache`): lists, exports and imports them.
//!
//! What such a mount has collected is in no cache export, because no result of a step depends on it. It can
//! travel beside a cache, as an artifact in the same layout, or as an archive:
//!
//! ```text
//! root ─► list ─► pack: one archive for each mount ─► artifact in a layout, tar archive, directory
//! artifact, tar archive, directory ─► checks ─► staging: files ─► databases ─► verify ─► publish
//! ```
//! Nothing verifies the files of a mount: a user who can write them can run code in later builds. So they are
//! imported only on request.
//!
//! [`docs/format/mounts.md`] describes the records and the artifact.
//!
//! Here a mount of Maven is exported from one root, attached to no cache, and imported into another:
//!
//! ```no_run
//! use oci2bk::Root;
//! use oci2bk::layout::Layout;
//! use oci2bk::mounts::{
//!     Existing, ExportTo, Exported, ExportedMount, Exporter, Imported, ImportedMount, Importer,
//!     ListedMount, MOUNTS_MEDIA_TYPE, MountBase, MountsArtifact, RootMount, Selection, check_id, list,
//! };
//!
//! let root = Root::open("/var/lib/buildkit")?;
//! for RootMount { id, base, size, .. } in list(&root)? {
//!     let owner = match base {
//!         MountBase::Owned(owner) => owner.to_string(),
//!         _ => String::new(),
//!     };
//!     println!("{id} {owner}: {size} bytes, {}", check_id(&id).is_ok());
//! }
//! let selection = Selection { wanted: vec!["target=/root/.m2".parse()?], ..Selection::default() };
//! let to = ExportTo::Layout { path: "mounts".as_ref(), tag: None, subject: None };
//! let Exported { mounts, .. } = Exporter::new().export(&root, &selection, to)?;
//! let [ExportedMount { credentials, .. }] = mounts.as_slice() else { panic!("it is one") };
//! println!("look at {credentials:?} before you push an artifact of the type {MOUNTS_MEDIA_TYPE}");
//!
//! let layout = Layout::open("mounts".as_ref(), &oci2bk::Limits::default())?;
//! for artifact in MountsArtifact::all(&layout)? {
//!     assert!(artifact.mounts.iter().all(|ListedMount { id, .. }| id == "//root/.m2"));
//!     assert!(artifact.mounts.iter().all(|mount| artifact.blob(mount).is_some()));
//! }
//!
//! let importer = Importer::new().existing(Existing::Keep);
//! let Imported { mounts, .. } =
//!     importer.import(&"mounts".parse()?, &selection, None, "/mnt/var/lib/buildkit")?;
//! for ImportedMount { id, outcome, .. } in mounts {
//!     println!("{id}: {}", outcome.name());
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`docs/format/mounts.md`]: https://github.com/oci2bk/oci2bk/blob/main/docs/format/mounts.md

mod copy;
mod credentials;
mod data;
mod document;
mod error;
mod export;
mod exported;
mod id;
mod import;
mod job;
mod list;
mod opened;
mod owner;
mod seed;
mod source;
#[cfg(test)]
mod tests;
mod watch;

pub use document::{ListedMount, MOUNTS_MEDIA_TYPE, MountsArtifact, ReadMountsError};
pub use error::MountsError;
pub use export::Exporter;
pub use exported::{ExportTo, Exported, ExportedMount};
pub use id::{OddId, Wanted, check_id};
pub use import::{Existing, Imported, ImportedMount, Importer, Outcome};
pub use list::{MountBase, RootMount, list};
pub use owner::Owner;
pub use source::MountsSource;

pub use crate::pack::PackError;

/// The mounts to export or import.
///
/// ```
/// use oci2bk::mounts::Selection;
///
/// let wanted = vec!["target=/go".parse()?, "/npm".parse()?];
/// let selection = Selection { wanted, namespace: "ci".to_owned() };
/// assert!(selection.ids().eq(["ci//go", "/npm"]));
/// // Without any, all are meant.
/// assert!(Selection::default().wanted.is_empty());
/// # Ok::<(), std::convert::Infallible>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// The mounts; all if there are none.
    pub wanted: Vec<Wanted>,
    /// The build argument `BUILDKIT_CACHE_MOUNT_NS` of the builds, for mounts in the words of a Dockerfile.
    pub namespace: String,
}

impl Selection {
    /// Returns the ids of the mounts.
    pub fn ids(&self) -> impl Iterator<Item = String> {
        self.wanted.iter().map(|wanted| wanted.id(&self.namespace))
    }
}
