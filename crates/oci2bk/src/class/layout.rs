//! Classes of the errors of reading caches and images, and of writing layouts.

use bkstate::{About, Class, Classified};

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
use crate::prepare::PrepareError;
use crate::sparse::SparseError;

impl Classified for TooComplex {
    fn about(&self) -> About {
        match self {
            Self::Values { .. } => About::of_limit("json.values", name::JSON_VALUES),
            Self::Objects { .. } => About::of_limit("json.objects", name::JSON_OBJECTS),
        }
    }
}

impl Classified for BlobError {
    fn about(&self) -> About {
        match self {
            Self::Missing { .. } => About::new("blob.missing", Class::Input),
            Self::NotAFile { .. } => About::new("blob.not-a-file", Class::Input),
            Self::Size { .. } => About::new("blob.size", Class::Input),
            Self::TooLarge { limit, .. } => About::of_limit("blob.too-large", limit.name),
            Self::TooComplex { source, .. } => source.about(),
            Self::Digest { .. } => About::new("blob.digest", Class::Input),
            Self::Io { source, .. } => About::of_reading("blob.io", source),
        }
    }
}

impl Classified for DockerError {
    fn about(&self) -> About {
        match self {
            Self::Missing { .. } => About::new("docker.missing", Class::Input),
            Self::NotAFile { .. } => About::new("docker.not-a-file", Class::Input),
            Self::LinkOut { .. } => About::new("docker.link-out", Class::Input),
            Self::Links { .. } => About::new("docker.links", Class::Limit),
            Self::TooLarge { limit, .. } => About::of_limit("docker.too-large", limit.name),
            Self::TooComplex { source, .. } => source.about(),
            Self::Json { .. } => About::new("docker.json", Class::Input),
            Self::TooManyImages { .. } => {
                About::of_limit("docker.too-many-images", name::MANIFESTS)
            }
            Self::TooManyLayers { .. } => {
                About::of_limit("docker.too-many-layers", name::CACHE_LAYERS)
            }
            Self::DiffIds { .. } => About::new("docker.diff-ids", Class::Input),
            Self::Compressed { .. } => About::new("docker.compressed", Class::Input),
        }
    }
}

impl Classified for ArchiveError {
    fn about(&self) -> About {
        match self {
            Self::Compressed(_) => About::new("archive.compressed", Class::Input),
            Self::Decompress(source) => About::of_reading("archive.decompress", source),
            Self::TooLarge { limit } => About::of_limit("archive.too-large", limit.name),
            Self::Temporary { .. } => About::new("archive.temporary", Class::Io),
            Self::SeveralLayouts(_) => About::new("archive.several-layouts", Class::Input),
            Self::Tar(error) => error.about(),
            Self::OldSparse => About::new("archive.old-sparse", Class::Input),
            Self::Duplicate { .. } => About::new("archive.duplicate", Class::Input),
            Self::TooManyMembers { .. } => {
                About::of_limit("archive.too-many-members", name::ARCHIVE_MEMBERS)
            }
            Self::Docker(error) => error.about(),
            Self::Io(source) => About::of_reading("archive.io", source),
        }
    }
}

impl Classified for MirrorError {
    fn about(&self) -> About {
        match self {
            Self::List(error) => About::of_reading("mirror.list", &error.source),
            Self::TooManyFiles { .. } => {
                About::of_limit("mirror.too-many-files", name::MIRROR_FILES)
            }
            Self::TooManyPrefixes => About::new("mirror.too-many-prefixes", Class::Limit),
            Self::TooManyManifests { .. } => {
                About::of_limit("mirror.too-many-manifests", name::MANIFESTS)
            }
            Self::NoManifest => About::new("mirror.no-manifest", Class::Input),
            Self::NoName { .. } => About::new("mirror.no-name", Class::Input),
            Self::SeveralPrefixes { .. } => About::new("mirror.several-prefixes", Class::Input),
            Self::NotAFile { .. } => About::new("mirror.not-a-file", Class::Input),
            Self::Io { source, .. } => About::of_reading("mirror.io", source),
            Self::TooLarge { limit, .. } => About::of_limit("mirror.too-large", limit.name),
            Self::TooComplex { source, .. } => source.about(),
            Self::Json { .. } => About::new("mirror.json", Class::Input),
            Self::NoAnnotations { .. } => About::new("mirror.no-annotations", Class::Input),
            Self::TooManyLayers { .. } => {
                About::of_limit("mirror.too-many-layers", name::CACHE_LAYERS)
            }
        }
    }
}

