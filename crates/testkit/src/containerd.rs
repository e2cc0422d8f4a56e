//! Starts a containerd with its own root, which stores the layers of a builder.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::daemon::{self, SOCKETS};
use crate::process::{Background, run};
use crate::tools::Tools;

/// The set of tools with the newest release of containerd.
pub const NEWEST: &str = "containerd";
/// The set of tools with the last release of containerd 1.7.
pub const V1_7: &str = "containerd-v1.7";
/// The set of tools with the last release of containerd 1.6 that the Go module proxy has.
pub const V1_6: &str = "containerd-v1.6";

/// Plugins that use paths outside the root: the socket of the node resource interface, and `/opt/containerd`.
const DISABLED: [&str; 4] = [
    "io.containerd.nri.v1.nri",
    "io.containerd.internal.v1.opt",
    "io.containerd.grpc.v1.cri",
    "io.containerd.image-verifier.v1.bindir",
];

/// A running containerd.
#[derive(Debug)]
pub struct Containerd {
    process: Background,
    root: PathBuf,
    address: PathBuf,
    ctr: PathBuf,
    _state: TempDir,
}

impl Containerd {
    /// Starts the containerd of a set of tools on `root`.
    ///
    /// The log is beside the root. State, sockets and configuration are in a temporary directory, which is
    /// removed with the value. (Shims and runc always keep the sockets and the state of running containers in
    /// `/run/containerd`: containerd v2.4.2 `pkg/shim/util_unix.go`.)
    ///
    /// # Errors
    /// Returns an error if the tools are missing, or if it cannot be started, ends early or is not ready
    /// within a minute; the error includes its log.
    pub fn start(tools: &Tools, set: &str, root: &Path) -> Result<Self> {
        let program = |name: &str| {
            tools
                .extra(&format!("{set}/{name}"), &format!("scripts/oracle {set}"))
                .map_err(anyhow::Error::msg)
        };
        let (containerd, ctr) = (program("containerd")?, program("ctr")?);
        let state = tempfile::Builder::new().prefix(SOCKETS).tempdir()?;
        let address = state.path().join("containerd.sock");
        let config = state.path().join("config.toml");
        // containerd 1.7 and 2 both support this version.
        let text = format!(
            "version = 2\nroot = {root:?}\nstate = {:?}\ndisabled_plugins = {DISABLED:?}\n\
             [grpc]\n  address = {address:?}\n",
            state.path().join("state"),
        );
        std::fs::write(&config, text).with_context(|| config.display().to_string())?;
        let mut command = Command::new(&containerd);
        command.arg("--config").arg(&config).env("PATH", path_with(&containerd));
        let mut process = Background::start(&mut command, &root.with_extension("log"))?;
        process.wait_ready(|| UnixStream::connect(&address).is_ok()).context("containerd")?;
        Ok(Self { process, root: root.to_owned(), address, ctr, _state: state })
    }

    /// Returns its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Returns the path of its socket.
    #[must_use]
    pub fn address(&self) -> &Path {
        &self.address
    }

    /// Returns the directory of its content, snapshots and metadata.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns a `ctr` command for a namespace.
    #[must_use]
    pub fn ctr(&self, namespace: &str) -> Command {
        let mut command = Command::new(&self.ctr);
        command.arg("--address").arg(&self.address).args(["--namespace", namespace]);
        command
    }

    /// Returns the output lines of `ctr WHAT ls --quiet` in a namespace: the names of images, or the ids of
    /// containers or leases.
    ///
    /// # Errors
    /// Returns an error if ctr fails.
    pub fn list(&self, namespace: &str, what: &str) -> Result<BTreeSet<String>> {
        let listed = run(self.ctr(namespace).args([what, "ls", "--quiet"]))?;
        Ok(listed.lines().map(str::to_owned).collect())
    }

    /// Returns everything that it has printed so far.
    ///
    /// # Errors
    /// Returns an error if the log cannot be read.
    pub fn log(&self) -> Result<String> {
        self.process.log()
    }

    /// Kills it. Containers keep running.
    ///
    /// # Errors
    /// Returns an error if the system refuses.
    pub fn kill(self) -> Result<()> {
        self.process.kill().context("containerd")
    }

    /// Stops it and returns the warnings and errors it logged. Containers keep running.
    ///
    /// # Errors
    /// Returns an error if it does not end, or its log cannot be read.
    pub fn stop(self) -> Result<BTreeSet<String>> {
        daemon::stop(self.process, &self.root).context("containerd")
    }
}

/// Returns a `PATH` with the directory of the program before all others: containerd finds its shim through
/// `PATH`.
fn path_with(program: &Path) -> OsString {
    let mut path = program.parent().unwrap_or(program).as_os_str().to_owned();
    if let Some(others) = std::env::var_os("PATH") {
        path.push(":");
        path.push(others);
    }
    path
}
