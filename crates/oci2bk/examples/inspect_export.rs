//! Lists the content of a cache, without converting it: its steps, by the names in the key sources, and the
//! layers of their results.
//!
//! ```console
//! $ cargo run --example inspect_export -- fixtures/index/cache fixtures/index/keys/provenance.json
//! ```
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;

use oci2bk::{CacheExport, Keyring, Limits};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [source, keys @ ..] = arguments.as_slice() else {
        return Err("usage: inspect_export SRC [KEYS]...".into());
    };
    run(source, keys)?;
    Ok(())
}

/// Returns the number of steps with a name.
pub(crate) fn run(source: &str, keys: &[String]) -> Result<usize, Box<dyn Error>> {
    let limits = Limits::default();
    let exports = CacheExport::read_sources(&[source.parse()?], &limits)?;
    let mut keyring = Keyring::for_exports(&exports);
    for path in keys {
        keyring.read(path, &limits)?;
    }

    let mut named = 0;
    for export in &exports {
        println!("{} {}", export.source, export.manifest.digest);
        // Every step comes after its inputs.
        for &index in export.config.records_inputs_first() {
            let record = &export.config.records[index];
            let name = keyring.get(&record.digest).and_then(|key| key.name.as_deref());
            named += usize::from(name.is_some());
            println!("{} {}", record.digest, name.unwrap_or("(no name)"));
            for result in &record.results {
                for node in export.config.layers(&result.chain) {
                    println!("  {}", export.config.nodes[node].blob);
                }
            }
        }
    }
    Ok(named)
}
