//! Checks the privileges for unpacking, and the file system, before there is anything to unpack.

use std::io;
use std::os::fd::AsFd as _;

use bkstate::dir::{Dir, DirError};
use bkstate::worker::{OverlayMarks, Owners, TreeForm, Worker};
use rustix::fs::{FileType, Gid, Mode, Uid, XattrFlags};
use rustix::io::Errno;

/// The file system in memory (Linux `include/uapi/linux/magic.h` `TMPFS_MAGIC`).
const TMPFS: u64 = 0x0102_1994;
/// The release of the kernel.
const KERNEL: &str = "/proc/sys/kernel/osrelease";
/// The first release of Linux whose overlayfs knows the attributes `user.overlay.*`.
const FIRST_WITH_USER_MARKS: (u32, u32) = (5, 11);

/// Why layers cannot be unpacked into a directory, whatever their content.
///
/// ```
/// use oci2bk::convert::ConvertError;
/// use oci2bk::unpack::RightsError;
///
/// /// Returns whether to try again as root.
/// fn takes_root(error: &ConvertError) -> bool {
///     matches!(error, ConvertError::Rights { source: RightsError::Denied { .. }, .. })
/// }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RightsError {
    /// This process lacks a privilege.
    #[error(
        "this process may not {action}: unpacking layers takes root with the capabilities CAP_CHOWN, \
         CAP_MKNOD and CAP_SYS_ADMIN, or the root of a user namespace for a rootless daemon"
    )]
    Denied {
        /// The attempted operation.
        action: &'static str,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
    /// The file system does not support it.
    #[error("the file system cannot {action}")]
    Unsupported {
        /// The attempted operation.
        action: &'static str,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
    /// A rootless daemon would not look at the attributes that mark opaque directories, so files that layers
    /// delete would be visible again.
    #[error(
        "a rootless daemon does not use the extended attributes user.overlay.* on {place}, so that deleted \
         files would be visible again"
    )]
    NoMarks {
        /// The file system, or the kernel.
        place: String,
    },
    /// The test files cannot be created.
    #[error(transparent)]
    Dir(#[from] DirError),
}

/// Tries the operations for a layer's entries in the directory `scratch`, and leaves nothing there.
pub(crate) fn check_rights(scratch: &Dir, worker: &Worker) -> Result<(), RightsError> {
    let directory = scratch.create_dir("rights", 0o700)?;
    let tried = try_in(&directory, worker);
    // In any case.
    scratch.remove_tree("rights")?;
    tried
}

/// Checks whether a daemon of `worker` looks at the marks of trees on the file system of `dir` (containerd v2.4.2
/// `plugins/snapshots/overlay/overlayutils/check.go` `NeedsUserXAttr`).
pub(crate) fn check_marks(dir: &Dir, worker: &Worker) -> Result<(), RightsError> {
    if worker.form() != TreeForm::Overlay(OverlayMarks::User) {
        return Ok(());
    }
    let found =
        rustix::fs::fstatfs(dir.as_fd()).map_err(refused("look at the file system of the root"))?;
    // Outside of the namespace, the daemon runs on another kernel or at another time.
    let release = match worker.owners() {
        Owners::OfNamespace(_) => std::fs::read_to_string(KERNEL).ok(),
        _ => None,
    };
    let release = release.as_deref().map(str::trim);
    match place_without_marks(u64::try_from(found.f_type).unwrap_or(0), release) {
        Some(place) => Err(RightsError::NoMarks { place }),
        None => Ok(()),
    }
}

/// Returns the name of the file system with this number, or of the kernel with this release, if a daemon does not
/// use `user.overlay.*` on it.
fn place_without_marks(file_system: u64, release: Option<&str>) -> Option<String> {
    if file_system == TMPFS {
        return Some("a tmpfs".to_owned());
    }
    let release = release?;
    let mut numbers = release.split(['.', '-', '+']).map_while(|number| number.parse().ok());
    let found = numbers.next().zip(numbers.next());
    // What cannot be read is a new one.
    (found? < FIRST_WITH_USER_MARKS).then(|| format!("Linux {release}"))
}

fn try_in(directory: &Dir, worker: &Worker) -> Result<(), RightsError> {
    let file = directory.create_file("owner", 0o600)?;
    // In a user namespace it depends on the owners that the layers have.
    if *worker.owners() == Owners::AsInLayers {
        rustix::fs::fchown(&file, Some(Uid::from_raw(1)), Some(Gid::from_raw(1)))
            .map_err(refused("give a file to another owner"))?;
    }
    rustix::fs::mknodat(directory, "whiteout", FileType::CharacterDevice, Mode::empty(), 0)
        .map_err(refused("make a device"))?;
    let marks = worker.form().marks();
    let action = match marks.opaque() {
        "trusted.overlay.opaque" => "set the extended attribute trusted.overlay.opaque",
        _ => "set an extended attribute user.*",
    };
    rustix::fs::fsetxattr(directory, marks.opaque(), b"y", XattrFlags::empty())
        .map_err(refused(action))
}

fn refused(action: &'static str) -> impl Fn(Errno) -> RightsError {
    move |errno| match errno {
        // An owner that a user namespace lacks is invalid.
        Errno::PERM | Errno::ACCESS | Errno::INVAL => {
            RightsError::Denied { action, source: errno.into() }
        }
        errno => RightsError::Unsupported { action, source: errno.into() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_and_file_systems_without_the_marks_of_rootless_daemons_are_named() {
        let ext4 = 0xef53;
        for (file_system, release, expected) in [
            (ext4, Some("6.18.44-fc-v782"), None),
            (ext4, Some("5.11.0"), None),
            (ext4, Some("5.10.0-28-amd64"), Some("Linux 5.10.0-28-amd64")),
            (ext4, Some("4.18"), Some("Linux 4.18")),
            (ext4, Some("unknown"), None),
            (ext4, None, None),
            (TMPFS, Some("6.18.44"), Some("a tmpfs")),
            (TMPFS, None, Some("a tmpfs")),
        ] {
            assert_eq!(place_without_marks(file_system, release).as_deref(), expected);
        }
    }
}
