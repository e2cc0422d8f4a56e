//! Starts a Docker Engine with its own root. Its images, and the layers of its builder, are in a containerd.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::bridge;
use crate::containerd::Containerd;
use crate::daemon::{Daemon, Kind, SOCKETS};
use crate::process::{Background, run};
use crate::tools::{self, Tools};

/// Arguments of builds. There is no bridge, so steps run without a network.
const WITHOUT_NETWORK: &[&str] = &["--opt", "force-network-mode=none"];

/// Arguments that keep the engine from changing the network of the machine.
const ARGUMENTS: [&str; 5] = [
    "--bridge=none",
    "--iptables=false",
    "--ip6tables=false",
    "--ip-forward=false",
    "--userland-proxy=false",
];

/// The directory of the builder in the data root.
pub const BUILDER: &str = "buildkit";

/// The containerd namespace of the engine (moby v2.0.0-beta.24 and older releases:
/// `daemon/config/config.go`).
pub const NAMESPACE: &str = "moby";

/// A release of Docker Engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Release {
    /// The set of tools with this release.
    set: &'static str,
    /// The `go.mod` of the set.
    pins: &'static str,
    /// Whether it stores images in containerd by default, and serves the BuildKit API on its own socket.
    is_modern: bool,
}

impl Release {
    /// The newest release.
    pub const NEWEST: Self = Self {
        set: "engine",
        pins: include_str!("../../../oracle/engine/go.mod"),
        is_modern: true,
    };

    /// The last release of Docker Engine 28.
    pub const V28: Self = Self {
        set: "engine-v28",
        pins: include_str!("../../../oracle/engine-v28/go.mod"),
        is_modern: false,
    };

    /// Returns the path of its `dockerd`.
    ///
    /// # Errors
    /// Returns an error if the tools are missing.
    pub fn dockerd(self, tools: &Tools) -> Result<PathBuf> {
        program(tools, self.set, "dockerd")
    }

    /// Returns the release of BuildKit that it contains, such as `v0.33.0`.
    #[must_use]
    pub fn buildkit(self) -> &'static str {
        tools::buildkit_in(self.pins)
    }
}

/// The client of an engine.
#[derive(Clone, Debug)]
pub struct Docker {
    program: PathBuf,
    socket: PathBuf,
    config: PathBuf,
}

impl Docker {
    /// Returns a `docker` command that connects to the engine.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        let host = format!("unix://{}", self.socket.display());
        command.env("DOCKER_CONFIG", &self.config).env("DOCKER_HOST", host);
        command
    }
}

/// Returns the path of a program of a set of tools.
fn program(tools: &Tools, set: &str, name: &str) -> Result<PathBuf> {
    let script = format!("scripts/oracle {set}");
    tools.extra(&format!("{set}/{name}"), &script).map_err(anyhow::Error::msg)
}

/// Starts an engine with the data root `root` on `containerd`. The returned daemon is the builder of the
/// engine.
///
/// The log is beside the root. Sockets, configuration and state are in a temporary directory, which is
/// removed with the daemon.
///
/// # Errors
/// Returns an error if the tools are missing, or if it cannot be started, ends early or is not ready within a
/// minute; the error includes its log.
pub fn start(
    tools: &Tools,
    release: Release,
    root: &Path,
    containerd: Containerd,
) -> Result<Daemon> {
    let dockerd = release.dockerd(tools)?;
    // The newest client also works with older engines.
    let client = program(tools, Release::NEWEST.set, "docker")?;
    let dir = tempfile::Builder::new().prefix(SOCKETS).tempdir()?;
    let path = |name: &str| dir.path().join(name);
    let socket = path("docker.sock");
    let config = if release.is_modern {
        // Without this, runc fails on kernels without time namespaces, even if the engine detected that
        // (`daemon/daemon_unix.go`).
        r#"{"features": {"time-namespaces": false}}"#
    } else {
        r#"{"features": {"containerd-snapshotter": true}}"#
    };
    std::fs::write(path("daemon.json"), config)?;
    let plugins = path("client").join("cli-plugins");
    std::fs::create_dir_all(&plugins)?;
    std::os::unix::fs::symlink(tools.buildx.canonicalize()?, plugins.join("docker-buildx"))?;
    let mut command = Command::new(dockerd);
    command.arg("--config-file").arg(path("daemon.json"));
    command.arg("--data-root").arg(root).arg("--exec-root").arg(path("exec"));
    command.arg("--pidfile").arg(path("docker.pid"));
    command.arg(format!("--host=unix://{}", socket.display()));
    command.arg("--containerd").arg(containerd.address()).args(ARGUMENTS);
    let docker = Docker { program: client, socket, config: path("client") };
    let mut process = Background::start(&mut command, &root.with_extension("log"))?;
    // It accepts connections before it can answer.
    let answers = || run(docker.command().arg("version")).is_ok();
    process.wait_ready(answers).context("dockerd")?;
    let address = if release.is_modern {
        docker.socket.clone()
    } else {
        let bridged = path("builder.sock");
        bridge::serve(&bridged, &docker.socket)?;
        bridged
    };
    Ok(Daemon {
        kind: Kind { name: "dockerd", arguments: WITHOUT_NETWORK },
        process,
        address: format!("unix://{}", address.display()),
        buildctl: tools.buildctl.clone(),
        root: root.join(BUILDER),
        docker: Some(docker),
        containerd: Some(containerd),
        _socket: dir,
    })
}
