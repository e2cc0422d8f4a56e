//! Errors of `explain`.

use std::path::PathBuf;

use bkstate::state::VerifyError;
use bkstate::{About, Class, Classified};
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
    fn about(&self) -> About {
        match self {
            Self::NoBuild { .. } => About::new("explain-build.no-build", Class::Input),
            Self::Explain(error) => error.about(),
            Self::State(error) => error.about(),
        }
    }
}
