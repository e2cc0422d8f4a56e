//! Images without a cache: a root made from them is like one whose daemon has pulled them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use testkit::schema;

use crate::build::{Options, Report, Source};
use crate::case::{Case, Context};
use crate::daemon::Daemon;
use crate::layers::ensure_nothing_moved;
use crate::offline::push;
use crate::process::run;
use crate::proof::{GARBAGE_COLLECTED, tolerance};
use crate::registry::Registry;
use crate::sharing::NO_GC;
use crate::state;
use crate::world::World;

const CASE: Case = Case::plain("pulled", String::new);

const BASE: &str = "FROM {registry}/busybox\nRUN mkdir /base && echo base > /base/file\n";
const GROWN: &str = "RUN echo grown > /grown\n";
const FRONTEND: &str = "FROM scratch\nCOPY dockerfile-frontend /bin/dockerfile-frontend\n\
                        LABEL moby.buildkit.frontend.network.none=\"true\"\n\
                        LABEL moby.buildkit.frontend.caps=\"moby.buildkit.frontend.inputs,\
                        moby.buildkit.frontend.subrequests,moby.buildkit.frontend.contexts\"\n\
                        ENTRYPOINT [\"/bin/dockerfile-frontend\"]\n";

/// All steps need a tree, so the image is unpacked.
const BUILD: &str = "RUN cat /base/file > /copy\n";

/// The pushed images, which are in layouts too. Each is named by tag and digest.
struct Images {
    registry: Registry,
    base: String,
    grown: String,
    frontend: String,
}

/// The formats in which skopeo writes an image into a file.
const FORMS: [&str; 2] = ["oci-archive", "docker-archive"];

/// A daemon's data about a pulled record.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Clone)]
struct Pulled {
    description: String,
    kind: String,
    size: u64,
}

pub(crate) fn prove(world: &World) -> Result<()> {
    let dir = tempfile::Builder::new().prefix("pulled").tempdir_in(world.scratch())?;
    let dir = dir.path();
    let images = Images::make(world, dir)?;
    let start = |root: &Path| Daemon::start(&world.tools, root, &[images.registry.address()]);
    let bench = Bench { context: Context::create(&dir.join("build")) };

    // A daemon that has pulled the base image.
    let natural = dir.join("natural");
    let registries = [images.registry.address()];
    let daemon = Daemon::start_configured(&world.tools, &natural, &registries, NO_GC)?;
    bench.build(&daemon, &format!("FROM {}\n{BUILD}", images.base))?;
    let pulled = records(&daemon)?;
    ensure!(pulled.len() > 1, "the natural root has {pulled:?}");
    daemon.stop()?;

    // As SRC, whose layout has the name, and as --image beside another.
    let root = dir.join("root");
    let layout = |name: &str| dir.join(name).display().to_string();
    let frontend = format!("--image={}={}", images.frontend, layout("frontend"));
    let report = convert(world, &root, &[&layout("base"), &frontend])?;
    ensure!(report["warmth"] == "layers", "the report says {}", report["warmth"]);
    state::ensure_sound(&world.tools, &root)?;
    state::ensure_verified(&world.tools, &root, true)?;

    let daemon = start(&root)?;
    std::thread::sleep(GARBAGE_COLLECTED);
    let mut ours = records(&daemon)?;
    ours.retain(|record| !record.description.contains("/frontend"));
    ensure_same(&pulled, &ours)?;
    daemon.stop()?;
    ensure_shared(world, &images, &bench, [&natural, &root])?;
    for form in FORMS {
        ensure_warm_from(world, &images, &bench, dir, form).with_context(|| form.to_owned())?;
    }

    // Without a registry: references by digest are resolved, and nothing is pulled.
    let Images { registry, base, frontend, .. } = images;
    let registries = [registry.address().to_owned()];
    drop(registry);
    let daemon = Daemon::start(&world.tools, &root, &[&registries[0]])?;
    let dockerfile = format!("# syntax={frontend}\nFROM {base}\n{BUILD}");
    let build = bench.build(&daemon, &dockerfile).context("with the registry stopped")?;
    ensure_nothing_moved(&build)?;
    daemon.prune_all()?;
    daemon.stop()?;
    state::ensure_sound(&world.tools, &root)?;
    let left: Vec<_> = state::blob_files(&root)?.into_iter().collect();
    ensure!(left.iter().all(|blob| !base.ends_with(blob)), "pruning leaves the image: {left:?}");
    Ok(())
}

