//! Roots whose trees are in a mounted image: daemons are as warm on them, lose nothing while it is not mounted, and
//! take what is added beside.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use testkit::erofs::{self, Mounted};
use testkit::schema;
use testkit::trials::Suite;

use crate::build::Options;
use crate::case::{Case, Keys};
use crate::daemon::Daemon;
use crate::export::CacheExport;
use crate::matrix::{PREVIOUS, Release};
use crate::merging::{Bench, Made, TODAY, YESTERDAY, bench};
use crate::process::{run, wait_until};
use crate::proof::{GARBAGE_COLLECTED, Subject, ensure_same_steps, prove};
use crate::seen::{CASES, NEXT, difference};
use crate::state;
use crate::tools::Tools;
use crate::world::World;

/// The builds of the table whose trees have every kind of file, and many stages.
const TABLE: [&str; 2] = ["files", "stages"];

/// Allows less space than the state takes.
const SMALL: &str = "[worker.oci]\n  maxUsedSpace = \"100KB\"\n  reservedSpace = \"10KB\"\n  minFreeSpace = \"1%\"\n";

type Proof = fn(&World) -> Result<()>;

const PROOFS: [(&str, Proof); 4] = [
    ("next", prove_next),
    ("life", prove_life),
    ("collected", prove_collected),
    ("packed-layers", prove_layers),
];

/// Adds the tests, for the newest release and the previous one.
pub(crate) fn add(suite: &mut Suite<World>) {
    let able = erofs::works();
    let of_previous = |world: &World| -> Result<World> {
        let previous = Release::old(&world.tools, PREVIOUS);
        Ok(world.on(previous.map_err(anyhow::Error::msg)?))
    };
    for case in crate::cases::all() {
        if TABLE.contains(&case.name) {
            let name = format!("packed::{}", case.name);
            suite.add_if(&able, &name, move |world| prove(world, &case, Subject::Packed));
            suite.add_if(&able, format!("{PREVIOUS}::{name}"), move |world| {
                prove(&of_previous(world)?, &case, Subject::Packed)
            });
        }
    }
    for (name, proof) in PROOFS {
        suite.add_if(&able, format!("packed::{name}"), proof);
        suite.add_if(&able, format!("{PREVIOUS}::packed::{name}"), move |world| {
            proof(&of_previous(world)?)
        });
    }
}

/// A root with a mounted image of its trees.
pub(crate) struct Packed {
    tools: Tools,
    root: PathBuf,
    report: Value,
    mounted: Option<Mounted>,
}

impl Packed {
    /// Packs the trees of `root`, and mounts the image.
    pub(crate) fn pack(tools: &Tools, root: &Path) -> Result<Self> {
        let report = pack(tools, root, &[])?;
        ensure!(report["snapshot_count"].as_u64() > Some(0), "nothing was packed: {report:#}");
        let mut packed =
            Self { tools: tools.clone(), root: root.to_owned(), report, mounted: None };
        packed.mount()?;
        Ok(packed)
    }

    fn path(&self, member: &str) -> Result<PathBuf> {
        let path = self.report["image"][member].as_str();
        path.map(PathBuf::from).with_context(|| format!("no {member}: {:#}", self.report))
    }

    fn mount(&mut self) -> Result<()> {
        self.mounted = Some(Mounted::new(&self.path("path")?, &self.path("mount_point")?)?);
        Ok(())
    }

    fn unmount(&mut self) {
        self.mounted = None;
    }

    /// Checks that the image has its digest, that the next run removes it, and that the root is sound then.
    pub(crate) fn ensure_unchanged(mut self) -> Result<()> {
        let image = self.path("path")?;
        let sum = run(Command::new("sha256sum").arg(&image))?;
        let digest = self.report["image"]["digest"].as_str().context("no digest")?;
        let same = sum.split(' ').next() == digest.strip_prefix("sha256:");
        ensure!(same, "the image changed: {sum}");
        let kept = pack(&self.tools, &self.root, &[])?;
        ensure!(kept["still_mounted"].as_array().map(Vec::len) == Some(1), "{kept:#}");
        self.unmount();
        let removed = pack(&self.tools, &self.root, &[])?;
        ensure!(removed["removed_images"].as_array().map(Vec::len) == Some(1), "{removed:#}");
        ensure!(!image.exists(), "the image is still there");
        state::ensure_sound(&self.tools, &self.root)
    }
}

fn pack(tools: &Tools, root: &Path, options: &[&str]) -> Result<Value> {
    let mut command = Command::new(&tools.oci2bk);
    command.args(["pack", "--format=json", "--progress=quiet"]).args(options).arg(root);
    schema::run(&mut command)
}

/// Returns how many snapshots of `root` are links, and how many are directories.
fn counts(root: &Path) -> Result<(usize, usize)> {
    let (mut links, mut directories) = (0, 0);
    for entry in fs::read_dir(root.join("runc-overlayfs/snapshots/snapshots"))? {
        if entry?.file_type()?.is_symlink() { links += 1 } else { directories += 1 }
    }
    Ok((links, directories))
}

