//! A service that keeps roots warm: it converts in the background, reports its progress, and can be stopped.
//!
//! ```console
//! # cargo run --example service -- fixtures/index/cache /tmp/warm fixtures/index/keys/provenance.json
//! ```
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use oci2bk::convert::Report;
use oci2bk::{CacheExport, Cancel, Converter, Event, Keyring, Limits, Plan, Progress};

/// The input and output of a conversion.
#[derive(Debug)]
pub(crate) struct Job {
    /// A cache, in the form of the command line.
    pub(crate) source: String,
    pub(crate) keys: Vec<PathBuf>,
    pub(crate) root: PathBuf,
    /// Whether layers are unpacked, which requires root.
    pub(crate) extract: bool,
}

/// The progress of a job.
#[derive(Debug, Default)]
pub(crate) struct Status {
    pub(crate) stage: Mutex<String>,
    pub(crate) layers_done: AtomicU64,
}

impl Progress for Status {
    /// Events come from several threads.
    fn event(&self, event: Event<'_>) {
        match event {
            Event::StageStarted(stage) => {
                if let Ok(mut shown) = self.stage.lock() {
                    stage.name().clone_into(&mut shown);
                }
            }
            Event::LayerFinished(_) => {
                self.layers_done.fetch_add(1, Ordering::Relaxed);
            }
            // More events may be added.
            _ => {}
        }
    }
}

/// A running job.
pub(crate) struct Running {
    pub(crate) status: Arc<Status>,
    cancel: Cancel,
    thread: JoinHandle<Result<Report, Box<dyn Error + Send + Sync>>>,
}

impl Running {
    /// Starts a job on a new thread.
    pub(crate) fn start(job: Job) -> Self {
        let status = Arc::new(Status::default());
        let cancel = Cancel::new();
        let (shown, asked) = (Arc::clone(&status), cancel.clone());
        let thread = thread::spawn(move || convert(&job, shown, asked));
        Self { status, cancel, thread }
    }

    /// Asks the job to stop. It ends within half a second, and the root is as it was.
    pub(crate) fn stop(&self) {
        self.cancel.cancel();
    }

    /// Returns whether it has ended.
    pub(crate) fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for the end of the job.
    pub(crate) fn wait(self) -> Result<Report, Box<dyn Error + Send + Sync>> {
        self.thread.join().map_err(|_| "the job panicked")?
    }
}

fn convert(
    job: &Job,
    status: Arc<Status>,
    cancel: Cancel,
) -> Result<Report, Box<dyn Error + Send + Sync>> {
    // A service for untrusted caches lowers these.
    let limits = Limits { layer_entries: 5_000_000, ..Limits::default() };
    let exports = CacheExport::read_sources(&[job.source.parse()?], &limits)?;
    let mut keyring = Keyring::for_exports(&exports);
    for path in &job.keys {
        keyring.read(path, &limits)?;
    }
    keyring.read_layouts(&exports)?;
    let plan = Plan::new(&exports, &keyring)?;

    let converter = Converter::new().extract(job.extract).progress(status).cancel(cancel);
    Ok(converter.convert(&plan, &job.root)?)
}

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [source, root, keys @ ..] = arguments.as_slice() else {
        return Err("usage: service SRC ROOT [KEYS]...".into());
    };
    let job = Job {
        source: source.clone(),
        keys: keys.iter().map(PathBuf::from).collect(),
        root: root.into(),
        extract: true,
    };
    let (running, started) = (Running::start(job), Instant::now());
    let status = Arc::clone(&running.status);
    while !running.is_finished() {
        // In a service, a user requests it.
        if started.elapsed() > Duration::from_secs(600) {
            running.stop();
        }
        thread::sleep(Duration::from_millis(100));
    }
    let report = running.wait()?;
    let layers = status.layers_done.load(Ordering::Relaxed);
    println!("{layers} layers, {} snapshots, {} blobs", report.snapshots, report.blobs);
    Ok(())
}
