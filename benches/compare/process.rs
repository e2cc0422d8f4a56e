//! Running other programs.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

/// Runs a command to its end; stdout and stderr, which are part of the error if it fails.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    ensure!(output.status.success(), "{command:?} failed with {}:\n{text}", output.status);
    Ok(text.into_owned())
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
    // Its end of the pipe must be gone, or the first would not notice that the second has failed.
    sink.stdin(Stdio::null());
    let (second, first) = (second.wait()?, first.wait()?);
    ensure!(first.success(), "{source:?} failed with {first}");
    ensure!(second.success(), "{sink:?} failed with {second}");
    Ok(())
}
