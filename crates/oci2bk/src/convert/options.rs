//! What a conversion can be told.

/// How the blobs of layers come into the root.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum StoreBlobs {
    /// By sharing what is on disk (reflink) where the file system can do that, else by copying.
    #[default]
    Auto,
    /// By copying every byte.
    Copy,
    /// By making the file of the layout the file of the store too. Whoever can write to the one then
    /// writes to the other, so only files that nobody else can write to are taken, and none that
    /// somebody has open for writing. File systems without leases do not tell that:
    /// [`Report::unleased`](super::Report::unleased).
    Hardlink,
    /// Not at all. New records know nothing but their snapshots, as those of steps that a daemon ran
    /// and never exported. This takes [`extract`](super::Converter::extract).
    None,
}
