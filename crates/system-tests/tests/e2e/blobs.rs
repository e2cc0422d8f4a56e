//! Blobs that a root lacks, shares with the cache, or links to it, and a daemon's behaviour with them.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::build::Options;
use crate::daemon::Daemon;
use crate::export::CacheExport;
use crate::merging::{Bench, Made, TODAY, YESTERDAY, bench};
use crate::process::run;
use crate::proof::ensure_same_steps;
use crate::state;
use crate::world::World;

type Proof = fn(&World) -> Result<()>;

/// The proofs by their names.
pub(crate) const PROOFS: [(&str, Proof); 4] = [
    ("none", prove_none),
    ("none-completed", prove_none_completed),
    ("hardlink", prove_hardlink),
    ("reflink", prove_reflink),
];

const BLOBS: &str = "runc-overlayfs/content/blobs/sha256";

/// A daemon on a root without blobs has all steps cached and builds on them. For an export it packs the
/// layers again, and then the same cache converts into its root as into that of any daemon.
fn prove_none(world: &World) -> Result<()> {
    let bench = bench(world, "none")?;
    let (yesterday, today) = make(&bench)?;
    let root = bench.path("second");
    let report = bench.convert_with(&yesterday, &root, &["--blobs=none"])?;
    ensure!(report["stored"]["blob_count"] == 0, "the report is {report:#}");
    let blobs = state::blob_files(&root)?;
    ensure!(blobs.is_empty(), "there are the blobs {blobs:?}");
    state::ensure_verified(&world.tools, &root, true)?;

    let daemon = world.start(&root)?;
    ensure_warm(&bench, &daemon, &yesterday)?;
    bench.build(&daemon, &YESTERDAY, true)?;
    let edited = bench.build(&daemon, &YESTERDAY, true)?;
    ensure!(edited.cached(YESTERDAY.keys).len() > 1, "nothing is cached after the edit");
    let exported = export(&bench, &daemon)?;
    let (layers, expected) = (exported.layers()?.len(), yesterday.export.layers()?.len());
    ensure!(layers == expected, "{layers} layers are exported, not {expected}");
    daemon.stop()?;
    // With the blobs that the daemon has packed.
    state::ensure_sound(&world.tools, &root)?;
    state::ensure_verified(&world.tools, &root, true)?;

    for arguments in [&[][..], &["--blobs=none"]] {
        bench.convert_with(&today, &root, arguments)?;
        state::ensure_verified(&world.tools, &root, true)?;
        let daemon = world.start(&root)?;
        let warm = bench.build(&daemon, &TODAY, false)?;
        ensure_same_steps(TODAY.keys, &today.warm, &warm)?;
        ensure_warm(&bench, &daemon, &yesterday)?;
        let warm = bench.build(&daemon, &YESTERDAY, true)?;
        ensure_same_steps(YESTERDAY.keys, &edited, &warm)?;
        daemon.stop()?;
    }
    state::ensure_prunable(&world.tools, world.start(&root)?, &root)
}

/// A root without blobs becomes complete when the cache is converted again with them.
fn prove_none_completed(world: &World) -> Result<()> {
    let bench = bench(world, "completed")?;
    let (yesterday, _) = make(&bench)?;
    let root = bench.path("second");
    bench.convert_with(&yesterday, &root, &["--blobs=none"])?;
    let daemon = world.start(&root)?;
    ensure_warm(&bench, &daemon, &yesterday)?;
    daemon.stop()?;
    let report = bench.convert_with(&yesterday, &root, &[])?;
    ensure!(report["stored"]["snapshot_count"] == 0, "the report is {report:#}");
    state::ensure_verified(&world.tools, &root, true)?;

    let daemon = world.start(&root)?;
    ensure_warm(&bench, &daemon, &yesterday)?;
    yesterday.export.ensure_same(&export(&bench, &daemon)?)?;
    state::ensure_prunable(&world.tools, daemon, &root)
}

