//! Progress as lines: for logs, and for programs.

use oci2bk::progress::Event;
use oci2bk::text::{size, to_json_line};

use super::Renderer;
use crate::output::note;

/// Prints a line for each finished layer and stage.
pub(super) struct Plain;

impl Renderer for Plain {
    fn render(&self, event: Event<'_>) {
        match event {
            Event::StageStarted(stage) if !stage.is_preparation() => note(stage.name()),
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

impl Renderer for Json {
    fn render(&self, event: Event<'_>) {
        if let Ok(json) = to_json_line(&event) {
            note(json);
        }
    }
}
