//! The class of each error.

use codec::{Class, Classified};

use crate::{DefinitionError, ProvenanceError};

impl Classified for ProvenanceError {
    fn class(&self) -> Class {
        Class::Input
    }
}

impl Classified for DefinitionError {
    fn class(&self) -> Class {
        match self {
            Self::TooLarge => Class::Limit,
            _ => Class::Input,
        }
    }
}
