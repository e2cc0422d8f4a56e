//! A builder with its own root: a buildkitd, or the builder of a Docker Engine.

use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::containerd::Containerd;
use crate::engine::Docker;
use crate::process::{Background, run};
use crate::rootless::User;
use crate::tools::Tools;

/// The containerd namespace of the containerd worker, unless it is configured (BuildKit v0.34.2
/// `cmd/buildkitd/config/config.go`, `DefaultContainerdNamespace`).
pub const NAMESPACE: &str = "buildkit";

/// Prefix of the temporary directories with sockets and other files of a running daemon.
pub(crate) const SOCKETS: &str = "testkit-";

/// The differences between the kinds of daemons.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    /// Its name in errors.
    pub(crate) name: &'static str,
    /// Additional arguments of `buildctl build`.
    pub(crate) arguments: &'static [&'static str],
}

const BUILDKITD: Kind = Kind { name: "buildkitd", arguments: &[] };

/// Parts of log lines that tell nothing about the state, and come at any time, also on an empty root:
/// - A client goes away during a health check of its session, which happens every few seconds (BuildKit v0.32.2
///   `session/grpc.go` `monitorHealth`).
/// - A client cancels a request, such as buildkitd at the end of an export (containerd v2.4.2
///   `plugins/services/content/contentserver/contentserver.go` `Write`).
/// - A shim ends while it looks for the next event of its container's cgroup (`pkg/oom/v1/v1.go`
///   `epoller.Run`), or before containerd has removed its container (`core/runtime/v2/binary.go`
///   `Delete`; in v1.6 and v1.7 `runtime/v2/binary.go`, in other words).
const ANY_TIME: [&str; 5] = [
    "msg=\"healthcheck failed\"",
    "context canceled",
    "msg=\"cgroups: epoll wait\" error=shutdown",
    "msg=\"warnings while cleaning up dead shim\"",
    "msg=\"cleanup warnings ",
];