/// The next step sees the same on packed trees as on a natural root.
fn prove_next(world: &World) -> Result<()> {
    // The first one needs an image for rootless daemons.
    for case in &CASES[1..] {
        let bench = bench(world, "packed-next")?;
        let daemon = world.start(&bench.path("natural"))?;
        let made = bench.make(&daemon, case)?;
        let expected = next(&bench, &daemon, case)?;
        daemon.stop()?;
        let root = bench.path("root");
        bench.convert(&made, &root)?;
        let _packed = Packed::pack(&world.tools, &root)?;
        let daemon = world.start(&root)?;
        let found = next(&bench, &daemon, case)?;
        daemon.stop()?;
        ensure!(found == expected, "{}: {}", case.name, difference(&expected, &found));
        state::ensure_verified(&world.tools, &root, true)?;
    }
    Ok(())
}

/// Returns what the next step of the build sees.
fn next(bench: &Bench<'_>, daemon: &Daemon, case: &Case) -> Result<String> {
    let out = bench.path("out");
    let _ = fs::remove_dir_all(&out);
    let output = Some(format!("type=local,dest={}", out.display()));
    let next = Case { arguments: NEXT, ..*case };
    bench.build_with(daemon, &next, false, &Options { output, ..Options::default() })?;
    fs::read_to_string(out.join("listing")).context("the listing")
}

/// From the first conversion to the last.
fn prove_life(world: &World) -> Result<()> {
    let bench = bench(world, "packed-life")?;
    let daemon = world.start(&bench.path("natural"))?;
    let (yesterday, today) = (bench.make(&daemon, &YESTERDAY)?, bench.make(&daemon, &TODAY)?);
    daemon.stop()?;
    let root = bench.path("root");
    bench.convert(&yesterday, &root)?;
    let mut packed = Packed::pack(&world.tools, &root)?;
    prove_unmounted(&bench, &yesterday, &mut packed).context("without the mount")?;
    prove_elsewhere(&bench, &root).context("at another place")?;

    // What is added takes attributes from the trees below.
    packed.unmount();
    let mut convert = Command::new(&world.tools.oci2bk);
    convert.args(["convert", "--progress=quiet"]).arg(&today.cache).arg(&root);
    let refused = run(convert.arg("--keys").arg(&today.keys)).err().context("without the mount")?;
    ensure!(format!("{refused:#}").contains("the image with it is not mounted"), "{refused:#}");
    packed.mount()?;
    // And lies beside the links.
    let (links, before) = counts(&root)?;
    bench.convert(&today, &root)?;
    let (still, after) = counts(&root)?;
    ensure!(still == links && after > before, "{links}, {before} became {still}, {after}");
    state::ensure_verified(&world.tools, &root, true).context("with directories beside")?;
    ensure_warm(&bench, &root, &TODAY, &today).context("with directories beside")?;

    // A second image, and then one of all.
    let mut second = Packed::pack(&world.tools, &root)?;
    ensure!(second.path("mount_point")?.ends_with("packed/2"), "{:#}", second.report);
    state::ensure_verified(&world.tools, &root, true).context("with two images")?;
    ensure_warm(&bench, &root, &TODAY, &today).context("with two images")?;
    second.unmount();
    packed.unmount();
    let all = pack(&world.tools, &root, &["--all"])?;
    ensure!(all["removed_images"].as_array().map(Vec::len) == Some(2), "{all:#}");
    let mut all =
        Packed { tools: world.tools.clone(), root: root.clone(), report: all, mounted: None };
    all.mount()?;
    state::ensure_verified(&world.tools, &root, true).context("with one image of all")?;
    ensure_warm(&bench, &root, &TODAY, &today).context("with one image of all")?;
    all.unmount();

    let undone = pack(&world.tools, &root, &["--undo"])?;
    ensure!(undone["removed_images"].as_array().map(Vec::len) == Some(1), "{undone:#}");
    ensure!(counts(&root)?.0 == 0, "there are still links");
    state::ensure_verified(&world.tools, &root, true).context("after --undo")?;
    ensure_warm(&bench, &root, &TODAY, &today).context("after --undo")
}

/// A daemon that starts before the mount loses nothing, and goes on once it is there.
fn prove_unmounted(bench: &Bench<'_>, made: &Made, packed: &mut Packed) -> Result<()> {
    let world = bench.world;
    packed.unmount();
    let before = counts(&packed.root)?;
    let daemon = world.start(&packed.root)?;
    std::thread::sleep(GARBAGE_COLLECTED);
    let records = daemon.du()?;
    let warm = bench.build(&daemon, &YESTERDAY, false)?;
    ensure_same_steps(YESTERDAY.keys, &made.warm, &warm)?;
    let failed = bench.build(&daemon, &YESTERDAY, true);
    let error = failed.err().context("a step ran without its files")?;
    ensure!(format!("{error:#}").contains("no such file or directory"), "{error:#}");
    let lost: Vec<_> = records.difference(&daemon.du()?).cloned().collect();
    ensure!(lost.is_empty(), "lost are {lost:?}");
    let (links, _) = counts(&packed.root)?;
    ensure!(links == before.0, "of {} links, {links} are left", before.0);
    packed.mount()?;
    bench.build(&daemon, &YESTERDAY, true).context("with the mount")?;
    daemon.stop()?;
    state::ensure_verified(&world.tools, &packed.root, true)
}

