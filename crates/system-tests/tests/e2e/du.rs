//! `oci2bk du` lists the same for a root as its daemon.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::build::{Options, Source, buildx};
use crate::case::{Case, Context, Export, Keys};
use crate::daemon::Daemon;
use crate::git::Repository;
use crate::process::run;
use crate::proof::GARBAGE_COLLECTED;
use crate::world::World;

/// Makes records of all types except those of frontends from images.
const CASE: Case = Case {
    name: "du",
    dockerfile: || DOCKERFILE.into(),
    context: |context| {
        context.file("a", "a\n");
        context.file("b", "b\n".repeat(10_000));
    },
    edit: |context| drop(context.file("a", "edited\n")),
    arguments: &[],
    export: Export::MAX,
    keys: Keys::Provenance,
};

const GIT: &str = "source.git.checkout";

const DOCKERFILE: &str = "
FROM {registry}/busybox AS base
ADD {web}/document /document
COPY b /shared
RUN mkdir /layers && cp /shared /layers/1 && ln /layers/1 /layers/2
FROM base
COPY a /a
RUN --mount=type=cache,target=/cache cat /a >> /cache/log && cp /cache/log /log
ADD {git} /repository
ADD {web}/other /other
RUN --mount=type=cache,target=/seeded,from=base,source=/layers cp -r /seeded /copied
COPY --link b /linked
COPY --from=base --link /layers /layers
";

/// Filters that must select the same records in both.
const FILTERS: [&[&str]; 11] = [
    &["type==exec.cachemount"],
    &["type==source.git.checkout"],
    &["description~=/^http url/"],
    &["mutable,type!=source.local"],
    &["immutable"],
    &["parents"],
    &["shared"],
    &["private,description~=/^mount .* from exec/"],
    &["id~=^[a-m]", "type==source.local"],
    &["description==\"local source for context\""],
    &["inuse"],
];

/// Descriptions of the records that a daemon makes when it fetches added sources.
const FETCHED: [&str; 3] =
    ["git snapshot for git://", "shared git repo for git://", "http url http://"];

/// For a state that a daemon made, a converted one, and one with a conversion into the state that a daemon
/// made from that; before and after the daemon has measured its records.
pub(crate) fn prove(world: &World) -> Result<()> {
    let dir = tempfile::Builder::new().prefix("du").tempdir_in(world.scratch())?;
    let path = |name: &str| dir.path().join(name);
    let context = Context::create(&path("context"));
    let repository = Repository::serve(dir.path())?;
    let dockerfile = world.fill_in(&(CASE.dockerfile)()).replace("{git}", repository.url());
    context.file("Dockerfile", dockerfile);
    (CASE.context)(&context);
    let source = Source { case: &CASE, context: context.dir() };
    let bench = Bench::new(world, dir.path());
    let build_twice = |daemon: &Daemon| -> Result<()> {
        source.build(daemon, &Options::default())?;
        (CASE.edit)(&context);
        source.build(daemon, &Options::default())?;
        (CASE.context)(&context);
        // Otherwise the stop could come before unused records are removed.
        std::thread::sleep(GARBAGE_COLLECTED);
        Ok(())
    };

    let natural = path("natural");
    let daemon = world.start(&natural)?;
    let keys =
        source.make(&world.tools, &daemon, &path("cache"), &path("keys"))?.context("keys")?;
    build_twice(&daemon)?;
    daemon.stop()?;
    bench
        .ensure_same(&natural, &["exec.cachemount", "source.local", GIT], &FETCHED)
        .context("natural")?;

    let converted = path("converted");
    let convert = || {
        run(Command::new(&world.tools.oci2bk)
            .args(["convert", "--progress=quiet", "--keys"])
            .args([&keys, &path("cache"), &converted]))
    };
    convert()?;
    bench.ensure_same(&converted, &["regular"], &[]).context("converted")?;
    let daemon = world.start(&converted)?;
    build_twice(&daemon)?;
    // Descriptions of fetched records begin with one of the others.
    let layers = "type==regular,description~=/^[^ghs]/";
    run(daemon.buildctl().args(["prune", "--filter", layers, "--keep-storage=1"]))?;
    daemon.stop()?;
    bench
        .ensure_same(&converted, &["exec.cachemount", "source.local", GIT], &FETCHED)
        .context("converted and used")?;
    convert()?;
    bench.ensure_same(&converted, &["regular", "exec.cachemount", GIT], &[]).context("merged")
}

pub(crate) struct Bench<'w> {
    world: &'w World,
    /// The directory of buildx's data.
    config: PathBuf,
}

impl<'w> Bench<'w> {
    /// Returns the bench for daemons of `world`; buildx has its data in `dir`.
    pub(crate) fn new(world: &'w World, dir: &Path) -> Self {
        Self { world, config: dir.join("buildx") }
    }

