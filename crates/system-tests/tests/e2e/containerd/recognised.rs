//! The release of BuildKit in the program of an engine.

use std::fs;
use std::process::Command;

use anyhow::{Result, ensure};
use testkit::engine::Release;
use testkit::schema;

use crate::damage::FIXTURE;
use crate::world::World;

/// Checks that the release is found in the image of a machine with the engine.
pub(crate) fn prove(world: &World, engine: Release) -> Result<()> {
    let machine = tempfile::Builder::new().prefix("machine").tempdir_in(world.scratch())?;
    let machine = machine.path();
    fs::create_dir_all(machine.join("usr/bin"))?;
    let program = machine.join("usr/bin/dockerd");
    // A link would lead to a file of the image.
    fs::copy(engine.dockerd(&world.tools)?, &program)?;
    let mut command = Command::new(&world.tools.oci2bk);
    command.args(["convert", "--progress=quiet", "--dry-run", "--format=json", "--engine"]);
    command.arg("--docker-root").arg(machine.join("var/lib/docker"));
    command.arg("--containerd-root").arg(machine.join("var/lib/containerd"));
    let plan = schema::run(command.arg(format!("{FIXTURE}/cache")))?;
    ensure!(
        plan["buildkit"] == engine.buildkit(),
        "{} instead of {}",
        plan["buildkit"],
        engine.buildkit()
    );
    ensure!(plan["dockerd"].as_str() == program.to_str(), "the program is {}", plan["dockerd"]);
    Ok(())
}
