//! A root with layers but without steps: together with the index of the cache, a build is as warm as on the
//! daemon that made the cache, and nothing is fetched or extracted.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use testkit::schema;

use crate::build::{Options, Report, Source, buildx};
use crate::case::{Case, Context, Export, Keys};
use crate::daemon::Daemon;
use crate::process::run;
use crate::state;
use crate::world::World;

const DOCKERFILE: &str = "
FROM {registry}/busybox AS made
COPY first /first
RUN mkdir /made && cp /first /made/file
FROM {registry}/busybox
WORKDIR /work
COPY second second
RUN cat second > third
COPY --from=made /made /made
";

/// Another build on the same base.
const OTHER: &str = "FROM {registry}/busybox\nCOPY first /elsewhere\nRUN cat /elsewhere > /more\n";

const CASE: Case = Case {
    context: |context| {
        context.file("first", "first\n");
        context.file("second", "second\n");
    },
    edit: |context| drop(context.file("second", "edited\n")),
    // An import has the steps, but no results of those without inputs.
    keys: Keys::Donor,
    ..Case::plain("layers", || DOCKERFILE.to_owned())
};

/// How a cache is exported and converted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Form {
    pub(crate) name: &'static str,
    export: Export,
    /// Whether the cache is in the image.
    inline: bool,
}

pub(crate) const FORMS: [Form; 3] = [
    Form { name: "manifest", export: Export::MAX, inline: false },
    Form { name: "index", export: Export::INDEX, inline: false },
    Form { name: "inline", export: Export::MAX, inline: true },
];

/// The report of the daemon that made the cache.
struct Natural {
    warm: Report,
    edited: Report,
}

/// The whole test, with the cache in one form.
pub(crate) fn prove(world: &World, form: Form) -> Result<()> {
    let dir = tempfile::Builder::new().prefix("layers").tempdir_in(world.scratch())?;
    let case = Case { export: form.export, ..CASE };
    let bench = Bench { world, case, form, dir: dir.path(), context: dir.path().join("context") };
    let cache = dir.path().join("cache");
    let natural = bench.make(&cache)?;

    let root = dir.path().join("root");
    let sparse = dir.path().join("sparse");
    let report = bench.convert(&cache, &root, &sparse)?;
    ensure!(report["warmth"] == "layers", "the report says {}", report["warmth"]);
    state::ensure_verified(&world.tools, &root, true)?;
    let verified = bench.verify(&root)?;
    ensure!(verified["warmth"] == "layers", "verify says {}", verified["warmth"]);
    let copy = dir.path().join("without-import");
    run(Command::new("cp").arg("-a").args([&root, &copy]))?;

    // Only a few kilobytes of the cache are left.
    fs::remove_dir_all(&cache)?;
    let daemon = world.start(&root)?;
    bench.ensure_same(&natural.warm, &bench.build(&daemon, false, Some(&sparse))?)?;
    let edited = bench.build(&daemon, true, Some(&sparse))?;
    bench.ensure_same(&natural.edited, &edited).context("after the edit")?;
    bench.ensure_same(&natural.warm, &bench.build(&daemon, false, None)?).context("no import")?;
    let other = bench.build_other(&daemon)?;
    ensure_nothing_moved(&other).context("another Dockerfile")?;
    daemon.stop()?;
    let verified = bench.verify(&root)?;
    ensure!(verified["warmth"] == "steps", "after a build verify says {}", verified["warmth"]);
    state::ensure_verified(&world.tools, &root, true)?;

    // The steps come from the import.
    let daemon = world.start(&copy)?;
    let cold = bench.build(&daemon, false, None)?;
    ensure!(cold.cached(case.keys).is_empty(), "the root knows {:?}", cold.cached(case.keys));
    daemon.stop()?;
    Ok(())
}

