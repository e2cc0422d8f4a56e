//! Converts an upload, on a thread that may block.

use std::sync::Arc;

use oci2bk::convert::Report;
use oci2bk::limits::{ParseSettingError, Setting};
use oci2bk::plan::Shortfall;
use oci2bk::source::{Reference, Source};
use oci2bk::{
    CacheExport, Cancel, Converter, ErrorReport, Event, FormatError, Keyring, Limits, Plan, text,
};
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
    steps: usize,
    snapshots: usize,
    blobs: usize,
    blob_bytes: u64,
    disk_bytes: u64,
}

/// Converts the upload in `workspace`. Returns the workspace, to be kept, and the document of the state.
pub(crate) fn convert(
    workspace: Workspace,
    settings: &Settings,
    cancel: Cancel,
) -> Result<(Workspace, String), Failure> {
    let converted = plan(&workspace, settings).and_then(|plan| {
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
            .cancel(cancel);
        let report = converter.convert(&plan, workspace.root())?;
        Ok((plan, report))
    });
    let (plan, report) = converted.map_err(|Failure(error)| {
        log(format_args!("{}: {}: {}", workspace.id(), error.kind, error.message));
        Failure(hidden(error, &workspace))
    })?;
    let state = describe(workspace.id(), &plan, &report).map_err(ServiceError::from)?;
    workspace.finish(&state)?;
    Ok((workspace, state))
}

fn plan(workspace: &Workspace, settings: &Settings) -> Result<Plan, Failure> {
    let limits = &settings.limits;
    let source = Source { path: workspace.upload(), reference: Reference::Default };
    let exports = CacheExport::read_sources(&[source], limits)?;
    let mut keyring = Keyring::for_exports(&exports);
    // Those in the upload. What lies beside it is not the client's.
    keyring.read_layouts(&exports)?;
    let mut plan = Plan::new(&exports, &keyring)?;
    plan.add_images_of(&exports)?;
    Ok(plan)
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

fn describe(id: &str, plan: &Plan, report: &Report) -> Result<String, FormatError> {
    text::to_json_line(&State {
        id,
        complete: plan.is_complete(),
        shortfalls: plan.shortfalls(),
        steps: report.shares.steps.added,
        snapshots: report.snapshots,
        blobs: report.blobs,
        blob_bytes: report.blob_bytes,
        disk_bytes: report.disk_bytes,
    })
}
