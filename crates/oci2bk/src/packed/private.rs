//! Mounts that only the work on packed trees sees.

use std::io::ErrorKind;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::{Path, PathBuf};

use bkstate::Root;
use bkstate::dir::{Dir, DirError};
use bkstate::kernel::in_private_mounts;
use bkstate::packed::{ImageId, Images, Mounted};
use bkstate::snapshots::Trees;
use bkstate::state::Scratch;
use bkstate::worker::{Bases, Part};
use rustix::mount::{MountFlags, UnmountFlags};

use super::{PackedError, Packer, mkfs};

/// A root, opened on a thread with mounts of its own.
pub(super) struct Inside {
    pub(super) trees: Trees,
    /// The scratch directory.
    pub(super) scratch: Dir,
}

impl Packer {
    /// Runs `work` with these images mounted where only it sees them.
    pub(super) fn privately<T: Send>(
        &self,
        root: &Root,
        scratch: &Scratch<'_>,
        images: &[ImageId],
        work: impl FnOnce(&Inside) -> Result<T, PackedError> + Send,
    ) -> Result<T, PackedError> {
        let path = canonical(root)?;
        let expected =
            rustix::fs::fstat(root.dir()).map_err(|error| failed(&path, error.into()))?;
        let below = scratch.dir().path().strip_prefix(root.path()).unwrap_or(Path::new(""));
        let run = || {
            // Handles that were opened before do not lead to mounts of this thread.
            let opened = Dir::open(&path)?;
            let found = rustix::fs::fstat(&opened).map_err(|error| failed(&path, error.into()))?;
            if (found.st_dev, found.st_ino) != (expected.st_dev, expected.st_ino) {
                return Err(failed(&path, ErrorKind::NotFound.into()).into());
            }
            let worker = root.worker();
            let bases = Bases::from(opened.try_clone()?);
            let open_trees = || -> Result<Trees, DirError> {
                let snapshotter = worker.open_existing(&bases, Part::Snapshotter)?;
                let trees = Trees::open(&snapshotter, worker.form())?;
                Ok(trees.with_images(Images::open(&opened)?))
            };
            let trees = open_trees()?;
            for id in images {
                self.mount_privately(trees.images(), *id)?;
            }
            let mut inner = opened.try_clone()?;
            for name in below {
                inner = inner.dir(name.to_str().unwrap_or_default())?;
            }
            work(&Inside { trees, scratch: inner })
        };
        in_private_mounts(run).map_err(PackedError::Denied)?
    }

    /// Mounts an image on its mount point, unless it is mounted there.
    fn mount_privately(&self, images: &Images, id: ImageId) -> Result<(), PackedError> {
        let (image, point) = (images.image_path(id), images.mount_point(id));
        match images.mounted(id)? {
            Mounted::Yes(_) => return Ok(()),
            Mounted::Other => return Err(PackedError::OtherMount { image, point }),
            Mounted::No => {}
        }
        // A description names any file; only the one beside it is opened.
        if images.get(id).is_none_or(|image| image.file.is_some()) || images.file(id)?.is_none() {
            return Err(PackedError::NotMounted { image, point });
        }
        mkfs::mount(&image, &point, &self.cancel)?;
        match images.mounted(id)? {
            Mounted::Yes(_) => Ok(()),
            _ => Err(PackedError::OtherMount { image, point }),
        }
    }
}

pub(super) fn canonical(root: &Root) -> Result<PathBuf, DirError> {
    root.path().canonicalize().map_err(|source| failed(root.path(), source))
}

pub(super) fn failed(path: &Path, source: std::io::Error) -> DirError {
    DirError { action: "open the directory", path: path.to_owned(), source }
}

pub(super) fn gone(root: &Root) -> PackedError {
    failed(root.path(), ErrorKind::NotFound.into()).into()
}

/// Mounts `directory` as `name` in `target` for this thread, so that reading does not change access times.
pub(super) fn bind(directory: &Dir, target: &Dir, name: &str) -> Result<(), PackedError> {
    let failed = |error: rustix::io::Errno| PackedError::Bind {
        path: directory.path().to_owned(),
        source: error.into(),
    };
    let place = |dir: &Dir| format!("/proc/self/fd/{}", dir.as_fd().as_raw_fd());
    let point = target.create_dir(name, 0o700)?;
    rustix::mount::mount_bind(place(directory), place(&point)).map_err(failed)?;
    // The handle leads below the mount.
    let mounted = target.dir(name)?;
    let flags = MountFlags::BIND | MountFlags::NOATIME;
    rustix::mount::mount_remount(place(&mounted), flags, c"").map_err(failed)
}

/// Undoes [`bind`].
pub(super) fn unbind(target: &Dir, name: &str) -> Result<(), PackedError> {
    let path = target.path().join(name);
    rustix::mount::unmount(&path, UnmountFlags::DETACH)
        .map_err(|error| PackedError::Bind { path, source: error.into() })?;
    Ok(target.remove_dir(name)?)
}
