//! States that daemons made, used and pruned have no damage, for every release, and whenever the daemon was
//! stopped.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bkstate::Root;
use bkstate::state::VerifyError;

use crate::build::{Options, Source};
use crate::case::Context;
use crate::cases::releases::CASE;
use crate::daemon::Daemon;
use crate::damage::FIXTURE;
use crate::matrix::{OLD, PREVIOUS, Release};
use crate::process::run;
use crate::proof::GARBAGE_COLLECTED;
use crate::state;
use crate::world::World;
use testkit::mounts::unmount_all_of;

/// States of the old release in the ordinary suite. Each case verifies those of the newest.
pub(crate) fn of_old_release(world: &World) -> Result<()> {
    verify_all(world, &Release::old(&world.tools, OLD).map_err(anyhow::Error::msg)?)
}

/// States of every release with installed tools.
pub(crate) fn of_all_releases(world: &World) -> Result<()> {
    for version in world.tools.releases()? {
        let release = Release::old(&world.tools, &version).map_err(anyhow::Error::msg)?;
        verify_all(world, &release).with_context(|| version.clone())?;
    }
    verify_all(world, &Release::newest(&world.tools)?).context("the newest release")
}

fn verify_all(world: &World, release: &Release) -> Result<()> {
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
    // Some stop during garbage collection, and leave the rest to the next.
    stopped(daemon, "after some was pruned")?;

    let daemon = release.start(world, &root)?;
    source.build(&daemon, &Options { import: Some(&cache), ..Options::default() })?;
    stopped(daemon, "after a build from an imported cache")?;

    let daemon = release.start(world, &root)?;
    daemon.prune_all()?;
    stopped(daemon, "after all was pruned")
}

/// Removes records that were not used for a while until few are left, except layers below others.
fn prune_some(daemon: &Daemon) -> Result<()> {
    run(daemon.buildctl().args(["prune", "--keep-storage=1"])).map(drop)
}

/// Builds during which and after which a daemon is stopped.
const BUILDS: [(&str, Stop); 3] = [
    ("FROM {registry}/busybox\nRUN echo 1 > /made\nRUN false\n", Stop::Terminated),
    (
        "FROM {registry}/busybox AS stage\nRUN --mount=type=cache,target=/c echo 1 > /c/made\n\
         RUN mkdir /made && echo 1 > /made/file\nFROM {registry}/busybox\nCOPY --from=stage /made /made\n\
         COPY --link file /file\n",
        Stop::Terminated,
    ),
    // A killed daemon leaves running containers.
    (
        "FROM scratch AS stage\nCOPY file /file\nCOPY file /again\nFROM scratch\n\
         COPY --from=stage /file /file\nCOPY --link file /linked\n",
        Stop::Killed,
    ),
];

#[derive(Clone, Copy, PartialEq)]
enum Stop {
    Terminated,
    Killed,
}

/// Some stopped daemons.
pub(crate) fn stopped(world: &World) -> Result<()> {
    stopped_times(world, &Release::newest(&world.tools)?, 12)
}

/// Two hundred stopped daemons, for each of two releases.
pub(crate) fn stopped_often(world: &World) -> Result<()> {
    let previous = Release::old(&world.tools, PREVIOUS).map_err(anyhow::Error::msg)?;
    for release in [&Release::newest(&world.tools)?, &previous] {
        stopped_times(world, release, 200)?;
    }
    Ok(())
}

/// Stops daemons, half of them during a build and half of them just after one. None of the leftovers is
/// damage, and they are gone after something was added.
fn stopped_times(world: &World, release: &Release, times: u32) -> Result<()> {
    let dir = tempfile::Builder::new().prefix("stopped").tempdir_in(world.scratch())?;
    let files = Context::create(&dir.path().join("context"));
    let mut usual = Duration::from_secs(1);
    for time in 0..times {
        let (dockerfile, stop) = BUILDS[time as usize % BUILDS.len()];
        files.file("Dockerfile", world.fill_in(dockerfile));
        files.file("file", time.to_string());
        let root = dir.path().join("root");
        let daemon = release.start(world, &root)?;
        let mut build = daemon.buildctl();
        build.args(["build", "--frontend=dockerfile.v0", "--progress=plain"]);
        build.arg(format!("--local=context={}", files.dir().display()));
        build.arg(format!("--local=dockerfile={}", files.dir().display()));
        build
            .arg(format!("--export-cache=type=local,mode=max,dest={}/cache", dir.path().display()));
        let began = Instant::now();
        let mut build = build.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let after = if time / 3 % 2 == 0 {
            build.wait()?;
            usual = began.elapsed();
            Duration::from_millis(u64::from(time / 6 % 6) * 10)
        } else {
            usual * (time + 1) / times
        };
        std::thread::sleep(after);
        if stop == Stop::Killed {
            daemon.kill()?;
        } else {
            daemon.stop()?;
        }
        build.kill()?;
        build.wait()?;
        unmount_all_of(&root)?;
        ensure_clean(world, &root)
            .with_context(|| format!("stopped {after:?} into build {time}: {dockerfile}"))?;
        fs::remove_dir_all(&root)?;
    }
    Ok(())
}

fn ensure_clean(world: &World, root: &Path) -> Result<()> {
    let leftovers = match Root::open(root)?.verify_databases() {
        Ok(found) => {
            ensure!(found.damage.is_empty(), "{:#?}", found.damage);
            found.leftovers
        }
        // Stopped during its first start.
        Err(VerifyError::NoState { .. }) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    run(Command::new(&world.tools.oci2bk)
        .args(["convert", "--progress=quiet", "--no-extract", "--keys"])
        .arg(Path::new(FIXTURE).join("keys/provenance.json"))
        .arg(Path::new(FIXTURE).join("cache"))
        .arg(root))?;
    let after = Root::open(root)?.verify_databases()?;
    let abandoned = after.leftovers.iter().any(|leftover| leftover.kind() == "abandoned-record");
    ensure!(after.damage.is_empty() && !abandoned, "{after:#?} of {leftovers:#?}");
    Ok(())
}
