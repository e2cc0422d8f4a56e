//! Errors of `explain`.

use std::path::PathBuf;

use bkstate::state::VerifyError;
use bkstate::{Class, Classified};
use oci2bk::explain;

/// Why there is nothing to explain.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExplainError {
    #[error(
        "{} has op digests and no whole ops; give LLB or provenance of the build (mode=max)",
        path.display()
    )]
    NoBuild { path: PathBuf },
    #[error(transparent)]
    Explain(#[from] explain::ExplainError),
    #[error(transparent)]
    State(#[from] VerifyError),
}

impl Classified for ExplainError {
    fn class(&self) -> Class {
        match self {
            Self::NoBuild { .. } => Class::Input,
            Self::Explain(error) => error.class(),
            Self::State(error) => error.class(),
        }
    }

    fn limit_name(&self) -> Option<&'static str> {
        match self {
            Self::Explain(error) => error.limit_name(),
            Self::NoBuild { .. } | Self::State(_) => None,
        }
    }
}
