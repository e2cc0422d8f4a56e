//! Daemons with another snapshotter than overlayfs: the cache of a daemon on overlayfs is converted for them. They
//! are as warm on the result as that daemon, and their steps see what they see after a build without a cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;
use testkit::Daemon;
use testkit::trials::Suite;

use crate::build::{Options, Report, Source};
use crate::case::{Case, Context};
use crate::export::CacheExport;
use crate::process::run;
use crate::proof::ensure_same_steps;
use crate::rootless::base;
use crate::seen::{CASES, NEXT, difference, unmark};
use crate::world::World;

/// The snapshotters, and whether the suite runs all builds with them.
const SNAPSHOTTERS: [(&str, bool); 3] =
    [("native", true), ("fuse-overlayfs", true), ("stargz", false)];

/// The attribute of opaque directories for a daemon that runs as root.
const OPAQUE: &str = "trusted.overlay.opaque";

/// Adds the tests.
pub(crate) fn add(suite: &mut Suite<World>) {
    for (snapshotter, is_in_suite) in SNAPSHOTTERS {
        for case in CASES {
            let name = format!("snapshotters::{snapshotter}::{}", case.name);
            let proof = move |world: &World| prove(world, snapshotter, &case);
            if is_in_suite {
                suite.add(name, proof);
            } else {
                suite.add_ignored(name, proof);
            }
        }
    }
    // Both choose the same.
    suite.add("snapshotters::auto", |world: &World| prove(world, "auto", &CASES[1]));
}

fn prove(world: &World, snapshotter: &'static str, case: &Case) -> Result<()> {
    let bench = Bench::new(world, snapshotter)?;
    base::push_as(world, base::HARMLESS, false, &bench.path("base"))?;
    let made = bench.make(case)?;

    let root = bench.path("converted");
    bench.convert(&made, &root)?;
    bench.ensure_verified(&root)?;
    let control = bench.path("control");
    run(Command::new("cp").arg("-a").args([&root, &control]))?;
    let daemon = bench.start(&root)?;
    let exported = bench.path("exported");
    let export = Some((&*exported, ""));
    let warm = bench.build(&daemon, case, &Options { export, ..Options::default() })?;
    ensure_same_steps(case.keys, &made.warm, &warm)?;
    warm.ensure_nothing_imported(|_| false)?;
    made.export.ensure_same(&CacheExport::open(&exported, "latest")?)?;
    bench.ensure_same_next(case, &made, &daemon)?;
    let total = total(&run(daemon.buildctl().arg("du"))?)?;
    daemon.stop()?;
    let ours = run(bench.command(&["du"]).arg(&root))?;
    ensure!(self::total(&ours)? == total, "buildctl du has {total}, and ours is\n{ours}");
    bench.ensure_verified(&root).context("after the builds")?;
    bench.ensure_merged(case, &made).context("added to another build")?;

    // The comparison of trees finds a difference.
    bench.change(&control)?;
    let daemon = bench.start(&control)?;
    let listing = bench.next(&daemon, case)?;
    daemon.stop()?;
    let differs = listing != made.listing;
    ensure!(differs || case.name != "base" && !bench.is_native(), "the control is the same");
    Ok(())
}

/// Returns the line with the total.
fn total(usage: &str) -> Result<String> {
    let line = usage.lines().rfind(|line| line.starts_with("Total:")).context("no total")?;
    Ok(line.split_whitespace().collect())
}

struct Bench<'w> {
    world: &'w World,
    snapshotter: &'static str,
    directory: TempDir,
}

/// The results of daemons that built without a cache.
struct Made {
    cache: PathBuf,
    keys: PathBuf,
    export: CacheExport,
    /// How the one on overlayfs builds again.
    warm: Report,
    /// The tree that the next step saw on the one with the snapshotter.
    listing: String,
}

impl<'w> Bench<'w> {
    fn new(world: &'w World, snapshotter: &'static str) -> Result<Self> {
        let directory =
            tempfile::Builder::new().prefix("snapshotter").tempdir_in(world.scratch())?;
        Ok(Self { world, snapshotter, directory })
    }

