//! A conversion into a builder that was used, and into a containerd that other programs use.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::garbage;
use super::others::Others;
use crate::build::Options;
use crate::du;
use crate::export::CacheExport;
use crate::merging::{TODAY, YESTERDAY, bench};
use crate::process::run;
use crate::proof::{GARBAGE_COLLECTED, ensure_same_steps};
use crate::state;
use crate::world::World;

/// Converts today's cache into the builder of yesterday's build. Checks that only the difference is added,
/// and that nothing is lost: neither the older build, nor the image and the stopped container of another
/// program. A second conversion must change nothing.
pub(crate) fn prove(world: &World) -> Result<()> {
    let bench = bench(world, "on-containerd")?;
    let root = bench.path("used");
    let place = world.place(&root);
    let daemon = world.start(&root)?;
    let others = Others::add(world, &daemon, &bench.path(""))?;
    let yesterday = bench.make(&daemon, &YESTERDAY)?;
    daemon.stop()?;
    // Another builder with the same history makes the cache, so layers are shared.
    let first = bench.path("first");
    run(Command::new("cp").arg("-a").args([&root, &first]))?;
    let first = world.start(&first)?;
    let today = bench.make(&first, &TODAY)?;
    first.stop()?;
    // The next start removes the leases of finished work.
    world.start(&root)?.stop()?;

    let theirs = others.dump(world, &place)?;
    let stored = state::dump(&world.tools, place.metadata())?;
    let directories = state::snapshot_directories(&place)?;
    let report = bench.convert(&today, &root)?;
    let shares = &report["shares"];
    let added = state::snapshot_directories(&place)?;
    ensure!(added.is_superset(&directories), "{added:?} is not {directories:?} and more");
    let unpacked = report["stored"]["snapshot_count"].as_u64();
    ensure!(unpacked == Some((added.len() - directories.len()) as u64), "the report is {report:#}");
    ensure!(unpacked == Some(4), "the report is {report:#}");
    ensure!(shares["steps"]["existing_count"].as_u64() >= Some(5), "the report is {report:#}");
    ensure!(theirs == others.dump(world, &place)?, "what belongs to others has changed");
    let merged = state::dump(&world.tools, place.metadata())?;
    ensure_kept(&stored, &merged)?;
    ensure!(!merged.to_string().contains("oci2bk"), "a label of the conversion is left");
    state::ensure_verified_on(world.host, &world.tools, &root, true)?;

    let bytes = std::fs::read(place.metadata())?;
    let again = bench.convert(&today, &root)?;
    ensure!(again["shares"]["steps"]["added_count"] == 0, "the second report is {again:#}");
    ensure!(bytes == std::fs::read(place.metadata())?, "the second conversion wrote metadata");

    let daemon = world.start(&root)?;
    garbage::collect(&daemon, &others.archive)?;
    let warm = bench.build(&daemon, &TODAY, false)?;
    ensure_same_steps(TODAY.keys, &today.warm, &warm)?;
    warm.ensure_nothing_imported(|_| false)?;
    let warm = bench.build(&daemon, &YESTERDAY, false)?;
    ensure_same_steps(YESTERDAY.keys, &yesterday.warm, &warm)?;
    // The layers exist: the results can be exported.
    let exported = bench.path("exported");
    let export = Some((&*exported, ""));
    bench.build_with(&daemon, &TODAY, false, &Options { export, ..Options::default() })?;
    today.export.ensure_same(&CacheExport::open(&exported, "latest")?)?;
    bench.build(&daemon, &TODAY, true).context("a step on converted layers")?;
    others.ensure_whole(&daemon)?;
    // Otherwise the stop could come before unused records are removed.
    std::thread::sleep(GARBAGE_COLLECTED);
    daemon.stop()?;
    state::ensure_sound(&world.tools, &place)?;

    let usages = du::ours(world, &root, &[])?;
    let daemon = world.start(&root)?;
    du::ensure_same_fields(&usages, &daemon)?;
    daemon.prune_all()?;
    garbage::collect(&daemon, &others.archive)?;
    ensure!(daemon.du()?.is_empty(), "prune --all leaves {:?}", daemon.du()?);
    others.ensure_whole(&daemon)?;
    daemon.stop().map(drop)
}

/// Checks that `after` has every bucket, key and value of `before`, except for update times. It may have
/// more.
fn ensure_kept(before: &Value, after: &Value) -> Result<()> {
    let (Some(old), Some(new)) = (before["buckets"].as_object(), after["buckets"].as_object())
    else {
        return Ok(());
    };
    for (name, old) in old {
        let new = new.get(name).with_context(|| format!("the bucket {name} is gone"))?;
        for (key, value) in old["keys"].as_object().into_iter().flatten() {
            let found = &new["keys"][key];
            ensure!(found == value || key == "updatedat", "{name}/{key} was {value}, is {found}");
        }
        ensure_kept(old, new).with_context(|| name.clone())?;
    }
    Ok(())
}
