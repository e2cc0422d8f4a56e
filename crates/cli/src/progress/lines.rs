//! Progress as lines: for logs, and for programs.

use oci2bk::progress::{Event, LayerWork, MountWork};
use oci2bk::text::{size, to_json_line};
use serde::Serialize;

use super::Renderer;
use crate::output::note;

/// Prints a line for each finished layer and stage.
pub(super) struct Plain;

impl Renderer for Plain {
    fn render(&self, event: Event<'_>) {
        match event {
            Event::StageStarted(stage) => note(stage.name()),
            Event::LayerFinished(work) => {
                let description: String =
                    work.description.iter().map(|text| format!(" {text}")).collect();
                note(format_args!("  {} {}{description}", work.digest, size(work.size)));
            }
            Event::MountFinished(work) => note(format_args!("  {}", work.id)),
            _ => {}
        }
    }
}

/// Prints a JSON object for each event.
pub(super) struct Json;

#[derive(Serialize)]
struct Line<'a> {
    event: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    stage: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    layer: Option<Layer<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mount: Option<Mount<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    layers: Option<Count>,
    /// Bytes done: compressed ones, of the layer's `read_size`, or of the mount's `work_size`.
    #[serde(skip_serializing_if = "Option::is_none")]
    done_size: Option<u64>,
}

/// The work of a stage.
#[derive(Serialize)]
struct Count {
    layer_count: usize,
    read_size: u64,
}

#[derive(Serialize)]
struct Layer<'a> {
    blob: String,
    blob_size: u64,
    read_size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
}

#[derive(Serialize)]
struct Mount<'a> {
    id: &'a str,
    work_size: u64,
}

impl<'a> Mount<'a> {
    fn of(work: &'a MountWork) -> Option<Self> {
        Some(Self { id: &work.id, work_size: work.size })
    }
}

impl<'a> Layer<'a> {
    fn of(work: &'a LayerWork) -> Option<Self> {
        Some(Self {
            blob: work.digest.to_string(),
            blob_size: work.size,
            read_size: work.to_read,
            description: work.description.as_deref(),
        })
    }
}

impl Renderer for Json {
    fn render(&self, event: Event<'_>) {
        let line = |event| Line {
            event,
            stage: None,
            layer: None,
            mount: None,
            layers: None,
            done_size: None,
        };
        let line = match event {
            Event::StageStarted(stage) => {
                Line { stage: Some(stage.name()), ..line("stage-started") }
            }
            Event::StageFinished(stage) => {
                Line { stage: Some(stage.name()), ..line("stage-finished") }
            }
            Event::LayersCounted { layers, to_read } => {
                let layers = Some(Count { layer_count: layers, read_size: to_read });
                Line { layers, ..line("layers-counted") }
            }
            Event::LayerStarted(work) => Line { layer: Layer::of(work), ..line("layer-started") },
            Event::LayerAdvanced { work, done } => {
                Line { layer: Layer::of(work), done_size: Some(done), ..line("layer-advanced") }
            }
            Event::LayerFinished(work) => Line { layer: Layer::of(work), ..line("layer-finished") },
            Event::MountStarted(work) => Line { mount: Mount::of(work), ..line("mount-started") },
            Event::MountAdvanced { work, done } => {
                Line { mount: Mount::of(work), done_size: Some(done), ..line("mount-advanced") }
            }
            Event::MountFinished(work) => Line { mount: Mount::of(work), ..line("mount-finished") },
            _ => return,
        };
        if let Ok(json) = to_json_line(&line) {
            note(json);
        }
    }
}
