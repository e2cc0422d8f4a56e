//! Errors of packing trees.

use std::io;
use std::path::PathBuf;

use bkstate::dir::DirError;
use bkstate::root::OpenRootError;
use bkstate::state::{Damage, VerifyError};
use bkstate::worker::Worker;

use super::Compression;
use crate::unpack::EntryName;

/// Why the trees of a root cannot be packed, or copied back. The root is as it was, or a part of its snapshots is
/// packed or copied back, which the next run completes.
///
/// ```
/// use oci2bk::packed::{PackedError, Packer};
///
/// let root = tempfile::tempdir()?;
/// assert!(matches!(Packer::new().pack(root.path()), Err(PackedError::State(_))));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackedError {
    /// The root cannot be opened, is not a root, or is in use.
    #[error(transparent)]
    Open(#[from] OpenRootError),
    /// The root has no state.
    #[error(transparent)]
    State(#[from] VerifyError),
    /// The state is damaged.
    #[error("{} is damaged, so its trees are left as they are", root.display())]
    Damaged {
        /// The root.
        root: PathBuf,
        /// The damage.
        damage: Vec<Damage>,
    },
    /// The worker has its trees in another form, or elsewhere.
    #[error(
        "the trees of {worker} cannot be packed: only those of a buildkitd that runs as root, with the OCI worker \
         on overlayfs, are reached through a mount in its root"
    )]
    Worker {
        /// The worker.
        worker: Box<Worker>,
    },
    /// The place of the image exists.
    #[error("{} exists already", path.display())]
    Exists {
        /// The place.
        path: PathBuf,
    },
    /// The place of the image is in the root.
    #[error("{} is in the root, where images have names of their own; leave it out, or give a place elsewhere", path.display())]
    InRoot {
        /// The place.
        path: PathBuf,
    },
    /// mkfs.erofs is not installed.
    #[error("the program mkfs.erofs is not there; it is in the package erofs-utils")]
    NoMkfs,
    /// mkfs.erofs is too old, or is something else.
    #[error("mkfs.erofs {found} is too old: {wanted} or later is needed for this")]
    OldMkfs {
        /// Its release.
        found: String,
        /// The oldest one that works.
        wanted: &'static str,
    },
    /// mkfs.erofs was built without the compression.
    #[error("mkfs.erofs {found} cannot compress with {compression}")]
    NoCompression {
        /// Its release.
        found: String,
        /// The compression.
        compression: Compression,
    },
    /// A program cannot be started.
    #[error("cannot run {program}")]
    Run {
        /// The program.
        program: &'static str,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
    /// mkfs.erofs failed, such as for lack of space.
    #[error("mkfs.erofs cannot make the image {}: {said}", image.display())]
    Mkfs {
        /// The image.
        image: PathBuf,
        /// The end of its messages.
        said: String,
    },
    /// This process may not mount.
    #[error(
        "this process may not mount anything; packing trees takes root with the capability CAP_SYS_ADMIN"
    )]
    Denied(#[source] io::Error),
    /// A directory cannot be mounted for mkfs.erofs.
    #[error("cannot mount {}", path.display())]
    Bind {
        /// The directory.
        path: PathBuf,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
    /// The image cannot be mounted.
    #[error("cannot mount the image {}: {said}", image.display())]
    Mount {
        /// The image.
        image: PathBuf,
        /// What the program mount says.
        said: String,
    },
    /// The image cannot be written or read.
    #[error("cannot use the image {}", path.display())]
    Image {
        /// The image.
        path: PathBuf,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
    /// A tree cannot be read.
    #[error("cannot read {} of the snapshot {snapshot}", path.display())]
    Tree {
        /// The file or directory.
        path: PathBuf,
        /// The name of the snapshot's directory.
        snapshot: u64,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
    /// A tree cannot be copied back.
    #[error("cannot copy {path} of the snapshot {snapshot}")]
    Copy {
        /// The file or directory.
        path: EntryName,
        /// The name of the snapshot's directory.
        snapshot: u64,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
    /// The image does not have what the tree has.
    #[error("{path} of the snapshot {snapshot} is not the same in {} as in the directory, which was kept", place.display())]
    Differs {
        /// The image, or the copy.
        place: PathBuf,
        /// The name of the snapshot's directory.
        snapshot: u64,
        /// The first entry that differs.
        path: EntryName,
    },
    /// The image to read is elsewhere, and is not mounted.
    #[error("the image {} is not mounted on {}", image.display(), point.display())]
    NotMounted {
        /// The image.
        image: PathBuf,
        /// The mount point.
        point: PathBuf,
    },
    /// Something else is mounted.
    #[error("something else than the image {} is mounted on {}", image.display(), point.display())]
    OtherMount {
        /// The image.
        image: PathBuf,
        /// The mount point.
        point: PathBuf,
    },
    /// A directory of the root cannot be used.
    #[error("cannot use the root")]
    Dir(#[from] DirError),
    /// The work was [cancelled](super::Packer::cancel).
    #[error("the work on packed trees was cancelled")]
    Cancelled,
}