/// The same through buildx, whose attributes differ, with the sparse layout of two caches.
pub(crate) fn prove_with_buildx(world: &World) -> Result<()> {
    let dir = tempfile::Builder::new().prefix("layers-buildx").tempdir_in(world.scratch())?;
    let form = FORMS[0];
    let bench =
        Bench { world, case: CASE, form, dir: dir.path(), context: dir.path().join("context") };
    let (cache, second) = (dir.path().join("cache"), dir.path().join("second"));
    bench.make(&cache)?;
    let daemon = world.start(&dir.path().join("first"))?;
    bench.write_source(true);
    bench
        .source()
        .build(&daemon, &Options { export: Some((&second, "")), ..Options::default() })?;
    daemon.stop()?;

    let (root, sparse) = (dir.path().join("root"), dir.path().join("sparse"));
    let report = schema::run(
        Command::new(&world.tools.oci2bk)
            .args(["convert", "--progress=quiet", "--format=json", "--sparse-layout"])
            .args([&sparse, &cache, &second, &root]),
    )?;
    let words = report["cache_from"].as_array().context("no cache_from")?;
    let words: Vec<_> = words.iter().filter_map(Value::as_str).collect();
    // Both have the tag latest; the second is found by its digest.
    ensure!(words.len() == 2 && words[1].contains(",digest=sha256:"), "cache_from is {words:?}");
    fs::remove_dir_all(&cache)?;
    fs::remove_dir_all(&second)?;

    let daemon = world.start(&root)?;
    let config = dir.path().join("buildx");
    run(buildx(&world.tools, &config)
        .args(["create", "--name", "e2e", "--driver", "remote"])
        .arg(daemon.address()))?;
    for edited in [true, false] {
        bench.write_source(edited);
        let mut command = buildx(&world.tools, &config);
        command.args([
            "--builder",
            "e2e",
            "build",
            "--progress=rawjson",
            "--output=type=cacheonly",
        ]);
        for word in &words {
            command.arg(format!("--cache-from={word}"));
        }
        let output = command.arg(&bench.context).output()?;
        let report = Report::parse(&String::from_utf8_lossy(&output.stderr))?;
        ensure_nothing_moved(&report)?;
        let cached = report.cached(CASE.keys).len();
        ensure!(cached == STEPS, "{cached} steps are cached (edited: {edited})");
    }
    daemon.stop()?;
    Ok(())
}

/// Number of steps with an input in the Dockerfile.
const STEPS: usize = 6;

struct Bench<'a> {
    world: &'a World,
    case: Case,
    form: Form,
    dir: &'a Path,
    context: PathBuf,
}

impl Bench<'_> {
    /// Builds and exports to `cache`.
    fn make(&self, cache: &Path) -> Result<Natural> {
        let daemon = self.world.start(&self.dir.join("natural"))?;
        self.write_source(false);
        let mut options = Options::default();
        if self.form.inline {
            options.output = Some(format!("type=oci,tar=false,dest={}", cache.display()));
            options.export_to = Some("type=inline".to_owned());
        } else {
            options.export = Some((cache, ""));
        }
        self.source().build(&daemon, &options)?;
        let warm = self.build(&daemon, false, None)?;
        let edited = self.build(&daemon, true, None)?;
        daemon.stop()?;
        Ok(Natural { warm, edited })
    }

    fn convert(&self, cache: &Path, root: &Path, sparse: &Path) -> Result<Value> {
        schema::run(
            Command::new(&self.world.tools.oci2bk)
                .args(["convert", "--progress=quiet", "--format=json", "--sparse-layout"])
                .args([sparse, cache, root]),
        )
    }

    fn verify(&self, root: &Path) -> Result<Value> {
        schema::run(
            Command::new(&self.world.tools.oci2bk)
                .args(["verify", "--progress=quiet", "--format=json"])
                .arg(root),
        )
    }

    fn build(&self, daemon: &Daemon, edited: bool, import: Option<&Path>) -> Result<Report> {
        self.write_source(edited);
        self.source().build(daemon, &Options { import, ..Options::default() })
    }

    fn build_other(&self, daemon: &Daemon) -> Result<Report> {
        self.write_source(false);
        let dockerfile = self.world.fill_in(OTHER);
        fs::write(self.context.join("Dockerfile"), dockerfile)?;
        self.source().build(daemon, &Options::default())
    }

    /// The cached steps of the natural daemon are cached here, and nothing is fetched or extracted. An inline
    /// cache has only those of the image, as a natural import shows.
    fn ensure_same(&self, natural: &Report, build: &Report) -> Result<()> {
        ensure_nothing_moved(build)?;
        let (mut expected, cached) = (natural.cached(self.case.keys), build.cached(self.case.keys));
        if self.form.inline {
            expected.retain(|name| !name.contains("made 2/3") && !name.contains("made 3/3"));
        }
        let missing: Vec<_> = expected.iter().filter(|name| !cached.contains(name)).collect();
        ensure!(!expected.is_empty() && missing.is_empty(), "{missing:?} are not cached");
        Ok(())
    }

    fn source(&self) -> Source<'_> {
        Source { case: &self.case, context: &self.context }
    }

    fn write_source(&self, edited: bool) {
        let context = Context::create(&self.context);
        context.file("Dockerfile", self.world.fill_in(DOCKERFILE));
        (self.case.context)(&context);
        if edited {
            (self.case.edit)(&context);
        }
    }
}

/// No layer was fetched or extracted.
pub(crate) fn ensure_nothing_moved(build: &Report) -> Result<()> {
    let moved: Vec<_> = build.extracted().chain(build.fetched()).collect();
    ensure!(moved.is_empty(), "these were fetched or extracted: {moved:?}");
    Ok(())
}