    /// Compares both for the state in `root`, with every filter and in every form. The state must have at least
    /// records of these types, and some whose descriptions start with these words.
    pub(crate) fn ensure_same(
        &self,
        root: &Path,
        types: &[&str],
        descriptions: &[&str],
    ) -> Result<()> {
        // A daemon measures unmeasured records on the first request, and counts that as a use: so its first
        // output is compared with ours before, and its last one with the files that it leaves.
        let ours = ours(self.world, root, &[])?;
        let found: BTreeSet<_> = ours.iter().filter_map(|record| record["Type"].as_str()).collect();
        ensure!(types.iter().all(|name| found.contains(name)), "there are only {found:?}");
        let found: Vec<_> =
            ours.iter().filter_map(|record| record["Description"].as_str()).collect();
        let is_there = |start: &&str| found.iter().any(|text| text.starts_with(start));
        ensure!(descriptions.iter().all(is_there), "there are only {found:#?}");

        let daemon = self.world.start(root)?;
        let theirs = theirs(&daemon, &[])?;
        ensure!(ours == theirs, "{ours:#?}\nis not\n{theirs:#?}");
        let theirs = self::theirs(&daemon, &[])?;
        let text = run(daemon.buildctl().args(["du", "--verbose"]))?;
        let filtered = FILTERS.iter().map(|filters| self::theirs(&daemon, filters));
        let filtered: Vec<_> = filtered.collect::<Result<_>>()?;
        let of_buildx = self.of_buildx(&daemon)?;
        daemon.stop()?;

        let ours = self::ours(self.world, root, &[])?;
        ensure!(ours == theirs, "afterwards, {ours:#?}\nis not\n{theirs:#?}");
        let our_text = run_ours(self.world, root, &["--verbose"])?;
        ensure!(our_text == text, "{our_text}\nis not\n{text}");
        for (filters, theirs) in FILTERS.iter().zip(filtered) {
            let ours = self::ours(self.world, root, filters)?;
            ensure!(ours == theirs, "{filters:?}: {ours:#?}\nis not\n{theirs:#?}");
        }
        let ours: Vec<_> = ours.into_iter().map(without_units).collect();
        let theirs: Vec<_> = of_buildx.into_iter().map(without_units).collect();
        ensure!(ours == theirs, "{ours:#?}\nis not what buildx says:\n{theirs:#?}");
        Ok(())
    }

    fn of_buildx(&self, daemon: &Daemon) -> Result<Vec<Value>> {
        let tools = &self.world.tools;
        if let Ok(docker) = daemon.docker() {
            return objects(&run(docker.command().args(["buildx", "du", "--format", "json"]))?);
        }
        let name = "du";
        run(buildx(tools, &self.config)
            .args(["create", "--name", name, "--driver", "remote"])
            .arg(daemon.address()))?;
        let text =
            run(buildx(tools, &self.config).args(["--builder", name, "du", "--format", "json"]))?;
        run(buildx(tools, &self.config).args(["rm", name]))?;
        objects(&text)
    }
}

/// Compares the fields of all records of the state in `root`, on which `daemon` has just started.
pub(crate) fn ensure_same_fields(ours: &[Value], daemon: &Daemon) -> Result<()> {
    let theirs = theirs(daemon, &[])?;
    ensure!(ours == theirs, "du: {ours:#?}\nis not\n{theirs:#?}");
    Ok(())
}

/// Returns the output of the command under test, without the ids of cache mounts, which a daemon does not list.
pub(crate) fn ours(world: &World, root: &Path, filters: &[&str]) -> Result<Vec<Value>> {
    let mut words = vec!["--format=json"];
    words.extend(filters.iter().flat_map(|filter| ["--filter", filter]));
    let mut records = objects(&run_ours(world, root, &words)?)?;
    for record in &mut records {
        let is_mount = record["Type"] == "exec.cachemount";
        let id = record.as_object_mut().and_then(|record| record.remove("CacheMount"));
        ensure!(id.is_some() == is_mount, "{record:#} has the id {id:?} of a cache mount");
        record.as_object_mut().and_then(|record| record.remove("Packed"));
    }
    Ok(records)
}

fn run_ours(world: &World, root: &Path, words: &[&str]) -> Result<String> {
    let mut command = Command::new(&world.tools.oci2bk);
    run(command.arg("du").args(world.host.arguments(root)).args(words))
}

/// Parses one object per line.
fn objects(text: &str) -> Result<Vec<Value>> {
    text.lines().map(|line| serde_json::from_str(line).context("a line of JSON")).collect()
}

/// Returns buildctl's output, in our form.
fn theirs(daemon: &Daemon, filters: &[&str]) -> Result<Vec<Value>> {
    let filters = filters.iter().flat_map(|filter| ["--filter", filter]);
    let text = run(daemon.buildctl().args(["du", "--format", "{{json .}}"]).args(filters))?;
    let records: Option<Vec<Value>> = serde_json::from_str(&text)?;
    let ours = |record: Value| {
        json!({
            "ID": record["id"],
            "Parents": list(&record["parents"]),
            "CreatedAt": record["createdAt"],
            "Mutable": record["mutable"],
            "Reclaimable": record["inUse"] == false,
            "Shared": record["shared"],
            "Size": record["size"],
            "Description": record["description"],
            "UsageCount": record["usageCount"],
            "LastUsedAt": record["lastUsedAt"],
            "Type": record["recordType"],
        })
    };
    Ok(records.unwrap_or_default().into_iter().map(ours).collect())
}

/// Returns a list, which is null in Go if it is empty.
fn list(value: &Value) -> Value {
    if value.is_null() { json!([]) } else { value.clone() }
}

/// Removes the formatted values that buildx prints from a record.
fn without_units(mut record: Value) -> Value {
    record["Parents"] = list(&record["Parents"]);
    for name in ["CreatedAt", "LastUsedAt", "Size"] {
        let is_there = record.get(name).is_some();
        record[name] = json!(is_there);
    }
    record
}
