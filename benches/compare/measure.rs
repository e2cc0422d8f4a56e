//! Measures the cost of a run.

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result};
use serde::Serialize;

/// The cost of one run.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Sample {
    /// Wall-clock time in seconds, until everything was on the file system.
    pub(crate) seconds: f64,
    /// Processor time of all processes that worked on it; kernel threads do not count.
    pub(crate) cpu_seconds: f64,
    /// Peak memory of the process that did the work, in bytes, if it was one.
    pub(crate) peak_bytes: Option<u64>,
}

/// Measures `work`, which returns that memory, writes below `target`, and runs in this process, in children
/// that it waits for, or in `daemon`.
pub(crate) fn measure(
    target: &Path,
    daemon: Option<u32>,
    work: impl FnOnce() -> Result<Option<u64>>,
) -> Result<Sample> {
    let file_system = fs::File::open(target)?;
    let busy_before = cpu_seconds(daemon)?;
    let start = Instant::now();
    let peak_bytes = work()?;
    // Some programs sync themselves; so all have to.
    rustix::fs::syncfs(&file_system)?;
    let seconds = start.elapsed().as_secs_f64();
    Ok(Sample { seconds, cpu_seconds: cpu_seconds(daemon)? - busy_before, peak_bytes })
}

/// Returns the processor time of this process, its finished children, and the daemon.
fn cpu_seconds(daemon: Option<u32>) -> Result<f64> {
    let mut ticks = ticks("self")?;
    if let Some(daemon) = daemon {
        ticks += self::ticks(&daemon.to_string())?;
    }
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// Returns the times of a process and its finished children (`proc_pid_stat(5)`).
fn ticks(process: &str) -> Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The second field is the name in parentheses, which may contain any characters.
    let (_, fields) = stat.rsplit_once(')').context("a process without a name")?;
    // user, system, and the same of the children: fields 14 to 17, counted from the name as 2.
    let times = fields.split_whitespace().skip(11).take(4);
    Ok(times.map(str::parse::<u64>).sum::<Result<u64, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn the_work_of_children_counts() {
        let dir = tempfile::tempdir().unwrap();
        let sample = measure(dir.path(), None, || {
            let busy = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done";
            assert!(Command::new("sh").args(["-c", busy]).status()?.success());
            Ok(None)
        });
        let sample = sample.unwrap();
        assert!(sample.seconds > 0.0);
        assert!(sample.cpu_seconds > 0.01, "{sample:?}");
    }
}
