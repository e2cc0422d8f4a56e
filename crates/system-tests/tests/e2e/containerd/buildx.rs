//! `docker buildx build` with the builder of an engine.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::{SMALL, build_small};
use crate::build::{Options, Report};
use crate::du;
use crate::process::run;
use crate::proof::{GARBAGE_COLLECTED, ensure_same_steps};
use crate::world::World;

/// The name of the image.
const IMAGE: &str = "localhost/small:1";

/// Checks that it finds the same cached steps as buildctl, that the engine stores the image, and that `du` tells
/// which records the image shares.
pub(crate) fn prove(world: &World) -> Result<()> {
    let dir = tempfile::Builder::new().prefix("buildx").tempdir_in(world.scratch())?;
    let daemon = world.start(&dir.path().join("root"))?;
    let build = || build_small(world, &daemon, dir.path(), &Options::default());
    build()?;
    let warm = build()?;
    let docker = || -> Result<Command> { Ok(daemon.docker()?.command()) };
    let output = docker()?
        .args(["buildx", "build", "--progress=rawjson", "--network=none", "--tag", IMAGE])
        .arg(dir.path().join("context"))
        .output()
        .context("cannot start docker")?;
    let progress = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "docker buildx build failed:\n{progress}");
    ensure_same_steps(SMALL.keys, &warm, &Report::parse(&progress)?)?;
    let images = run(docker()?.args(["images", "--format={{.Repository}}:{{.Tag}}"]))?;
    ensure!(images.lines().any(|image| image == IMAGE), "the images are {images}");
    let printed = run(docker()?.args(["run", "--rm", "--network=none", IMAGE, "cat", "/again"]))?;
    ensure!(printed == "1\n", "the container printed {printed:?}");
    std::thread::sleep(GARBAGE_COLLECTED);
    daemon.stop()?;

    let root = dir.path().join("root");
    let shared = du::ours(world, &root, &["shared"])?;
    ensure!(!shared.is_empty(), "no record is shared with the image");
    du::Bench::new(world, dir.path()).ensure_same(&root, &["regular", "source.local"], &[])
}