impl Images {
    /// Builds and pushes them.
    fn make(world: &World, dir: &Path) -> Result<Self> {
        let registry = Registry::start(&world.tools, dir)?;
        let context = Context::create(&dir.join("images"));
        fs::copy(&world.tools.frontend, context.dir().join("dockerfile-frontend"))?;
        let source = Source { case: &CASE, context: context.dir() };
        let root = dir.join("pusher");
        let daemon = Daemon::start(&world.tools, &root, &[world.registry(), registry.address()])?;
        let push = |name: &str, dockerfile: &str| -> Result<String> {
            context.file("Dockerfile", world.fill_in(dockerfile));
            let repository = format!("{}/{name}", registry.address());
            let tagged = format!("{repository}:latest");
            let attributes = format!(",name={tagged}");
            let digest = push(&daemon, &source, &tagged, &dir.join(name), &attributes)?;
            Ok(format!("{tagged}@{digest}"))
        };
        let base = push("base", BASE)?;
        let grown = push("grown", &format!("{BASE}{GROWN}"))?;
        let frontend = push("frontend", FRONTEND)?;
        daemon.stop()?;
        Ok(Self { registry, base, grown, frontend })
    }
}

/// The next builds cost the same on both roots: one from the image, and one from the image with another
/// layer.
fn ensure_shared(
    world: &World,
    images: &Images,
    bench: &Bench,
    [natural, root]: [&Path; 2],
) -> Result<()> {
    let costs = |root: &Path| -> Result<Vec<(usize, usize)>> {
        let copy = root.with_extension("copy");
        run(Command::new("cp").arg("-a").args([root, &copy]))?;
        let daemon = Daemon::start(&world.tools, &copy, &[images.registry.address()])?;
        let mut costs = Vec::new();
        for image in [&images.base, &images.grown] {
            let build = bench.build(&daemon, &format!("FROM {image}\nRUN ls /base\n"))?;
            costs.push((build.extracted().count(), build.fetched().count()));
        }
        daemon.stop()?;
        fs::remove_dir_all(copy)?;
        Ok(costs)
    };
    let (expected, ours) = (costs(natural)?, costs(root)?);
    ensure!(ours == expected, "layers extracted and fetched: {ours:?}, naturally {expected:?}");
    ensure!(expected == [(0, 0), (1, 1)], "the natural root costs {expected:?}");
    Ok(())
}

/// An image in a file: its layers are warm by their content, even if the format changes its manifest.
fn ensure_warm_from(
    world: &World,
    images: &Images,
    bench: &Bench,
    dir: &Path,
    form: &str,
) -> Result<()> {
    let file = format!("{form}:{}", dir.join(form).with_extension("tar").display());
    run(Command::new("skopeo")
        .args(["--insecure-policy", "copy"])
        .arg(format!("oci:{}", dir.join("base").display()))
        .arg(format!("{file}:{}/base:latest", images.registry.address())))?;
    let root = dir.join(form);
    let report = convert(world, &root, &[&file])?;
    ensure!(report["sources"][0]["style"] == "image", "the source is {}", report["sources"][0]);
    state::ensure_verified(&world.tools, &root, true)?;
    let daemon = Daemon::start(&world.tools, &root, &[images.registry.address()])?;
    let build = bench.build(&daemon, &format!("FROM {}\n{BUILD}", images.base))?;
    ensure_nothing_moved(&build)?;
    daemon.stop()?;
    state::ensure_sound(&world.tools, &root)
}

fn convert(world: &World, root: &Path, words: &[&str]) -> Result<Value> {
    let mut command = Command::new(&world.tools.oci2bk);
    command.args(["convert", "--progress=quiet", "--format=json"]);
    schema::run(command.args(words).arg(root))
}

/// Returns the records that a daemon lists as pulled.
fn records(daemon: &Daemon) -> Result<BTreeSet<Pulled>> {
    let du = run(daemon.buildctl().args(["du", "--format", "{{json .}}"]))?;
    let records: Option<Vec<Value>> = serde_json::from_str(&du)?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let records = records.into_iter().flatten().map(|record| Pulled {
        description: text(&record["description"]),
        kind: text(&record["recordType"]),
        size: record["size"].as_u64().unwrap_or_default(),
    });
    Ok(records.filter(|record| record.description.starts_with("pulled from ")).collect())
}

fn ensure_same(natural: &BTreeSet<Pulled>, ours: &BTreeSet<Pulled>) -> Result<()> {
    let same = |(natural, ours): (&Pulled, &Pulled)| {
        (&natural.description, &natural.kind) == (&ours.description, &ours.kind)
            && natural.size.abs_diff(ours.size) <= tolerance(natural.size)
    };
    ensure!(
        natural.len() == ours.len() && natural.iter().zip(ours).all(same),
        "du lists {ours:#?}, naturally {natural:#?}"
    );
    Ok(())
}

struct Bench {
    context: Context,
}

impl Bench {
    fn build(&self, daemon: &Daemon, dockerfile: &str) -> Result<Report> {
        self.context.file("Dockerfile", dockerfile);
        Source { case: &CASE, context: self.context.dir() }.build(daemon, &Options::default())
    }
}
