//! The snapshotters of the OCI worker.

use std::fmt;
use std::str::FromStr;

use super::{Executor, NAMESPACE, OverlayMarks, TreeForm, Worker};

/// A snapshotter of the OCI worker (BuildKit v0.34.2 `cmd/buildkitd/main_oci_worker.go` `snapshotterFactory`).
///
/// ```
/// use bkstate::worker::{Snapshotter, TreeForm, Worker};
///
/// let native = Worker::of_oci("native".parse()?);
/// assert_eq!((native.directory(), native.snapshotter()), ("runc-native", "native"));
/// assert!(matches!(native.form(), TreeForm::Full(_)));
/// assert_eq!(Worker::of_oci(Snapshotter::Overlayfs), Worker::default());
/// assert!("zfs".parse::<Snapshotter>().is_err());
/// # Ok::<(), bkstate::worker::UnknownSnapshotter>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Snapshotter {
    /// The overlay file system of the kernel.
    #[default]
    Overlayfs,
    /// The program fuse-overlayfs, which mounts the same trees without the help of the kernel.
    FuseOverlayfs,
    /// Copies of whole trees.
    Native,
    /// Overlayfs with layers that can be fetched while they are used.
    Stargz,
}

/// The name of a snapshotter that this crate does not model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a known snapshotter: overlayfs, fuse-overlayfs, native, stargz")]
#[non_exhaustive]
pub struct UnknownSnapshotter(pub String);

impl Snapshotter {
    const ALL: [Self; 4] = [Self::Overlayfs, Self::FuseOverlayfs, Self::Native, Self::Stargz];

    fn name(self) -> &'static str {
        match self {
            Self::Overlayfs => "overlayfs",
            Self::FuseOverlayfs => "fuse-overlayfs",
            Self::Native => "native",
            Self::Stargz => "stargz",
        }
    }
}

impl fmt::Display for Snapshotter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Snapshotter {
    type Err = UnknownSnapshotter;

    fn from_str(text: &str) -> Result<Self, UnknownSnapshotter> {
        let mut all = Self::ALL.into_iter();
        all.find(|known| known.name() == text).ok_or_else(|| UnknownSnapshotter(text.to_owned()))
    }
}

impl Worker {
    /// Returns the OCI worker with this snapshotter.
    ///
    /// ```
    /// use bkstate::worker::{Snapshotter, Worker};
    ///
    /// assert_eq!(Worker::of_oci(Snapshotter::FuseOverlayfs).directory(), "runc-fuse-overlayfs");
    /// ```
    pub fn of_oci(snapshotter: Snapshotter) -> Self {
        Self::new(Executor::Oci, snapshotter.name(), NAMESPACE)
    }
}

/// Returns the form of the trees of a snapshotter for a daemon that runs as root. Unknown ones count as overlays.
pub(super) fn form(snapshotter: &str) -> TreeForm {
    match snapshotter.parse() {
        Ok(Snapshotter::Native) => TreeForm::Full(OverlayMarks::Trusted),
        Ok(Snapshotter::FuseOverlayfs) => TreeForm::Overlay(OverlayMarks::FuseTrusted),
        Ok(Snapshotter::Overlayfs | Snapshotter::Stargz) | Err(_) => {
            TreeForm::Overlay(OverlayMarks::Trusted)
        }
    }
}

/// Returns whether a snapshotter has its directory in another one below that of the worker (stargz-snapshotter
/// v0.18.2 `fs`; BuildKit v0.34.2 `cmd/buildkitd/main_oci_worker.go`).
pub(super) fn is_nested(snapshotter: &str) -> bool {
    snapshotter.parse() == Ok(Snapshotter::Stargz)
}
