//! `oci2bk du` says of a root what the daemon on it says.

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

/// Makes records of all types but those of frontends from images.
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

/// What the same filters leave for both.
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

/// What the records are called that a daemon makes when it fetches what is added.
const FETCHED: [&str; 3] =
    ["git snapshot for git://", "shared git repo for git://", "http url http://"];

/// In a state that a daemon made, one that was converted, and one that was converted into what a
/// daemon made of that; before the daemon has measured what it made, and afterwards.
pub(crate) fn prove(world: &World) -> Result<()> {
    let dir = tempfile::Builder::new().prefix("du").tempdir_in(world.scratch())?;
    let path = |name: &str| dir.path().join(name);
    let context = Context::create(&path("context"));
    let repository = Repository::serve(dir.path())?;
    let dockerfile = world.fill_in(&(CASE.dockerfile)()).replace("{git}", repository.url());
    context.file("Dockerfile", dockerfile);
    (CASE.context)(&context);
    let source = Source { case: &CASE, context: context.dir() };
    let bench = Bench { world, config: path("buildx") };
    let build_twice = |daemon: &Daemon| -> Result<()> {
        source.build(daemon, &Options::default())?;
        (CASE.edit)(&context);
        source.build(daemon, &Options::default())?;
        (CASE.context)(&context);
        // Otherwise the stop could overtake the removal of what is not needed any more.
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
    // What was fetched begins with one of the others.
    let layers = "type==regular,description~=/^[^ghs]/";
    run(daemon.buildctl().args(["prune", "--filter", layers, "--keep-storage=1"]))?;
    daemon.stop()?;
    bench
        .ensure_same(&converted, &["exec.cachemount", "source.local", GIT], &FETCHED)
        .context("converted and used")?;
    convert()?;
    bench.ensure_same(&converted, &["regular", "exec.cachemount", GIT], &[]).context("merged")
}

struct Bench<'w> {
    world: &'w World,
    /// Where buildx keeps what it knows.
    config: PathBuf,
}

impl Bench<'_> {
    /// The state in `root` is to have records of these types at least, and some whose descriptions
    /// begin so.
    fn ensure_same(&self, root: &Path, types: &[&str], descriptions: &[&str]) -> Result<()> {
        // Once a daemon is asked, it measures what it has not, and counts that as a use: so what it
        // says first is compared with what we say before, and what it says last with the files that
        // it leaves.
        let ours = self.ours(root, &[])?;
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

        let ours = self.ours(root, &[])?;
        ensure!(ours == theirs, "afterwards, {ours:#?}\nis not\n{theirs:#?}");
        let our_text = self.run(root, &["--verbose"])?;
        ensure!(our_text == text, "{our_text}\nis not\n{text}");
        for (filters, theirs) in FILTERS.iter().zip(filtered) {
            let ours = self.ours(root, filters)?;
            ensure!(ours == theirs, "{filters:?}: {ours:#?}\nis not\n{theirs:#?}");
        }
        let ours: Vec<_> = ours.into_iter().map(without_units).collect();
        let theirs: Vec<_> = of_buildx.into_iter().map(without_units).collect();
        ensure!(ours == theirs, "{ours:#?}\nis not what buildx says:\n{theirs:#?}");
        Ok(())
    }

    fn run(&self, root: &Path, words: &[&str]) -> Result<String> {
        run(Command::new(&self.world.tools.oci2bk).arg("du").arg(root).args(words))
    }

    fn ours(&self, root: &Path, filters: &[&str]) -> Result<Vec<Value>> {
        let mut words = vec!["--format=json"];
        words.extend(filters.iter().flat_map(|filter| ["--filter", filter]));
        objects(&self.run(root, &words)?)
    }

    fn of_buildx(&self, daemon: &Daemon) -> Result<Vec<Value>> {
        let tools = &self.world.tools;
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

/// An object in each line.
fn objects(text: &str) -> Result<Vec<Value>> {
    text.lines().map(|line| serde_json::from_str(line).context("a line of JSON")).collect()
}

/// What buildctl says, in our form.
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

/// A list, which is null in Go if it is empty.
fn list(value: &Value) -> Value {
    if value.is_null() { json!([]) } else { value.clone() }
}

/// A record without the values that buildx prints for people.
fn without_units(mut record: Value) -> Value {
    record["Parents"] = list(&record["Parents"]);
    for name in ["CreatedAt", "LastUsedAt", "Size"] {
        let is_there = record.get(name).is_some();
        record[name] = json!(is_there);
    }
    record
}
