//! The class of each error.

use codec::{About, Class, Classified};

use crate::error::{ParseError, Reason};
use crate::image::ReferenceError;
use crate::options::OptionError;

impl Classified for ParseError {
    fn about(&self) -> About {
        match &self.reason {
            Reason::TooLarge { .. }
            | Reason::TooManyInstructions { .. }
            | Reason::TooMuch { .. } => About::new("dockerfile.too-large", Class::Limit),
            _ => About::new("dockerfile.syntax", Class::Input),
        }
    }
}

impl Classified for OptionError {
    fn about(&self) -> About {
        About::new("dockerfile.option", Class::Input)
    }
}

impl Classified for ReferenceError {
    fn about(&self) -> About {
        About::new("dockerfile.image-name", Class::Input)
    }
}
