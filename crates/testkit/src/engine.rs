//! A Docker Engine on a root of its own, which keeps its images and the layers of its builder in a containerd.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::bridge;
use crate::containerd::Containerd;
use crate::daemon::{Daemon, Kind, SOCKETS};
use crate::process::{Background, run};
use crate::tools::{self, Tools};

/// What it logs when it is asked to stop.
const STOPPING: &str = "msg=\"Processing signal";

/// How builds get at a network: as there is no bridge, a step that runs has none.
const WITHOUT_NETWORK: &[&str] = &["--opt", "force-network-mode=none"];

/// What the engine does not do here: change the machine's network.
const ARGUMENTS: [&str; 5] = [
    "--bridge=none",
    "--iptables=false",
    "--ip6tables=false",
    "--ip-forward=false",
    "--userland-proxy=false",
];

/// The directory of the builder in that of the engine.
pub const BUILDER: &str = "buildkit";

/// The containerd namespace of the engine (moby v2.0.0-beta.24 `daemon/config/config.go`, and before).
pub const NAMESPACE: &str = "moby";

/// A release of Docker Engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Release {
    /// The set of tools with it.
    set: &'static str,
    /// What the set pins.
    pins: &'static str,
    /// Whether it keeps images in containerd, and serves its builder on its own socket, unasked.
    is_modern: bool,
}

impl Release {
    /// The newest.
    pub const NEWEST: Self = Self {
        set: "engine",
        pins: include_str!("../../../oracle/engine/go.mod"),
        is_modern: true,
    };

    /// The last of 28.
    pub const V28: Self = Self {
        set: "engine-v28",
        pins: include_str!("../../../oracle/engine-v28/go.mod"),
        is_modern: false,
    };

    /// The release of BuildKit in it, such as `v0.33.0`.
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
    /// A command of it that talks to the engine.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        let host = format!("unix://{}", self.socket.display());
        command.env("DOCKER_CONFIG", &self.config).env("DOCKER_HOST", host);
        command
    }
}

/// Starts an engine on `root` and a containerd. The daemon is its builder.
///
/// The log lies beside the root. Sockets, configuration and state lie in a directory of their own that goes with it.
///
/// # Errors
/// If the tools are not there, it cannot be started, ends early or is not ready within a minute; its log is
/// part of the error.
pub fn start(
    tools: &Tools,
    release: Release,
    root: &Path,
    containerd: Containerd,
) -> Result<Daemon> {
    let program = |set: &str, name: &str| {
        let script = format!("scripts/oracle {set}");
        tools.extra(&format!("{set}/{name}"), &script).map_err(anyhow::Error::msg)
    };
    let dockerd = program(release.set, "dockerd")?;
    // The client of the newest release speaks to older ones.
    let client = program(Release::NEWEST.set, "docker")?;
    let dir = tempfile::Builder::new().prefix(SOCKETS).tempdir()?;
    let path = |name: &str| dir.path().join(name);
    let socket = path("docker.sock");
    let config = if release.is_modern {
        // runc fails on kernels without them, whatever the engine found (`daemon/daemon_unix.go`).
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
    // It listens before it answers.
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
        kind: Kind { name: "dockerd", stopping: STOPPING, arguments: WITHOUT_NETWORK },
        process,
        address: format!("unix://{}", address.display()),
        buildctl: tools.buildctl.clone(),
        root: root.join(BUILDER),
        docker: Some(docker),
        containerd: Some(containerd),
        _socket: dir,
    })
}
