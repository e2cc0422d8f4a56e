//! `examples/ansible`: each playbook is run on a sandbox while its builder runs; two of them twice.

use std::fs;
use std::process::Command;

use anyhow::{Result, ensure};
use testkit::Daemon;
use testkit::process::run;

use crate::builders::Builder;
use crate::sandbox::Sandbox;
use crate::world::{World, example};

pub(crate) fn prove(world: &World) -> Result<()> {
    let playbook = Playbook::new(world, Builder::Buildkitd, "playbook.yml")?;
    let warm = playbook.prove_warm()?;
    playbook.prove_repeatable(warm)
}

pub(crate) fn prove_containerd(world: &World) -> Result<()> {
    let playbook = Playbook::new(world, Builder::Worker, "containerd.yml")?;
    playbook.prove_warm()?.stop().map(drop)
}

pub(crate) fn prove_engine(world: &World) -> Result<()> {
    let playbook = Playbook::new(world, Builder::Engine, "engine.yml")?;
    let warm = playbook.prove_warm()?;
    playbook.prove_repeatable(warm)
}

/// A playbook and the machine that it is run on.
struct Playbook<'a> {
    world: &'a World,
    builder: Builder,
    name: &'static str,
    sandbox: Sandbox,
}

impl<'a> Playbook<'a> {
    fn new(world: &'a World, builder: Builder, name: &'static str) -> Result<Self> {
        let sandbox = Sandbox::new(world, "ansible", false)?;
        let dir = sandbox.workspace()?;
        world.put_programs(&dir.join("bin"))?;
        for file in [name, "warm.yml"] {
            fs::copy(example("ansible").join(file), dir.join(file))?;
        }
        let python = world.tool("python/bin/python")?;
        let inventory = format!(
            "[builders]\nlocalhost ansible_connection=local ansible_python_interpreter={}\n",
            python.display()
        );
        fs::write(dir.join("inventory"), inventory)?;
        Ok(Self { world, builder, name, sandbox })
    }

    fn play(&self) -> Result<String> {
        let ansible = self.world.tool("python/bin/ansible-playbook")?;
        let mut command: Command = self.sandbox.command(&ansible);
        command.args(["--inventory", "inventory", self.name, "--extra-vars"]);
        command.arg(format!("cache={}", self.world.cache()));
        command
            .env("ANSIBLE_NOCOLOR", "1")
            .env("LC_ALL", "C.UTF-8")
            .env("ANSIBLE_HOME", self.sandbox.home());
        run(command.current_dir(self.sandbox.workspace()?))
    }

    /// Runs it while a new builder runs. Returns the builder, which has all steps cached then.
    fn prove_warm(&self) -> Result<Daemon> {
        let unused = self.builder.start(self.world, &self.sandbox)?;
        self.play()?;
        unused.stop()?;
        self.ensure_order()?;
        let warm = self.builder.start(self.world, &self.sandbox)?;
        self.world.ensure_cached(&warm)?;
        Ok(warm)
    }

    /// A second run changes nothing.
    fn prove_repeatable(&self, warm: Daemon) -> Result<()> {
        let again = self.play()?;
        ensure!(again.contains(" changed=0 "), "the second run changes something:\n{again}");
        warm.stop().map(drop)
    }

    /// The socket, which starts the daemon again, is stopped before the daemon. The daemon runs only while
    /// what is below it does.
    fn ensure_order(&self) -> Result<()> {
        let call = |verb: &str, unit: &str| format!("{verb} {unit}");
        let units = ["socket", "service"].map(|kind| format!("{}.{kind}", self.builder.unit()));
        let below = self.builder.below();
        let mut expected: Vec<_> = units.iter().map(|unit| call("stop", unit)).collect();
        expected.extend(below.iter().map(|unit| call("stop", unit)));
        expected.extend(below.iter().map(|unit| call("start", unit)));
        expected.extend(units.iter().map(|unit| call("start", unit)));
        let calls = self.sandbox.calls()?;
        ensure!(calls == expected, "{calls:?}");
        Ok(())
    }
}