impl Classified for LayoutError {
    fn about(&self) -> About {
        match self {
            Self::NotFound { .. } => About::new("layout.not-found", Class::Io),
            Self::Open { source, .. } => About::of_reading("layout.open", source),
            Self::NotALayout { .. } => About::new("layout.not-a-layout", Class::Input),
            Self::Archive { source, .. } => source.about(),
            Self::Mirror { source, .. } => source.about(),
            Self::NoIndex { .. } => About::new("layout.no-index", Class::Input),
            Self::NotAFile { .. } => About::new("layout.not-a-file", Class::Input),
            Self::Io { source, .. } => About::of_reading("layout.io", source),
            Self::TooLarge { .. } => About::of_limit("layout.too-large", name::MANIFEST),
            Self::TooComplex { source, .. } => source.about(),
            Self::Version { .. } => About::new("layout.version", Class::Input),
            Self::UnknownVersion { .. } => About::new("layout.unknown-version", Class::Input),
            Self::Index { .. } => About::new("layout.index", Class::Input),
        }
    }
}

impl Classified for ManifestError {
    fn about(&self) -> About {
        match self {
            Self::Blob(error) => error.about(),
            Self::Document { .. } => About::new("manifest.document", Class::Input),
            Self::NotACache { .. } => About::new("manifest.not-a-cache", Class::Input),
            Self::TwoConfigs { .. } => About::new("manifest.two-configs", Class::Input),
            Self::ImageConfig { .. } => About::new("manifest.image-config", Class::Input),
            Self::InlineBase64 { .. } => About::new("manifest.inline-base64", Class::Input),
            Self::DiffIds { .. } => About::new("manifest.diff-ids", Class::Input),
            Self::Layer { .. } => About::new("manifest.layer", Class::Input),
        }
    }
}

impl Classified for SelectError {
    fn about(&self) -> About {
        match self {
            Self::Manifest { source, .. } => source.about(),
            Self::NoTag { .. } => About::new("select.no-tag", Class::Input),
            Self::NoCache { .. } => About::new("select.no-cache", Class::Input),
            Self::Gone { .. } => About::new("select.gone", Class::Input),
            Self::SeveralCaches { .. } => About::new("select.several-caches", Class::Input),
            Self::TooDeep { .. } => About::new("select.too-deep", Class::Limit),
            Self::TooLarge { .. } => About::of_limit("select.too-large", name::MANIFESTS_SIZE),
            Self::TooMany { .. } => About::of_limit("select.too-many", name::MANIFESTS),
        }
    }
}

impl Classified for ExportError {
    fn about(&self) -> About {
        match self {
            Self::Layout(error) => error.about(),
            Self::Select(error) => error.about(),
            Self::ConfigBlob { source, .. } => source.about(),
            Self::TooManyLayers { .. } => {
                About::of_limit("export.too-many-layers", name::CACHE_LAYERS)
            }
            Self::LayerBlob { source, .. } => source.about(),
            Self::NoGoodCopy { .. } => About::new("export.no-good-copy", Class::Input),
            Self::NoRecords { .. } => About::new("export.no-records", Class::Input),
            Self::Config { .. } => About::new("export.config", Class::Input),
        }
    }
}

