//! `examples/github-actions`: checked by actionlint; the steps of the workflow and of our actions, run one after another,
//! make the cache for all other recipes.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use testkit::process::run;
use testkit::{Daemon, schema};

use crate::composite::{self, Expressions};
use crate::sandbox::Sandbox;
use crate::world::{World, example};

const WORKFLOW: &str = "warm-cache.yml";

/// The root of the builder, as the driver docker-container names it.
const VOLUME: &str = "/var/lib/docker/volumes/buildx_buildkit_runner0_state/_data";

/// The steps of our actions.
const INSTALLATION: &str = "Install oci2bk";
const KEYS: &str = "Attach the keys to the cache";
const MOUNTS: &str = "Attach the cache mounts";
const PUSH: &str = "Push all";

/// What GitHub has for a release: the files of a directory, in place of those that have a URL.
const CURL: &str = "#!/bin/bash\nfor url; do case $url in http*) cp \"$HOME/release/${url##*/}\" . ;; esac; done\n";

/// A script that runs a plug-in of Docker's client.
const DOCKER: &str = "#!/bin/sh\n[ \"$1\" = buildx ] && shift\nexec buildx \"$@\"\n";

/// Runs the steps of the workflow on the project.
pub(crate) fn publish(world: &World) -> Result<()> {
    let workflow = world.yaml(&example("github-actions").join(WORKFLOW))?;
    let sandbox = Sandbox::new(world, "actions", true)?;
    sandbox.script("docker", DOCKER)?;
    fs::copy(&world.tools.buildx, sandbox.outside("/usr/local/bin/buildx"))?;
    let donor = sandbox.outside(VOLUME);
    fs::create_dir_all(&donor)?;
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

    let known = Expressions::from([
        ("env.CACHE".to_owned(), world.cache()),
        ("steps.buildx.outputs.name".to_owned(), "runner".to_owned()),
        ("runner.arch".to_owned(), "X64".to_owned()),
    ]);
    let steps = workflow["jobs"]["cache"]["steps"].as_array().context("no steps")?;
    let mut ran = Vec::new();
    for step in steps {
        if let Some(script) = step["run"].as_str() {
            let mut command = on_runner("bash");
            command.args(["-e", "-c", script]);
            for (name, value) in step["env"].as_object().into_iter().flatten() {
                command.env(name, value.as_str().context("an environment variable")?);
            }
            run(&mut command)?;
            ran.push(step["name"].as_str().unwrap_or_default().to_owned());
        }
        for script in composite::scripts(world, step, &known)? {
            // The sandbox has the command already.
            if script.name != INSTALLATION {
                if script.name == MOUNTS {
                    daemon.take().map(Daemon::stop).transpose()?;
                }
                run(on_runner("bash")
                    .args(["-e", "-o", "pipefail", "-c", &script.run])
                    .envs(script.env))?;
            }
            ran.push(script.name);
        }
    }
    ensure!(ran == [INSTALLATION, "Build", KEYS, MOUNTS, PUSH], "{ran:?} were run");
    for made in ["cache", "metadata.json"] {
        run(Command::new("rm").arg("-r").arg(world.project().join(made)))?;
    }
    Ok(())
}

pub(crate) fn prove(world: &World) -> Result<()> {
    run(Command::new(world.tool("recipes/actionlint")?)
        .args(["-shellcheck=", "-pyflakes="])
        .arg(example("github-actions").join(WORKFLOW)))?;
    prove_installation(world)?;
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

/// Runs the action that installs the command, for each architecture of a release, for another one, and with an archive that is not
/// the one of the release.
fn prove_installation(world: &World) -> Result<()> {
    let workflow = world.yaml(&example("github-actions").join(WORKFLOW))?;
    let version = env!("CARGO_PKG_VERSION");
    let release = |sandbox: &Sandbox, listed: &str| -> Result<()> {
        let dir = sandbox.home().join("release");
        for machine in ["x86_64", "aarch64"] {
            let name = format!("oci2bk-{version}-{machine}-linux");
            let program = dir.join(&name).join("bin/oci2bk");
            fs::create_dir_all(program.with_file_name(""))?;
            fs::write(&program, format!("#!/bin/sh\necho for {machine}\n"))?;
            run(Command::new("chmod").arg("755").arg(&program))?;
            run(Command::new("tar")
                .arg("-C")
                .arg(&dir)
                .args(["-czf"])
                .arg(dir.join(format!("{name}.tar.gz")))
                .arg(&name))?;
        }
        let sums = run(Command::new("sh").args(["-c", "sha256sum -- *.tar.gz"]).current_dir(&dir))?;
        Ok(fs::write(dir.join("SHA256SUMS"), sums.replace("aarch64", listed))?)
    };
    for (runner, listed, expected) in [
        ("X64", "aarch64", Ok("for x86_64")),
        ("ARM64", "aarch64", Ok("for aarch64")),
        ("ARM64", "riscv64", Err("")),
        ("ARM", "aarch64", Err("there is no release of oci2bk for ARM")),
    ] {
        let sandbox = Sandbox::new(world, "installed", false)?;
        sandbox.script("curl", CURL)?;
        release(&sandbox, listed)?;
        let known = Expressions::from([
            ("env.CACHE".to_owned(), String::new()),
            ("steps.buildx.outputs.name".to_owned(), String::new()),
            ("runner.arch".to_owned(), runner.to_owned()),
        ]);
        let steps = workflow["jobs"]["cache"]["steps"].as_array().context("no steps")?;
        let mut installations = 0;
        for step in steps {
            for script in composite::scripts(world, step, &known)?
                .into_iter()
                .filter(|script| script.name == INSTALLATION)
            {
                let mut command = sandbox.command("bash");
                let done =
                    run(command.args(["-e", "-o", "pipefail", "-c", &script.run]).envs(script.env));
                match expected {
                    Ok(says) => {
                        done?;
                        let said = run(&mut sandbox.command("oci2bk"))?;
                        ensure!(said.trim() == says, "{runner}: {said}");
                    }
                    Err(says) => {
                        let error = done.err().context("another archive was installed")?;
                        ensure!(format!("{error:#}").contains(says), "{error:#}");
                        ensure!(
                            !sandbox.outside("/usr/local/bin/oci2bk").exists(),
                            "{runner}: something was installed"
                        );
                    }
                }
                installations += 1;
            }
        }
        ensure!(installations == 1, "{installations} installations");
    }
    Ok(())
}