    fn is_native(&self) -> bool {
        self.snapshotter == "native"
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn start(&self, root: &Path) -> Result<Daemon> {
        let registries = [self.world.registry()];
        Daemon::start_with(&self.world.tools, root, &registries, self.snapshotter, "")
    }

    fn build(&self, daemon: &Daemon, case: &Case, options: &Options<'_>) -> Result<Report> {
        let directory = self.path("context");
        let context = Context::create(&directory);
        let dockerfile = (case.dockerfile)().replace(base::NAME, base::HARMLESS);
        context.file("Dockerfile", self.world.fill_in(&dockerfile));
        (case.context)(&context);
        Source { case, context: &directory }.build(daemon, options)
    }

    /// Returns what the next step of the build sees.
    fn next(&self, daemon: &Daemon, case: &Case) -> Result<String> {
        let out = self.path("out");
        let _ = fs::remove_dir_all(&out);
        let output = Some(format!("type=local,dest={}", out.display()));
        let next = Case { arguments: NEXT, ..*case };
        self.build(daemon, &next, &Options { output, ..Options::default() })?;
        fs::read_to_string(out.join("listing")).context("the listing")
    }

    fn ensure_same_next(&self, case: &Case, made: &Made, daemon: &Daemon) -> Result<()> {
        let listing = self.next(daemon, case)?;
        ensure!(listing == made.listing, "{}", difference(&made.listing, &listing));
        Ok(())
    }

    fn make(&self, case: &Case) -> Result<Made> {
        let (cache, keys) = (self.path("cache"), self.path("keys"));
        let daemon = self.world.start(&self.path("exporter")).context("the exporter")?;
        let export = Some((&*cache, ""));
        let output = Some(format!("type=local,dest={}", keys.display()));
        let options = Options { export, output, provenance: "mode=max", ..Options::default() };
        self.build(&daemon, case, &options)?;
        let warm = self.build(&daemon, case, &Options::default())?;
        daemon.stop()?;
        let natural = self.path("natural");
        let daemon = self.start(&natural)?;
        self.build(&daemon, case, &Options::default())?;
        let listing = self.next(&daemon, case)?;
        daemon.stop()?;
        self.ensure_verified(&natural).context("the natural root")?;
        let export = CacheExport::open(&cache, "latest")?;
        Ok(Made { cache, keys: keys.join("provenance.json"), export, warm, listing })
    }

    /// Returns the command under test for the daemon.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.world.tools.oci2bk);
        command.args(arguments).args(["--snapshotter", self.snapshotter]);
        command
    }

    fn convert(&self, made: &Made, root: &Path) -> Result<Value> {
        let mut command = self.command(&["convert", "--format=json", "--progress=quiet"]);
        command.arg("--keys").arg(&made.keys).arg(&made.cache).arg(root);
        Ok(serde_json::from_str(&run(&mut command)?)?)
    }

    fn ensure_verified(&self, root: &Path) -> Result<()> {
        let mut command = self.command(&["verify", "--trees", "--progress=quiet"]);
        run(command.arg(root)).map(drop).with_context(|| format!("verify of {}", root.display()))
    }

    /// A root on which the daemon has run another build becomes as warm for both.
    fn ensure_merged(&self, case: &Case, made: &Made) -> Result<()> {
        let other = CASES.iter().find(|other| other.name != case.name).context("another case")?;
        let root = self.path("merged");
        let daemon = self.start(&root)?;
        self.build(&daemon, other, &Options::default())?;
        daemon.stop()?;
        self.ensure_verified(&root).context("the natural root")?;
        self.convert(made, &root)?;
        self.ensure_verified(&root)?;
        let daemon = self.start(&root)?;
        let warm = self.build(&daemon, case, &Options::default())?;
        ensure_same_steps(case.keys, &made.warm, &warm)?;
        warm.ensure_nothing_imported(|_| false)?;
        self.ensure_same_next(case, made, &daemon)?;
        let warm = self.build(&daemon, other, &Options::default())?;
        let ran = warm.steps().filter(|(name, cached)| name.contains("RUN") && !cached).count();
        ensure!(ran == 0, "{ran} steps of the other build run again");
        daemon.stop().map(drop)
    }

    /// Changes the trees: files of lower layers show again, or in whole trees one is more.
    fn change(&self, root: &Path) -> Result<()> {
        if !self.is_native() {
            return unmark(root, OPAQUE).map(drop);
        }
        for tree in fs::read_dir(root.join("runc-native/snapshots/snapshots"))? {
            fs::write(tree?.path().join("one-more"), "")?;
        }
        Ok(())
    }
}
