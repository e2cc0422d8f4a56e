//! Errors of `explain`.

use std::path::PathBuf;

use bkstate::state::VerifyError;
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
