//! Tests that share something costly, and need the tools.

use std::sync::{Arc, OnceLock};

use anyhow::Result;
use libtest_mimic::{Failed, Trial};

use crate::Tools;

/// What the tests of a suite share. The first of them that runs makes it, so that `--list` starts
/// nothing.
pub type Shared<T> = Arc<OnceLock<Result<T, String>>>;

/// A test of what `create` made of the tools; without tools it is shown as ignored, with the reason.
pub fn trial<T: Send + Sync + 'static>(
    name: String,
    tools: &Result<Tools, String>,
    shared: &Shared<T>,
    create: fn(&Tools) -> Result<T>,
    prove: impl FnOnce(&T) -> Result<()> + Send + 'static,
) -> Trial {
    match tools {
        Err(reason) => Trial::test(name, || Ok(())).with_kind(reason).with_ignored_flag(true),
        Ok(tools) => {
            let (tools, shared) = (tools.clone(), Arc::clone(shared));
            Trial::test(name, move || {
                let made =
                    shared.get_or_init(|| create(&tools).map_err(|error| format!("{error:#}")));
                let made = made.as_ref().map_err(Failed::from)?;
                prove(made).map_err(|error| Failed::from(format!("{error:#}")))
            })
        }
    }
}
