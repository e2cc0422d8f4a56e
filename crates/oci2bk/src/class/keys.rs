//! Classes of the errors of key sources, keys files and explanations.

use bkstate::root::{OpenRootError, RootError};
use bkstate::{Class, Classified};

use crate::explain::ExplainError;
use crate::keys::{
    ArtifactError, AttachError, AttestationError, BundleError, DatabaseError, HistoryError,
    KeysFileError, SourceError, TooManyOutputs,
};
use crate::limits::name;

/// A damaged database as a source of keys is damaged input.
fn of_input(class: Class) -> Class {
    if class == Class::Damaged { Class::Input } else { class }
}

impl Classified for TooManyOutputs {
    fn class(&self) -> Class {
        Class::Limit
    }

    fn limit_name(&self) -> Option<&'static str> {
        Some(name::KEY_OUTPUTS)
    }
}

impl Classified for DatabaseError {
    fn class(&self) -> Class {
        match self {
            Self::InUse => Class::InUse,
            Self::Read(error) => of_input(error.class()),
            Self::Unknown => Class::Input,
        }
    }
}

impl Classified for HistoryError {
    fn class(&self) -> Class {
        match self {
            Self::Database(error) => of_input(error.class()),
            Self::Dir(error) => Class::of_reading(&error.source),
            Self::Io { source, .. } => Class::of_reading(source),
            Self::TooLarge { .. } | Self::TooComplex { .. } => Class::Limit,
            Self::Record { .. } | Self::Digest { .. } | Self::Corrupt { .. } => Class::Input,
        }
    }

    fn limit_name(&self) -> Option<&'static str> {
        match self {
            Self::TooLarge { limit, .. } => Some(limit.name),
            Self::TooComplex { source, .. } => source.limit_name(),
            _ => None,
        }
    }
}

impl Classified for BundleError {
    fn class(&self) -> Class {
        match self {
            Self::Read(error) => Class::of_reading(error),
            Self::Tar(error) => error.class(),
            Self::TooLong { .. }
            | Self::TooManyMembers { .. }
            | Self::TooLarge { .. }
            | Self::TooComplex { .. }
            | Self::TooDeep
            | Self::TooManyManifests { .. } => Class::Limit,
            Self::Corrupt { .. } | Self::NoIndex | Self::Document { .. } => Class::Input,
        }
    }

    fn limit_name(&self) -> Option<&'static str> {
        match self {
            Self::TooLong { .. } => Some(name::BUNDLE_SIZE),
            Self::TooManyMembers { .. } => Some(name::BUNDLE_MEMBERS),
            Self::TooLarge { limit, .. } => Some(limit.name),
            Self::TooComplex { source, .. } => source.limit_name(),
            Self::TooManyManifests { .. } => Some(name::MANIFESTS),
            _ => None,
        }
    }
}

impl Classified for AttestationError {
    fn class(&self) -> Class {
        match self {
            Self::Manifests(error) => error.class(),
            Self::Blob(error) => error.class(),
            Self::Document { .. } => Class::Input,
        }
    }

    fn limit_name(&self) -> Option<&'static str> {
        match self {
            Self::Manifests(error) => error.limit_name(),
            Self::Blob(error) => error.limit_name(),
            Self::Document { .. } => None,
        }
    }
}

impl Classified for ArtifactError {
    fn class(&self) -> Class {
        match self {
            Self::Manifests(error) => error.class(),
            Self::Manifest(error) => error.class(),
            Self::Blob(error) => error.class(),
        }
    }

    fn limit_name(&self) -> Option<&'static str> {
        match self {
            Self::Manifests(error) => error.limit_name(),
            Self::Manifest(error) => error.limit_name(),
            Self::Blob(error) => error.limit_name(),
        }
    }
}

impl Classified for KeysFileError {
    fn class(&self) -> Class {
        match self {
            Self::TooLarge { .. } => Class::Limit,
            _ => Class::Input,
        }
    }
}

impl Classified for SourceError {
    fn class(&self) -> Class {
        match self {
            Self::Read { source, .. } | Self::Decompress { source, .. } => {
                Class::of_reading(source)
            }
            Self::Temporary { .. } => Class::Io,
            Self::TooLarge { .. } | Self::TooComplex { .. } => Class::Limit,
            Self::TooManyOutputs(error) => error.class(),
            Self::Provenance { source, .. } => source.class(),
            Self::Database { source, .. } => source.class(),
            Self::History { source, .. } => source.class(),
            Self::Directory(error) | Self::Open(OpenRootError::Root(RootError::Dir(error))) => {
                Class::of_reading(&error.source)
            }
            Self::Archive { source, .. } => source.class(),
            Self::KeysFile { source, .. } => source.class(),
            Self::Dump { source, .. } => source.class(),
            // Here the root is the input.
            Self::Open(OpenRootError::Root(_)) => Class::Input,
            Self::Open(error) => error.class(),
            Self::Layout { source, .. } => source.class(),
            Self::Attestations { source, .. } => source.class(),
            Self::AttachedKeys { source, .. } => source.class(),
            Self::NotAFile { .. }
            | Self::Empty { .. }
            | Self::Compressed { .. }
            | Self::Unrecognised { .. }
            | Self::Envelope { .. }
            | Self::NoProvenance { .. }
            | Self::MetadataFile { .. }
            | Self::NoContent { .. }
            | Self::UnreadHistory(_)
            | Self::EmptyHistory { .. }
            | Self::EmptyRoot { .. }
            | Self::NoKnownDirectory { .. }
            | Self::NoHistory { .. }
            | Self::NoAttestations { .. } => Class::Input,
        }
    }

    fn limit_name(&self) -> Option<&'static str> {
        match self {
            Self::TooLarge { limit, .. } => Some(limit.name),
            Self::TooComplex { source, .. } => source.limit_name(),
            Self::TooManyOutputs(error) => error.limit_name(),
            Self::History { source, .. } => source.limit_name(),
            Self::Archive { source, .. } => source.limit_name(),
            Self::Layout { source, .. } => source.limit_name(),
            Self::Attestations { source, .. } => source.limit_name(),
            Self::AttachedKeys { source, .. } => source.limit_name(),
            _ => None,
        }
    }
}

impl Classified for AttachError {
    fn class(&self) -> Class {
        match self {
            Self::TooManyOutputs { .. } => Class::Limit,
            Self::KeysFile(error) => error.class(),
            Self::Manifest(error) => error.class(),
            Self::Put(error) => error.class(),
            Self::NothingMatches { .. } => Class::Input,
        }
    }

    fn limit_name(&self) -> Option<&'static str> {
        match self {
            Self::TooManyOutputs { .. } => Some(name::KEY_OUTPUTS),
            Self::Manifest(error) => error.limit_name(),
            Self::Put(error) => error.limit_name(),
            _ => None,
        }
    }
}

impl Classified for ExplainError {
    fn class(&self) -> Class {
        match self {
            Self::TooMany { .. } => Class::Limit,
        }
    }

    fn limit_name(&self) -> Option<&'static str> {
        match self {
            Self::TooMany { .. } => Some(name::COMPARISONS),
        }
    }
}