impl Classified for ImageError {
    fn about(&self) -> About {
        match self {
            Self::Layout(error) => error.about(),
            Self::Blob { source, .. } => source.about(),
            Self::Document { .. } => About::new("image.document", Class::Input),
            Self::Config { .. } => About::new("image.config", Class::Input),
            Self::TooMany { .. } => About::of_limit("image.too-many", name::MANIFESTS),
            Self::Layer { source, .. } => source.about(),
            Self::NoLayer { .. } => About::new("image.no-layer", Class::Input),
            Self::NoManifest { .. } => About::new("image.no-manifest", Class::Input),
            Self::NoPlatform { .. } => About::new("image.no-platform", Class::Input),
            Self::None { .. } => About::new("image.none", Class::Input),
            Self::Unnamed { .. } => About::new("image.unnamed", Class::Input),
        }
    }
}

impl Classified for InputError {
    fn about(&self) -> About {
        match self {
            Self::Export(error) => error.about(),
            Self::Image(error) => error.about(),
        }
    }
}

impl Classified for PrepareError {
    fn about(&self) -> About {
        match self {
            Self::Input(error) => error.about(),
            Self::Keys(error) => error.about(),
            Self::Image(error) => error.about(),
            Self::Plan(error) => error.about(),
            Self::Cancelled => About::new("prepare.cancelled", Class::Cancelled),
        }
    }
}

impl Classified for PlanError {
    fn about(&self) -> About {
        match self {
            Self::Conflict { .. } => About::new("plan.conflict", Class::Input),
            Self::TwoImages { .. } => About::new("plan.two-images", Class::Input),
            Self::Document { .. } => About::new("plan.document", Class::Input),
            Self::Plan(_) => About::new("plan.plan", Class::Input),
            Self::Undescribed { .. } => About::new("plan.undescribed", Class::Input),
            Self::Sparse { .. } => About::new("plan.sparse", Class::Input),
        }
    }
}

impl Classified for BrokenPlan {
    /// A plan is also input.
    fn about(&self) -> About {
        match self {
            Self::Reference { .. } => About::new("plan.reference", Class::Input),
            Self::Blob { .. } => About::new("plan.blob", Class::Input),
        }
    }
}

impl Classified for WriteError {
    fn about(&self) -> About {
        match self {
            Self::InUse { .. } => About::new("layout-write.in-use", Class::InUse),
            Self::Dir { .. } => About::new("layout-write.dir", Class::Io),
            Self::File { .. } => About::new("layout-write.file", Class::Io),
            Self::Archive { .. } => About::new("layout-write.archive", Class::Io),
            Self::Mirror { .. } => About::new("layout-write.mirror", Class::Io),
            Self::Index(error) => error.about(),
        }
    }
}

impl Classified for SparseError {
    fn about(&self) -> About {
        match self {
            Self::Place(error) => error.about(),
            Self::NoCache => About::new("sparse.no-cache", Class::Input),
            Self::Manifest(error) => error.about(),
            Self::Select(error) => error.about(),
            Self::Keys(error) => error.about(),
            // The cause of these is a file that was just written, or its place.
            Self::Export(error) => error.about().with_class(Class::Io),
            Self::Attach(error) => error.about().with_class(Class::Io),
            Self::Layout(error) => error.about().with_class(Class::Io),
            Self::Write(_) => About::new("sparse.write", Class::Io),
        }
    }
}

impl Classified for PutArtifactError {
    fn about(&self) -> About {
        match self {
            Self::InvalidTag { .. } => About::new("put-artifact.invalid-tag", Class::Io),
            Self::TagTaken { .. } => About::new("put-artifact.tag-taken", Class::Io),
            Self::Manifest(error) => error.about(),
            Self::Manifests(error) => error.about(),
            Self::Index { .. } => About::new("put-artifact.index", Class::Input),
            Self::Write(error) => error.about(),
        }
    }
}

impl Classified for NewDirectoryError {
    fn about(&self) -> About {
        match self {
            Self::NoName { .. } => About::new("new-directory.no-name", Class::Io),
            Self::NotADirectory { .. } => About::new("new-directory.not-a-directory", Class::Io),
            Self::NotEmpty { .. } => About::new("new-directory.not-empty", Class::Io),
            Self::Dir { .. } => About::new("new-directory.dir", Class::Io),
            Self::File { .. } => About::new("new-directory.file", Class::Io),
        }
    }
}
