//! Rootless daemons: a cache is converted in the user namespace of a user, and by root outside of it, and a
//! rootless daemon of the user is as warm on both as the one that made the cache.

pub(crate) mod base;
mod dangers;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::build::{Options, Report, Source};
use crate::case::{Case, Context};
use crate::daemon::Daemon;
use crate::export::CacheExport;
use crate::process::run;
use crate::proof::ensure_same_steps;
use crate::seen::{CASES, NEXT, difference, unmark};
use crate::tree;
use crate::world::World;
use testkit::rootless::User;
use testkit::trials::Suite;

/// Adds the tests.
pub(crate) fn add(suite: &mut Suite<World>) {
    for case in CASES {
        suite.add(format!("rootless::{}", case.name), move |world| prove(world, OVERLAYFS, &case));
    }
    for kind in [FUSE, NATIVE] {
        let name = format!("rootless::{}::base", kind.snapshotter);
        suite.add_ignored(name, move |world| prove(world, kind, &CASES[0]));
    }
    for (name, proof) in dangers::PROOFS {
        suite.add(format!("rootless::{name}"), proof);
    }
}

/// A kind of rootless daemon.
#[derive(Clone, Copy)]
struct Kind {
    snapshotter: &'static str,
    /// How the daemon is told.
    configured: &'static str,
    /// The attribute of opaque directories in its trees.
    mark: &'static str,
    /// The image below the builds. fuse-overlayfs hides files if a layer brings `user.overlay.opaque`; a converted
    /// root shows them, like the other daemons.
    base: &'static str,
}

/// The daemon chooses it itself.
const OVERLAYFS: Kind = Kind {
    snapshotter: "overlayfs",
    configured: "auto",
    mark: "user.overlay.opaque",
    base: base::NAME,
};
const FUSE: Kind = Kind {
    snapshotter: "fuse-overlayfs",
    configured: "fuse-overlayfs",
    mark: "user.fuseoverlayfs.opaque",
    base: base::HARMLESS,
};
const NATIVE: Kind = Kind {
    snapshotter: "native",
    configured: "native",
    mark: "user.overlay.opaque",
    base: base::NAME,
};

/// A user with a build, its cache and its keys, all in the home directory.
struct Bench<'w> {
    world: &'w World,
    kind: Kind,
    user: User,
    work: PathBuf,
}

/// The results of a rootless daemon that built without a cache.
struct Made {
    cache: PathBuf,
    keys: PathBuf,
    export: CacheExport,
    warm: Report,
    /// The tree that its next step saw.
    listing: String,
}

impl<'w> Bench<'w> {
    fn new(world: &'w World, kind: Kind) -> Result<Self> {
        let user = User::create(&world.tools)?;
        let work = user.home().join("work");
        fs::create_dir(&work)?;
        Ok(Self { world, kind, user, work })
    }

    /// Returns the path of a root of the user.
    fn root(&self, name: &str) -> PathBuf {
        self.user.home().join(name)
    }

    fn start(&self, root: &Path) -> Result<Daemon> {
        let registries = [self.world.registry()];
        let snapshotter = self.kind.configured;
        Daemon::start_rootless(&self.world.tools, &self.user, root, &registries, snapshotter)
    }

    fn build(&self, daemon: &Daemon, case: &Case, options: &Options<'_>) -> Result<Report> {
        let directory = self.work.join("context");
        let context = Context::create(&directory);
        let dockerfile = (case.dockerfile)().replace(base::NAME, self.kind.base);
        context.file("Dockerfile", self.world.fill_in(&dockerfile));
        (case.context)(&context);
        Source { case, context: &directory }.build(daemon, options)
    }

    /// Returns what the next step of the build sees.
    fn next(&self, daemon: &Daemon, case: &Case) -> Result<String> {
        let out = self.work.join("out");
        let _ = fs::remove_dir_all(&out);
        let output = Some(format!("type=local,dest={}", out.display()));
        let next = Case { arguments: NEXT, ..*case };
        self.build(daemon, &next, &Options { output, ..Options::default() })?;
        fs::read_to_string(out.join("listing")).context("the listing")
    }

