//! Writes the bill of materials of the command as CycloneDX 1.5 JSON to stdout, from the output of `cargo
//! metadata` on stdin: the crates linked into it, with version, licence, package URL, and dependencies.
//!
//! cargo-cyclonedx names the crates of a workspace by paths of the machine, so its output differs between
//! machines.
#![allow(clippy::print_stdout, reason = "the result goes to stdout")]

mod bom;
mod metadata;

use std::io;

fn main() -> anyhow::Result<()> {
    let metadata = serde_json::from_reader(io::stdin().lock())?;
    let bom = bom::bom(&metadata, "oci2bk-cli", "oci2bk")?;
    println!("{}", serde_json::to_string_pretty(&bom)?);
    Ok(())
}
