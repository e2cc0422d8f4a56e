//! Checks the images with packed snapshots.
//!
//! An image that is not mounted is not damage: a daemon starts without it, calls steps cached, and removes nothing;
//! only what reads the files fails until it is mounted (seen with BuildKit v0.32.2 and v0.34.2).

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::digest::Digest;
use crate::dir::DirError;
use crate::packed::{ImageId, Images, Mounted, ReadImageError, Superblock};
use crate::snapshots::Trees;

use super::Findings;

/// Damage to an image with packed snapshots, or something to know about one.
///
/// ```
/// use bkstate::ids::WorkerId;
/// use bkstate::packed::{Image, Images, Uuid};
/// use bkstate::state::{Damage, Existing, PackedDamage, Staging, State};
/// use bkstate::worker::Worker;
/// use bkstate::{Digest, Root};
///
/// let temp = tempfile::tempdir()?;
/// let root = Root::open_to_write(temp.path())?;
/// let state = State::empty(Worker::default(), WorkerId::derive("worker"));
/// let nothing = Existing::nothing(state.worker.clone(), state.worker_id.clone());
/// let staging = Staging::begin(&root, &nothing)?;
/// let written = staging.write(&state)?;
/// staging.publish(written)?;
///
/// // An image to which no link leads.
/// let content = Digest::of("what the trees have");
/// let (digest, uuid) = (Digest::of("the image"), Uuid::of(&content));
/// let image = Image { size: 0, digest, uuid, content, file: None, snapshots: [7].into() };
/// Images::create(root.dir())?.add("1".parse()?, &image)?;
/// let found = root.verify_databases()?;
/// assert!(found.damage.is_empty(), "{:?}", found.damage);
/// let [Damage::Packed(PackedDamage::Unused { .. })] = found.leftovers.as_slice() else {
///     panic!("{:?}", found.leftovers)
/// };
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackedDamage {
    /// The description of an image cannot be understood.
    #[error("packed trees: {} does not describe an image", path.display())]
    Description {
        /// The description.
        path: PathBuf,
        /// The cause.
        #[source]
        source: ReadImageError,
    },
    /// The image is missing, and is not mounted.
    #[error("packed trees: the image {} is not there; {snapshots} snapshots have their files in it", path.display())]
    Missing {
        /// The image.
        path: PathBuf,
        /// The number of snapshots whose links lead into it.
        snapshots: usize,
    },
    /// The image is not a regular file.
    #[error("packed trees: the image {} is not readable", path.display())]
    Unreadable {
        /// The image.
        path: PathBuf,
        /// The error of the kernel.
        #[source]
        source: DirError,
    },
    /// The image has another size than its description says: it was cut off.
    #[error("packed trees: the image {} has {found} bytes, not {expected}", path.display())]
    Size {
        /// The image.
        path: PathBuf,
        /// Its size in bytes.
        found: u64,
        /// The size in the description.
        expected: u64,
    },
    /// The file is the image of other snapshots, or no image.
    #[error("packed trees: {} is not the image that is described beside it", path.display())]
    OtherImage {
        /// The file.
        path: PathBuf,
    },
    /// The image has another digest than its description says. Only who reads the whole image finds this.
    #[error("packed trees: the image {} has the digest {found}, not {expected}", path.display())]
    Digest {
        /// The image.
        path: PathBuf,
        /// Its digest.
        found: Digest,
        /// The digest in the description.
        expected: Digest,
    },
    /// Something else is mounted.
    #[error("packed trees: something else than the image {} is mounted on {}", image.display(), point.display())]
    OtherMount {
        /// The mount point.
        point: PathBuf,
        /// The image that belongs there.
        image: PathBuf,
    },
    /// The image is not mounted; not damage.
    #[error(
        "packed trees: the image with the files of {snapshots} snapshots is not mounted: mount -t erofs -o ro,loop {} {}",
        image.display(), point.display()
    )]
    NotMounted {
        /// The image.
        image: PathBuf,
        /// Where it belongs.
        point: PathBuf,
        /// The number of snapshots whose links lead into it.
        snapshots: usize,
    },
    /// No link leads into the image; not damage.
    #[error("packed trees: no snapshot has its files in the image {}", path.display())]
    Unused {
        /// The image.
        path: PathBuf,
    },
}