    fn make(&self, case: &Case) -> Result<Made> {
        let (cache, keys) = (self.work.join("cache"), self.work.join("keys"));
        let root = self.root("natural");
        let daemon = self.start(&root)?;
        let export = Some((&*cache, ""));
        let output = Some(format!("type=local,dest={}", keys.display()));
        let options = Options { export, output, provenance: "mode=max", ..Options::default() };
        self.build(&daemon, case, &options)?;
        let again = self.work.join("again");
        let export = Some((&*again, ""));
        let warm = self.build(&daemon, case, &Options { export, ..Options::default() })?;
        let export = CacheExport::open(&cache, "latest")?;
        export.ensure_same(&CacheExport::open(&again, "latest")?).context("building again")?;
        let listing = self.next(&daemon, case)?;
        daemon.stop()?;
        let keys = keys.join("provenance.json");
        // What buildctl wrote as root, the user has to read.
        let owner = format!("{0}:{0}", self.user.name());
        run(Command::new("chown").args(["-R", &owner]).arg(&self.work))?;
        Ok(Made { cache, keys, export, warm, listing })
    }

    /// Returns the command under test in the user's namespace.
    fn within(&self, arguments: &[&str]) -> Command {
        let mut command = self.user.rootless("oci2bk.rootlesskit", &self.user.program("oci2bk"));
        let (name, rest) = arguments.split_at(1);
        command.args(name).args(["--snapshotter", self.kind.snapshotter]).args(rest);
        command
    }

    /// Converts in the user's namespace.
    fn convert(&self, made: &Made, root: &Path) -> Result<Value> {
        let mut command = self.within(&["convert", "--format=json", "--progress=quiet"]);
        command.arg("--keys").arg(&made.keys).arg(&made.cache).arg(root);
        Ok(serde_json::from_str(&run(&mut command)?)?)
    }

    /// Converts as root, outside of the namespace.
    fn convert_outside(&self, made: &Made, owners: &[&str], root: &Path) -> Result<Value> {
        let mut command = Command::new(&self.world.tools.oci2bk);
        command.args(["convert", "--format=json", "--progress=quiet"]).args(owners);
        command.args(["--snapshotter", self.kind.snapshotter]);
        command.arg("--keys").arg(&made.keys).arg(&made.cache).arg(root);
        Ok(serde_json::from_str(&run(&mut command)?)?)
    }

    fn ensure_verified(&self, root: &Path) -> Result<()> {
        let mut command = self.within(&["verify", "--trees", "--progress=quiet"]);
        run(command.arg(root)).map(drop).with_context(|| format!("verify of {}", root.display()))
    }

    /// The build is as warm as on the daemon that made the cache, exports the same cache, and its next step sees
    /// the same tree.
    fn ensure_warm(&self, case: &Case, made: &Made, root: &Path) -> Result<()> {
        let daemon = self.start(root)?;
        let exported = self.work.join("exported");
        let _ = fs::remove_dir_all(&exported);
        let export = Some((&*exported, ""));
        let warm = self.build(&daemon, case, &Options { export, ..Options::default() })?;
        ensure_same_steps(case.keys, &made.warm, &warm)?;
        warm.ensure_nothing_imported(|_| false)?;
        made.export.ensure_same(&CacheExport::open(&exported, "latest")?)?;
        self.ensure_same_next(case, made, &daemon)?;
        daemon.stop().map(drop)
    }

    /// A root on which a daemon has run another build becomes as warm, converted into from either side.
    fn ensure_merged(&self, case: &Case, made: &Made, map: &str) -> Result<()> {
        let other = CASES.iter().find(|other| other.name != case.name && other.name != "base");
        let other = other.context("another case")?;
        let root = self.root("merged");
        let daemon = self.start(&root)?;
        self.build(&daemon, other, &Options::default())?;
        daemon.stop()?;
        if other.name == "steps" {
            self.convert_outside(made, &[map], &root)?;
        } else {
            self.convert(made, &root)?;
        }
        self.ensure_verified(&root)?;
        let daemon = self.start(&root)?;
        // Layers that the root had keep the times of the other build, so the export is not compared.
        let warm = self.build(&daemon, case, &Options::default())?;
        ensure_same_steps(case.keys, &made.warm, &warm)?;
        warm.ensure_nothing_imported(|_| false)?;
        self.ensure_same_next(case, made, &daemon)?;
        let warm = self.build(&daemon, other, &Options::default())?;
        let ran = warm.steps().filter(|(name, cached)| name.contains("RUN") && !cached).count();
        ensure!(ran == 0, "{ran} steps of the other build run again");
        daemon.stop().map(drop)
    }

