//! Classes of the errors of converting into a root, and of examining one.

use bkstate::{Class, Classified};

use crate::convert::ConvertError;
use crate::inspect::{BuildsError, InspectError, PlaceError, Unread};
use crate::limits::name;
use crate::verify::{Damage, MendError, TreeDamage, VerifyError};

impl Classified for ConvertError {
    fn class(&self) -> Class {
        match self {
            Self::Plan(error) => error.class(),
            Self::Open(error) => error.class(),
            Self::Existing(error) => error.class(),
            Self::Staging(error) => error.class(),
            Self::Blob(error) => error.class(),
            Self::NoGoodCopy { .. } => Class::Input,
            Self::ChainTooLong { .. } | Self::TooManySnapshots { .. } | Self::TooLarge { .. } => {
                Class::Limit
            }
            Self::Unpack { source, .. } | Self::Check { source, .. } => source.class(),
            // The blob does not match its digest, and it is in the root.
            Self::UnpackExisting { source, .. }
                if source.is_of_blob() && source.class() == Class::Input =>
            {
                Class::Damaged
            }
            Self::UnpackExisting { source, .. } => source.class(),
            Self::Compare(error) => error.class(),
            Self::Cancelled => Class::Cancelled,
            Self::Verify(error) => error.class(),
            Self::Damaged { .. } => Class::Damaged,
            // A bug in this library.
            Self::NoPlace(_)
            | Self::Root(_)
            | Self::Copy { .. }
            | Self::Link { .. }
            | Self::NothingToStore
            | Self::ImageWithoutBlobs { .. }
            | Self::OtherImage { .. }
            | Self::Rights { .. } => Class::Io,
        }
    }

    fn limit_name(&self) -> Option<&'static str> {
        match self {
            Self::Blob(error) => error.limit_name(),
            Self::TooManySnapshots { .. } => Some(name::SNAPSHOTS),
            Self::TooLarge { limit, .. } => Some(limit.name),
            Self::Unpack { source, .. }
            | Self::Check { source, .. }
            | Self::UnpackExisting { source, .. } => source.limit_name(),
            Self::Compare(error) => error.limit_name(),
            _ => None,
        }
    }
}

impl Classified for VerifyError {
    fn class(&self) -> Class {
        match self {
            Self::State(error) => error.class(),
            Self::Plan(error) => error.class(),
            Self::Unpack(error) => error.class(),
            Self::Cancelled => Class::Cancelled,
            Self::Dir(_) | Self::Temporary(_) | Self::Rights(_) | Self::Entry { .. } => Class::Io,
        }
    }

    fn limit_name(&self) -> Option<&'static str> {
        match self {
            Self::Unpack(error) => error.limit_name(),
            _ => None,
        }
    }
}

impl Classified for MendError {
    fn class(&self) -> Class {
        match self {
            Self::Verify(error) => error.class(),
            Self::Existing(error) => error.class(),
            Self::Staging(error) => error.class(),
            Self::Root(_) => Class::Io,
            Self::Damaged { .. } => Class::Damaged,
        }
    }

    fn limit_name(&self) -> Option<&'static str> {
        match self {
            Self::Verify(error) => error.limit_name(),
            _ => None,
        }
    }
}

impl Classified for Damage {
    /// An exceeded limit of a layer is reported as damage, because the layer cannot be compared.
    fn class(&self) -> Class {
        if self.limit_name().is_some() { Class::Limit } else { Class::Damaged }
    }

    fn limit_name(&self) -> Option<&'static str> {
        match self {
            Self::Tree(TreeDamage::Layer { source, .. }) => source.limit_name(),
            _ => None,
        }
    }
}

impl Classified for PlaceError {
    fn class(&self) -> Class {
        match self {
            Self::Read { source, .. } => Class::of_reading(source),
            Self::Dir(error) => Class::of_reading(&error.source),
            Self::Source(_) => Class::Input,
            // The same class as for a directory that is not a root.
            Self::Both { .. } | Self::Neither { .. } => Class::Io,
            Self::Root(error) => error.class(),
        }
    }
}

impl Classified for BuildsError {
    fn class(&self) -> Class {
        match self {
            Self::Dir(_) => Class::Io,
            Self::Database { source, .. } => source.class(),
            Self::Record { .. } => Class::Damaged,
        }
    }
}

impl Classified for InspectError {
    fn class(&self) -> Class {
        match self {
            Self::Open(error) => error.class(),
            Self::State(error) => error.class(),
            Self::Dir(_) => Class::Io,
            Self::Damaged { .. } => Class::Damaged,
        }
    }
}

impl Classified for Unread {
    fn class(&self) -> Class {
        match self {
            Self::Names(error) => error.class(),
            Self::Builds(error) => error.class(),
        }
    }

    fn limit_name(&self) -> Option<&'static str> {
        match self {
            Self::Names(error) => error.limit_name(),
            Self::Builds(_) => None,
        }
    }
}
