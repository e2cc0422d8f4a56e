//! Classes of the errors of packed trees.

use bkstate::{About, Class, Classified};

use crate::packed::PackedError;

impl Classified for PackedError {
    fn about(&self) -> About {
        match self {
            Self::Open(error) => error.about(),
            Self::State(error) => error.about(),
            Self::Damaged { .. } => About::new("packed.damaged", Class::Damaged),
            Self::Worker { .. } => About::new("packed.worker", Class::Io),
            Self::Exists { .. } => About::new("packed.exists", Class::Io),
            Self::InRoot { .. } => About::new("packed.in-root", Class::Io),
            Self::NoMkfs => About::new("packed.no-mkfs", Class::Io),
            Self::OldMkfs { .. } => About::new("packed.old-mkfs", Class::Io),
            Self::NoCompression { .. } => About::new("packed.no-compression", Class::Io),
            Self::Run { .. } => About::new("packed.run", Class::Io),
            Self::Mkfs { .. } => About::new("packed.mkfs", Class::Io),
            Self::Denied(_) => About::new("packed.denied", Class::Io),
            Self::Bind { .. } => About::new("packed.bind", Class::Io),
            Self::Mount { .. } => About::new("packed.mount", Class::Io),
            Self::Image { .. } => About::new("packed.image", Class::Io),
            Self::Tree { .. } => About::new("packed.tree", Class::Io),
            Self::Copy { .. } => About::new("packed.copy", Class::Io),
            Self::Differs { .. } => About::new("packed.differs", Class::Damaged),
            Self::NotMounted { .. } => About::new("packed.not-mounted", Class::Io),
            Self::OtherMount { .. } => About::new("packed.other-mount", Class::Io),
            Self::Dir(_) => About::new("packed.dir", Class::Io),
            Self::Cancelled => About::new("packed.cancelled", Class::Cancelled),
        }
    }
}
