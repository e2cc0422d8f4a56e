//! Classes of the errors of key sources, keys files and explanations.

use bkstate::root::{OpenRootError, RootError};
use bkstate::{About, Class, Classified};

use crate::explain::ExplainError;
use crate::keys::{
    ArtifactError, AttachError, AttestationError, BundleError, DatabaseError, HistoryError,
    KeysFileError, SourceError, TooManyOutputs,
};
use crate::limits::name;

/// A damaged database as a source of keys is damaged input.
fn of_input(about: About) -> About {
    if about.class == Class::Damaged { about.with_class(Class::Input) } else { about }
}

impl Classified for TooManyOutputs {
    fn about(&self) -> About {
        About::of_limit("keys.too-many-outputs", name::KEY_OUTPUTS)
    }
}

impl Classified for DatabaseError {
    fn about(&self) -> About {
        match self {
            Self::InUse => About::new("key-database.in-use", Class::InUse),
            Self::Read(error) => of_input(error.about()),
            Self::Unknown => About::new("key-database.unknown", Class::Input),
        }
    }
}

impl Classified for HistoryError {
    fn about(&self) -> About {
        match self {
            Self::Database(error) => of_input(error.about()),
            Self::Dir(error) => About::of_reading("history.dir", &error.source),
            Self::Record { .. } => About::new("history.record", Class::Input),
            Self::Digest { .. } => About::new("history.digest", Class::Input),
            Self::Io { source, .. } => About::of_reading("history.io", source),
            Self::Corrupt { .. } => About::new("history.corrupt", Class::Input),
            Self::TooLarge { limit, .. } => About::of_limit("history.too-large", limit.name),
            Self::TooComplex { source, .. } => source.about(),
        }
    }
}

impl Classified for BundleError {
    fn about(&self) -> About {
        match self {
            Self::Read(error) => About::of_reading("bundle.read", error),
            Self::Tar(error) => error.about(),
            Self::TooLong { .. } => About::of_limit("bundle.too-long", name::BUNDLE_SIZE),
            Self::TooManyMembers { .. } => {
                About::of_limit("bundle.too-many-members", name::BUNDLE_MEMBERS)
            }
            Self::TooLarge { limit, .. } => About::of_limit("bundle.too-large", limit.name),
            Self::TooComplex { source, .. } => source.about(),
            Self::Corrupt { .. } => About::new("bundle.corrupt", Class::Input),
            Self::NoIndex => About::new("bundle.no-index", Class::Input),
            Self::Document { .. } => About::new("bundle.document", Class::Input),
            Self::TooDeep => About::new("bundle.too-deep", Class::Limit),
            Self::TooManyManifests { .. } => {
                About::of_limit("bundle.too-many-manifests", name::MANIFESTS)
            }
        }
    }
}

impl Classified for AttestationError {
    fn about(&self) -> About {
        match self {
            Self::Manifests(error) => error.about(),
            Self::Blob(error) => error.about(),
            Self::Document { .. } => About::new("attestation.document", Class::Input),
        }
    }
}

impl Classified for ArtifactError {
    fn about(&self) -> About {
        match self {
            Self::Manifests(error) => error.about(),
            Self::Manifest(error) => error.about(),
            Self::Blob(error) => error.about(),
        }
    }
}

impl Classified for KeysFileError {
    fn about(&self) -> About {
        match self {
            Self::Json(_) => About::new("keys-file.json", Class::Input),
            Self::UnknownVersion { .. } => About::new("keys-file.unknown-version", Class::Input),
            Self::NoDigest { .. } => About::new("keys-file.no-digest", Class::Input),
            Self::OpDigest { .. } => About::new("keys-file.op-digest", Class::Input),
            Self::Outputs { .. } => About::new("keys-file.outputs", Class::Input),
            Self::TooLarge { .. } => About::new("keys-file.too-large", Class::Limit),
        }
    }
}

impl Classified for SourceError {
    fn about(&self) -> About {
        match self {
            Self::Read { source, .. } => About::of_reading("key-source.read", source),
            Self::NotAFile { .. } => About::new("key-source.not-a-file", Class::Input),
            Self::TooLarge { limit, .. } => About::of_limit("key-source.too-large", limit.name),
            Self::Temporary { .. } => About::new("key-source.temporary", Class::Io),
            Self::Empty { .. } => About::new("key-source.empty", Class::Input),
            Self::Decompress { source, .. } => About::of_reading("key-source.decompress", source),
            Self::Compressed { .. } => About::new("key-source.compressed", Class::Input),
            Self::Unrecognised { .. } => About::new("key-source.unrecognised", Class::Input),
            Self::TooComplex { source, .. } => source.about(),
            Self::Provenance { source, .. } => source.about(),
            Self::Envelope { .. } => About::new("key-source.envelope", Class::Input),
            Self::NoProvenance { .. } => About::new("key-source.no-provenance", Class::Input),
            Self::MetadataFile { .. } => About::new("key-source.metadata-file", Class::Input),
            Self::Database { source, .. } => source.about(),
            Self::History { source, .. } => source.about(),
            Self::NoContent { .. } => About::new("key-source.no-content", Class::Input),
            Self::UnreadHistory(_) => About::new("key-source.unread-history", Class::Input),
            Self::EmptyHistory { .. } => About::new("key-source.empty-history", Class::Input),
            Self::Directory(error) => About::of_reading("key-source.directory", &error.source),
            Self::EmptyRoot { .. } => About::new("key-source.empty-root", Class::Input),
            Self::Archive { source, .. } => source.about(),
            Self::KeysFile { source, .. } => source.about(),
            Self::Dump { source, .. } => source.about(),
            Self::Dockerfile { source, .. } => source.about(),
            Self::NoStage { .. } => About::new("key-source.no-stage", Class::Input),
            Self::DockerfileOption(error) => error.about(),
            Self::Bake { .. } => About::new("key-source.bake", Class::Input),
            Self::ImageName(error) => error.about(),
            Self::ImageConfig { .. } => About::new("key-source.image-config", Class::Input),
            Self::BaseImage { source, .. } => source.about(),
            Self::NoKnownDirectory { .. } => {
                About::new("key-source.no-known-directory", Class::Input)
            }
            Self::TooManyOutputs(error) => error.about(),
            Self::Open(OpenRootError::Root(RootError::Dir(error))) => {
                About::of_reading("key-source.open", &error.source)
            }
            // Here the root is the input.
            Self::Open(error @ OpenRootError::Root(_)) => error.about().with_class(Class::Input),
            Self::Open(error) => error.about(),
            Self::Layout { source, .. } => source.about(),
            Self::Attestations { source, .. } => source.about(),
            Self::AttachedKeys { source, .. } => source.about(),
            Self::NoHistory { .. } => About::new("key-source.no-history", Class::Input),
            Self::NoAttestations { .. } => About::new("key-source.no-attestations", Class::Input),
        }
    }
}

impl Classified for AttachError {
    fn about(&self) -> About {
        match self {
            Self::NothingMatches { .. } => About::new("attach.nothing-matches", Class::Input),
            Self::TooManyOutputs { .. } => {
                About::of_limit("attach.too-many-outputs", name::KEY_OUTPUTS)
            }
            Self::KeysFile(error) => error.about(),
            Self::Manifest(error) => error.about(),
            Self::Put(error) => error.about(),
        }
    }
}

impl Classified for ExplainError {
    fn about(&self) -> About {
        match self {
            Self::TooMany { .. } => About::of_limit("explain.too-many", name::COMPARISONS),
        }
    }
}
