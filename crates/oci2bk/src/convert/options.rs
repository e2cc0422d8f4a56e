//! Options of a conversion.

/// How the blobs of layers are stored in the root.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreBlobs {
    /// Share disk blocks (reflink) if the file system supports it, otherwise copy.
    #[default]
    Auto,
    /// Copy every byte.
    Copy,
    /// Hard-link the file of the layout into the store. A process that can write to one can then write to the
    /// other, so only files are linked that no other user can write to, and none that a process has open for
    /// writing. File systems without leases do not report that:
    /// [`Report::unleased`](super::Report::unleased).
    Hardlink,
    /// Do not store blobs. New records only refer to their snapshots, like those of steps that a daemon ran
    /// and never exported. This requires [`extract`](super::Converter::extract).
    None,
}
