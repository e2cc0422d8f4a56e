//! The directories in which the state of a daemon is.

use std::path::{Path, PathBuf};

use crate::worker::{OwnerMap, Snapshotter, Worker};

/// The directories in which the state of a daemon is, and its worker.
///
/// A path is the root of a buildkitd with the OCI worker, which has all of it. The other workers have their
/// layers in the root of a containerd:
///
/// ```
/// use bkstate::root::Location;
/// use bkstate::worker::Worker;
///
/// let of_oci = Location::from("/var/lib/buildkit");
/// assert_eq!((of_oci.worker(), of_oci.containerd()), (&Worker::default(), None));
///
/// let worker = Worker::of_containerd(Some("ci"));
/// let on_containerd = Location::on_containerd("/var/lib/buildkit", "/var/lib/containerd", worker)
///     // A containerd with another `root_path` of its snapshotter.
///     .snapshotter("/data/snapshots");
/// assert_eq!(on_containerd.root(), std::path::Path::new("/var/lib/buildkit"));
/// assert_eq!(on_containerd.worker().namespace(), "ci");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    root: PathBuf,
    worker: Worker,
    containerd: Option<PathBuf>,
    snapshotter: Option<PathBuf>,
}

impl<P: AsRef<Path>> From<P> for Location {
    /// Returns the location of a buildkitd with the OCI worker.
    fn from(root: P) -> Self {
        let root = root.as_ref().to_owned();
        Self { root, worker: Worker::default(), containerd: None, snapshotter: None }
    }
}

impl Location {
    /// Returns the location of a builder that has its own files in `root` and its layers in `containerd`, the
    /// root of a containerd. `worker` is one of a containerd or of an engine.
    pub fn on_containerd(
        root: impl AsRef<Path>,
        containerd: impl AsRef<Path>,
        worker: Worker,
    ) -> Self {
        let containerd = Some(containerd.as_ref().to_owned());
        Self { worker, containerd, ..Self::from(root) }
    }

    /// Returns the location of a buildkitd with the OCI worker on another snapshotter than overlayfs.
    ///
    /// ```
    /// use bkstate::root::Location;
    /// use bkstate::worker::Snapshotter;
    ///
    /// let location = Location::of_oci("/var/lib/buildkit", Snapshotter::Native);
    /// assert_eq!(location.worker().directory(), "runc-native");
    /// ```
    pub fn of_oci(root: impl AsRef<Path>, snapshotter: Snapshotter) -> Self {
        Self { worker: Worker::of_oci(snapshotter), ..Self::from(root) }
    }

    /// Sets the directory of the snapshotter, which is in the root of containerd by default (`root_path` in
    /// the configuration of the plugin; containerd v2.4.2 `plugins/snapshots/overlay/plugin/plugin.go`).
    #[must_use]
    pub fn snapshotter(mut self, directory: impl AsRef<Path>) -> Self {
        self.snapshotter = Some(directory.as_ref().to_owned());
        self
    }

    /// Makes it that of a rootless daemon, in a user namespace with these owners, which this process is not
    /// in.
    ///
    /// ```
    /// use bkstate::root::Location;
    /// use bkstate::worker::{OwnerMap, Worker};
    ///
    /// let map = OwnerMap::of_both("0:1000:1,1:100000:65536".parse()?);
    /// let location = Location::from("/image/home/user/.local/share/buildkit").mapped(map.clone());
    /// assert_eq!(location.worker(), &Worker::default().mapped(map));
    /// # Ok::<(), bkstate::worker::ParseMapError>(())
    /// ```
    #[must_use]
    pub fn mapped(self, owners: OwnerMap) -> Self {
        Self { worker: self.worker.mapped(owners), ..self }
    }

    /// Returns the same with the worker as this process has to write for it.
    pub(super) fn here(self) -> Self {
        Self { worker: self.worker.here(), ..self }
    }

    /// Returns the root of the daemon.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the root of the containerd with the layers, if there is one.
    pub fn containerd(&self) -> Option<&Path> {
        self.containerd.as_deref()
    }

    /// Returns the directories below which the state is: the root of the daemon, then those of its containerd.
    ///
    /// ```
    /// use std::path::Path;
    ///
    /// use bkstate::root::Location;
    /// use bkstate::worker::Worker;
    ///
    /// let worker = Worker::of_containerd(None);
    /// let location = Location::on_containerd("/var/lib/buildkit", "/var/lib/containerd", worker);
    /// let directories = ["/var/lib/buildkit", "/var/lib/containerd", "/fast"].map(Path::new);
    /// assert!(location.snapshotter("/fast").directories().eq(directories));
    /// ```
    pub fn directories(&self) -> impl Iterator<Item = &Path> {
        let containerd = [self.containerd(), self.moved_snapshotter()];
        std::iter::once(self.root()).chain(containerd.into_iter().flatten())
    }

    /// Returns the worker.
    pub fn worker(&self) -> &Worker {
        &self.worker
    }

    /// Returns the directory of the snapshotter, if it is not in its place in the root of the containerd.
    pub(super) fn moved_snapshotter(&self) -> Option<&Path> {
        self.snapshotter.as_deref()
    }

    #[cfg(test)]
    pub(crate) fn with_worker(self, worker: Worker) -> Self {
        Self { worker, ..self }
    }
}
