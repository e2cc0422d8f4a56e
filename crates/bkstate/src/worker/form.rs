//! The form of the files in snapshots.

/// The form of the files in a snapshot's directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TreeForm {
    /// The difference to the parent snapshot, in the form of overlayfs: whiteouts are devices 0:0, and opaque
    /// directories have an extended attribute.
    Overlay(OverlayMarks),
}

impl TreeForm {
    /// Returns the extended attributes that mark files.
    ///
    /// ```
    /// use bkstate::worker::{OverlayMarks, Worker};
    ///
    /// assert_eq!(Worker::default().form().marks(), OverlayMarks::Trusted);
    /// ```
    pub fn marks(self) -> OverlayMarks {
        match self {
            Self::Overlay(marks) => marks,
        }
    }
}

/// The extended attributes that mark files for overlayfs.
///
/// ```
/// use bkstate::worker::OverlayMarks;
///
/// assert_eq!(OverlayMarks::Trusted.opaque(), "trusted.overlay.opaque");
/// assert!(OverlayMarks::User.opaque().starts_with(OverlayMarks::User.prefix()));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OverlayMarks {
    /// `trusted.overlay.*`, used by a daemon that runs as root.
    Trusted,
    /// `user.overlay.*`, used by a daemon in a user namespace, where nobody may set the others (containerd
    /// v2.4.2 `plugins/snapshots/overlay/overlayutils/check.go` `NeedsUserXAttr`).
    User,
}

impl OverlayMarks {
    /// Returns the beginning of their names.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Trusted => "trusted.overlay.",
            Self::User => "user.overlay.",
        }
    }

    /// Returns the name of the attribute of an opaque directory; its value is `y`.
    pub fn opaque(self) -> &'static str {
        match self {
            Self::Trusted => "trusted.overlay.opaque",
            Self::User => "user.overlay.opaque",
        }
    }
}
