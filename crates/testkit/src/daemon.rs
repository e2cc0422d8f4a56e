//! A buildkitd on its own root.

use std::collections::BTreeSet;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::process::{Background, run};
use crate::tools::Tools;

/// Its log line when it starts to stop.
const STOPPING: &str = "msg=\"stopping server\"";

/// Its log line when a client goes away during a health check of its session, which happens every few seconds
/// (BuildKit v0.32.2 `session/grpc.go` `monitorHealth`).
const CLIENT_GONE: &str = "level=warning msg=\"healthcheck failed\"";

/// A running buildkitd.
#[derive(Debug)]
pub struct Daemon {
    process: Background,
    address: String,
    buildctl: PathBuf,
    root: PathBuf,
    _socket: TempDir,
}

impl Daemon {
    /// Starts buildkitd on `root` with its default garbage collection, which runs a second later. It uses
    /// `registries` without TLS.
    ///
    /// The configuration and the log are beside the root. The socket is not, because its path must be shorter
    /// than that of a build directory may be.
    ///
    /// # Errors
    /// Returns an error if it cannot be started, ends early or is not ready within a minute; its log is part
    /// of the error.
    pub fn start(tools: &Tools, root: &Path, registries: &[&str]) -> Result<Self> {
        Self::start_configured(tools, root, registries, "")
    }

    /// Same as [`Daemon::start`], with this text at the beginning of its configuration.
    ///
    /// # Errors
    /// Same as [`Daemon::start`].
    pub fn start_configured(
        tools: &Tools,
        root: &Path,
        registries: &[&str],
        configuration: &str,
    ) -> Result<Self> {
        let socket_dir = tempfile::Builder::new().prefix("testkit-").tempdir()?;
        // Daemons that start at the same time would compete for the trace collector's default socket.
        let traces = socket_dir.path().join("otel.sock");
        let config = root.with_extension("toml");
        let mut text = format!(
            "{configuration}[worker.containerd]\n  enabled = false\n[otel]\n  socketPath = \"{}\"\n",
            traces.display()
        );
        for registry in registries {
            text += &format!("[registry.\"{registry}\"]\n  http = true\n");
        }
        std::fs::write(&config, text).with_context(|| config.display().to_string())?;
        let socket = socket_dir.path().join("buildkitd.sock");
        let address = format!("unix://{}", socket.display());
        let mut command = Command::new(&tools.buildkitd);
        command
            .arg("--config")
            .arg(&config)
            .arg("--root")
            .arg(root)
            .args(["--addr", &address])
            .args(["--oci-worker-snapshotter=overlayfs", "--oci-worker-net=host"]);
        if tools.saves_cache_debug {
            command.arg("--save-cache-debug");
        }
        let mut process = Background::start(&mut command, &root.with_extension("log"))?;
        process.wait_ready(|| UnixStream::connect(&socket).is_ok()).context("buildkitd")?;
        Ok(Self {
            process,
            address,
            buildctl: tools.buildctl.clone(),
            root: root.to_owned(),
            _socket: socket_dir,
        })
    }

    /// Returns its address, for `buildctl --addr`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Returns the directory of its state.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns a buildctl command for this daemon.
    #[must_use]
    pub fn buildctl(&self) -> Command {
        let mut command = Command::new(&self.buildctl);
        command.args(["--addr", &self.address]);
        command
    }

    /// Returns the ids of all cache records, as `buildctl du` lists them.
    ///
    /// # Errors
    /// Returns an error if buildctl fails or prints something else.
    pub fn du(&self) -> Result<BTreeSet<String>> {
        let json = run(self.buildctl().args(["du", "--format", "{{json .}}"]))?;
        let records: Vec<serde_json::Value> =
            serde_json::from_str::<Option<_>>(&json).context("du")?.unwrap_or_default();
        records
            .iter()
            .map(|record| {
                let id = record["id"].as_str().context("a record of du has no id")?;
                Ok(id.to_owned())
            })
            .collect()
    }

    /// Removes everything that is not in use.
    ///
    /// # Errors
    /// Returns an error if buildctl fails.
    pub fn prune_all(&self) -> Result<()> {
        run(self.buildctl().args(["prune", "--all"])).map(drop)
    }

    /// Kills the daemon in the middle of its work.
    ///
    /// # Errors
    /// Returns an error if the system refuses.
    pub fn kill(self) -> Result<()> {
        self.process.kill().context("buildkitd")
    }

    /// Stops the daemon and returns the warnings and errors it logged.
    ///
    /// # Errors
    /// Returns an error if it does not end, or its log cannot be read.
    pub fn stop(self) -> Result<BTreeSet<String>> {
        let root = self.root.display().to_string();
        let log = self.process.stop().context("buildkitd")?;
        // After it starts to stop, it complains about interrupted work, such as the garbage collection a
        // second after a build. From there on only a crash counts.
        let (before, after) = log.split_at(log.find(STOPPING).unwrap_or(log.len()));
        let complaints = before.lines().filter_map(|line| complaint(line, &root));
        Ok(complaints
            .chain(after.lines().filter(|line| is_loud(line)).map(str::to_owned))
            .collect())
    }
}

/// Returns the kind of warning or error in a line of the log: its message and its error text, without the
/// parts that differ between runs (paths below the root, ids, digests, numbers).
fn complaint(line: &str, root: &str) -> Option<String> {
    let level = ["level=warning", "level=error", "level=fatal"];
    let told = level.iter().any(|marker| line.contains(marker)) && !line.contains(CLIENT_GONE);
    if !is_loud(line) && !told {
        return None;
    }
    let text = line.split_once(" level=").map_or(line, |(_, rest)| rest).replace(root, "ROOT");
    Some(text.split(' ').map(generalise).collect::<Vec<_>>().join(" "))
}

/// Returns whether the line reports a panic or data race, which have no log level.
fn is_loud(line: &str) -> bool {
    ["panic:", "DATA RACE", "fatal error:"].iter().any(|marker| line.contains(marker))
}

/// Replaces the variable part of a word of the log: words with digits, except keys.
fn generalise(word: &str) -> &str {
    match word.split_once('=') {
        Some((key, value)) if value.contains(|c: char| c.is_ascii_digit()) => key,
        None if word.contains(|c: char| c.is_ascii_digit()) => "#",
        _ => word,
    }
}
