//! Progress as bars on a terminal: one for each active layer or cache mount.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bkstate::Digest;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use oci2bk::progress::{Event, LayerWork};
use oci2bk::text::one_line;

use super::Renderer;

const LAYER: &str = "  {prefix} [{bar:24}] {bytes:>10}/{total_bytes:<10} {wide_msg}";
const STAGE: &str = "{spinner} {msg}";

pub(super) struct Bars {
    all: MultiProgress,
    stage: ProgressBar,
    layers: Mutex<BTreeMap<Digest, ProgressBar>>,
    /// One is worked on at a time.
    mount: Mutex<Option<ProgressBar>>,
}

/// The bar's style; a template that indicatif does not know falls back to its own.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

impl Bars {
    pub(super) fn new() -> Self {
        let all = MultiProgress::new();
        let stage = all.add(ProgressBar::new_spinner().with_style(style(STAGE)));
        Self { all, stage, layers: Mutex::default(), mount: Mutex::default() }
    }

    fn mount(&self) -> MutexGuard<'_, Option<ProgressBar>> {
        self.mount.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with_layer(&self, work: &LayerWork, change: impl FnOnce(&ProgressBar)) {
        let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        change(layers.entry(work.digest).or_insert_with(|| {
            let bar = ProgressBar::new(work.to_read)
                .with_style(style(LAYER))
                .with_prefix(work.digest.hex().chars().take(12).collect::<String>())
                .with_message(work.description.as_deref().map(one_line).unwrap_or_default());
            self.all.add(bar)
        }));
    }
}

impl Renderer for Bars {
    fn render(&self, event: Event<'_>) {
        match event {
            Event::StageStarted(stage) if !stage.is_preparation() => {
                self.stage.set_message(stage.name());
                self.stage.tick();
            }
            Event::LayerStarted(work) => self.with_layer(work, ProgressBar::tick),
            Event::LayerAdvanced { work, done } => {
                self.with_layer(work, |bar| bar.set_position(done))
            }
            Event::LayerFinished(work) => {
                self.with_layer(work, ProgressBar::finish_and_clear);
                let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
                layers.remove(&work.digest);
            }
            Event::MountStarted(work) => {
                let bar = ProgressBar::new(work.size)
                    .with_style(style(LAYER))
                    .with_message(one_line(&work.id));
                *self.mount() = Some(self.all.add(bar));
            }
            Event::MountAdvanced { done, .. } => {
                self.mount().iter().for_each(|bar| bar.set_position(done));
            }
            Event::MountFinished(_) => {
                self.mount().take().iter().for_each(ProgressBar::finish_and_clear);
            }
            _ => {}
        }
    }

    fn finish(&self) {
        self.stage.finish_and_clear();
        // The terminal may be closed; nothing to report.
        let _ = self.all.clear();
    }
}
