//! From a layout to a warm root.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

use oci2bk::convert::{Report, check_root};
use oci2bk::plan::Shortfall;
use oci2bk::prepare::Prepared;
use oci2bk::source::{Reference, Source};
use oci2bk::{Cancel, Classified, Converter, ErrorReport, Limits, Preparer, Progress};

use crate::Arguments;

/// Why the root is not warm.
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
) -> Result<(Prepared, Report), Failure> {
    // The team's own caches: the default limits only keep a broken one from filling the disk.
    let limits = Limits::default();
    // Before anything is read: whether the daemon still runs, say.
    check_root(&arguments.root)?;

    let source = Source { path: arguments.layout.clone(), reference: Reference::Default };
    let preparer = Preparer::new()
        .keys(arguments.keys.iter().map(PathBuf::as_path))
        .limits(limits)
        .progress(Arc::clone(&progress))
        .cancel(cancel.clone());
    let prepared = preparer.prepare(&[source])?;

    // Nothing has been written yet, and the plan tells what the state will lack.
    if !prepared.plan.is_complete() {
        return Err(Failure::Incomplete(prepared.plan.shortfalls()));
    }
    let converter = Converter::new()
        .extract(!arguments.no_extract)
        .limits(limits)
        .progress(progress)
        .cancel(cancel.clone());
    let report = converter.convert(&prepared.plan, &arguments.root)?;
    Ok((prepared, report))
}
