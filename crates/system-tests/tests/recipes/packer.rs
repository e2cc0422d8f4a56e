//! `examples/packer`: each template is validated as it is, with the builder for Amazon that this Packer
//! includes, and run over SSH on a sandbox.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use testkit::erofs::Mounted;
use testkit::process::run;

use crate::builders::Builder;
use crate::sandbox::Sandbox;
use crate::world::{MOUNT, World, example};

const PASSWORD: &str = "sandbox";

/// Returns a source that replaces the machine from Amazon.
fn null_source(port: &str) -> String {
    format!(
        "source \"null\" \"builder\" {{\n  ssh_host     = \"127.0.0.1\"\n  ssh_port     = {port}\n  \
         ssh_username = \"root\"\n  ssh_password = \"{PASSWORD}\"\n}}\n"
    )
}

/// On a machine on which nothing has started yet.
pub(crate) fn prove(world: &World) -> Result<()> {
    let sandbox = Sandbox::new(world, "packer", false)?;
    build(world, &sandbox, "builder.pkr.hcl", &["-var", "mounts=--mounts"])?;
    let listed = run(sandbox.command("oci2bk").args([
        "mounts",
        "ls",
        "/var/lib/buildkit",
        "--format=json",
    ]))?;
    let listed: Value = serde_json::from_str(&listed)?;
    ensure!(listed["mounts"][0]["id"] == MOUNT, "the image has {listed:#}");
    world.ensure_warm(&sandbox.state())
}

/// On a machine with a running Docker Engine.
pub(crate) fn prove_engine(world: &World) -> Result<()> {
    let sandbox = Sandbox::new(world, "packer", false)?;
    let unused = Builder::Engine.start(world, &sandbox)?;
    build(world, &sandbox, "engine/engine.pkr.hcl", &[])?;
    unused.stop()?;
    let expected = [
        "stop docker.socket docker.service containerd.service",
        "start containerd.service docker.socket docker.service",
    ];
    ensure!(sandbox.calls()? == expected, "{:?}", sandbox.calls()?);
    let warm = Builder::Engine.start(world, &sandbox)?;
    world.ensure_cached(&warm)?;
    warm.stop().map(drop)
}

/// With the trees in an image, which the units mount before the daemon starts.
pub(crate) fn prove_packed(world: &World) -> Result<()> {
    let sandbox = Sandbox::new(world, "packer", false)?;
    // The package is there, or this is not run.
    sandbox.script("apt-get", "#!/bin/sh\necho \"$*\" >>\"$HOME/apt-get.log\"\n")?;
    let units = ["var-lib-buildkit-packed-1.mount", "packed-trees.conf"];
    let workspace = sandbox.workspace()?;
    for unit in units {
        fs::copy(example("systemd").join(unit), workspace.join(unit))?;
    }
    build(world, &sandbox, "packed/packed.pkr.hcl", &[])?;
    let packages = fs::read_to_string(sandbox.home().join("apt-get.log"))?;
    ensure!(packages.contains("install -y -q erofs-utils"), "{packages}");
    let installed = sandbox.outside("/etc/systemd/system");
    let mount = fs::read_to_string(installed.join(units[0]))?;
    ensure!(installed.join("buildkit.service.d").join(units[1]).exists(), "no drop-in");
    let value = |key: &str| -> Result<String> {
        let line = mount.lines().find_map(|line| line.strip_prefix(key));
        Ok(line.with_context(|| format!("no {key}"))?.to_owned())
    };
    let (what, point) = (value("What=")?, value("Where=")?);
    ensure!(value("Type=")? == "erofs" && value("Options=")? == "ro,loop", "{mount}");
    let _mounted = Mounted::new(&sandbox.outside(&what), &sandbox.outside(&point))?;
    world.ensure_warm(&sandbox.state())
}

/// Validates a template, and builds it on the sandbox.
fn build(world: &World, sandbox: &Sandbox, template: &str, variables: &[&str]) -> Result<()> {
    let packer = |arguments: &[&str], dir: &Path| -> Result<String> {
        let mut command = Command::new(world.tool("recipes/packer")?);
        command.args(arguments).arg(dir).env("CHECKPOINT_DISABLE", "1");
        command.env("PACKER_CONFIG_DIR", sandbox.home()).env("TMPDIR", sandbox.outside("/var/tmp"));
        run(command.env("AWS_ACCESS_KEY_ID", "none").env("AWS_SECRET_ACCESS_KEY", "none"))
    };
    let template = example("packer").join(template);
    let original = template.parent().context("the directory of the template")?;
    packer(&["fmt", "-check", "-diff"], original)?;

    let dir = sandbox.workspace()?;
    world.put_programs(&dir.join("bin"))?;
    let amazon = fs::read_to_string(original.join("amazon-ebs.pkr.hcl"))?;
    let steps = fs::read_to_string(&template)?;
    // It has the plug-in, but not as one that can be required.
    let (start, rest) = amazon.split_once("packer {").context("required plugins")?;
    let (_, rest) = rest.split_once("\n}\n").context("the end of the required plugins")?;
    fs::write(dir.join("source.pkr.hcl"), format!("{start}{rest}"))?;
    fs::write(dir.join("steps.pkr.hcl"), &steps)?;
    packer(&["validate"], &dir)?;

    let server = Server::start(world, sandbox)?;
    fs::write(dir.join("source.pkr.hcl"), null_source(&server.port))?;
    let changed = steps.replace("source.amazon-ebs.builder", "source.null.builder");
    ensure!(changed != steps, "the source has another name");
    fs::write(dir.join("steps.pkr.hcl"), changed)?;
    let cache = format!("cache={}", world.cache());
    packer(&[&["build", "-color=false", "-var", &cache], variables].concat(), &dir)?;
    let left: Vec<_> = fs::read_dir(sandbox.outside("/var/tmp"))?.collect::<Result<_, _>>()?;
    ensure!(left.is_empty(), "the image has {left:?}");
    Ok(())
}

/// The SSH server of a sandbox.
#[derive(Debug)]
struct Server {
    child: Child,
    port: String,
}

impl Server {
    fn start(world: &World, sandbox: &Sandbox) -> Result<Self> {
        let mut child = sandbox
            .command(world.tool("recipes/sandboxssh")?.canonicalize()?)
            .arg(PASSWORD)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take();
        let mut server = Self { child, port: String::new() };
        BufReader::new(stdout.context("its stdout")?).read_line(&mut server.port)?;
        ensure!(!server.port.is_empty(), "the SSH server ended");
        server.port.truncate(server.port.trim_end().len());
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Errors cannot be reported here, and the process must not outlive its owner.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