/// The links are relative: the root may be mounted elsewhere, as in a container.
fn prove_elsewhere(bench: &Bench<'_>, root: &Path) -> Result<()> {
    let elsewhere = bench.path("elsewhere");
    fs::create_dir(&elsewhere)?;
    let script =
        "mount --rbind \"$1\" \"$2\" && exec \"$3\" verify --trees --progress=quiet \"$2\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation=slave", "sh", "-c", script, "sh"]);
    let printed = run(command.args([root, &elsewhere, bench.world.tools.oci2bk.as_path()]))?;
    ensure!(!printed.contains("packed-not-mounted"), "{printed}");
    Ok(())
}

fn ensure_warm(bench: &Bench<'_>, root: &Path, case: &Case, made: &Made) -> Result<()> {
    let daemon = bench.world.start(root)?;
    let exported = bench.path("exported");
    let _ = fs::remove_dir_all(&exported);
    let export = Some((&*exported, ""));
    let warm = bench.build_with(&daemon, case, false, &Options { export, ..Options::default() })?;
    ensure_same_steps(case.keys, &made.warm, &warm)?;
    warm.ensure_nothing_imported(|_| false)?;
    made.export.ensure_same(&CacheExport::open(&exported, "latest")?)?;
    // Steps that read the files.
    let edited = bench.build(&daemon, case, true)?;
    ensure!(!edited.cached(Keys::Donor).is_empty(), "nothing is cached after the edit");
    let complaints = daemon.stop()?;
    let link = complaints.iter().find(|line| line.contains("read-only file system"));
    ensure!(link.is_none(), "{link:?}");
    Ok(())
}

/// Garbage collection removes links and leaves the image.
fn prove_collected(world: &World) -> Result<()> {
    let bench = bench(world, "packed-collected")?;
    let daemon = world.start(&bench.path("natural"))?;
    let made = bench.make(&daemon, &YESTERDAY)?;
    daemon.stop()?;
    let root = bench.path("root");
    bench.convert(&made, &root)?;
    let packed = Packed::pack(&world.tools, &root)?;
    let usage = run(Command::new(&world.tools.oci2bk).arg("du").arg(&root))?;
    ensure!(usage.contains("Packed:"), "{usage}");
    let before = counts(&root)?.0;
    let daemon = world.start_configured(&root, SMALL)?;
    let gone = || counts(&root).is_ok_and(|(links, _)| links < before);
    let collected = wait_until(Duration::from_secs(20), gone);
    let complaints = daemon.stop()?;
    ensure!(collected, "nothing was collected of {before} links");
    let complaint = complaints.iter().find(|line| line.contains("snapshots"));
    ensure!(complaint.is_none(), "{complaint:?}");
    state::ensure_verified(&world.tools, &root, true)?;
    let daemon = world.start(&root)?;
    state::ensure_prunable(&world.tools, daemon, &root)?;
    packed.ensure_unchanged()
}

/// A daemon packs layers from the packed trees if the root has no blobs: they have the same content.
fn prove_layers(world: &World) -> Result<()> {
    let bench = bench(world, "packed-layers")?;
    let daemon = world.start(&bench.path("natural"))?;
    let made = bench.make(&daemon, &YESTERDAY)?;
    daemon.stop()?;
    let mut diff_ids = Vec::new();
    for is_packed in [false, true] {
        let root = bench.path(&format!("root-{is_packed}"));
        bench.convert_with(&made, &root, &["--blobs=none"])?;
        let _packed = is_packed.then(|| Packed::pack(&world.tools, &root)).transpose()?;
        let daemon = world.start(&root)?;
        let exported = bench.path(&format!("exported-{is_packed}"));
        let export = Some((&*exported, ""));
        let options = Options { export, ..Options::default() };
        let warm = bench.build_with(&daemon, &YESTERDAY, false, &options)?;
        ensure_same_steps(YESTERDAY.keys, &made.warm, &warm)?;
        daemon.stop()?;
        diff_ids.push(CacheExport::open(&exported, "latest")?.diff_ids()?);
    }
    let [directories, packed] = &*diff_ids else { unreachable!("two roots") };
    ensure!(!directories.is_empty(), "no layers were exported");
    ensure!(directories == packed, "the layers were {directories:?}, and are {packed:?}");
    Ok(())
}
