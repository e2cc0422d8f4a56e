//! Runs programs: to completion with their output, or in the background until dropped.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// Runs a command to completion and returns its stdout; if it fails, its stderr is part of the error.
///
/// # Errors
/// Returns an error if it cannot be started, fails, or its output is not UTF-8.
pub fn run(command: &mut Command) -> Result<String> {
    run_with_input(command, Stdio::null())
}

/// Runs a command that reads `input`.
///
/// # Errors
/// Same as [`run`].
pub fn run_with_input(command: &mut Command, input: impl Into<Stdio>) -> Result<String> {
    let output = command
        .stdin(input)
        .output()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
    ensure!(
        output.status.success(),
        "{command:?} failed with {}:\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).with_context(|| format!("stdout of {command:?}"))
}

/// Polls until `ready` is true, at most for `limit`.
pub fn wait_until(limit: Duration, mut ready: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    while Instant::now() < end {
        if ready() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    ready()
}

/// A program that runs until it is stopped or dropped, with its output in a file.
#[derive(Debug)]
pub struct Background {
    child: Child,
    log: PathBuf,
}

impl Background {
    /// Starts the program.
    ///
    /// # Errors
    /// Returns an error if it cannot be started, or its output file cannot be created.
    pub fn start(command: &mut Command, log: &Path) -> Result<Self> {
        let file = File::create(log).with_context(|| log.display().to_string())?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        Ok(Self { child, log: log.to_owned() })
    }

    /// Waits until `ready` is true; an early end of the program is an error with its log.
    ///
    /// # Errors
    /// Returns an error if it ends first, or is not ready within a minute.
    pub fn wait_ready(&mut self, mut ready: impl FnMut() -> bool) -> Result<()> {
        let mut ended = None;
        let up = wait_until(Duration::from_secs(60), || {
            ended = self.child.try_wait().ok().flatten();
            ended.is_some() || ready()
        });
        match ended {
            Some(status) => bail!("ended with {status} before it was ready:\n{}", self.log()?),
            None if !up => bail!("was not ready within a minute:\n{}", self.log()?),
            None => Ok(()),
        }
    }

    /// Returns its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns everything that the program has printed so far.
    ///
    /// # Errors
    /// Returns an error if its output file cannot be read.
    pub fn log(&self) -> Result<String> {
        std::fs::read_to_string(&self.log).with_context(|| self.log.display().to_string())
    }

    /// Asks the program to end, waits for it, and returns its log in two parts: what it had printed before it
    /// was asked, and what it printed after.
    ///
    /// # Errors
    /// Returns an error if it does not end, or its log cannot be read.
    pub fn stop(mut self) -> Result<(String, String)> {
        let mut before = self.log()?;
        ensure!(self.terminate(), "did not end within 30 seconds of SIGTERM:\n{}", self.log()?);
        let after = self.log()?.split_off(before.len());
        // A line that was being printed belongs to the first part.
        let rest = after.find('\n').filter(|_| !before.is_empty() && !before.ends_with('\n'));
        let (line, after) = after.split_at(rest.map_or(0, |end| end + 1));
        before.push_str(line);
        Ok((before, after.to_owned()))
    }

    /// Kills the program and waits for its end.
    ///
    /// # Errors
    /// Returns an error if the system refuses.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    fn terminate(&mut self) -> bool {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return true;
        }
        let asked = i32::try_from(self.child.id())
            .ok()
            .and_then(Pid::from_raw)
            .is_some_and(|pid| kill_process(pid, Signal::TERM).is_ok());
        asked
            && wait_until(Duration::from_secs(30), || matches!(self.child.try_wait(), Ok(Some(_))))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if !self.terminate() {
            // Errors cannot be reported here, and the process must not outlive its owner.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
