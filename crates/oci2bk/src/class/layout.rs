//! Classes of the errors of reading caches and images, and of writing layouts.

use bkstate::{Class, Classified};

use crate::export::ExportError;
use crate::image::ImageError;
use crate::inputs::InputError;
use crate::json::TooComplex;
use crate::layout::{
    ArchiveError, BlobError, DockerError, LayoutError, MirrorError, NewDirectoryError,
    PutArtifactError, WriteError,
};
use crate::limits::name;
use crate::manifest::{ManifestError, SelectError};
use crate::plan::{BrokenPlan, PlanError};
use crate::sparse::SparseError;

impl Classified for TooComplex {
    fn class(&self) -> Class {
        Class::Limit
    }

    fn limit_name(&self) -> Option<&'static str> {
        Some(match self {
            Self::Values { .. } => name::JSON_VALUES,
            Self::Objects { .. } => name::JSON_OBJECTS,
        })
    }
}

impl Classified for BlobError {
    fn class(&self) -> Class {
        match self {
            Self::TooLarge { .. } | Self::TooComplex { .. } => Class::Limit,
            Self::Io { source, .. } => Class::of_reading(source),
            Self::Missing { .. }
            | Self::NotAFile { .. }
            | Self::Size { .. }
            | Self::Digest { .. } => Class::Input,
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

impl Classified for DockerError {
    fn class(&self) -> Class {
        match self {
            Self::TooLarge { .. }
            | Self::TooComplex { .. }
            | Self::TooManyImages { .. }
            | Self::TooManyLayers { .. }
            | Self::Links { .. } => Class::Limit,
            _ => Class::Input,
        }
    }

    fn limit_name(&self) -> Option<&'static str> {
        match self {
            Self::TooLarge { limit, .. } => Some(limit.name),
            Self::TooComplex { source, .. } => source.limit_name(),
            Self::TooManyImages { .. } => Some(name::MANIFESTS),
            Self::TooManyLayers { .. } => Some(name::CACHE_LAYERS),
            _ => None,
        }
    }
}

impl Classified for ArchiveError {
    fn class(&self) -> Class {
        match self {
            Self::TooLarge { .. } | Self::TooManyMembers { .. } => Class::Limit,
            Self::Decompress(source) | Self::Io(source) => Class::of_reading(source),
            Self::Temporary { .. } => Class::Io,
            Self::Tar(error) => error.class(),
            Self::Docker(error) => error.class(),
            Self::Compressed(_)
            | Self::SeveralLayouts(_)
            | Self::OldSparse
            | Self::Duplicate { .. } => Class::Input,
        }
    }

    fn limit_name(&self) -> Option<&'static str> {
        match self {
            Self::TooLarge { limit } => Some(limit.name),
            Self::TooManyMembers { .. } => Some(name::ARCHIVE_MEMBERS),
            Self::Docker(error) => error.limit_name(),
            _ => None,
        }
    }
}

impl Classified for MirrorError {
    fn class(&self) -> Class {
        match self {
            Self::TooManyFiles { .. }
            | Self::TooManyPrefixes
            | Self::TooManyManifests { .. }
            | Self::TooManyLayers { .. }
            | Self::TooLarge { .. }
            | Self::TooComplex { .. } => Class::Limit,
            Self::List(error) => Class::of_reading(&error.source),
            Self::Io { source, .. } => Class::of_reading(source),
            _ => Class::Input,
        }
    }

    fn limit_name(&self) -> Option<&'static str> {
        match self {
            Self::TooManyFiles { .. } => Some(name::MIRROR_FILES),
            Self::TooManyManifests { .. } => Some(name::MANIFESTS),
            Self::TooManyLayers { .. } => Some(name::CACHE_LAYERS),
            Self::TooLarge { limit, .. } => Some(limit.name),
            Self::TooComplex { source, .. } => source.limit_name(),
            _ => None,
        }
    }
}

impl Classified for LayoutError {
    fn class(&self) -> Class {
        match self {
            Self::TooLarge { .. } | Self::TooComplex { .. } => Class::Limit,
            Self::Open { source, .. } | Self::Io { source, .. } => Class::of_reading(source),
            Self::Archive { source, .. } => source.class(),
            Self::Mirror { source, .. } => source.class(),
            _ => Class::Input,
        }
    }

    fn limit_name(&self) -> Option<&'static str> {
        match self {
            Self::TooLarge { .. } => Some(name::MANIFEST),
            Self::TooComplex { source, .. } => source.limit_name(),
            Self::Archive { source, .. } => source.limit_name(),
            Self::Mirror { source, .. } => source.limit_name(),
            _ => None,
        }
    }
}

impl Classified for ManifestError {
    fn class(&self) -> Class {
        match self {
            Self::Blob(error) => error.class(),
            _ => Class::Input,
        }
    }

