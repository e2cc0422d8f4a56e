//! Roots of daemons before v0.33.1 on a current daemon: layers unpacked by the old one are not shared any
//! more, because they were not checked, until they are compared with their blobs and mended.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use testkit::schema;

use crate::build::Options;
use crate::case::Case;
use crate::images::Image;
use crate::matrix::{PREVIOUS, Release};
use crate::merging::{YESTERDAY, bench};
use crate::process::run;
use crate::proof::ensure_same_steps;
use crate::sharing::{Cost, Roots, Scenario};
use crate::state;
use crate::world::World;

/// Returns the world with a daemon from before the change.
fn previous(world: &World) -> Result<World> {
    Ok(world.on(Release::old(&world.tools, PREVIOUS).map_err(anyhow::Error::msg)?))
}

fn copy(from: &Path, to: PathBuf) -> Result<PathBuf> {
    run(Command::new("cp").arg("-a").arg(from).arg(&to))?;
    Ok(to)
}

/// Runs `oci2bk verify --trees` with more arguments on a root that must be sound.
fn verify(world: &World, root: &Path, arguments: &[&str]) -> Result<Value> {
    schema::run(
        Command::new(&world.tools.oci2bk)
            .args(["verify", "--trees", "--progress=quiet", "--format=json"])
            .args(arguments)
            .arg(root),
    )
}

/// A root of the previous release costs the same on the current daemon as on its own, if it was mended or the
/// same cache was converted into it; and more otherwise, or the test would prove nothing.
pub(crate) fn prove_mended(world: &World) -> Result<()> {
    let old = previous(world)?;
    let bench = bench(&old, "upgraded")?;
    let root = bench.path("natural");
    let daemon = old.start(&root)?;
    let made = bench.make(&daemon, &YESTERDAY)?;
    daemon.stop()?;
    // Another builder with the same layers makes the newer cache.
    let daemon = old.start(&copy(&root, bench.path("other"))?)?;
    let newer = bench.path("newer");
    let export = Some((&*newer, ""));
    bench.build_with(&daemon, &YESTERDAY, true, &Options { export, ..Options::default() })?;
    daemon.stop()?;

    let mended = copy(&root, bench.path("mended"))?;
    let report = verify(world, &mended, &["--mend"])?;
    ensure!(
        report["mended_layer_count"].as_u64() > Some(0)
            && report["legacy_record_count"].as_u64() > Some(0),
        "{report:#}"
    );
    let again = verify(world, &mended, &["--mend"])?;
    let left = [&again["mended_layer_count"], &again["legacy_record_count"]];
    ensure!(left == [0, 0], "{again:#}");
    let merged = copy(&root, bench.path("merged"))?;
    let report = bench.convert_with(&made, &merged, &[])?;
    ensure!(report["mended_layer_count"].as_u64() > Some(0), "{report:#}");
    ensure!(report["different_layers"].as_array().is_some_and(Vec::is_empty), "{report:#}");
    let stored = &report["stored"];
    ensure!(stored["snapshot_count"] == 0 && stored["blob_count"] == 0, "{report:#}");

    let costs = |world: &World, root: &Path| -> Result<Vec<(Scenario, Cost)>> {
        let dir = tempfile::tempdir_in(world.scratch())?;
        let roots = Roots {
            world,
            case: &YESTERDAY,
            dir: dir.path(),
            natural: root.to_owned(),
            converted: root.to_owned(),
            newer: newer.clone(),
            counted: None,
        };
        roots.costs(root)
    };
    let natural = costs(&old, &root)?;
    let upgraded = costs(world, &root).context("as it was")?;
    let more =
        |pair: &((Scenario, Cost), (Scenario, Cost))| pair.0.1.extracted > pair.1.1.extracted;
    let lost = upgraded.into_iter().zip(natural.clone()).filter(more).count();
    ensure!(lost >= 2, "today's daemon shares all that was not mended");
    for (root, how) in [(&mended, "mended"), (&merged, "converted into")] {
        for ((scenario, today), (_, before)) in costs(world, root)?.into_iter().zip(&natural) {
            ensure!(
                today.is_covered_by(before),
                "{how}, {}: {today:?}, and before the upgrade {before:?}",
                scenario.name()
            );
        }
    }

    // Both releases find steps as before, and all of it can be removed.
    for (world, root) in [(&old, &mended), (world, &mended), (world, &merged), (&old, &merged)] {
        let daemon = world.start(root)?;
        let warm = bench.build(&daemon, &YESTERDAY, false)?;
        ensure_same_steps(YESTERDAY.keys, &made.warm, &warm)?;
        warm.ensure_nothing_imported(|_| false)?;
        daemon.stop()?;
        state::ensure_sound(&world.tools, root)?;
        verify(world, root, &[])?;
    }
    state::ensure_prunable(&world.tools, world.start(&mended)?, &mended)?;
    state::ensure_prunable(&old.tools, old.start(&merged)?, &merged)
}

