//! containerd collects garbage when it starts. So everything a builder needs must have a lease before that.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bkstate::bolt::{self, Db, Node, Tree};

use super::{SMALL, build_small};
use crate::build::Options;
use crate::process::wait_until;
use crate::state::{self, Place, State};
use crate::world::World;

/// The number of `RUN` steps of the build.
const STEPS: usize = 2;

/// Longer than the delay of the garbage collection after containerd starts (containerd v2.4.2
/// `plugins/gc/scheduler.go`: 0.1 s).
const COLLECTED: Duration = Duration::from_secs(2);

/// Checks that a containerd which starts on the state of a builder removes nothing that the builder needs,
/// and that it removes the layers if their leases are missing.
///
/// Without its layers, the builder still reports every step as cached, because its own databases still have
/// the records; it fails only when it needs a result. So a cached step does not prove that its layer exists.
pub(crate) fn prove(world: &World) -> Result<()> {
    let dir = tempfile::Builder::new().prefix("leases").tempdir_in(world.scratch())?;
    let (root, cache, out) =
        (dir.path().join("root"), dir.path().join("cache"), dir.path().join("out"));
    let place = world.place(&root);
    let build = |options: &Options<'_>| -> Result<usize> {
        let daemon = world.start(&root)?;
        let report = build_small(world, &daemon, dir.path(), options);
        daemon.stop()?;
        Ok(report?.cached(SMALL.keys).len())
    };
    let used = || Options {
        output: Some(format!("type=local,dest={}", out.display())),
        ..Default::default()
    };
    build(&Options { export: Some((&cache, "")), ..Options::default() })?;

    // It removes what the builder released when it stopped, such as views of snapshots.
    let collect = || -> Result<()> {
        let containerd = world.host.start_containerd(&world.tools, &root)?;
        std::thread::sleep(COLLECTED);
        containerd.stop().map(drop)
    };
    collect()?;
    let before = State::read(&world.tools, &place)?;
    let layers = before.layer_blobs();
    ensure!(!layers.is_empty() && !state::snapshot_directories(&place)?.is_empty(), "{before:?}");
    collect()?;
    before.ensure_unchanged(&State::read(&world.tools, &place)?).context("with leases")?;
    let cached = build(&used())?;
    ensure!(cached == STEPS && out.join("again").exists(), "{cached} steps are cached");

    drop_leases(&place)?;
    let containerd = world.host.start_containerd(&world.tools, &root)?;
    let left = || -> Result<(BTreeSet<String>, BTreeSet<String>)> {
        let blobs = state::blob_files(&place)?.intersection(&layers).cloned().collect();
        Ok((state::snapshot_directories(&place)?, blobs))
    };
    let is_gone =
        || left().is_ok_and(|(snapshots, blobs)| (snapshots.len(), blobs.len()) == (0, 0));
    ensure!(wait_until(Duration::from_secs(20), is_gone), "without leases, {:?} is left", left()?);
    containerd.stop()?;
    state::ensure_sound(&world.tools, &place)?;
    let cached = build(&Options::default())?;
    ensure!(cached == STEPS, "{cached} steps are cached without their layers");
    let error = build(&used()).err().context("a result was used that is not there")?;
    ensure!(format!("{error:#}").contains("does not exist: not found"), "{error:#}");
    Ok(())
}

/// Removes all leases from the builder's namespace.
fn drop_leases(place: &Place) -> Result<()> {
    let path = place.metadata();
    let mut tree = Tree::read(&Db::open(File::open(path)?)?.root())?;
    let namespace = bucket(&mut tree, "v1").and_then(|v1| bucket(v1, place.namespace));
    let leases = namespace.context("no namespace")?.entries.remove(b"leases".as_slice());
    ensure!(matches!(leases, Some(Node::Bucket(_))), "there are no leases");
    rewrite(path, &tree)
}

fn bucket<'t>(tree: &'t mut Tree, name: &str) -> Option<&'t mut Tree> {
    match tree.entries.get_mut(name.as_bytes()) {
        Some(Node::Bucket(bucket)) => Some(bucket),
        _ => None,
    }
}

fn rewrite(path: &Path, tree: &Tree) -> Result<()> {
    fs::remove_file(path)?;
    let file = File::create_new(path)?;
    Ok(bolt::write(&file, |root| tree.write(root))?)
}
