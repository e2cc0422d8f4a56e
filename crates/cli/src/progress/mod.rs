//! Progress on stderr, in the form selected by the user.

mod bars;
mod lines;

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use oci2bk::progress::{Event, Progress, Stage};

use crate::args::ProgressMode;
use crate::output::note;
use crate::warning;
use bars::Bars;
use lines::{Json, Plain};

/// Shows events and times the stages.
pub(crate) struct Display {
    renderer: Box<dyn Renderer>,
    stages: Mutex<BTreeMap<Stage, Stopwatch>>,
    /// What has not been said yet: nothing is written between bars.
    warnings: Mutex<Vec<String>>,
}

/// One form of progress.
trait Renderer: Send + Sync {
    fn render(&self, event: Event<'_>);

    /// Restores the terminal.
    fn finish(&self) {}
}

struct Quiet;

impl Renderer for Quiet {
    fn render(&self, _event: Event<'_>) {}
}

enum Stopwatch {
    Running(Instant),
    Stopped(Duration),
}

impl Display {
    /// Creates a display, for several operations one after another.
    pub(crate) fn shared(mode: ProgressMode) -> Arc<Self> {
        let renderer: Box<dyn Renderer> = match mode {
            ProgressMode::Auto if std::io::stderr().is_terminal() => Box::new(Bars::new()),
            ProgressMode::Auto | ProgressMode::Plain => Box::new(Plain),
            ProgressMode::Tty => Box::new(Bars::new()),
            ProgressMode::Rawjson => Box::new(Json),
            ProgressMode::Quiet => Box::new(Quiet),
        };
        Arc::new(Self { renderer, stages: Mutex::default(), warnings: Mutex::default() })
    }

    /// Says the warnings that have come since the last time.
    pub(crate) fn say_warnings(&self) {
        let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        warnings.drain(..).for_each(note);
    }

    /// Ends the display and returns the duration of each stage in seconds, to the millisecond.
    pub(crate) fn finish(&self) -> BTreeMap<&'static str, f64> {
        self.renderer.finish();
        self.say_warnings();
        let stages = self.stages.lock().unwrap_or_else(PoisonError::into_inner);
        let stopped = stages.iter().filter_map(|(stage, watch)| match watch {
            Stopwatch::Stopped(elapsed) => {
                Some((stage.name(), (elapsed.as_secs_f64() * 1000.0).round() / 1000.0))
            }
            Stopwatch::Running(_) => None,
        });
        stopped.collect()
    }

    fn time(&self, event: Event<'_>) {
        let mut stages = self.stages.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::StageStarted(stage) => {
                stages.insert(stage, Stopwatch::Running(Instant::now()));
            }
            Event::StageFinished(stage) => {
                if let Some(Stopwatch::Running(since)) = stages.get(&stage) {
                    let elapsed = since.elapsed();
                    stages.insert(stage, Stopwatch::Stopped(elapsed));
                }
            }
            _ => {}
        }
    }
}

impl Progress for Display {
    fn event(&self, event: Event<'_>) {
        self.time(event);
        self.renderer.render(event);
        if let Event::Warning(warning) = event {
            let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
            warnings.extend(warning::line(&warning));
        }
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        self.renderer.finish();
        self.say_warnings();
    }
}
