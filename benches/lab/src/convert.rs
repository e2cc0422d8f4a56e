//! Runs conversions with the command, as a user would.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;
use testkit::Tools;
use testkit::process::run as run_program;

use crate::record::Conversion;

/// The input and the output of a conversion.
pub(crate) struct Converted<'a> {
    pub(crate) cache: &'a Path,
    /// The key source. Without it the root has layers only.
    pub(crate) keys: Option<&'a Path>,
    /// The path for the index of the cache.
    pub(crate) sparse: Option<&'a Path>,
    /// Whether the cache mounts that are attached to the cache are imported.
    pub(crate) mounts: bool,
    /// A base image, in the form of `--image`.
    pub(crate) base: Option<String>,
    pub(crate) root: &'a Path,
    /// A temporary file for the report.
    pub(crate) report: &'a Path,
}

/// Converts. Steps without keys are part of the result: they have an effect in the next build.
pub(crate) fn run(tools: &Tools, converted: &Converted<'_>) -> Result<Conversion> {
    let mut command = Command::new(&tools.oci2bk);
    command.args(["convert", "--progress=quiet", "--metadata-file"]).arg(converted.report);
    if let Some(keys) = converted.keys {
        command.args(["--allow-unkeyed", "--keys"]).arg(keys);
    }
    if let Some(sparse) = converted.sparse {
        command.arg("--sparse-layout").arg(sparse);
    }
    command.args(converted.mounts.then_some("--mounts"));
    command.args(converted.base.iter().map(|base| format!("--image={base}")));
    // `--mounts` takes ids, if any follow.
    run_program(command.arg("--").args([converted.cache, converted.root]))?;
    let text = fs::read(converted.report).context("the report of the conversion")?;
    let report: Value = serde_json::from_slice(&text)?;
    let count = |name: &str| {
        let steps = &report["step_counts"][name];
        steps.as_u64().with_context(|| format!("a report has step_counts.{name}"))
    };
    Ok(Conversion { records: count("total")?, unresolved: count("unkeyed")? })
}
