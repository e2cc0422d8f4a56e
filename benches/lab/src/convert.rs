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
    /// Without them the root has layers only.
    pub(crate) keys: Option<&'a Path>,
    /// Where the index of the cache is to be written.
    pub(crate) sparse: Option<&'a Path>,
    /// A base image, as `--image` takes it.
    pub(crate) base: Option<String>,
    pub(crate) root: &'a Path,
    /// A file to write on the way.
    pub(crate) report: &'a Path,
}

/// Converts. Steps without keys are part of the result: they show in the build that follows.
pub(crate) fn run(tools: &Tools, converted: &Converted<'_>) -> Result<Conversion> {
    let mut command = Command::new(&tools.oci2bk);
    command.args(["convert", "--progress=quiet", "--metadata-file"]).arg(converted.report);
    if let Some(keys) = converted.keys {
        command.args(["--allow-unkeyed", "--keys"]).arg(keys);
    }
    if let Some(sparse) = converted.sparse {
        command.arg("--sparse-layout").arg(sparse);
    }
    command.args(converted.base.iter().map(|base| format!("--image={base}")));
    run_program(command.args([converted.cache, converted.root]))?;
    let text = fs::read(converted.report).context("the report of the conversion")?;
    let report: Value = serde_json::from_slice(&text)?;
    let count = |name: &str| {
        let steps = &report["step_counts"][name];
        steps.as_u64().with_context(|| format!("a report has step_counts.{name}"))
    };
    Ok(Conversion { records: count("total")?, unresolved: count("unkeyed")? })
}
