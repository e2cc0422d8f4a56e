//! Writes the op digests of key sources into one file, without arguments, environment or paths of the build,
//! and lists the steps that have none.
//!
//! ```console
//! $ cargo run --example keys -- keys.json fixtures/index/keys/provenance.json
//! ```
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::path::Path;

use oci2bk::Limits;
use oci2bk::keys::{KeysFile, read_source};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [output, sources @ ..] = arguments.as_slice() else {
        return Err("usage: keys OUTPUT SOURCE...".into());
    };
    println!("{} ops", run(Path::new(output), sources)?);
    Ok(())
}

/// Returns the number of ops with keys.
pub(crate) fn run(output: &Path, paths: &[String]) -> Result<usize, Box<dyn Error>> {
    let mut sources = Vec::new();
    for path in paths {
        sources.extend(read_source(Path::new(path), &Limits::default())?);
    }
    for source in &sources {
        println!("{}: {} op digests", source.description, source.candidates.len());
        for step in &source.uncomputable {
            println!("  none for {}: {}", step.name, step.reason);
        }
    }
    let keys = KeysFile::from_sources(&sources);
    std::fs::write(output, keys.encode()?)?;
    Ok(keys.len())
}
