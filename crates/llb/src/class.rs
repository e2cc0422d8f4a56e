//! The class of each error.

use codec::{About, Class, Classified};

use crate::{DefinitionError, ProvenanceError};

impl Classified for ProvenanceError {
    fn about(&self) -> About {
        match self {
            Self::Json(_) => About::new("provenance.json", Class::Input),
            Self::NotProvenance => About::new("provenance.not-provenance", Class::Input),
            Self::NoOps => About::new("provenance.no-ops", Class::Input),
            Self::Platform(_) => About::new("provenance.platform", Class::Input),
        }
    }
}

impl Classified for DefinitionError {
    fn about(&self) -> About {
        match self {
            Self::Protobuf(_) => About::new("definition.protobuf", Class::Input),
            Self::Empty => About::new("definition.empty", Class::Input),
            Self::TooLarge => About::new("definition.too-large", Class::Limit),
            Self::MissingInput { .. } => About::new("definition.missing-input", Class::Input),
            Self::Dump { .. } => About::new("definition.dump", Class::Input),
            Self::Answer(_) => About::new("definition.answer", Class::Input),
            Self::NoOrder { .. } => About::new("definition.no-order", Class::Input),
        }
    }
}
