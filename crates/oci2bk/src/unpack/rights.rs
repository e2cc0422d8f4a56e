//! Checks the privileges for unpacking, before there is anything to unpack.

use std::io;

use bkstate::dir::{Dir, DirError};
use rustix::fs::{FileType, Gid, Mode, Uid, XattrFlags};
use rustix::io::Errno;

use super::whiteout::OVERLAY_OPAQUE;

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
         CAP_MKNOD and CAP_SYS_ADMIN, not in a user namespace"
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
    /// The test files cannot be created.
    #[error(transparent)]
    Dir(#[from] DirError),
}

/// Tries the operations for a layer's entries in the directory `scratch`, and leaves nothing there.
pub(crate) fn check_rights(scratch: &Dir) -> Result<(), RightsError> {
    let directory = scratch.create_dir("rights", 0o700)?;
    let tried = try_in(&directory);
    // In any case.
    scratch.remove_tree("rights")?;
    tried
}

fn try_in(directory: &Dir) -> Result<(), RightsError> {
    let file = directory.create_file("owner", 0o600)?;
    rustix::fs::fchown(&file, Some(Uid::from_raw(1)), Some(Gid::from_raw(1)))
        .map_err(refused("give a file to another owner"))?;
    rustix::fs::mknodat(directory, "whiteout", FileType::CharacterDevice, Mode::empty(), 0)
        .map_err(refused("make a device"))?;
    rustix::fs::fsetxattr(directory, OVERLAY_OPAQUE, b"y", XattrFlags::empty())
        .map_err(refused("set the extended attribute trusted.overlay.opaque"))
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
