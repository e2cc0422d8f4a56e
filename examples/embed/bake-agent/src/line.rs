//! The progress on stderr: a line that is drawn again on a terminal, and a line for each layer elsewhere.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use oci2bk::warning::Warning;
use oci2bk::{Digest, Event, Progress};

/// How often a terminal shows another number, at most.
const BETWEEN: Duration = Duration::from_millis(100);

/// The progress so far.
#[derive(Debug, Default)]
struct Done {
    stage: &'static str,
    layers: usize,
    of_layers: usize,
    /// Bytes of finished layers.
    bytes: u64,
    of_bytes: u64,
    /// Bytes of each layer that is being read.
    pending: BTreeMap<Digest, u64>,
    drawn: Option<Instant>,
}

/// Shows the progress.
#[derive(Debug)]
pub(crate) struct Line {
    on_terminal: bool,
    // Events come from several threads.
    done: Mutex<Done>,
}

impl Line {
    pub(crate) fn new() -> Self {
        Self { on_terminal: io::stderr().is_terminal(), done: Mutex::default() }
    }

    /// Leaves the line, for what comes after it.
    pub(crate) fn end(&self) {
        let done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        if self.on_terminal && done.drawn.is_some() {
            let _ = writeln!(io::stderr());
        }
    }

    fn warn(&self, warning: &Warning<'_>) {
        let start = if self.on_terminal { "\r\x1b[K" } else { "" };
        let _ = writeln!(io::stderr(), "{start}warning: {warning}");
    }

    fn show(&self, done: &mut Done, is_step: bool) {
        let now = Instant::now();
        let is_due = done.drawn.is_none_or(|drawn| now.duration_since(drawn) >= BETWEEN);
        let is_shown = is_step || (self.on_terminal && is_due);
        if !is_shown {
            return;
        }
        done.drawn = Some(now);
        let text = done.text();
        // Who closed stderr does not want to know.
        let _ = if self.on_terminal {
            write!(io::stderr(), "\r\x1b[K{text}")
        } else {
            writeln!(io::stderr(), "{text}")
        };
    }
}

impl Done {
    fn text(&self) -> String {
        let Self { stage, layers, of_layers, of_bytes, .. } = self;
        if *of_layers == 0 {
            return (*stage).to_owned();
        }
        let bytes = self.bytes + self.pending.values().sum::<u64>();
        let [bytes, of_bytes] = [bytes, *of_bytes].map(|bytes| bytes as f64 / 1e6);
        format!("{stage}: {layers} of {of_layers} layers, {bytes:.1} of {of_bytes:.1} MB")
    }
}

impl Progress for Line {
    fn event(&self, event: Event<'_>) {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        let mut is_step = true;
        match event {
            Event::Warning(warning) => return self.warn(&warning),
            Event::StageStarted(stage) => *done = Done { stage: stage.name(), ..Done::default() },
            Event::LayersCounted { layers, to_read } => {
                (done.of_layers, done.of_bytes) = (layers, to_read);
            }
            Event::LayerAdvanced { work, done: bytes } => {
                done.pending.insert(work.digest, bytes);
                is_step = false;
            }
            Event::LayerFinished(work) => {
                done.pending.remove(&work.digest);
                done.bytes += work.to_read;
                done.layers += 1;
            }
            // More events may be added.
            _ => return,
        }
        self.show(&mut done, is_step);
    }
}
