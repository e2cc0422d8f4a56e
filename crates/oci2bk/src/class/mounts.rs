//! Classes of the errors of cache mounts.

use bkstate::{About, Class, Classified};

use crate::mounts::{MountsError, PackError, ReadMountsError};

impl Classified for ReadMountsError {
    fn about(&self) -> About {
        match self {
            Self::None { .. } => About::new("mounts-document.none", Class::Input),
            Self::Several { .. } => About::new("mounts-document.several", Class::Input),
            Self::Version { .. } => About::new("mounts-document.version", Class::Input),
            Self::NoList { .. } => About::new("mounts-document.no-list", Class::Input),
            Self::List { .. } => About::new("mounts-document.list", Class::Input),
            Self::Id { .. } => About::new("mounts-document.id", Class::Input),
            Self::Owner { .. } => About::new("mounts-document.owner", Class::Input),
            Self::Twice { .. } => About::new("mounts-document.twice", Class::Input),
            Self::Archive { .. } => About::new("mounts-document.archive", Class::Input),
            Self::Manifests(error) => error.about(),
            Self::Manifest(error) => error.about(),
            Self::Blob(error) => error.about(),
        }
    }
}

impl Classified for PackError {
    fn about(&self) -> About {
        match self {
            Self::Dir(_) => About::new("pack.dir", Class::Io),
            Self::Read { .. } => About::new("pack.read", Class::Io),
            Self::Shorter { .. } => About::new("pack.shorter", Class::Io),
            Self::Partial { .. } => About::new("pack.partial", Class::Io),
            Self::Owner { .. } => About::new("pack.owner", Class::Io),
            Self::Capability { .. } => About::new("pack.capability", Class::Io),
            Self::Write(_) => About::new("pack.write", Class::Io),
            Self::Cancelled => About::new("pack.cancelled", Class::Cancelled),
        }
    }
}

impl Classified for MountsError {
    fn about(&self) -> About {
        match self {
            Self::Open(error) => error.about(),
            Self::Usage(error) => error.about(),
            Self::State(error) => error.about(),
            Self::Existing(error) => error.about(),
            Self::Dir(_) => About::new("mounts.dir", Class::Io),
            Self::NoSuchOwner(_) => About::new("mounts.no-such-owner", Class::Io),
            Self::Owner { .. } => About::new("mounts.owner", Class::Io),
            Self::NotThere { .. } => About::new("mounts.not-there", Class::Io),
            Self::Nothing { .. } => About::new("mounts.nothing", Class::Io),
            Self::NoFiles { .. } => About::new("mounts.no-files", Class::Io),
            Self::Id { .. } => About::new("mounts.id", Class::Io),
            Self::OnResult { .. } => About::new("mounts.on-result", Class::Io),
            Self::Twice { .. } => About::new("mounts.twice", Class::Io),
            Self::One { .. } => About::new("mounts.one", Class::Io),
            Self::OwnerGiven => About::new("mounts.owner-given", Class::Io),
            Self::Exists { .. } => About::new("mounts.exists", Class::Io),
            Self::Unfinished { .. } => About::new("mounts.unfinished", Class::Io),
            Self::Rights { .. } => About::new("mounts.rights", Class::Io),
            Self::Pack { source, .. } => source.about(),
            Self::Unpack { source, .. } => source.about(),
            Self::Copy { .. } => About::new("mounts.copy", Class::Io),
            Self::Source { source, .. } => source.about(),
            Self::Read { source, .. } => About::of_reading("mounts.read", source),
            Self::Write(_) => About::new("mounts.write", Class::Io),
            Self::Layout(error) => error.about(),
            Self::Artifact(error) => error.about(),
            Self::Blob(error) => error.about(),
            Self::Manifest(error) => error.about(),
            Self::WriteLayout(error) => error.about(),
            Self::Put(error) => error.about(),
            Self::NewDirectory(error) => error.about(),
            Self::Staging(error) => error.about(),
            Self::Verify(error) => error.about(),
            Self::Damaged { .. } => About::new("mounts.damaged", Class::Damaged),
            Self::Cancelled => About::new("mounts.cancelled", Class::Cancelled),
        }
    }
}
