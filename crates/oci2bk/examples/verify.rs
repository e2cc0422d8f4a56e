//! Reads the state in the root of a stopped daemon, and verifies it.
//!
//! ```console
//! # cargo run --example verify -- /var/lib/buildkit
//! ```
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::path::Path;

use oci2bk::verify::Report;
use oci2bk::{Root, Verifier};

fn main() -> Result<(), Box<dyn Error>> {
    let root = std::env::args().nth(1).ok_or("usage: verify ROOT")?;
    let report = run(Path::new(&root))?;
    if report.damage.is_empty() { Ok(()) } else { Err("the root is damaged".into()) }
}

pub(crate) fn run(path: &Path) -> Result<Report, Box<dyn Error>> {
    // Until `root` is dropped, no daemon starts on it and no conversion can run.
    let root = Root::open(path)?;
    for record in root.state()?.records.by_id.values() {
        println!("{}", record.description.as_deref().unwrap_or("(no description)"));
    }
    let report = Verifier::new().verify(&root)?;
    println!("{} blobs, {} bytes", report.counts.blobs, report.counts.blob_bytes);
    for damage in &report.damage {
        println!("{}: {damage}\n  {}", damage.kind(), damage.consequence());
    }
    Ok(report)
}
