//! Runs other programs.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

/// Runs a command to completion; stdout and stderr are part of the error if it fails.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    ensure!(output.status.success(), "{command:?} failed with {}:\n{text}", output.status);
    Ok(text.into_owned())
}

/// Same as [`run`]; returns the peak memory of the process itself, in bytes.
pub(crate) fn run_watched(command: &mut Command) -> Result<u64> {
    let name = command.get_program().display().to_string();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
    let (id, ended) = (child.id(), AtomicBool::new(false));
    let (output, peak) = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            // It only grows, so only the last moment can be missed.
            let mut peak = 0;
            while !ended.load(Ordering::Relaxed) {
                peak = peak.max(peak_memory(id));
                std::thread::sleep(Duration::from_millis(5));
            }
            peak
        });
        let output = child.wait_with_output();
        ended.store(true, Ordering::Relaxed);
        (output, watcher.join().unwrap_or_default())
    });
    let output = output?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name} failed with {}:\n{text}", output.status);
    Ok(peak)
}

/// Returns the peak memory of a process so far, in bytes (`proc_pid_status(5)`, `VmHWM`); 0 if it has ended.
pub(crate) fn peak_memory(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let kibibytes = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = kibibytes.and_then(|text| text.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kibibytes.unwrap_or_default() * 1024
}

/// Runs `source | sink` and waits for both.
pub(crate) fn run_piped(source: &mut Command, sink: &mut Command) -> Result<()> {
    let started = |command: &mut Command| {
        let child = command.spawn();
        child.with_context(|| format!("cannot start {}", command.get_program().display()))
    };
    let mut first = started(source.stdout(Stdio::piped()))?;
    let output = first.stdout.take().context("the pipe is missing")?;
    let mut second = started(sink.stdin(output))?;
    // Our end of the pipe must be closed, or the first program would not notice a failure of the second.
    sink.stdin(Stdio::null());
    let (second, first) = (second.wait()?, first.wait()?);
    ensure!(first.success(), "{source:?} failed with {first}");
    ensure!(second.success(), "{sink:?} failed with {second}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_that_of_the_process() {
        let hold = "x=$(head -c 30000000 /dev/zero | tr '\\0' x); sleep 0.1";
        let peak = run_watched(Command::new("sh").args(["-c", hold])).unwrap();
        assert!((30_000_000..300_000_000).contains(&peak), "{peak}");
        let error = run_watched(&mut Command::new("false")).unwrap_err();
        assert!(error.to_string().starts_with("false failed with exit status: 1"), "{error}");
    }
}