    /// The next step of the build sees the same tree as on the daemon that made the cache.
    fn ensure_same_next(&self, case: &Case, made: &Made, daemon: &Daemon) -> Result<()> {
        let listing = self.next(daemon, case)?;
        ensure!(listing == made.listing, "{}", difference(&made.listing, &listing));
        Ok(())
    }
}

/// Lets all users mount with FUSE, as a package of the program does with udev.
pub(crate) fn open_fuse() -> Result<()> {
    Ok(fs::set_permissions("/dev/fuse", fs::Permissions::from_mode(0o666))?)
}

fn prove(world: &World, kind: Kind, case: &Case) -> Result<()> {
    let bench = Bench::new(world, kind)?;
    if kind.snapshotter == FUSE.snapshotter {
        open_fuse()?;
    }
    base::push_as(world, kind.base, kind.base == base::NAME, &bench.work.join("base"))?;
    let made = bench.make(case).context("the natural daemon")?;
    bench.ensure_verified(&bench.root("natural")).context("the natural root")?;

    let started = SystemTime::now();
    let (within, outside, by_name) =
        (bench.root("within"), bench.root("outside"), bench.root("new/below/by-name"));
    let report = bench.convert(&made, &within).context("in the namespace")?;
    let map = format!("--map={}", bench.user.map()?);
    let report_outside = bench.convert_outside(&made, &[&map], &outside).context("outside")?;
    bench.convert_outside(&made, &["--map-user", bench.user.name()], &by_name)?;
    for (other, root) in [("with a map", &outside), ("with the map of a user", &by_name)] {
        tree::ensure_equal(root, &within, started).context(other)?;
    }
    let devices = if case.name == "base" { 3 } else { 0 };
    for report in [report, report_outside] {
        let left_out = &report["stored"]["left_out_count"];
        ensure!(left_out == devices, "{left_out} entries were left out");
    }

    for root in [&within, &outside] {
        bench.ensure_verified(root)?;
    }
    run(Command::new(&world.tools.oci2bk)
        .args(["verify", "--trees", "--progress=quiet", &map])
        .args(["--snapshotter", kind.snapshotter])
        .arg(&outside))
    .context("verify as root")?;
    run(bench.within(&["du"]).arg(&within)).context("du")?;

    let control = bench.root("control");
    run(Command::new("cp").arg("-a").args([&outside, &control]))?;
    bench.ensure_warm(case, &made, &within).context("converted in the namespace")?;
    bench.ensure_warm(case, &made, &outside).context("converted outside")?;
    bench.ensure_verified(&within).context("after the builds")?;
    run(bench.within(&["du"]).arg(&within)).context("du after the builds")?;
    bench.ensure_merged(case, &made, &map).context("added to another build")?;

    // A natural root has all of it, and stays as warm.
    let natural = bench.root("natural");
    let stored = &bench.convert(&made, &natural).context("into the natural root")?["stored"];
    // Of linked copies it has the layers, and not what they are together.
    let added = if case.name == "links" { 2 } else { 0 };
    let counts = [&stored["snapshot_count"], &stored["blob_count"]];
    ensure!(counts == [added, 0], "it lacked something: {stored}");
    bench.ensure_verified(&natural).context("the natural root with the cache")?;
    let daemon = bench.start(&natural)?;
    let warm = bench.build(&daemon, case, &Options::default())?;
    ensure_same_steps(case.keys, &made.warm, &warm).context("the natural root")?;
    bench.ensure_same_next(case, &made, &daemon).context("the natural root")?;
    daemon.stop()?;

    if unmark(&control, bench.kind.mark)? > 0 {
        let daemon = bench.start(&control)?;
        let listing = bench.next(&daemon, case)?;
        daemon.stop()?;
        ensure!(listing != made.listing, "the marks make no difference");
    } else {
        let has_marks = case.name == "base" && kind.snapshotter != NATIVE.snapshotter;
        ensure!(!has_marks, "the tree of the base has no marks");
    }
    Ok(())
}
