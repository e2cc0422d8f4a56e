//! Packs the trees of a root into a read-only image, and copies them back.
//!
//! The directories of snapshots that no daemon changes any more get into one EROFS image, and links lead to the
//! place in the root where it is mounted ([`bkstate::packed`]). The databases stay as they are. mkfs.erofs makes the
//! image; then every entry in it is compared with the directories, before any of them goes.
//!
//! Every step leaves a sound root: each snapshot is a directory, or a link into a complete image. A run that was
//! killed is completed by the next one.
//!
//! ```no_run
//! use oci2bk::packed::{Compression, PackReport, PackedError, Packer, UndoReport};
//!
//! let packer = Packer::new().compression(Compression::Lz4);
//! let PackReport { image, snapshots, kept, .. } = packer.pack("/var/lib/buildkit")?;
//! if let Some(image) = image {
//!     println!("{snapshots} snapshots are in {}, {kept} stay directories", image.path.display());
//!     println!("mount -t erofs -o ro,loop {} {}", image.path.display(), image.mount_point.display());
//! }
//!
//! let UndoReport { snapshots, still_mounted, .. } = packer.undo("/var/lib/buildkit")?;
//! println!("{snapshots} snapshots are directories again, {} images can go", still_mounted.len());
//! # Ok::<(), PackedError>(())
//! ```

mod content;
mod copy;
mod data;
mod error;
mod found;
mod make;
mod mkfs;
mod place;
mod private;
#[cfg(test)]
mod tests;
mod undo;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use bkstate::Digest;
use bkstate::packed::{ImageId, Uuid};

pub use error::PackedError;
pub use mkfs::{Compression, UnknownCompression};

use crate::cancel::Cancel;
use crate::parallel::processors;
use crate::progress::{Progress, Silent};

/// Directories that links have replaced, or links that directories have replaced.
const ASIDE: &str = "aside";

/// Packs the trees of roots, and copies them back.
///
/// ```
/// use std::num::NonZeroUsize;
/// use std::sync::Arc;
///
/// use oci2bk::packed::{Compression, Packer};
/// use oci2bk::{Cancel, Event};
///
/// let show = |event: Event<'_>| println!("{event:?}");
/// let packer = Packer::new()
///     .compression(Compression::None)
///     // Into a file elsewhere, which is mounted below the root later.
///     .image("/srv/trees.erofs")
///     // Also what is packed already, so that there is one image.
///     .all(true)
///     .jobs(NonZeroUsize::MIN)
///     .progress(Arc::new(show))
///     .cancel(Cancel::new());
/// # let _ = packer;
/// ```
#[derive(Clone)]
pub struct Packer {
    compression: Compression,
    image: Option<PathBuf>,
    all: bool,
    jobs: NonZeroUsize,
    progress: Arc<dyn Progress>,
    cancel: Cancel,
}

/// What was packed.
///
/// ```
/// let mut report = oci2bk::packed::PackReport::default();
/// report.root = "/var/lib/buildkit".into();
/// let json = oci2bk::text::to_json_line(&report)?;
/// assert!(json.starts_with(r#"{"root":"/var/lib/buildkit","image":null,"#), "{json}");
/// # Ok::<(), oci2bk::FormatError>(())
/// ```
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct PackReport {
    /// The root.
    pub root: PathBuf,
    /// The image that was made; `None` if there was nothing to pack.
    pub image: Option<PackedImage>,
    /// Number of snapshots in it.
    pub snapshots: usize,
    /// Number of entries in their trees.
    pub entries: u64,
    /// Total size of their files in bytes.
    pub bytes: u64,
    /// What a daemon counts for all records whose trees are packed, in bytes. Collecting them frees none of it.
    pub record_bytes: u64,
    /// Number of snapshots that stay directories, because a daemon may change them: cache mounts, local sources.
    pub kept: usize,
    /// Number of snapshots that stay as they are, because they have names of 255 bytes, which some releases of
    /// mkfs.erofs do not take.
    pub too_long: usize,
    /// Number of snapshots whose packing an earlier run had begun, and this one completed.
    pub completed: usize,
    /// The images that were removed, because no snapshot is in them.
    pub removed: Vec<PathBuf>,
    /// The mount points of images to which no link leads, and that could not be removed because they are mounted.
    pub still_mounted: Vec<PathBuf>,
}

/// What was copied back.
///
/// ```
/// let json = oci2bk::text::to_json_line(&oci2bk::packed::UndoReport::default())?;
/// assert!(json.starts_with(r#"{"root":"","snapshot_count":0,"#), "{json}");
/// # Ok::<(), oci2bk::FormatError>(())
/// ```
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct UndoReport {
    /// The root.
    pub root: PathBuf,
    /// Number of snapshots that are directories again.
    pub snapshots: usize,
    /// The images that were removed.
    pub removed: Vec<PathBuf>,
    /// The mount points of images to which no link leads any more, and that could not be removed because they are
    /// mounted.
    pub still_mounted: Vec<PathBuf>,
}

/// An image that was made.
///
/// ```
/// use oci2bk::packed::{PackReport, PackedImage};
///
/// fn checksum_line(report: &PackReport) -> Option<String> {
///     let PackedImage { path, digest, .. } = report.image.as_ref()?;
///     Some(format!("{}  {}", digest.hex(), path.display()))
/// }
/// assert_eq!(checksum_line(&PackReport::default()), None);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PackedImage {
    /// Its number in the root.
    pub id: ImageId,
    /// The file.
    pub path: PathBuf,
    /// Where it has to be mounted.
    pub mount_point: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// Its digest.
    pub digest: Digest,
    /// The UUID of its file system, which follows from the content of the trees.
    pub uuid: Uuid,
}

impl Default for Packer {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Packer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { compression, image, all, jobs, cancel, .. } = self;
        f.debug_struct("Packer")
            .field("compression", compression)
            .field("image", image)
            .field("all", all)
            .field("jobs", jobs)
            .field("cancel", cancel)
            .finish_non_exhaustive()
    }
}

impl Packer {
    /// Creates one that packs new snapshots with the default compression into the root itself.
    pub fn new() -> Self {
        Self {
            compression: Compression::default(),
            image: None,
            all: false,
            jobs: processors(),
            progress: Arc::new(Silent),
            cancel: Cancel::new(),
        }
    }

    /// Sets how files are compressed.
    #[must_use]
    pub fn compression(self, compression: Compression) -> Self {
        Self { compression, ..self }
    }

    /// Sets the file that the image is written to, which may not exist yet. Without it, the image is in the root.
    #[must_use]
    pub fn image(self, path: impl Into<PathBuf>) -> Self {
        Self { image: Some(path.into()), ..self }
    }

    /// Sets whether to pack what is packed already once more, so that one image has everything.
    #[must_use]
    pub fn all(self, all: bool) -> Self {
        Self { all, ..self }
    }

    /// Sets the number of trees to read in parallel; the default is the number of processors.
    #[must_use]
    pub fn jobs(self, jobs: NonZeroUsize) -> Self {
        Self { jobs, ..self }
    }

    /// Reports events to `progress`, from several threads.
    #[must_use]
    pub fn progress(self, progress: Arc<dyn Progress>) -> Self {
        Self { progress, ..self }
    }

    /// Stops with [`PackedError::Cancelled`] as soon as `cancel` requests it.
    #[must_use]
    pub fn cancel(self, cancel: Cancel) -> Self {
        Self { cancel, ..self }
    }
}