/// The blobs of a root can be the files of the cache itself: the daemon exports the same, and leaves those of
/// the cache alone when it removes its own.
fn prove_hardlink(world: &World) -> Result<()> {
    let bench = bench(world, "hardlink")?;
    let (yesterday, _) = make(&bench)?;
    let before = inodes(&yesterday.cache.join("blobs/sha256"))?;
    let root = bench.path("second");
    bench.convert_with(&yesterday, &root, &["--blobs=hardlink"])?;
    let linked = inodes(&root.join(BLOBS))?;
    ensure!(!linked.is_empty() && linked.iter().all(|linked| before.contains(linked)));
    state::ensure_verified(&world.tools, &root, true)?;

    let daemon = world.start(&root)?;
    ensure_warm(&bench, &daemon, &yesterday)?;
    yesterday.export.ensure_same(&export(&bench, &daemon)?)?;
    state::ensure_prunable(&world.tools, daemon, &root)?;
    ensure!(inodes(&yesterday.cache.join("blobs/sha256"))? == before, "the cache has other files");
    // Every blob in it still matches its name.
    let again = bench.path("again");
    bench.convert_with(&yesterday, &again, &["--blobs=copy"])?;
    state::ensure_verified(&world.tools, &again, false)
}

/// On a file system that supports it, blobs share disk blocks with the cache, unless that is disabled.
fn prove_reflink(world: &World) -> Result<()> {
    let bench = bench(world, "reflink")?;
    let (mut yesterday, _) = make(&bench)?;
    let volume = Xfs::mount(&bench)?;
    let cache = volume.0.join("cache");
    run(Command::new("cp").arg("-a").args([&yesterday.cache, &cache]))?;
    yesterday.cache = cache;
    // Unwritten data has no blocks to share.
    run(Command::new("sync").arg("-f").arg(&volume.0))?;

    let copied = volume.0.join("copied");
    bench.convert_with(&yesterday, &copied, &["--blobs=copy"])?;
    ensure!(!is_shared(&copied)?, "what is copied shares with the cache");
    let root = volume.0.join("second");
    bench.convert_with(&yesterday, &root, &[])?;
    ensure!(is_shared(&root)?, "nothing is shared with the cache");
    state::ensure_verified(&world.tools, &root, true)?;
    let daemon = world.start(&root)?;
    ensure_warm(&bench, &daemon, &yesterday)?;
    yesterday.export.ensure_same(&export(&bench, &daemon)?)?;
    daemon.stop()?;
    state::ensure_sound(&world.tools, &root)
}

fn make(bench: &Bench<'_>) -> Result<(Made, Made)> {
    let daemon = bench.world.start(&bench.path("first"))?;
    let made = (bench.make(&daemon, &YESTERDAY)?, bench.make(&daemon, &TODAY)?);
    daemon.stop()?;
    Ok(made)
}

fn ensure_warm(bench: &Bench<'_>, daemon: &Daemon, yesterday: &Made) -> Result<()> {
    let warm = bench.build(daemon, &YESTERDAY, false)?;
    ensure_same_steps(YESTERDAY.keys, &yesterday.warm, &warm)?;
    warm.ensure_nothing_imported(|_| false)
}

fn export(bench: &Bench<'_>, daemon: &Daemon) -> Result<CacheExport> {
    let exported = bench.path("exported");
    let options = Options { export: Some((&exported, "")), ..Options::default() };
    bench.build_with(daemon, &YESTERDAY, false, &options)?;
    CacheExport::open(&exported, "latest")
}

/// Returns the inode of each file in a directory, with its name and size.
fn inodes(dir: &Path) -> Result<Vec<(PathBuf, u64, u64)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        files.push((entry.file_name().into(), metadata.ino(), metadata.size()));
    }
    files.sort_unstable();
    Ok(files)
}

/// Returns whether the largest blob in a root shares its blocks with another file.
fn is_shared(root: &Path) -> Result<bool> {
    let blobs = root.join(BLOBS);
    let largest = inodes(&blobs)?.into_iter().max_by_key(|(_, _, size)| *size);
    let (name, ..) = largest.context("a blob")?;
    let listed = run(Command::new("filefrag").env("PATH", PATH).arg("-v").arg(blobs.join(name)))?;
    Ok(listed.contains("shared"))
}

const PATH: &str = "/usr/sbin:/sbin:/usr/bin:/bin";

/// A mounted XFS, unmounted when dropped.
struct Xfs(PathBuf);

impl Xfs {
    fn mount(bench: &Bench<'_>) -> Result<Self> {
        let (image, point) = (bench.path("xfs-image"), bench.path("xfs"));
        // The minimum of mkfs.xfs.
        File::create(&image)?.set_len(300 << 20)?;
        run(Command::new("mkfs.xfs")
            .env("PATH", PATH)
            .args(["-q", "-m", "reflink=1"])
            .arg(&image))?;
        fs::create_dir(&point)?;
        run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&point))?;
        Ok(Self(point))
    }
}

impl Drop for Xfs {
    fn drop(&mut self) {
        // A failed case may still have files open on it.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}
