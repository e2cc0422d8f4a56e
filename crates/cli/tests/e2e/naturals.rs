//! States that daemons made, used and pruned have no damage, whatever the release.

use anyhow::{Context as _, Result};

use crate::build::{Options, Source};
use crate::case::Context;
use crate::cases::releases::CASE;
use crate::daemon::Daemon;
use crate::matrix::{OLD, Release};
use crate::process::run;
use crate::proof::GARBAGE_COLLECTED;
use crate::state;
use crate::world::World;

/// The states of the old release that is part of the ordinary suite. Those of the newest are verified
/// in each case.
pub(crate) fn of_old_release(world: &World) -> Result<()> {
    verify(world, &Release::old(&world.tools, OLD).map_err(anyhow::Error::msg)?)
}

/// The states of every release that there are tools of.
pub(crate) fn of_all_releases(world: &World) -> Result<()> {
    for version in world.tools.releases()? {
        let release = Release::old(&world.tools, &version).map_err(anyhow::Error::msg)?;
        verify(world, &release).with_context(|| version.clone())?;
    }
    verify(world, &Release::newest(&world.tools)?).context("the newest release")
}

fn verify(world: &World, release: &Release) -> Result<()> {
    let dir = tempfile::Builder::new().prefix("naturals").tempdir_in(world.scratch())?;
    let context = dir.path().join("context");
    let files = Context::create(&context);
    files.file("Dockerfile", world.fill_in(&(CASE.dockerfile)()));
    (CASE.context)(&files);
    let source = Source { case: &CASE, context: &context };
    let root = dir.path().join("root");
    let stopped = |daemon: Daemon, what: &'static str| {
        daemon.stop()?;
        state::ensure_verified(&world.tools, &root, true).context(what)
    };

    let daemon = release.start(world, &root)?;
    let cache = dir.path().join("cache");
    let export = Some((cache.as_path(), ""));
    source.build(&daemon, &Options { export, ..Options::default() })?;
    stopped(daemon, "after a build and an export")?;

    let daemon = release.start(world, &root)?;
    std::thread::sleep(GARBAGE_COLLECTED);
    (CASE.edit)(&files);
    source.build(&daemon, &Options::default())?;
    stopped(daemon, "after a start and another build")?;

    let daemon = release.start(world, &root)?;
    prune_some(&daemon)?;
    // Some stop while they collect, and leave the rest of that to the next.
    stopped(daemon, "after some was pruned")?;

    let daemon = release.start(world, &root)?;
    source.build(&daemon, &Options { import: Some(&cache), ..Options::default() })?;
    stopped(daemon, "after a build from an imported cache")?;

    let daemon = release.start(world, &root)?;
    daemon.prune_all()?;
    stopped(daemon, "after all was pruned")
}

/// Removes what was not used for a while until little is left: not the layers that others lie on.
fn prune_some(daemon: &Daemon) -> Result<()> {
    run(daemon.buildctl().args(["prune", "--keep-storage=1"])).map(drop)
}
