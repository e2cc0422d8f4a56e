//! Converts a cache into the root of a daemon, reports progress, and cancels after a timeout.
//!
//! ```console
//! # cargo run --example convert -- fixtures/index/cache /tmp/warm fixtures/index/keys/provenance.json
//! ```
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use oci2bk::convert::Report;
use oci2bk::{CacheExport, Cancel, Converter, Event, Keyring, Limits, Plan};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [source, root, keys @ ..] = arguments.as_slice() else {
        return Err("usage: convert SRC ROOT [KEYS]...".into());
    };
    let report = run(source, Path::new(root), keys, true, Duration::from_secs(600))?;
    println!("{} snapshots, {} blobs", report.snapshots, report.blobs);
    Ok(())
}

pub(crate) fn run(
    source: &str,
    root: &Path,
    keys: &[String],
    extract: bool,
    patience: Duration,
) -> Result<Report, Box<dyn Error>> {
    let limits = Limits::default();
    let exports = CacheExport::read_sources(&[source.parse()?], &limits)?;

    let mut keyring = Keyring::for_exports(&exports);
    for path in keys {
        keyring.read(path, &limits)?;
    }
    keyring.read_layouts(&exports)?;

    let mut plan = Plan::new(&exports, &keyring)?;
    plan.add_images_of(&exports)?;
    for lost in plan.unkeyed() {
        println!("no key for {}: the step will run again", lost.digest);
    }

    let show = |event: Event<'_>| match event {
        Event::StageStarted(stage) => println!("{}", stage.name()),
        Event::LayerFinished(layer) => println!("  {} {} bytes", layer.digest, layer.size),
        // More events may be added.
        _ => {}
    };
    let cancel = Cancel::new();
    let converter =
        Converter::new().extract(extract).progress(Arc::new(show)).cancel(cancel.clone());
    let (done, waiting) = channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            if waiting.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
                cancel.cancel();
            }
        });
        let report = converter.convert(&plan, root);
        drop(done);
        Ok(report?)
    })
}
