//! `examples/github-actions`: checked by actionlint; its own steps, run one after another, make the cache for
//! all other recipes.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use testkit::process::run;
use testkit::{Daemon, schema};

use crate::sandbox::Sandbox;
use crate::world::{World, example};

const WORKFLOW: &str = "warm-cache.yml";

/// The step whose result a sandbox has already.
const INSTALLATION: &str = "Install oci2bk";

/// The step that takes the cache mounts of the builder, which has another root here.
const MOUNTS: &str = "Attach the cache mounts";

/// A script that runs a plug-in of Docker's client.
const DOCKER: &str = "#!/bin/sh\n[ \"$1\" = buildx ] && shift\nexec buildx \"$@\"\n";

/// Runs the steps of the workflow on the project.
pub(crate) fn publish(world: &World) -> Result<()> {
    let workflow = world.yaml(&example("github-actions").join(WORKFLOW))?;
    let sandbox = Sandbox::new(world, "actions", true)?;
    sandbox.script("docker", DOCKER)?;
    fs::copy(&world.tools.buildx, sandbox.outside("/usr/local/bin/buildx"))?;
    let donor = sandbox.home().join("donor");
    let mut daemon = Some(world.start(&donor)?);
    let on_runner = |program: &str| {
        let mut command = sandbox.command(program);
        command.current_dir(world.project());
        command.env("BUILDX_CONFIG", sandbox.home().join("buildx"));
        command.env("DOCKER_CONFIG", sandbox.home().join("docker"));
        command
    };
    let create = ["buildx", "create", "--name", "runner", "--use", "--driver", "remote"];
    let address = daemon.as_ref().map(|daemon| daemon.address().to_owned());
    run(on_runner("docker").args(create).args(address))?;

    let steps = workflow["jobs"]["cache"]["steps"].as_array().context("no steps")?;
    let installation = steps.iter().find(|step| step["name"] == INSTALLATION);
    let version = installation.map(|step| &step["env"]["VERSION"]).context("no installation")?;
    ensure!(version == env!("CARGO_PKG_VERSION"), "the workflow installs version {version}");
    let mut ran = 0;
    for step in steps.iter().filter(|step| step["name"] != INSTALLATION) {
        let Some(script) = step["run"].as_str() else { continue };
        let mut command = on_runner("bash");
        command.args(["-e", "-c", script]).env("CACHE", world.cache());
        for (name, value) in step["env"].as_object().into_iter().flatten() {
            command.env(name, value.as_str().context("an environment variable")?);
        }
        if step["name"] == MOUNTS {
            command.env("ROOT", &donor);
            daemon.take().map(Daemon::stop).transpose()?;
        }
        run(&mut command)?;
        ran += 1;
    }
    ensure!(ran == 4, "{ran} steps were run");
    for made in ["cache", "metadata.json"] {
        run(Command::new("rm").arg("-r").arg(world.project().join(made)))?;
    }
    Ok(())
}

pub(crate) fn prove(world: &World) -> Result<()> {
    run(Command::new(world.tool("recipes/actionlint")?)
        .args(["-shellcheck=", "-pyflakes="])
        .arg(example("github-actions").join(WORKFLOW)))?;
    let sandbox = Sandbox::new(world, "pushed", true)?;
    let cache = "ocidir:///var/tmp/cache:latest";
    run(sandbox
        .command("regctl")
        .args(["image", "copy", "--referrers"])
        .args([&world.cache(), cache]))?;
    let report = run(sandbox
        .command("oci2bk")
        .args(["convert", "--progress=quiet", "--format=json"])
        .args(["/var/tmp/cache", "/var/lib/buildkit"]))?;
    let report: Value = serde_json::from_str(&report)?;
    schema::ensure_valid("convert.json", &report)?;
    ensure!(report["step_counts"]["unkeyed"] == 0, "{report:#}");
    world.ensure_warm(&sandbox.state())
}
