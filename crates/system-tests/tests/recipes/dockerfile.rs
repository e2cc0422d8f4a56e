//! `examples/dockerfile`: built by a daemon; the state in the resulting image makes another one warm.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use testkit::Daemon;
use testkit::process::run;

use crate::sandbox::Sandbox;
use crate::world::{World, example};

pub(crate) fn prove(world: &World) -> Result<()> {
    let sandbox = Sandbox::new(world, "dockerfile", true)?;
    let context = sandbox.workspace()?;
    let daemon = world.start(&sandbox.home().join("daemon"))?;
    let base = push_base(world, &daemon, &context.join("base"))?;

    fs::copy(example("dockerfile").join("Dockerfile"), context.join("Dockerfile"))?;
    fs::copy(&world.tools.oci2bk, context.join("oci2bk"))?;
    let layout = format!("ocidir://{}:latest", context.join("cache").display());
    let fetch = ["image", "copy", "--referrers", &world.cache(), &layout];
    run(sandbox.command("regctl").args(fetch))?;
    let image = sandbox.home().join("image");
    build(&daemon, &context, &format!("type=local,dest={}", image.display()), &base)?;
    daemon.stop()?;
    ensure!(image.join("the-base").exists(), "the image is not made of the base");
    world.ensure_warm(&image.join("var/lib/buildkit"))
}

/// Pushes an image that replaces BuildKit's own, which no registry here has: with the libraries of the
/// command under test, which is not static. Returns its name.
fn push_base(world: &World, daemon: &Daemon, context: &Path) -> Result<String> {
    let name = format!("{}/buildkit:latest", world.registry());
    let libraries = context.join("root");
    fs::create_dir_all(&libraries)?;
    fs::write(libraries.join("the-base"), "")?;
    let linked = run(Command::new("ldd").arg(&world.tools.oci2bk))?;
    for word in linked.split_whitespace().filter(|word| word.starts_with('/')) {
        let place = libraries.join(word.trim_start_matches('/'));
        fs::create_dir_all(place.parent().context("a library that is the root")?)?;
        fs::copy(word, place).with_context(|| word.to_owned())?;
    }
    fs::write(context.join("Dockerfile"), "FROM scratch\nCOPY root /\nVOLUME /var/lib/buildkit\n")?;
    build(daemon, context, &format!("type=image,name={name},push=true"), "none")?;
    Ok(name)
}

fn build(daemon: &Daemon, context: &Path, output: &str, base: &str) -> Result<()> {
    run(daemon
        .buildctl()
        .args(["build", "--progress=plain", "--frontend", "dockerfile.v0", "--output", output])
        .arg(format!("--local=context={}", context.display()))
        .arg(format!("--local=dockerfile={}", context.display()))
        .arg(format!("--opt=build-arg:BUILDKIT={base}")))
    .map(drop)
}
