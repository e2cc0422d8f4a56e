//! Converts an upload, on a thread that may block.

use std::sync::Arc;

use oci2bk::convert::Report;
use oci2bk::document::StepCounts;
use oci2bk::limits::{ParseSettingError, Setting};
use oci2bk::plan::Shortfall;
use oci2bk::prepare::Prepared;
use oci2bk::source::{Reference, Source};
use oci2bk::{Cancel, Converter, ErrorReport, Event, Limits, Plan, Preparer, text};
use serde::Serialize;

use crate::failure::{Failure, ServiceError};
use crate::log;
use crate::store::Workspace;

/// What all conversions have in common.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    limits: Limits,
    extract: bool,
}

impl Settings {
    pub(crate) fn new(
        max_upload: u64,
        changes: &[Setting],
        extract: bool,
    ) -> Result<Self, ParseSettingError> {
        let untrusted: Setting = "untrusted".parse()?;
        let mut limits = Limits::with([&untrusted].into_iter().chain(changes));
        // A compressed archive becomes a temporary file. Its layers are compressed themselves.
        limits.archive_size = limits.archive_size.min(max_upload);
        Ok(Self { limits, extract })
    }
}

/// What a client learns of a state.
#[derive(Debug, Serialize)]
struct State<'a> {
    id: &'a str,
    /// Whether builds find everything in it that the cache has.
    complete: bool,
    shortfalls: Vec<Shortfall>,
    step_counts: StepCounts,
    #[serde(flatten)]
    report: Report,
}

/// Converts the upload in `workspace`. Returns the workspace, to be kept, and the document of the state.
pub(crate) fn convert(
    workspace: Workspace,
    settings: &Settings,
    cancel: &Cancel,
) -> Result<(Workspace, String), Failure> {
    let (plan, mut report) =
        convert_into(&workspace, settings, cancel).map_err(|Failure(error)| {
            log(format_args!("{}: {}: {}", workspace.id(), error.kind, error.message));
            Failure(hidden(error, &workspace))
        })?;
    // Where it will be, in the directory of the service.
    report.root = ["states", workspace.id(), "root"].iter().collect();
    let state = State {
        id: workspace.id(),
        complete: plan.is_complete(),
        shortfalls: plan.shortfalls(),
        step_counts: StepCounts::of(&plan),
        report,
    };
    let state = text::to_json_line(&state).map_err(ServiceError::from)?;
    workspace.finish(&state)?;
    Ok((workspace, state))
}

fn convert_into(
    workspace: &Workspace,
    settings: &Settings,
    cancel: &Cancel,
) -> Result<(Plan, Report), Failure> {
    let source = Source { path: workspace.upload(), reference: Reference::Default };
    // Keys are in the layout, or nowhere: the upload is alone in its directory.
    let preparer = Preparer::new().limits(settings.limits).cancel(cancel.clone());
    let Prepared { plan, .. } = preparer.prepare(&[source])?;

    let id = workspace.id().to_owned();
    let progress = move |event: Event<'_>| {
        if let Event::StageStarted(stage) = event {
            log(format_args!("{id}: {}", stage.name()));
        }
    };
    let converter = Converter::new()
        .extract(settings.extract)
        .limits(settings.limits)
        .progress(Arc::new(progress))
        .cancel(cancel.clone());
    let report = converter.convert(&plan, workspace.root())?;
    Ok((plan, report))
}

/// Returns the error without the paths of this machine.
fn hidden(error: ErrorReport, workspace: &Workspace) -> ErrorReport {
    error.hiding(&[
        (&workspace.upload(), "the upload"),
        (&workspace.root(), "the state"),
        (workspace.data(), "the service"),
        (&std::env::temp_dir(), "the service"),
    ])
}
