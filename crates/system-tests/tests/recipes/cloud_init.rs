//! `examples/cloud-init`: validated by cloud-init, and run as the script that cloud-init generates from it.

use std::fs;
use std::process::Command;

use anyhow::{Result, ensure};
use testkit::process::run;

use crate::sandbox::Sandbox;
use crate::world::{PLACEHOLDER, World, example};

/// Turns `runcmd` into the script that the module of that name runs.
const SHELLIFY: &str = "import sys, yaml\nfrom cloudinit.util import shellify\n\
    sys.stdout.write(shellify(yaml.safe_load(open(sys.argv[1]))['runcmd']))\n";

pub(crate) fn prove(world: &World) -> Result<()> {
    let data = example("cloud-init").join("user-data.yaml");
    let modules = world.tool("cloud-init/usr/lib/python3/dist-packages")?;
    let python = || -> Result<Command> {
        let mut command = Command::new(world.tool("python/bin/python")?);
        command.env("PYTHONPATH", &modules);
        Ok(command)
    };
    let schema = ["-m", "cloudinit.cmd.main", "schema", "--config-file"];
    run(python()?.args(schema).arg(&data))?;

    let script = run(python()?.args(["-c", SHELLIFY]).arg(&data))?;
    let filled = script.replace(PLACEHOLDER, &world.cache());
    ensure!(filled != script, "the cache has another name");
    let sandbox = Sandbox::new(world, "cloud-init", true)?;
    run(sandbox.command("sh").args(["-c", &filled]))?;
    let calls = fs::read_to_string(sandbox.home().join("systemctl.log"))?;
    ensure!(calls == "enable --now buildkit.service\n", "{calls}");
    let left = sandbox.outside("/var/tmp/oci2bk");
    ensure!(!left.exists(), "{} is left", left.display());
    world.ensure_warm(&sandbox.state())
}
