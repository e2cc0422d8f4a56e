//! Classes of the errors of exports and imports of states.

use bkstate::{About, Class, Classified};

use crate::state_image::StateImageError;

impl Classified for StateImageError {
    fn about(&self) -> About {
        match self {
            Self::Open(error) => error.about(),
            Self::State(error) => error.about(),
            Self::Existing(error) => error.about(),
            Self::Dir(_) => About::new("state-image.dir", Class::Io),
            Self::Shared { .. } => About::new("state-image.shared", Class::Io),
            Self::Verify(error) => error.about(),
            Self::Damaged { .. } => About::new("state-image.damaged", Class::Damaged),
            Self::NotThere { .. } => About::new("state-image.not-there", Class::Input),
            Self::Several { .. } => About::new("state-image.several", Class::Input),
            Self::Architecture { .. } => About::new("state-image.architecture", Class::Input),
            Self::Version { .. } => About::new("state-image.version", Class::Input),
            Self::List(_) => About::new("state-image.list", Class::Input),
            Self::Item { .. } => About::new("state-image.item", Class::Input),
            Self::Digest { .. } => About::new("state-image.digest", Class::Input),
            Self::Snapshotter { .. } => About::new("state-image.snapshotter", Class::Io),
            Self::Exists { .. } => About::new("state-image.exists", Class::Io),
            Self::Rights { .. } => About::new("state-image.rights", Class::Io),
            Self::Pack { source, .. } => source.about(),
            Self::Unpack { source, .. } => source.about(),
            Self::Layer { .. } => About::new("state-image.layer", Class::Input),
            Self::Read { source, .. } => About::of_reading("state-image.read", source),
            Self::Write(_) => About::new("state-image.write", Class::Io),
            Self::WriteItem { .. } => About::new("state-image.write-item", Class::Io),
            Self::Thread(_) => About::new("state-image.thread", Class::Io),
            Self::Layout(error) => error.about(),
            Self::Manifest(error) => error.about(),
            Self::Blob(error) => error.about(),
            Self::WriteLayout(error) => error.about(),
            Self::Put(error) => error.about(),
            Self::NewDirectory(error) => error.about(),
            Self::Staging(error) => error.about(),
            Self::Cancelled => About::new("state-image.cancelled", Class::Cancelled),
        }
    }
}