const GOOD: &str = "FROM {registry}/busybox\nRUN echo good > /which\n";
const BAD: &str = "FROM {registry}/busybox\nRUN echo bad > /which\n";
const ON_GOOD: Case =
    Case::plain("on-good", || "FROM {registry}/good\nRUN cp /which /out\n".into());
const ON_BAD: Case = Case::plain("on-bad", || "FROM {registry}/bad\nRUN cp /which /out\n".into());

/// An image that claims the diffID of another image's layer for its own, built on by a daemon of the previous
/// release, adds nothing to the builds of the other image when that is converted later.
pub(crate) fn prove_lie(world: &World) -> Result<()> {
    let old = previous(world)?;
    let bench = bench(world, "lie")?;
    let daemon = world.start(&bench.path("maker"))?;
    let dir = bench.path("images");
    let (good, bad) = (
        Image::build(world, &daemon, &dir.join("good"), GOOD)?,
        Image::build(world, &daemon, &dir.join("bad"), BAD)?,
    );
    let lied = good.config()?["rootfs"]["diff_ids"].clone();
    ensure!(lied != bad.config()?["rootfs"]["diff_ids"], "both images are the same");
    bad.change(|_, config| {
        config["rootfs"]["diff_ids"] = lied;
        Ok(())
    })?;
    for image in [&good, &bad] {
        image.push(world)?;
    }
    let made = bench.make(&daemon, &ON_GOOD)?;
    daemon.stop()?;

    let root = bench.path("root");
    let daemon = old.start(&root)?;
    bench.build(&daemon, &ON_BAD, false)?;
    daemon.stop()?;
    let report = bench.convert_with(&made, &root, &[])?;
    let different = report["different_layers"].as_array().map(Vec::len);
    ensure!(different == Some(1), "{report:#}");

    let out = bench.path("out");
    let daemon = world.start(&root)?;
    let output = Some(format!("type=local,dest={}", out.display()));
    let warm =
        bench.build_with(&daemon, &ON_GOOD, false, &Options { output, ..Options::default() })?;
    ensure_same_steps(ON_GOOD.keys, &made.warm, &warm)?;
    daemon.stop()?;
    for file in ["which", "out"] {
        let text = fs::read_to_string(out.join(file))?;
        ensure!(text == "good\n", "/{file} has {text:?}");
    }
    Ok(())
}

/// A current daemon that was killed leaves databases without lists of free pages. They can be read and
/// extended.
pub(crate) fn prove_killed(world: &World) -> Result<()> {
    let bench = bench(world, "killed")?;
    let root = bench.path("root");
    let daemon = world.start(&root)?;
    let made = bench.make(&daemon, &YESTERDAY)?;
    daemon.kill()?;
    verify(world, &root, &[])?;
    bench.convert_with(&made, &root, &[])?;
    let daemon = world.start(&root)?;
    let warm = bench.build(&daemon, &YESTERDAY, false)?;
    ensure_same_steps(YESTERDAY.keys, &made.warm, &warm)?;
    warm.ensure_nothing_imported(|_| false)?;
    state::ensure_prunable(&world.tools, daemon, &root)
}
