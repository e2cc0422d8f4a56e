//! The builders of sandboxes: daemons that run when a recipe comes, and that it has to stop.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use testkit::{Containerd, Daemon, containerd, engine};

use crate::sandbox::Sandbox;
use crate::world::World;

/// A kind of builder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Builder {
    /// A buildkitd with the OCI worker.
    Buildkitd,
    /// A buildkitd with the containerd worker.
    Worker,
    /// The builder in Docker Engine.
    Engine,
}

impl Builder {
    /// Returns the names of its units without their kinds.
    pub(crate) fn unit(self) -> &'static str {
        if self == Self::Engine { "docker" } else { "buildkit" }
    }

    /// Returns the services whose databases it uses.
    pub(crate) fn below(self) -> &'static [&'static str] {
        if self == Self::Buildkitd { &[] } else { &["containerd.service"] }
    }

    /// Starts it on the machine's state, as systemd would. Stopping its units ends it.
    pub(crate) fn start(self, world: &World, sandbox: &Sandbox) -> Result<Daemon> {
        let daemon = if self == Self::Buildkitd {
            world.start(&sandbox.state())?
        } else {
            let root = sandbox.outside("/var/lib/containerd");
            let containerd = Containerd::start(&world.tools, containerd::NEWEST, &root)?;
            self.start_on(world, sandbox, containerd)?
        };
        sandbox.activate(&format!("{}.socket", self.unit()), None)?;
        sandbox.activate(&format!("{}.service", self.unit()), Some(daemon.id()))?;
        for service in self.below() {
            sandbox.activate(service, Some(daemon.containerd()?.id()))?;
        }
        Ok(daemon)
    }

    fn start_on(self, world: &World, sandbox: &Sandbox, containerd: Containerd) -> Result<Daemon> {
        if self == Self::Worker {
            let registries = [world.registry()];
            return Daemon::start_on(&world.tools, &sandbox.state(), &registries, containerd);
        }
        let root = sandbox.outside("/var/lib/docker");
        let daemon = engine::start(&world.tools, engine::Release::NEWEST, &root, containerd)?;
        let client = daemon.docker()?.command();
        let mut script = "#!/bin/sh\n".to_owned();
        for (name, value) in client.get_envs() {
            let value = value.context("a variable that is removed")?;
            writeln!(script, "export {}='{}'", name.display(), value.display())?;
        }
        let program = std::path::absolute(client.get_program())?;
        writeln!(script, "exec '{}' \"$@\"", program.display())?;
        sandbox.script("docker", &script)?;
        Ok(daemon)
    }
}