/// A running builder.
#[derive(Debug)]
pub struct Daemon {
    pub(crate) kind: Kind,
    pub(crate) process: Background,
    pub(crate) address: String,
    pub(crate) buildctl: PathBuf,
    pub(crate) root: PathBuf,
    pub(crate) docker: Option<Docker>,
    // It is stopped after the daemon that uses it.
    pub(crate) containerd: Option<Containerd>,
    pub(crate) _socket: TempDir,
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
        Self::start_with(tools, root, registries, "overlayfs", configuration)
    }

    /// Same as [`Daemon::start_configured`], with any snapshotter.
    ///
    /// # Errors
    /// Same as [`Daemon::start`].
    pub fn start_with(
        tools: &Tools,
        root: &Path,
        registries: &[&str],
        snapshotter: &str,
        configuration: &str,
    ) -> Result<Self> {
        let workers = format!("{configuration}[worker.containerd]\n  enabled = false\n");
        let snapshotter = format!("--oci-worker-snapshotter={snapshotter}");
        let arguments = [&*snapshotter, "--oci-worker-net=host"];
        let program = Command::new(&tools.buildkitd);
        Self::launch(tools, program, root, registries, &workers, &arguments, None)
    }

    /// Starts the rootless buildkitd of `user` on `root`, a path in the home directory of that user, with
    /// `snapshotter`. With `auto`, it chooses itself.
    ///
    /// # Errors
    /// Same as [`Daemon::start`].
    pub fn start_rootless(
        tools: &Tools,
        user: &User,
        root: &Path,
        registries: &[&str],
        snapshotter: &str,
    ) -> Result<Self> {
        let name = root.file_name().context("a root without a name")?.to_string_lossy();
        let program = user.rootless(&format!("{name}.rootlesskit"), &user.program("buildkitd"));
        let workers = "[worker.containerd]\n  enabled = false\n";
        let snapshotter = format!("--oci-worker-snapshotter={snapshotter}");
        let arguments = [&*snapshotter, "--oci-worker-net=host"];
        Self::launch(tools, program, root, registries, workers, &arguments, None)
    }

    /// Starts buildkitd on `root` with only the containerd worker, on `containerd`.
    ///
    /// # Errors
    /// Same as [`Daemon::start`].
    pub fn start_on(
        tools: &Tools,
        root: &Path,
        registries: &[&str],
        containerd: Containerd,
    ) -> Result<Self> {
        let worker = format!(
            "[worker.oci]\n  enabled = false\n[worker.containerd]\n  enabled = true\n  \
             address = {:?}\n",
            containerd.address()
        );
        let arguments =
            ["--containerd-worker-snapshotter=overlayfs", "--containerd-worker-net=host"];
        let program = Command::new(&tools.buildkitd);
        Self::launch(tools, program, root, registries, &worker, &arguments, Some(containerd))
    }

    /// Starts `command`, which gets the arguments of a buildkitd.
    fn launch(
        tools: &Tools,
        mut command: Command,
        root: &Path,
        registries: &[&str],
        workers: &str,
        arguments: &[&str],
        containerd: Option<Containerd>,
    ) -> Result<Self> {
        let socket_dir = tempfile::Builder::new().prefix(SOCKETS).tempdir()?;
        if let Some(above) = root.parent() {
            // The user of a rootless daemon, in whose directory the root is.
            let owner = std::fs::metadata(above).with_context(|| above.display().to_string())?;
            chown(socket_dir.path(), Some(owner.uid()), Some(owner.gid()))?;
        }
        // Daemons that start at the same time would compete for the trace collector's default socket.
        let traces = socket_dir.path().join("otel.sock");
        let config = root.with_extension("toml");
        let mut text = format!("{workers}[otel]\n  socketPath = \"{}\"\n", traces.display());
        for registry in registries {
            text += &format!("[registry.\"{registry}\"]\n  http = true\n");
        }
        std::fs::write(&config, text).with_context(|| config.display().to_string())?;
        let socket = socket_dir.path().join("buildkitd.sock");
        let address = format!("unix://{}", socket.display());
        command
            .arg("--config")
            .arg(&config)
            .arg("--root")
            .arg(root)
            .args(["--addr", &address])
            .args(arguments);
        if tools.saves_cache_debug {
            command.arg("--save-cache-debug");
        }
        let mut process = Background::start(&mut command, &root.with_extension("log"))?;
        process.wait_ready(|| UnixStream::connect(&socket).is_ok()).context("buildkitd")?;
        Ok(Self {
            kind: BUILDKITD,
            process,
            address,
            buildctl: tools.buildctl.clone(),
            root: root.to_owned(),
            docker: None,
            containerd,
            _socket: socket_dir,
        })
    }

    /// Returns its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
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

    /// Returns the additional arguments of `buildctl build` that builds on it need.
    #[must_use]
    pub fn build_arguments(&self) -> &'static [&'static str] {
        self.kind.arguments
    }

    /// Returns the client of the Docker Engine that it is part of.
    ///
    /// # Errors
    /// Returns an error if it is a buildkitd.
    pub fn docker(&self) -> Result<&Docker> {
        self.docker.as_ref().context("this is a buildkitd")
    }

    /// Returns the containerd that stores its layers.
    ///
    /// # Errors
    /// Returns an error if it has the OCI worker.
    pub fn containerd(&self) -> Result<&Containerd> {
        self.containerd.as_ref().context("this buildkitd uses no containerd")
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

    /// Kills the daemon in the middle of its work, and stops its containerd.
    ///
    /// # Errors
    /// Returns an error if the system refuses.
    pub fn kill(self) -> Result<()> {
        self.process.kill().context(self.kind.name)
    }

    /// Stops the daemon, then its containerd, and returns the warnings and errors they logged.
    ///
    /// # Errors
    /// Returns an error if one of them does not end, or its log cannot be read.
    pub fn stop(self) -> Result<BTreeSet<String>> {
        let mut found = stop(self.process, &self.root).context(self.kind.name)?;
        if let Some(containerd) = self.containerd {
            found.append(&mut containerd.stop()?);
        }
        Ok(found)
    }
}

/// Stops a daemon that uses `root`, and returns the kinds of warnings and errors in its log.
///
/// # Errors
/// Returns an error if it does not end, or its log cannot be read.
pub(crate) fn stop(daemon: Background, root: &Path) -> Result<BTreeSet<String>> {
    let (before, after) = daemon.stop()?;
    // A daemon that was asked to stop complains about interrupted work, such as the garbage collection that
    // runs a second after a build. From there on only a crash counts.
    let crashes = after.lines().filter(|line| is_loud(line)).map(str::to_owned);
    let root = root.display().to_string();
    Ok(before.lines().filter_map(|line| complaint(line, &root)).chain(crashes).collect())
}

/// Returns the kind of warning or error in a line of the log: its message and its error text, without the
/// parts that differ between runs (paths below the root, ids, digests, numbers).
fn complaint(line: &str, root: &str) -> Option<String> {
    let level = ["level=warning", "level=error", "level=fatal"];
    let has = |marker: &&str| line.contains(*marker);
    let told = level.iter().any(has) && !ANY_TIME.iter().any(has);
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

/// Replaces the variable part of a word of the log: words with digits or a temporary directory, except keys.
fn generalise(word: &str) -> &str {
    let varies = |text: &str| text.contains(|c: char| c.is_ascii_digit()) || text.contains(SOCKETS);
    match word.split_once('=') {
        Some((key, value)) if varies(value) => key,
        None if varies(word) => "#",
        _ => word,
    }
}
