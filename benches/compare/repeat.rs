//! The cost of converting a cache again into a root that has all of it.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use serde_json::Value;

use crate::cache::{Cache, Shape};
use crate::process::run;
use crate::target::{Kind, Target};

/// The times of repeated conversions, in seconds.
#[derive(Debug, Serialize)]
pub(crate) struct Repeat {
    pub(crate) shape: Shape,
    pub(crate) blob_bytes: u64,
    /// The first one, into an empty root.
    pub(crate) first: f64,
    /// For each round, with blobs checked.
    pub(crate) checked: Vec<Checked>,
    /// For each round, with `--trust-blobs`.
    pub(crate) trusted: Vec<f64>,
}

/// A repeated conversion that hashed all blobs.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Checked {
    pub(crate) seconds: f64,
    /// The part of that time for hashing.
    pub(crate) check: f64,
}

/// Converts `cache` into a root on a file system of `kind`, and `rounds` times more in each way.
pub(crate) fn measure(
    work: &Path,
    kind: Kind,
    oci2bk: &Path,
    cache: &Cache,
    rounds: usize,
) -> Result<Repeat> {
    let room = cache.shape.bytes * 5 / 4
        + cache.blob_bytes() * 5 / 4
        + cache.shape.files * (16 << 10)
        + (256 << 20);
    let target = Target::new(work, kind, room)?;
    let root = target.path().join("root");
    cache.warm(false)?;
    let (first, _) = convert(oci2bk, cache, &root, &[])?;
    let mut measured = Repeat {
        shape: cache.shape,
        blob_bytes: cache.blob_bytes(),
        first,
        checked: Vec::new(),
        trusted: Vec::new(),
    };
    for round in 1..=rounds {
        let (seconds, report) = convert(oci2bk, cache, &root, &[])?;
        ensure!(report["shares"]["snapshots"]["added_count"] == 0, "not repeated: {report:#}");
        let check = report["stage_seconds"]["check"].as_f64().context("no blobs were checked")?;
        measured.checked.push(Checked { seconds, check });
        let (trusted, report) = convert(oci2bk, cache, &root, &["--trust-blobs"])?;
        ensure!(report["stage_seconds"]["check"].is_null(), "blobs were not trusted: {report:#}");
        measured.trusted.push(trusted);
        eprintln!(
            "repeated, round {round}: {seconds:.2} s, {check:.2} s of that the check; trusted \
             {trusted:.2} s"
        );
    }
    Ok(measured)
}

/// Converts; returns seconds, and the report.
fn convert(oci2bk: &Path, cache: &Cache, root: &Path, more: &[&str]) -> Result<(f64, Value)> {
    let mut command = Command::new(oci2bk);
    command.args(["convert", "--progress=quiet", "--format=json"]).args(more);
    command.arg("--keys").args([&cache.build, &cache.layout]).arg(root);
    let start = Instant::now();
    let said = run(&mut command)?;
    let seconds = start.elapsed().as_secs_f64();
    // The output of stderr follows it.
    let report = serde_json::Deserializer::from_str(&said).into_iter().next();
    Ok((seconds, report.context("no report")??))
}
