//! Runs buildkitd to import and extract a cache.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::cache::Cache;
use crate::process::run;

/// A running buildkitd, stopped when dropped.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
    address: String,
    tools: PathBuf,
}

impl Daemon {
    /// Starts the buildkitd in `tools` on a new root in `dir`, and waits until it responds.
    pub(crate) fn start(tools: &Path, dir: &Path) -> Result<Self> {
        let config = dir.join("buildkitd.toml");
        let traces = dir.join("otel.sock").display().to_string();
        // Garbage collection would start while layers are extracted.
        let text = format!(
            "[worker.oci]\n  gc = false\n[worker.containerd]\n  enabled = false\n\
             [otel]\n  socketPath = \"{traces}\"\n"
        );
        fs::write(&config, text)?;
        let socket = dir.join("buildkitd.sock");
        let log = File::create(dir.join("buildkitd.log"))?;
        let address = format!("unix://{}", socket.display());
        let mut command = Command::new(tools.join("buildkitd"));
        command.arg("--config").arg(config).arg("--root").arg(dir.join("root"));
        command.args(["--addr", &address, "--oci-worker-snapshotter=overlayfs"]);
        command.args(["--oci-worker-net=host"]).stdin(Stdio::null());
        let child = command.stdout(log.try_clone()?).stderr(log).spawn().context("buildkitd")?;
        let mut daemon = Self { child, address, tools: tools.to_owned() };
        for _ in 0..500 {
            if UnixStream::connect(&socket).is_ok() {
                run(daemon.buildctl().args(["debug", "workers"]))?;
                return Ok(daemon);
            }
            ensure!(daemon.child.try_wait()?.is_none(), "buildkitd has ended");
            std::thread::sleep(Duration::from_millis(20));
        }
        anyhow::bail!("buildkitd does not answer")
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns a client for it.
    pub(crate) fn buildctl(&self) -> Command {
        let mut command = Command::new(self.tools.join("buildctl"));
        command.args(["--addr", &self.address]);
        command
    }

    /// Runs the build of `cache` with the cache imported. The one step that is not in the cache has to run,
    /// so every layer must be extracted.
    pub(crate) fn import(&self, cache: &Cache) -> Result<()> {
        let import = format!("type=local,src={}", cache.layout.display());
        let mut build = self.buildctl();
        build.args(["build", "--progress=plain", "--import-cache", &import]);
        let output = run(build.stdin(File::open(&cache.build)?))?;
        let extracted = cache.layers.iter().all(|layer| {
            let line = format!(" extracting {}", layer.digest);
            output.lines().any(|said| said.contains(&line))
        });
        ensure!(extracted, "a layer was not extracted:\n{output}");
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(id) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // Nothing to stop if it has ended by itself.
            let _ = kill_process(id, Signal::TERM);
        }
        let _ = self.child.wait();
    }
}
