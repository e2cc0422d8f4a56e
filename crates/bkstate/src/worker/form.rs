//! The form of the files in snapshots.

/// The form of the files in a snapshot's directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TreeForm {
    /// The difference to the parent snapshot, in the form of overlayfs: whiteouts are devices 0:0, and opaque
    /// directories have an extended attribute.
    Overlay(OverlayMarks),
    /// All files, also those of the parent snapshot (containerd v2.3.3 `plugins/snapshots/native/native.go`). A
    /// layer is unpacked with the marks of overlayfs before it is completed.
    Full(OverlayMarks),
}

impl TreeForm {
    /// Returns the extended attributes that mark files, at least while they are unpacked.
    ///
    /// ```
    /// use bkstate::worker::{OverlayMarks, Worker};
    ///
    /// assert_eq!(Worker::default().form().marks(), OverlayMarks::Trusted);
    /// ```
    pub fn marks(self) -> OverlayMarks {
        match self {
            Self::Overlay(marks) | Self::Full(marks) => marks,
        }
    }

    /// Returns the same form with other marks.
    pub(crate) fn with(self, marks: OverlayMarks) -> Self {
        match self {
            Self::Overlay(_) => Self::Overlay(marks),
            Self::Full(_) => Self::Full(marks),
        }
    }
}

/// The extended attributes that mark files for overlayfs.
///
/// ```
/// use bkstate::worker::OverlayMarks;
///
/// assert_eq!(OverlayMarks::Trusted.opaque(), "trusted.overlay.opaque");
/// assert!(OverlayMarks::User.has(OverlayMarks::User.opaque().as_bytes()));
/// // Of several, fuse-overlayfs takes any.
/// assert!(OverlayMarks::FuseTrusted.has(b"user.fuseoverlayfs.opaque"));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OverlayMarks {
    /// `trusted.overlay.*`, used by a daemon that runs as root.
    Trusted,
    /// `user.overlay.*`, used by a daemon in a user namespace, where nobody may set the others (containerd
    /// v2.4.2 `plugins/snapshots/overlay/overlayutils/check.go` `NeedsUserXAttr`).
    User,
    /// Those of fuse-overlayfs, used by a daemon that runs as root: `trusted.overlay.*` is written, and the others
    /// are read, too (fuse-overlayfs v1.10 `main.c`).
    FuseTrusted,
    /// Those of fuse-overlayfs, used by a daemon in a user namespace: `user.fuseoverlayfs.*` is written.
    FuseUser,
}

impl OverlayMarks {
    /// Returns the same marks for a daemon in a user namespace.
    pub(crate) fn of_user(self) -> Self {
        match self {
            Self::Trusted | Self::User => Self::User,
            Self::FuseTrusted | Self::FuseUser => Self::FuseUser,
        }
    }

    /// Returns whether the extended attribute `name` is one of them.
    pub fn has(self, name: &[u8]) -> bool {
        let prefixes: &[&[u8]] = match self {
            Self::Trusted => &[b"trusted.overlay."],
            Self::User => &[b"user.overlay."],
            Self::FuseTrusted => &[b"trusted.overlay.", b"user.overlay.", b"user.fuseoverlayfs."],
            Self::FuseUser => &[b"user.overlay.", b"user.fuseoverlayfs."],
        };
        prefixes.iter().any(|prefix| name.starts_with(prefix))
    }

    /// Returns the name of the attribute of an opaque directory; its value is `y`.
    pub fn opaque(self) -> &'static str {
        match self {
            Self::Trusted | Self::FuseTrusted => "trusted.overlay.opaque",
            Self::User => "user.overlay.opaque",
            Self::FuseUser => "user.fuseoverlayfs.opaque",
        }
    }
}
