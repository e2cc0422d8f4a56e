//! The cost of a conversion that leaves all layers packed, so that only records matter: with ten, a hundred
//! and a thousand times as many.

mod cache;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

use crate::target::{Kind, Target};
use cache::{Cache, RECORDS_PER_LAYER};

/// Default numbers of records in the caches; each ten times the previous one.
pub(crate) const SIZES: [u64; 3] = [10_000, 100_000, 1_000_000];

/// Limits raised for a cache of a million records and its provenance.
const LIMITS: [&str; 5] =
    ["config=1Gi", "manifest=64Mi", "keys-document=1Gi", "json-values=100M", "json-objects=20M"];

/// Interval at which the memory of a running process is read.
const GLANCE: Duration = Duration::from_millis(5);

/// The cost of converting caches of one size.
#[derive(Debug, Serialize)]
pub(crate) struct Records {
    pub(crate) records: u64,
    pub(crate) layers: u64,
    /// Seconds of each round, until everything was on the file system.
    pub(crate) seconds: Vec<f64>,
    /// Peak memory of a run, in bytes.
    pub(crate) peak_bytes: u64,
}

/// Measures caches of the given numbers of records, on file systems of `kind`.
pub(crate) fn measure(
    work: &Path,
    kind: Kind,
    oci2bk: &Path,
    counts: &[u64],
    rounds: usize,
) -> Result<Vec<Records>> {
    counts.iter().map(|&records| measure_one(work, kind, oci2bk, rounds, records)).collect()
}

fn measure_one(
    work: &Path,
    kind: Kind,
    oci2bk: &Path,
    rounds: usize,
    records: u64,
) -> Result<Records> {
    let layers = records / RECORDS_PER_LAYER;
    let dir = tempfile::Builder::new().prefix("records-").tempdir_in(work)?;
    eprintln!("generating {records} records over {layers} layers");
    let cache = cache::generate(dir.path(), layers)?;
    let mut measured = Records { records, layers, seconds: Vec::new(), peak_bytes: 0 };
    for round in 1..=rounds {
        // A blob takes a page, and a record some 2 KB in the databases.
        let target =
            Target::new(work, kind, layers * (16 << 10) + records * (4 << 10) + (256 << 20))?;
        let (seconds, peak_bytes) = convert(&cache, oci2bk, target.path())?;
        eprintln!("{records} records, round {round}: {seconds:.2} s, {} MiB", peak_bytes >> 20);
        measured.seconds.push(seconds);
        measured.peak_bytes = measured.peak_bytes.max(peak_bytes);
    }
    Ok(measured)
}

/// Converts the cache into a new root below `target`; returns seconds and bytes of memory.
fn convert(cache: &Cache, oci2bk: &Path, target: &Path) -> Result<(f64, u64)> {
    let file_system = fs::File::open(target)?;
    let mut command = Command::new(oci2bk);
    command.args(["convert", "--no-extract", "--progress=quiet"]).arg("--keys").arg(&cache.keys);
    command.args(LIMITS.map(|limit| format!("--limit={limit}")));
    command.arg(&cache.layout).arg(target.join("root")).stdout(Stdio::null());
    let start = Instant::now();
    let mut child = command.spawn().context("cannot start oci2bk")?;
    let mut peak = 0;
    let status = loop {
        // Before the wait: afterwards the process is gone.
        peak = peak.max(high_water(child.id()));
        if let Some(status) = child.try_wait()? {
            break status;
        }
        std::thread::sleep(GLANCE);
    };
    rustix::fs::syncfs(&file_system)?;
    let seconds = start.elapsed().as_secs_f64();
    ensure!(status.success(), "{command:?} failed with {status}");
    Ok((seconds, peak))
}

/// Returns the peak memory of a process so far, in bytes (`proc_pid_status(5)`); 0 if it has ended.
fn high_water(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|text| text.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kibibytes.unwrap_or_default() * 1024
}
