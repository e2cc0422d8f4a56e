//! Writes the bill of materials of the command as CycloneDX 1.5 JSON to stdout, from what `cargo metadata` says on
//! stdin: the crates that are linked into it, with version, licence, package URL, and what each depends on.
//!
//! cargo-cyclonedx names the crates of a workspace by paths of the machine, and so no two machines write the same.
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
