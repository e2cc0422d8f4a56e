//! Classes of the errors of unpacking layers.

use bkstate::{Class, Classified};
use rustix::io::Errno;

use crate::limits::name;
use crate::unpack::{Refusal, TarError, UnpackError};

impl Classified for TarError {
    fn class(&self) -> Class {
        match self {
            Self::Read(error) => Class::of_reading(error),
            _ => Class::Input,
        }
    }
}

impl Classified for Refusal {
    fn class(&self) -> Class {
        match self {
            Self::Archive(error) => error.class(),
            Self::NameTooLong { .. }
            | Self::XattrsTooLarge { .. }
            | Self::TooManyDirectories { .. }
            | Self::TooManyLookups { .. }
            | Self::TooManyTotalLookups { .. } => Class::Limit,
            Self::Io { .. } | Self::NoOpenat2 | Self::NoSuchOwner(_) => Class::Io,
            Self::Xattr { source, .. } => {
                let errno = source.raw_os_error().map(Errno::from_raw_os_error);
                match errno {
                    // The name or value is too long, or the value does not have the form of the attribute.
                    Some(Errno::RANGE | Errno::TOOBIG | Errno::INVAL) => Class::Input,
                    _ => Class::Io,
                }
            }
            _ => Class::Input,
        }
    }

    fn limit_name(&self) -> Option<&'static str> {
        match self {
            Self::NameTooLong { .. } => Some(name::PATH),
            Self::XattrsTooLarge { .. } => Some(name::XATTRS),
            Self::TooManyDirectories { .. } => Some(name::LAYER_DIRECTORIES),
            Self::TooManyLookups { .. } => Some(name::LAYER_LOOKUPS),
            Self::TooManyTotalLookups { .. } => Some(name::TOTAL_LOOKUPS),
            _ => None,
        }
    }
}

impl Classified for UnpackError {
    fn class(&self) -> Class {
        match self {
            Self::TooLarge { .. } | Self::TooManyEntries { .. } | Self::TotalReached { .. } => {
                Class::Limit
            }
            Self::Archive { source, .. } => source.class(),
            Self::Entry { reason, .. } | Self::Settle { reason, .. } => reason.class(),
            Self::Decompress { source, .. } => Class::of_reading(source),
            Self::ReadBlob { .. } | Self::Thread { .. } | Self::Usage { .. } => Class::Io,
            Self::Cancelled { .. } => Class::Cancelled,
            Self::UnknownMediaType { .. }
            | Self::WrongBlobSize { .. }
            | Self::WrongBlobDigest { .. }
            | Self::WrongDiffId { .. } => Class::Input,
        }
    }

    fn limit_name(&self) -> Option<&'static str> {
        match self {
            Self::TooLarge { name, .. } => Some(name),
            Self::TooManyEntries { .. } => Some(name::LAYER_ENTRIES),
            Self::TotalReached { limit, .. } => Some(limit.name),
            Self::Entry { reason, .. } | Self::Settle { reason, .. } => reason.limit_name(),
            _ => None,
        }
    }
}
