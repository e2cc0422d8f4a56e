//! From a layout to a warm root.

use std::error::Error;
use std::sync::Arc;

use oci2bk::convert::{Report, check_root};
use oci2bk::plan::Shortfall;
use oci2bk::source::{Reference, Source};
use oci2bk::{
    CacheExport, Cancel, Classified, Converter, ErrorReport, Keyring, Limits, Plan, Progress,
};

use crate::Arguments;

/// Why there is no warm root.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The state would be less than the cache. Nothing was written.
    Incomplete(Vec<Shortfall>),
    /// An operation failed. The root is as it was.
    Failed(ErrorReport),
}

/// All errors of the library say what they are about, so one conversion is enough for all of them.
impl<E: Error + Classified> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Failed(ErrorReport::of(&error))
    }
}

/// Puts the cache into the root.
pub(crate) fn run(
    arguments: &Arguments,
    progress: Arc<dyn Progress>,
    cancel: &Cancel,
) -> Result<Report, Failure> {
    // The team's own caches: the default limits only keep a broken one from filling the disk.
    let limits = Limits::default();
    // Before anything is read: whether the daemon still runs, say.
    check_root(&arguments.root)?;

    let source = Source { path: arguments.layout.clone(), reference: Reference::Default };
    let exports = CacheExport::read_sources(&[source], &limits)?;
    let mut keyring = Keyring::for_exports(&exports);
    for path in &arguments.keys {
        keyring.read(path, &limits)?;
    }
    keyring.read_layouts(&exports)?;

    // Nothing has been written yet, and the plan tells what the state will lack.
    let mut plan = Plan::new(&exports, &keyring)?;
    plan.add_images_of(&exports)?;
    if !plan.is_complete() {
        return Err(Failure::Incomplete(plan.shortfalls()));
    }
    let converter = Converter::new()
        .extract(!arguments.no_extract)
        .limits(limits)
        .progress(progress)
        .cancel(cancel.clone());
    Ok(converter.convert(&plan, &arguments.root)?)
}
