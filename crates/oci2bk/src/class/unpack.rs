//! Classes of the errors of unpacking layers.

use bkstate::{About, Class, Classified};
use rustix::io::Errno;

use crate::limits::name;
use crate::unpack::{Refusal, TarError, UnpackError};

impl Classified for TarError {
    fn about(&self) -> About {
        match self {
            Self::Truncated => About::new("tar.truncated", Class::Input),
            Self::Header => About::new("tar.header", Class::Input),
            Self::DataAfterZeroBlock => About::new("tar.data-after-zero-block", Class::Input),
            Self::NegativeSize => About::new("tar.negative-size", Class::Input),
            Self::SpecialTooLong { .. } => About::new("tar.special-too-long", Class::Input),
            Self::PaxRecord => About::new("tar.pax-record", Class::Input),
            Self::PaxValue { .. } => About::new("tar.pax-value", Class::Input),
            Self::SparseMap => About::new("tar.sparse-map", Class::Input),
            Self::SparseData => About::new("tar.sparse-data", Class::Input),
            Self::Read(error) => About::of_reading("tar.read", error),
        }
    }
}

impl Classified for Refusal {
    fn about(&self) -> About {
        match self {
            Self::Archive(error) => error.about(),
            Self::UnsupportedType { .. } => About::new("entry.unsupported-type", Class::Input),
            Self::DeviceNumber { .. } => About::new("entry.device-number", Class::Input),
            Self::GroupOfImpliedDirectory => {
                About::new("entry.group-of-implied-directory", Class::Input)
            }
            Self::WhiteoutEscapes => About::new("entry.whiteout-escapes", Class::Input),
            Self::WhiteoutOfSameLayer => About::new("entry.whiteout-of-same-layer", Class::Input),
            Self::ParentNotDirectory => About::new("entry.parent-not-directory", Class::Input),
            Self::DirectoryGone => About::new("entry.directory-gone", Class::Input),
            Self::TooManySymlinks => About::new("entry.too-many-symlinks", Class::Input),
            Self::NameTooLong { .. } => About::of_limit("entry.name-too-long", name::PATH),
            Self::XattrsTooLarge { .. } => About::of_limit("entry.xattrs-too-large", name::XATTRS),
            Self::TooManyDirectories { .. } => {
                About::of_limit("entry.too-many-directories", name::LAYER_DIRECTORIES)
            }
            Self::TooManyLookups { .. } => {
                About::of_limit("entry.too-many-lookups", name::LAYER_LOOKUPS)
            }
            Self::TooManyTotalLookups { .. } => {
                About::of_limit("entry.too-many-total-lookups", name::TOTAL_LOOKUPS)
            }
            Self::PathTooLong => About::new("entry.path-too-long", Class::Input),
            Self::HardLinkTargetMissing { .. } => {
                About::new("entry.hard-link-target-missing", Class::Input)
            }
            Self::HardLinkToDirectory { .. } => {
                About::new("entry.hard-link-to-directory", Class::Input)
            }
            Self::NoSuchOwner(_) => About::new("entry.no-such-owner", Class::Io),
            Self::CapabilityOfNamespace => {
                About::new("entry.capability-of-namespace", Class::Input)
            }
            Self::LeavesTree { .. } => About::new("entry.leaves-tree", Class::Input),
            Self::ThroughLink => About::new("entry.through-link", Class::Input),
            Self::Device => About::new("entry.device", Class::Input),
            Self::TopNotDirectory => About::new("entry.top-not-directory", Class::Input),
            Self::Xattr { source, .. } => {
                let errno = source.raw_os_error().map(Errno::from_raw_os_error);
                let class = match errno {
                    // The name or value is too long, or the value does not have the form of the attribute.
                    Some(Errno::RANGE | Errno::TOOBIG | Errno::INVAL) => Class::Input,
                    _ => Class::Io,
                };
                About::new("entry.xattr", class)
            }
            Self::NoOpenat2 => About::new("entry.no-openat2", Class::Io),
            Self::Io { .. } => About::new("entry.io", Class::Io),
        }
    }
}

impl Classified for UnpackError {
    fn about(&self) -> About {
        match self {
            Self::UnknownMediaType { .. } => About::new("unpack.unknown-media-type", Class::Input),
            Self::ReadBlob { .. } => About::new("unpack.read-blob", Class::Io),
            Self::Thread { .. } => About::new("unpack.thread", Class::Io),
            Self::WrongBlobSize { .. } => About::new("unpack.wrong-blob-size", Class::Input),
            Self::WrongBlobDigest { .. } => About::new("unpack.wrong-blob-digest", Class::Input),
            Self::Decompress { source, .. } => About::of_reading("unpack.decompress", source),
            Self::TooLarge { name, .. } => About::of_limit("unpack.too-large", name),
            Self::TooManyEntries { .. } => {
                About::of_limit("unpack.too-many-entries", name::LAYER_ENTRIES)
            }
            Self::TotalReached { limit, .. } => About::of_limit("unpack.total-reached", limit.name),
            Self::WrongDiffId { .. } => About::new("unpack.wrong-diff-id", Class::Input),
            Self::Archive { source, .. } => source.about(),
            Self::Entry { reason, .. } => reason.about(),
            Self::Settle { reason, .. } => reason.about(),
            Self::Cancelled { .. } => About::new("unpack.cancelled", Class::Cancelled),
            Self::Usage { .. } => About::new("unpack.usage", Class::Io),
        }
    }
}
