//! Chooses the snapshotter that a buildkitd takes on a root if none is configured (BuildKit v0.34.2
//! `cmd/buildkitd/main_oci_worker.go` `snapshotterFactory`): overlayfs, if an overlay of two directories can be
//! mounted there (containerd v2.4.2 `plugins/snapshots/overlay/overlayutils/check.go` `Supported`), else
//! fuse-overlayfs, if that program is installed and can, else native.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bkstate::worker::{Snapshotter, Worker};
use rustix::fs::{Dir, FileType};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// The program of fuse-overlayfs.
const FUSE: &str = "fuse-overlayfs";

/// Why the snapshotter cannot be chosen.
#[derive(Debug, thiserror::Error)]
#[error("cannot try which snapshotter a buildkitd takes on {}", root.display())]
pub(crate) struct ChooseError {
    root: PathBuf,
    #[source]
    source: io::Error,
}

/// Returns the snapshotter that a daemon on this machine takes on `root`. It is tried in a temporary directory in
/// the nearest directory that exists.
pub(crate) fn choose(root: &Path) -> Result<Snapshotter, ChooseError> {
    try_on(root).map_err(|source| ChooseError { root: root.to_owned(), source })
}

fn try_on(root: &Path) -> io::Result<Snapshotter> {
    let root = std::path::absolute(root)?;
    let there = root.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/"));
    let trial = Trial::new(there)?;
    Ok(if trial.has_types()? && trial.mounts_overlay() {
        Snapshotter::Overlayfs
    } else if trial.has_types()? && trial.mounts_fuse() {
        Snapshotter::FuseOverlayfs
    } else {
        Snapshotter::Native
    })
}

/// Directories to mount.
struct Trial {
    directory: tempfile::TempDir,
}

impl Trial {
    fn new(parent: &Path) -> io::Result<Self> {
        let directory = tempfile::Builder::new().prefix(".oci2bk-try-").tempdir_in(parent)?;
        for name in ["lower1", "lower2", "merged"] {
            fs::create_dir(directory.path().join(name))?;
        }
        Ok(Self { directory })
    }

    fn merged(&self) -> PathBuf {
        self.directory.path().join("merged")
    }

    fn layers(&self) -> String {
        let [upper, lower] = ["lower2", "lower1"].map(|name| self.directory.path().join(name));
        format!("lowerdir={}:{}", upper.display(), lower.display())
    }

    /// Returns whether the file system tells the types of files in directories.
    fn has_types(&self) -> io::Result<bool> {
        let entries = Dir::read_from(&fs::File::open(self.directory.path())?)?;
        let types = entries.map(|entry| Ok(entry?.file_type()));
        let types = types.collect::<io::Result<Vec<_>>>()?;
        Ok(types.iter().all(|kind| *kind != FileType::Unknown))
    }

    fn mounts_overlay(&self) -> bool {
        let mut options = self.layers();
        if Worker::default().here().is_rootless() {
            options += ",userxattr";
        }
        let Ok(options) = std::ffi::CString::new(options) else { return false };
        let flags = MountFlags::empty();
        let mounted = mount("overlay", self.merged(), "overlay", flags, Some(&*options));
        mounted.is_ok() && self.unmount()
    }

    fn mounts_fuse(&self) -> bool {
        let mut command = Command::new(FUSE);
        command.arg("-o").arg(self.layers()).arg(self.merged());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success()) && self.unmount()
    }

    fn unmount(&self) -> bool {
        unmount(self.merged(), UnmountFlags::DETACH).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_leaves_nothing_and_needs_no_root() {
        let temp = tempfile::tempdir().unwrap();
        let chosen = choose(&temp.path().join("not/there")).unwrap();
        assert_eq!(choose(temp.path()).unwrap(), chosen);
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 0);
        // Without the right to mount there is only one.
        if !rustix::process::geteuid().is_root() {
            assert_ne!(chosen, Snapshotter::Overlayfs);
        }
    }
}
