//! Classes of the errors of converting into a root, and of examining one.

use bkstate::{About, Class, Classified};

use crate::builder::BuilderError;
use crate::convert::ConvertError;
use crate::inspect::{BuildsError, InspectError, PlaceError, Unread};
use crate::limits::name;
use crate::sizes::SizesError;
use crate::verify::{Damage, MendError, TreeDamage, VerifyError};

impl Classified for ConvertError {
    fn about(&self) -> About {
        match self {
            Self::Plan(error) => error.about(),
            // A bug in this library.
            Self::NoPlace(_) => About::new("convert.no-place", Class::Io),
            Self::Open(error) => error.about(),
            Self::Root(_) => About::new("convert.root", Class::Io),
            Self::Existing(error) => error.about(),
            Self::Staging(error) => error.about(),
            Self::Blob(error) => error.about(),
            Self::NoGoodCopy { .. } => About::new("convert.no-good-copy", Class::Input),
            Self::Copy { .. } => About::new("convert.copy", Class::Io),
            Self::Link { .. } => About::new("convert.link", Class::Io),
            Self::NothingToStore => About::new("convert.nothing-to-store", Class::Io),
            Self::ImageWithoutBlobs { .. } => About::new("convert.image-without-blobs", Class::Io),
            Self::OtherImage { .. } => About::new("convert.other-image", Class::Io),
            Self::ChainTooLong { .. } => About::new("convert.chain-too-long", Class::Limit),
            Self::TooManySnapshots { .. } => {
                About::of_limit("convert.too-many-snapshots", name::SNAPSHOTS)
            }
            Self::TooLarge { limit, .. } => About::of_limit("convert.too-large", limit.name),
            Self::Unpack { source, .. } => source.about(),
            Self::Check { source, .. } => source.about(),
            // The blob does not match its digest, and it is in the root.
            Self::UnpackExisting { source, .. }
                if source.is_of_blob() && source.class() == Class::Input =>
            {
                source.about().with_class(Class::Damaged)
            }
            Self::UnpackExisting { source, .. } => source.about(),
            Self::Rights { .. } => About::new("convert.rights", Class::Io),
            Self::Compare(error) => error.about(),
            Self::Cancelled => About::new("convert.cancelled", Class::Cancelled),
            Self::Verify(error) => error.about(),
            Self::Damaged { .. } => About::new("convert.damaged", Class::Damaged),
        }
    }
}

impl Classified for VerifyError {
    fn about(&self) -> About {
        match self {
            Self::State(error) => error.about(),
            Self::Plan(error) => error.about(),
            Self::Dir(_) => About::new("verify.dir", Class::Io),
            Self::Temporary(_) => About::new("verify.temporary", Class::Io),
            Self::Rights(_) => About::new("verify.rights", Class::Io),
            Self::Unpack(error) => error.about(),
            Self::Entry { .. } => About::new("verify.entry", Class::Io),
            Self::Cancelled => About::new("verify.cancelled", Class::Cancelled),
        }
    }
}

impl Classified for SizesError {
    fn about(&self) -> About {
        match self {
            Self::Blob(error) => error.about(),
            Self::Layer(error) => error.about(),
        }
    }
}

impl Classified for MendError {
    fn about(&self) -> About {
        match self {
            Self::Verify(error) => error.about(),
            Self::Existing(error) => error.about(),
            Self::Root(_) => About::new("mend.root", Class::Io),
            Self::Staging(error) => error.about(),
            Self::Damaged { .. } => About::new("mend.damaged", Class::Damaged),
        }
    }
}

impl Classified for Damage {
    /// An exceeded limit of a layer is reported as damage, because the layer cannot be compared.
    fn about(&self) -> About {
        let kind = Self::kind(self);
        let limit = match self {
            Self::Tree(TreeDamage::Layer { source, .. }) => source.limit_name(),
            _ => None,
        };
        limit.map_or(About::new(kind, Class::Damaged), |limit| About::of_limit(kind, limit))
    }
}

impl Classified for PlaceError {
    fn about(&self) -> About {
        match self {
            Self::Source(_) => About::new("place.source", Class::Input),
            Self::Read { source, .. } => About::of_reading("place.read", source),
            Self::Dir(error) => About::of_reading("place.dir", &error.source),
            // The same class as for a directory that is not a root.
            Self::Both { .. } => About::new("place.both", Class::Io),
            Self::Neither { .. } => About::new("place.neither", Class::Io),
            Self::Root(error) => error.about(),
        }
    }
}

impl Classified for BuildsError {
    fn about(&self) -> About {
        match self {
            Self::Dir(_) => About::new("builds.dir", Class::Io),
            Self::Database { source, .. } => source.about(),
            Self::Record { .. } => About::new("builds.record", Class::Damaged),
        }
    }
}

impl Classified for InspectError {
    fn about(&self) -> About {
        match self {
            Self::Open(error) => error.about(),
            Self::State(error) => error.about(),
            Self::Dir(_) => About::new("inspect.dir", Class::Io),
            Self::Damaged { .. } => About::new("inspect.damaged", Class::Damaged),
        }
    }
}

impl Classified for Unread {
    fn about(&self) -> About {
        match self {
            Self::Names(error) => error.about(),
            Self::Builds(error) => error.about(),
        }
    }
}

impl Classified for BuilderError {
    /// A builder that is on another machine, or has no state, is an unusable place.
    fn about(&self) -> About {
        match self {
            Self::Place(error) => error.about(),
            Self::Name(_) => About::new("builder.name", Class::Io),
            Self::Driver { .. } => About::new("builder.driver", Class::Io),
            Self::Engine { .. } => About::new("builder.engine", Class::Io),
            Self::Remote { .. } => About::new("builder.remote", Class::Io),
            Self::SeveralNodes { .. } => About::new("builder.several-nodes", Class::Io),
            Self::Rootless { .. } => About::new("builder.rootless", Class::Io),
            Self::NoVolume { .. } => About::new("builder.no-volume", Class::Io),
            Self::Read { .. } => About::new("builder.read", Class::Io),
            Self::TooLarge { .. } => About::new("builder.too-large", Class::Limit),
            Self::Invalid { .. } => About::new("builder.invalid", Class::Input),
            Self::Config { .. } => About::new("builder.config", Class::Input),
        }
    }
}