    fn limit_name(&self) -> Option<&'static str> {
        match self {
            Self::Blob(error) => error.limit_name(),
            _ => None,
        }
    }
}

impl Classified for SelectError {
    fn class(&self) -> Class {
        match self {
            Self::Manifest { source, .. } => source.class(),
            Self::TooDeep { .. } | Self::TooLarge { .. } | Self::TooMany { .. } => Class::Limit,
            _ => Class::Input,
        }
    }

    fn limit_name(&self) -> Option<&'static str> {
        match self {
            Self::Manifest { source, .. } => source.limit_name(),
            Self::TooLarge { .. } => Some(name::MANIFESTS_SIZE),
            Self::TooMany { .. } => Some(name::MANIFESTS),
            _ => None,
        }
    }
}

impl Classified for ExportError {
    fn class(&self) -> Class {
        match self {
            Self::Layout(error) => error.class(),
            Self::Select(error) => error.class(),
            Self::ConfigBlob { source, .. } | Self::LayerBlob { source, .. } => source.class(),
            Self::TooManyLayers { .. } => Class::Limit,
            Self::NoGoodCopy { .. } | Self::NoRecords { .. } | Self::Config { .. } => Class::Input,
        }
    }

    fn limit_name(&self) -> Option<&'static str> {
        match self {
            Self::Layout(error) => error.limit_name(),
            Self::Select(error) => error.limit_name(),
            Self::ConfigBlob { source, .. } | Self::LayerBlob { source, .. } => source.limit_name(),
            Self::TooManyLayers { .. } => Some(name::CACHE_LAYERS),
            _ => None,
        }
    }
}

impl Classified for ImageError {
    fn class(&self) -> Class {
        match self {
            Self::Layout(error) => error.class(),
            Self::Blob { source, .. } => source.class(),
            Self::Layer { source, .. } => source.class(),
            Self::TooMany { .. } => Class::Limit,
            _ => Class::Input,
        }
    }

    fn limit_name(&self) -> Option<&'static str> {
        match self {
            Self::Layout(error) => error.limit_name(),
            Self::Blob { source, .. } => source.limit_name(),
            Self::Layer { source, .. } => source.limit_name(),
            Self::TooMany { .. } => Some(name::MANIFESTS),
            _ => None,
        }
    }
}

impl Classified for InputError {
    fn class(&self) -> Class {
        match self {
            Self::Export(error) => error.class(),
            Self::Image(error) => error.class(),
        }
    }

    fn limit_name(&self) -> Option<&'static str> {
        match self {
            Self::Export(error) => error.limit_name(),
            Self::Image(error) => error.limit_name(),
        }
    }
}

impl Classified for PlanError {
    fn class(&self) -> Class {
        Class::Input
    }
}

impl Classified for BrokenPlan {
    /// A plan is also input.
    fn class(&self) -> Class {
        Class::Input
    }
}

impl Classified for WriteError {
    fn class(&self) -> Class {
        match self {
            Self::InUse { .. } => Class::InUse,
            Self::Index(error) => error.class(),
            Self::Dir { .. } | Self::File { .. } | Self::Archive { .. } | Self::Mirror { .. } => {
                Class::Io
            }
        }
    }

    fn limit_name(&self) -> Option<&'static str> {
        match self {
            Self::Index(error) => error.limit_name(),
            _ => None,
        }
    }
}

impl Classified for SparseError {
    fn class(&self) -> Class {
        match self {
            Self::NoCache => Class::Input,
            Self::Manifest(error) => error.class(),
            Self::Select(error) => error.class(),
            Self::Keys(error) => error.class(),
            // The cause is a file that was just written, or its place.
            Self::Export(_) | Self::Attach(_) | Self::Layout(_) | Self::Write(_) => Class::Io,
            Self::Place(error) => error.class(),
        }
    }

    fn limit_name(&self) -> Option<&'static str> {
        match self {
            Self::Manifest(error) => error.limit_name(),
            Self::Select(error) => error.limit_name(),
            Self::Keys(error) => error.limit_name(),
            Self::Export(error) => error.limit_name(),
            Self::Attach(error) => error.limit_name(),
            Self::Layout(error) => error.limit_name(),
            _ => None,
        }
    }
}

impl Classified for PutArtifactError {
    fn class(&self) -> Class {
        match self {
            Self::Manifest(error) => error.class(),
            Self::Manifests(error) => error.class(),
            Self::Write(error) => error.class(),
            Self::Index { .. } => Class::Input,
            Self::InvalidTag { .. } | Self::TagTaken { .. } => Class::Io,
        }
    }

    fn limit_name(&self) -> Option<&'static str> {
        match self {
            Self::Manifest(error) => error.limit_name(),
            Self::Manifests(error) => error.limit_name(),
            Self::Write(error) => error.limit_name(),
            _ => None,
        }
    }
}

impl Classified for NewDirectoryError {
    fn class(&self) -> Class {
        Class::Io
    }
}
