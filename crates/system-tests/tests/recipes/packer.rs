//! `examples/packer`: validated as it is, with the builder for Amazon that this Packer includes; run over SSH
//! on a sandbox.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use testkit::process::run;

use crate::sandbox::Sandbox;
use crate::world::{World, example};

const PASSWORD: &str = "sandbox";

/// Returns a source that replaces the machine from Amazon.
fn null_source(port: &str) -> String {
    format!(
        "source \"null\" \"builder\" {{\n  ssh_host     = \"127.0.0.1\"\n  ssh_port     = {port}\n  \
         ssh_username = \"root\"\n  ssh_password = \"{PASSWORD}\"\n}}\n"
    )
}

pub(crate) fn prove(world: &World) -> Result<()> {
    let sandbox = Sandbox::new(world, "packer", false)?;
    let packer = |arguments: &[&str], dir: &Path| -> Result<String> {
        let mut command = Command::new(world.tool("recipes/packer")?);
        command.args(arguments).arg(dir).env("CHECKPOINT_DISABLE", "1");
        command.env("PACKER_CONFIG_DIR", sandbox.home()).env("TMPDIR", sandbox.outside("/var/tmp"));
        run(command.env("AWS_ACCESS_KEY_ID", "none").env("AWS_SECRET_ACCESS_KEY", "none"))
    };
    packer(&["fmt", "-check", "-diff"], &example("packer"))?;

    let dir = sandbox.workspace()?;
    world.put_programs(&dir.join("bin"))?;
    let amazon = fs::read_to_string(example("packer").join("amazon-ebs.pkr.hcl"))?;
    let builder = fs::read_to_string(example("packer").join("builder.pkr.hcl"))?;
    // It has the plug-in, but not as one that can be required.
    let (start, rest) = amazon.split_once("packer {").context("required plugins")?;
    let (_, rest) = rest.split_once("\n}\n").context("the end of the required plugins")?;
    fs::write(dir.join("source.pkr.hcl"), format!("{start}{rest}"))?;
    fs::write(dir.join("builder.pkr.hcl"), &builder)?;
    packer(&["validate"], &dir)?;

    let server = Server::start(world, &sandbox)?;
    fs::write(dir.join("source.pkr.hcl"), null_source(&server.port))?;
    let changed = builder.replace("source.amazon-ebs.builder", "source.null.builder");
    ensure!(changed != builder, "the source has another name");
    fs::write(dir.join("builder.pkr.hcl"), changed)?;
    packer(&["build", "-color=false", "-var", &format!("cache={}", world.cache())], &dir)?;
    let left: Vec<_> = fs::read_dir(sandbox.outside("/var/tmp"))?.collect::<Result<_, _>>()?;
    ensure!(left.is_empty(), "the image has {left:?}");
    world.ensure_warm(&sandbox.state())
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
