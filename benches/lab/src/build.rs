//! Runs builds with buildctl.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use testkit::Daemon;

/// The input and the outputs of a build.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    pub(crate) context: &'a Path,
    /// The path of the Dockerfile, relative to the context.
    pub(crate) dockerfile: &'a Path,
    /// Values of `--opt`.
    pub(crate) options: Vec<&'a str>,
    /// Values of `--output`.
    pub(crate) outputs: Vec<String>,
    /// Value of `--import-cache`.
    pub(crate) import: Option<&'a str>,
    /// Values of `--export-cache`.
    pub(crate) exports: Vec<String>,
    /// Whether to record its progress.
    pub(crate) recorded: bool,
}

/// The result of a build.
#[derive(Debug)]
pub(crate) struct Built {
    /// Duration of buildctl, in microseconds.
    pub(crate) micros: u64,
    /// Digest of the image.
    pub(crate) image: String,
    /// Its output; empty if it was not recorded.
    pub(crate) progress: String,
}

impl Request<'_> {
    /// Builds; `metadata` is a temporary file.
    pub(crate) fn build(&self, daemon: &Daemon, metadata: &Path) -> Result<Built> {
        let mut command = self.command(daemon);
        command.arg("--metadata-file").arg(metadata).stdin(Stdio::null()).stdout(Stdio::null());
        let start = Instant::now();
        let output = command.output().context("cannot start buildctl")?;
        let micros = micros_since(start);
        let progress = String::from_utf8_lossy(&output.stderr).into_owned();
        if !output.status.success() {
            let log = progress.lines().filter(|line| !line.starts_with('{') && !line.is_empty());
            bail!("the build failed: {}", log.collect::<Vec<_>>().join("\n"));
        }
        let text = fs::read(metadata).with_context(|| metadata.display().to_string())?;
        let metadata: Value = serde_json::from_slice(&text)?;
        let image = metadata["containerimage.digest"].as_str().context("an image has a digest")?;
        Ok(Built { micros, image: image.to_owned(), progress })
    }

    fn command(&self, daemon: &Daemon) -> Command {
        let path = self.context.join(self.dockerfile);
        let dir = path.parent().unwrap_or(self.context);
        let name = path.file_name().unwrap_or_default();
        let mut command = daemon.buildctl();
        command
            .arg("build")
            .arg(if self.recorded { "--progress=rawjson" } else { "--progress=quiet" })
            .args(["--frontend", "dockerfile.v0"])
            .arg(format!("--local=context={}", self.context.display()))
            .arg(format!("--local=dockerfile={}", dir.display()))
            .arg(format!("--opt=filename={}", name.display()))
            .args(self.options.iter().map(|option| format!("--opt={option}")))
            .args(self.outputs.iter().map(|output| format!("--output={output}")))
            .args(self.import.map(|cache| format!("--import-cache={cache}")))
            .args(self.exports.iter().map(|cache| format!("--export-cache={cache}")));
        command
    }
}

/// Returns the microseconds since then.
pub(crate) fn micros_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX)
}
