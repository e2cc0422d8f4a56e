//! Conversions with the command, as a user would run it.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;
use testkit::Tools;
use testkit::process::run as run_program;

use crate::record::Conversion;

/// What is converted, and where to.
pub(crate) struct Converted<'a> {
    pub(crate) cache: &'a Path,
    pub(crate) keys: &'a Path,
    /// A base image, as `--image` takes it.
    pub(crate) base: Option<String>,
    pub(crate) root: &'a Path,
    /// A file to write on the way.
    pub(crate) report: &'a Path,
}

/// Converts. Steps without keys are part of the result: they show in the build that follows.
pub(crate) fn run(tools: &Tools, converted: &Converted<'_>) -> Result<Conversion> {
    run_program(
        Command::new(&tools.oci2bk)
            .args(["convert", "--progress=quiet", "--allow-unkeyed", "--keys"])
            .arg(converted.keys)
            .arg("--metadata-file")
            .arg(converted.report)
            .args(converted.base.iter().map(|base| format!("--image={base}")))
            .args([converted.cache, converted.root]),
    )?;
    let text = fs::read(converted.report).context("the report of the conversion")?;
    let report: Value = serde_json::from_slice(&text)?;
    let count = |name: &str| {
        let records = &report["records"][name];
        records.as_u64().with_context(|| format!("a report has records.{name}"))
    };
    Ok(Conversion { records: count("total")?, unresolved: count("unresolved")? })
}
