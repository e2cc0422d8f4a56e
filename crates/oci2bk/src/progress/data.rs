//! Events as data, with the members of the schema `progress.json`.

use serde::ser::{Serialize, Serializer};

use super::{Event, LayerWork, MountWork};
use crate::warning::Warning;

/// What does not apply is absent.
#[derive(Default, serde::Serialize)]
struct Line<'a> {
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    stage: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    layer: Option<Layer<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mount: Option<Mount<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    layers: Option<Count>,
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<Warning<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    done_size: Option<u64>,
}

#[derive(serde::Serialize)]
struct Count {
    layer_count: usize,
    read_size: u64,
}

#[derive(serde::Serialize)]
struct Layer<'a> {
    blob: String,
    blob_size: u64,
    read_size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
}

#[derive(serde::Serialize)]
struct Mount<'a> {
    id: &'a str,
    work_size: u64,
}

impl<'a> Line<'a> {
    fn of(event: &Event<'a>) -> Self {
        let line = |event| Self { event, ..Self::default() };
        let layer = |event, work: &'a LayerWork| Self {
            layer: Some(Layer {
                blob: work.digest.to_string(),
                blob_size: work.size,
                read_size: work.to_read,
                description: work.description.as_deref(),
            }),
            ..line(event)
        };
        let mount = |event, work: &'a MountWork| Self {
            mount: Some(Mount { id: &work.id, work_size: work.size }),
            ..line(event)
        };
        match *event {
            Event::Warning(warning) => Self { warning: Some(warning), ..line("warning") },
            Event::StageStarted(stage) => {
                Self { stage: Some(stage.name()), ..line("stage-started") }
            }
            Event::StageFinished(stage) => {
                Self { stage: Some(stage.name()), ..line("stage-finished") }
            }
            Event::LayersCounted { layers, to_read } => {
                let layers = Some(Count { layer_count: layers, read_size: to_read });
                Self { layers, ..line("layers-counted") }
            }
            Event::LayerStarted(work) => layer("layer-started", work),
            Event::LayerAdvanced { work, done } => {
                Self { done_size: Some(done), ..layer("layer-advanced", work) }
            }
            Event::LayerFinished(work) => layer("layer-finished", work),
            Event::MountStarted(work) => mount("mount-started", work),
            Event::MountAdvanced { work, done } => {
                Self { done_size: Some(done), ..mount("mount-advanced", work) }
            }
            Event::MountFinished(work) => mount("mount-finished", work),
        }
    }
}

/// As a line of the command's `--progress rawjson`.
impl Serialize for Event<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Line::of(self).serialize(serializer)
    }
}
