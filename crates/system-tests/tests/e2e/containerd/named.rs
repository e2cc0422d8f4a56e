//! Images with a name in the image store of a builder.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use testkit::Daemon;
use testkit::engine::Docker;

use super::garbage;
use crate::build::{Options, Source};
use crate::case::Context;
use crate::host::Host;
use crate::offline::{BASE, CASE, push};
use crate::process::run;
use crate::proof::ensure_same_steps;
use crate::registry::Registry;
use crate::state;
use crate::world::World;

/// With its base image seeded by name, a converted builder builds from the name while the registry is
/// stopped. Clients of containerd or the engine see a whole image, which stays when the builder is pruned.
pub(crate) fn prove(world: &World) -> Result<()> {
    let dir = tempfile::Builder::new().prefix("named").tempdir_in(world.scratch())?;
    let dir = dir.path();
    let registry = Registry::start(&world.tools, dir)?;
    let address = registry.address().to_owned();
    let start = |root: &Path| world.host.start(&world.tools, root, &[&address, world.registry()]);
    let context = Context::create(&dir.join("context"));
    let source = Source { case: &CASE, context: context.dir() };
    let name = format!("{address}/team/base:1");
    let layout = dir.join("base");

    let first = dir.join("first");
    let daemon = start(&first)?;
    context.file("Dockerfile", world.fill_in(BASE));
    push(&daemon, &source, &name, &layout, "")?;
    context.file("Dockerfile", format!("FROM {name}\nRUN cp /base/file /made\n"));
    let cache = dir.join("cache");
    let keys = source.make(&world.tools, &daemon, &cache, &dir.join("keys"))?;
    let warm = source.build(&daemon, &Options::default())?;
    daemon.stop()?;
    drop(registry);

    let root = dir.join("second");
    let image = format!("--image={name}={}", layout.display());
    let convert = |image: &str| -> Result<String> {
        let mut command = Command::new(&world.tools.oci2bk);
        command.args(["convert", "--progress=quiet", "--keys"]);
        command.arg(keys.as_ref().context("the case has a file with keys")?);
        run(command.arg(image).arg(&cache).args(world.host.arguments(&root)))
    };
    let report = convert(&image)?;
    ensure!(report.contains(&format!("the image {name}")), "the report is {report}");
    state::ensure_sound(&world.tools, world.place(&root))?;
    let metadata = || std::fs::read(world.place(&root).metadata());
    let bytes = metadata()?;
    convert(&image)?;
    ensure!(bytes == metadata()?, "the second conversion wrote metadata");

    let daemon = start(&root)?;
    let again = source.build(&daemon, &Options::default()).context("with the registry stopped")?;
    ensure_same_steps(CASE.keys, &warm, &again)?;
    again.ensure_nothing_imported(|_| false)?;
    ensure_whole(world, &daemon, &name)?;
    context.file("Dockerfile", format!("FROM {name}\nRUN cat /base/file > /other\n"));
    source.build(&daemon, &Options::default()).context("a step on the image")?;

    daemon.prune_all()?;
    let archive = dir.join("base.tar");
    run(Command::new("tar").arg("-cf").arg(&archive).arg("-C").arg(&layout).arg("."))?;
    garbage::collect(&daemon, &archive)?;
    ensure_whole(world, &daemon, &name).context("after pruning")?;
    daemon.stop()?;
    state::ensure_sound(&world.tools, world.place(&root))
}

/// Checks that clients have the image with all of its parts.
fn ensure_whole(world: &World, daemon: &Daemon, name: &str) -> Result<()> {
    if matches!(world.host, Host::Engine { .. }) {
        let docker = || daemon.docker().map(Docker::command);
        let listed = run(docker()?.args(["images", "--format={{.Repository}}:{{.Tag}}"]))?;
        ensure!(listed.lines().any(|image| image == name), "the images are {listed}");
        let words = ["run", "--rm", "--network=none", "--pull=never", name, "cat", "/base/file"];
        let printed = run(docker()?.args(words))?;
        ensure!(printed == "base\n", "the container printed {printed:?}");
        return Ok(());
    }
    let ctr = || -> Result<Command> { Ok(daemon.containerd()?.ctr(testkit::daemon::NAMESPACE)) };
    let checked = run(ctr()?.args(["images", "check", &format!("name=={name}")]))?;
    ensure!(checked.contains(name) && checked.contains(" complete ("), "{checked}");
    Ok(())
}
