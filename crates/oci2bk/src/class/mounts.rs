//! Classes of the errors of cache mounts.

use bkstate::{Class, Classified};

use crate::mounts::{MountsError, PackError, ReadMountsError};

impl Classified for ReadMountsError {
    fn class(&self) -> Class {
        match self {
            Self::Manifests(error) => error.class(),
            Self::Manifest(error) => error.class(),
            Self::Blob(error) => error.class(),
            _ => Class::Input,
        }
    }

    fn limit_name(&self) -> Option<&'static str> {
        match self {
            Self::Manifests(error) => error.limit_name(),
            Self::Manifest(error) => error.limit_name(),
            Self::Blob(error) => error.limit_name(),
            _ => None,
        }
    }
}

impl Classified for PackError {
    fn class(&self) -> Class {
        match self {
            Self::Cancelled => Class::Cancelled,
            _ => Class::Io,
        }
    }
}

impl Classified for MountsError {
    fn class(&self) -> Class {
        match self {
            Self::Open(error) => error.class(),
            Self::Usage(error) => error.class(),
            Self::State(error) => error.class(),
            Self::Existing(error) => error.class(),
            Self::Layout(error) => error.class(),
            Self::Artifact(error) => error.class(),
            Self::Blob(error) => error.class(),
            Self::Manifest(error) => error.class(),
            Self::WriteLayout(error) => error.class(),
            Self::Put(error) => error.class(),
            Self::NewDirectory(error) => error.class(),
            Self::Staging(error) => error.class(),
            Self::Verify(error) => error.class(),
            Self::Unpack { source, .. } => source.class(),
            Self::Pack { source, .. } => source.class(),
            Self::Source { source, .. } => source.class(),
            Self::Read { source, .. } => Class::of_reading(source),
            Self::Damaged { .. } => Class::Damaged,
            Self::Cancelled => Class::Cancelled,
            Self::Dir(_)
            | Self::NoSuchOwner(_)
            | Self::Owner { .. }
            | Self::NotThere { .. }
            | Self::Nothing { .. }
            | Self::NoFiles { .. }
            | Self::Id { .. }
            | Self::OnResult { .. }
            | Self::Twice { .. }
            | Self::One { .. }
            | Self::OwnerGiven
            | Self::Exists { .. }
            | Self::Unfinished { .. }
            | Self::Rights { .. }
            | Self::Copy { .. }
            | Self::Write(_) => Class::Io,
        }
    }

    fn limit_name(&self) -> Option<&'static str> {
        match self {
            Self::Layout(error) => error.limit_name(),
            Self::Artifact(error) => error.limit_name(),
            Self::Blob(error) => error.limit_name(),
            Self::Manifest(error) => error.limit_name(),
            Self::WriteLayout(error) => error.limit_name(),
            Self::Put(error) => error.limit_name(),
            Self::Unpack { source, .. } => source.limit_name(),
            _ => None,
        }
    }
}