impl PackedDamage {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Description { .. } => "packed-description",
            Self::Missing { .. } => "packed-image-missing",
            Self::Unreadable { .. } => "packed-image-unreadable",
            Self::Size { .. } => "packed-image-size",
            Self::OtherImage { .. } => "packed-image-other",
            Self::Digest { .. } => "packed-image-digest",
            Self::OtherMount { .. } => "packed-mount-other",
            Self::NotMounted { .. } => "packed-not-mounted",
            Self::Unused { .. } => "packed-unused",
        }
    }

    pub(super) fn consequence(&self) -> &'static str {
        match self {
            Self::Description { .. }
            | Self::Missing { .. }
            | Self::Unreadable { .. }
            | Self::Size { .. }
            | Self::Digest { .. }
            | Self::OtherImage { .. } => {
                "the image cannot be mounted, or has other files: builds that read its snapshots fail, or \
                 take those"
            }
            Self::OtherMount { .. } => "builds that read its snapshots fail, or take other files",
            Self::NotMounted { .. } => {
                "the daemon calls the steps cached and removes nothing, but builds that read the files fail \
                 until it is mounted"
            }
            Self::Unused { .. } => "it only costs space",
        }
    }
}

/// Checks the images of `trees`, into which these links lead. The digests of the images are not computed.
pub(super) fn check(
    trees: &[Trees],
    links: &BTreeMap<ImageId, usize>,
    findings: &mut Findings,
) -> Result<(), DirError> {
    for images in trees.iter().map(Trees::images) {
        for id in images.unreadable() {
            if let Err(source) = images.read_again(id) {
                findings
                    .add(PackedDamage::Description { path: images.description_path(id), source });
            }
        }
        for (id, image) in images.iter() {
            let path = images.image_path(id);
            let Some(&snapshots) = links.get(&id) else {
                findings.add_unless(true, PackedDamage::Unused { path });
                continue;
            };
            let point = images.mount_point(id);
            let mounted = images.mounted(id)?;
            if image.file.is_none()
                && let Some(damage) = of_file(images, id, &mounted, snapshots)
            {
                findings.add(damage);
                continue;
            }
            match mounted {
                Mounted::Yes(_) => {}
                Mounted::No => {
                    let image = path;
                    findings.add_unless(true, PackedDamage::NotMounted { image, point, snapshots });
                }
                Mounted::Other => findings.add(PackedDamage::OtherMount { point, image: path }),
            }
        }
    }
    Ok(())
}

/// Returns the damage to the file of an image in the root.
fn of_file(
    images: &Images,
    id: ImageId,
    mounted: &Mounted,
    snapshots: usize,
) -> Option<PackedDamage> {
    let image = images.get(id)?;
    let path = images.image_path(id);
    let file = match images.file(id) {
        Ok(Some(file)) => file,
        // It may have been moved, to a device of its own.
        Ok(None) if matches!(mounted, Mounted::Yes(_)) => return None,
        Ok(None) => return Some(PackedDamage::Missing { path, snapshots }),
        Err(source) => return Some(PackedDamage::Unreadable { path, source }),
    };
    let failed = |source| {
        let source = DirError { action: "read", path: path.clone(), source };
        PackedDamage::Unreadable { path: path.clone(), source }
    };
    match file.metadata() {
        Ok(found) if found.len() == image.size => {}
        Ok(found) => {
            let (found, expected) = (found.len(), image.size);
            return Some(PackedDamage::Size { path, found, expected });
        }
        Err(error) => return Some(failed(error)),
    }
    match Superblock::read(&file) {
        Ok(Some(superblock)) if superblock.uuid == image.uuid => None,
        Ok(_) => Some(PackedDamage::OtherImage { path }),
        Err(error) => Some(failed(error)),
    }
}

/// Returns the images that are mounted.
pub(super) fn mounted(trees: &[Trees]) -> Result<BTreeSet<ImageId>, DirError> {
    let mut all = BTreeSet::new();
    for images in trees.iter().map(Trees::images) {
        for (id, _) in images.iter() {
            if matches!(images.mounted(id)?, Mounted::Yes(_)) {
                all.insert(id);
            }
        }
    }
    Ok(all)
}
