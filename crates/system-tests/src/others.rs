//! An image and a stopped container of another program in the containerd of a builder. The files that the
//! container wrote are in a snapshot.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use testkit::Daemon;
use testkit::engine::Docker;
use testkit::process::run;

use crate::host::Host;

/// The namespace of the other program, unless that is the engine, which has the builder's.
pub const NAMESPACE: &str = "other";
/// The name of its image.
pub const IMAGE: &str = "localhost/other:1";
/// The name of its container.
const CONTAINER: &str = "kept";

/// The command of the container: it prints the file of the previous run, and writes the file.
const PROGRAM: [&str; 3] = ["/bin/sh", "-c", "cat /kept 2>/dev/null; echo kept > /kept"];

/// The image and the container.
#[derive(Clone, Copy, Debug)]
pub struct Others {
    /// Whether they belong to the engine.
    pub in_engine: bool,
}

impl Others {
    /// Creates them in the containerd of `daemon`, which is of the kind `host`, from an archive of `docker save`
    /// with [`IMAGE`]. On an engine they belong to the engine, because its builder has the same namespace.
    ///
    /// # Errors
    /// Returns an error if a program fails, or the container does not run.
    pub fn add(host: Host, daemon: &Daemon, archive: &Path) -> Result<Self> {
        let in_engine = matches!(host, Host::Engine { .. });
        let first = if in_engine {
            let docker = || daemon.docker().map(Docker::command);
            run(docker()?.args(["load", "--input"]).arg(archive))?;
            let words = ["run", "--network=none", "--name", CONTAINER, IMAGE];
            run(docker()?.args(words).args(PROGRAM))?
        } else {
            let containerd = daemon.containerd()?;
            run(containerd.ctr(NAMESPACE).args(["images", "import"]).arg(archive))?;
            run(containerd.ctr(NAMESPACE).args(["run", IMAGE, CONTAINER]).args(PROGRAM))?
        };
        ensure!(first.is_empty(), "the container printed {first:?}");
        Ok(Self { in_engine })
    }

    /// Checks that both exist, and that the container still has its file.
    ///
    /// # Errors
    /// Returns an error if something is missing.
    pub fn ensure_whole(self, daemon: &Daemon) -> Result<()> {
        let again = if self.in_engine {
            let docker = || daemon.docker().map(Docker::command);
            let format = "--format={{.Repository}}:{{.Tag}}";
            let images = run(docker()?.args(["images", format]))?;
            ensure!(images.lines().any(|image| image == IMAGE), "the images are {images}");
            run(docker()?.args(["start", "--attach", CONTAINER]))?
        } else {
            let containerd = daemon.containerd()?;
            let images = containerd.list(NAMESPACE, "images")?;
            ensure!(images.contains(IMAGE), "the images are {images:?}");
            let checked = run(containerd.ctr(NAMESPACE).args(["images", "check"]))?;
            ensure!(checked.contains(" complete ("), "{checked}");
            let containers = containerd.list(NAMESPACE, "containers")?;
            ensure!(containers.contains(CONTAINER), "the containers are {containers:?}");
            run(containerd.ctr(NAMESPACE).args(["tasks", "start", CONTAINER]))
                .context("the container's second run")?
        };
        ensure!(again == "kept\n", "the container printed {again:?}");
        Ok(())
    }
}
