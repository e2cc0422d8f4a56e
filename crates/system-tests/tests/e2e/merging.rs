//! Conversions into roots with an existing state: one that was converted and used, one that a daemon made by
//! itself.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use testkit::schema;

use crate::build::{Options, Report, Source};
use crate::case::{Case, Context, Export, Keys};
use crate::daemon::Daemon;
use crate::export::CacheExport;
use crate::process::run;
use crate::proof::ensure_same_steps;
use crate::state::{self, State};
use crate::world::World;

/// A build of yesterday, and of today with additions to the Dockerfile.
pub(crate) const YESTERDAY: Case =
    case("yesterday", || SHARED.to_owned() + "RUN cat /shared /a > /final\n");
pub(crate) const TODAY: Case = case("today", || {
    SHARED.to_owned()
        + "RUN cat /shared /a > /final && echo today > /today\n\
           COPY --from=base /layers /layers\n\
           COPY --link b /linked\n"
});

const SHARED: &str = "
FROM {registry}/busybox AS base
COPY b /shared
RUN mkdir /layers && cp /shared /layers/1
FROM base
COPY a /a
RUN --mount=type=cache,target=/cache cat /a >> /cache/log && cp /cache/log /log
";

/// Fails unless the cache mount has the content that the edited build left.
const MOUNT: Case = case("mount", || {
    "FROM {registry}/busybox\nRUN --mount=type=cache,target=/cache grep edited /cache/log\n".into()
});

const fn case(name: &'static str, dockerfile: fn() -> String) -> Case {
    Case {
        name,
        dockerfile,
        context: |context| {
            context.file("a", "a\n");
            context.file("b", "b\n");
        },
        edit: |context| drop(context.file("a", "edited\n")),
        arguments: &[],
        export: Export::MAX,
        keys: Keys::Provenance,
    }
}

/// A build with its exported cache.
pub(crate) struct Made {
    pub(crate) cache: PathBuf,
    pub(crate) keys: PathBuf,
    pub(crate) export: CacheExport,
    /// The report of its daemon when it builds again.
    pub(crate) warm: Report,
}

/// The directory of a test.
pub(crate) struct Bench<'w> {
    pub(crate) world: &'w World,
    dir: tempfile::TempDir,
}

impl Bench<'_> {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn build(&self, daemon: &Daemon, case: &Case, edited: bool) -> Result<Report> {
        self.build_with(daemon, case, edited, &Options::default())
    }

    pub(crate) fn build_with(
        &self,
        daemon: &Daemon,
        case: &Case,
        edited: bool,
        options: &Options<'_>,
    ) -> Result<Report> {
        let context = self.context(case, edited);
        Source { case, context: &context }.build(daemon, options).context(case.name)
    }

    fn context(&self, case: &Case, edited: bool) -> PathBuf {
        let context = Context::create(&self.path(&format!("{}-{edited}", case.name)));
        context.file("Dockerfile", self.world.fill_in(&(case.dockerfile)()));
        (case.context)(&context);
        if edited {
            (case.edit)(&context);
        }
        context.dir().to_owned()
    }

    pub(crate) fn make(&self, daemon: &Daemon, case: &Case) -> Result<Made> {
        let [cache, keys] =
            ["cache", "keys"].map(|name| self.path(&format!("{}-{name}", case.name)));
        let context = self.context(case, false);
        let source = Source { case, context: &context };
        let keys = source.make(&self.world.tools, daemon, &cache, &keys)?.context("keys")?;
        let export = CacheExport::open(&cache, "latest")?;
        let warm = self.build(daemon, case, false)?;
        Ok(Made { cache, keys, export, warm })
    }

    /// Converts into `root`, checks that it then has all of the cache, and returns the report.
    pub(crate) fn convert(&self, made: &Made, root: &Path) -> Result<Value> {
        let report = self.convert_with(made, root, &[])?;
        let against = self.against(made, root)?;
        for missing in ["missing_step_count", "missing_link_count", "missing_result_count"] {
            ensure!(against[missing] == 0, "after the conversion: {against:#}");
        }
        Ok(report)
    }

    /// Returns which of the cache is in `root`, after checking that nothing contradicts.
    fn against(&self, made: &Made, root: &Path) -> Result<Value> {
        let printed = schema::run(
            Command::new(&self.world.tools.oci2bk)
                .args(["verify", "--progress=quiet", "--format=json", "--keys"])
                .arg(&made.keys)
                .arg("--against")
                .arg(&made.cache)
                .args(self.world.host.arguments(root)),
        )?;
        Ok(printed["against"].clone())
    }

    /// Same as [`Bench::convert`], with more arguments.
    pub(crate) fn convert_with(
        &self,
        made: &Made,
        root: &Path,
        arguments: &[&str],
    ) -> Result<Value> {
        let report = schema::run(
            Command::new(&self.world.tools.oci2bk)
                .args(["convert", "--progress=quiet", "--format=json"])
                .args(arguments)
                .arg("--keys")
                .args([&made.keys, &made.cache])
                .args(self.world.host.arguments(root)),
        )?;
        state::ensure_sound(&self.world.tools, self.world.place(root))?;
        Ok(report)
    }

    fn state(&self, root: &Path) -> Result<State> {
        State::read(&self.world.tools, self.world.place(root))
    }
}

pub(crate) fn bench<'w>(world: &'w World, name: &str) -> Result<Bench<'w>> {
    let dir = tempfile::Builder::new().prefix(name).tempdir_in(world.scratch())?;
    Ok(Bench { world, dir })
}

/// Today's cache, converted into yesterday's converted root that a daemon has used since, costs only the
/// difference and loses nothing; a second conversion changes nothing.
pub(crate) fn prove_converted(world: &World) -> Result<()> {
    let bench = bench(world, "merging")?;
    let first = world.start(&bench.path("first"))?;
    let yesterday = bench.make(&first, &YESTERDAY)?;
    let today = bench.make(&first, &TODAY)?;
    first.stop()?;

    let root = bench.path("second");
    bench.convert(&yesterday, &root)?;
    let daemon = world.start(&root)?;
    let warm = bench.build(&daemon, &YESTERDAY, false)?;
    ensure_same_steps(YESTERDAY.keys, &yesterday.warm, &warm)?;
    bench.build(&daemon, &YESTERDAY, true)?;
    let edited = bench.build(&daemon, &YESTERDAY, true)?;
    let histories = histories(&daemon)?;
    daemon.stop()?;
    // Records that a daemon was about to release when it was stopped are removed by its next start, as by a
    // conversion.
    world.start(&root)?.stop()?;

    let before = bench.state(&root)?;
    let directories = state::snapshot_directories(&root)?;
    let worker_id = std::fs::read(root.join("runc-overlayfs/workerid"))?;
    let report = bench.convert(&today, &root)?;
    let shares = &report["shares"];
    let added = state::snapshot_directories(&root)?;
    ensure!(added.is_superset(&directories), "{added:?} is not {directories:?} and more");
    let unpacked = report["stored"]["snapshot_count"].as_u64();
    ensure!(
        unpacked == Some((added.len() - directories.len()) as u64)
            && shares["snapshots"]["added_count"].as_u64() == unpacked,
        "the report is {report:#}"
    );
    // Both builds share all but the last steps. COPY --link makes two layers: one for itself, and the same on
    // top of the rest.
    ensure!(unpacked == Some(4), "the report is {report:#}");
    ensure!(shares["steps"]["existing_count"].as_u64() >= Some(5), "the report is {report:#}");
    let after = bench.state(&root)?;
    let lost: Vec<_> = before.records().difference(&after.records()).cloned().collect();
    ensure!(lost.is_empty(), "the records {lost:?} are gone");
    ensure!(std::fs::read(root.join("runc-overlayfs/workerid"))? == worker_id, "another worker");

    let listed = listing(&root)?;
    let again = bench.convert(&today, &root)?;
    ensure_same_listing(&listed, &listing(&root)?)?;
    ensure!(again["shares"]["steps"]["added_count"] == 0, "the second report is {again:#}");

    let daemon = world.start(&root)?;
    let warm = bench.build(&daemon, &TODAY, false)?;
    ensure_same_steps(TODAY.keys, &today.warm, &warm)?;
    warm.ensure_nothing_imported(|_| false)?;
    let warm = bench.build(&daemon, &YESTERDAY, false)?;
    ensure_same_steps(YESTERDAY.keys, &yesterday.warm, &warm)?;
    warm.ensure_nothing_imported(|_| false)?;
    let warm = bench.build(&daemon, &YESTERDAY, true)?;
    ensure_same_steps(YESTERDAY.keys, &edited, &warm).context("what the second daemon built")?;
    bench.build(&daemon, &MOUNT, false).context("what the cache mount collected is gone")?;
    let listed = self::histories(&daemon)?;
    ensure!(listed.starts_with(&histories) || listed.len() > histories.len(), "{listed:?}");
    let exported = bench.path("exported");
    let export = Some((&*exported, ""));
    bench.build_with(&daemon, &TODAY, false, &Options { export, ..Options::default() })?;
    today.export.ensure_same(&CacheExport::open(&exported, "latest")?)?;
    daemon.stop()?;
    state::ensure_sound(&world.tools, &root)?;
    for made in [&yesterday, &today] {
        let against = bench.against(made, &root)?;
        ensure!(against["other_step_count"].as_u64() > Some(0), "{against:#}");
    }

    let daemon = world.start(&root)?;
    let warm = bench.build(&daemon, &TODAY, false)?;
    ensure_same_steps(TODAY.keys, &today.warm, &warm).context("after another start")?;
    state::ensure_prunable(&world.tools, daemon, &root)
}

/// The export of a daemon, converted into its own root, changes nothing there. Converted into the root of
/// another daemon that has run the same build, it adds the missing parts.
pub(crate) fn prove_natural(world: &World) -> Result<()> {
    let bench = bench(world, "natural")?;
    let root = bench.path("first");
    let daemon = world.start(&root)?;
    let yesterday = bench.make(&daemon, &YESTERDAY)?;
    let today = bench.make(&daemon, &TODAY)?;
    daemon.stop()?;

    for made in [&yesterday, &today] {
        let before = listing(&root)?;
        let report = bench.convert(made, &root)?;
        for what in ["records", "snapshots", "blobs", "steps"] {
            let share = &report["shares"][what];
            ensure!(share["added_count"] == 0, "{what}: the report is {report:#}");
        }
        ensure!(report["shares"]["records"]["existing_count"].as_u64() > Some(0), "{report:#}");
        // Records last used before the newest of the cache was made now count as used then.
        let mut after = listing(&root)?;
        let records = root.join("runc-overlayfs/metadata_v2.db");
        for touched in [records.parent().context("a parent")?, &records] {
            let before = before.get(touched).context("a worker")?;
            after.insert(touched.to_owned(), *before);
        }
        ensure_same_listing(&before, &after)?;
        let after = listing(&root)?;
        bench.convert(made, &root)?;
        ensure_same_listing(&after, &listing(&root)?)?;
    }
    let daemon = world.start(&root)?;
    for (case, made) in [(&YESTERDAY, &yesterday), (&TODAY, &today)] {
        ensure_same_steps(case.keys, &made.warm, &bench.build(&daemon, case, false)?)?;
    }
    daemon.stop()?;

    // A daemon that has not exported, so its records have no blobs by which they could be found.
    let root = bench.path("other");
    let daemon = world.start(&root)?;
    bench.build(&daemon, &YESTERDAY, false)?;
    let edited = bench.build(&daemon, &YESTERDAY, true)?;
    drop(edited);
    let edited = bench.build(&daemon, &YESTERDAY, true)?;
    let yesterday_there = bench.build(&daemon, &YESTERDAY, false)?;
    daemon.stop()?;
    bench.convert(&today, &root)?;
    let listed = listing(&root)?;
    bench.convert(&today, &root)?;
    ensure_same_listing(&listed, &listing(&root)?)?;
    let daemon = world.start(&root)?;
    let warm = bench.build(&daemon, &TODAY, false)?;
    ensure_same_steps(TODAY.keys, &today.warm, &warm)?;
    warm.ensure_nothing_imported(|_| false)?;
    let warm = bench.build(&daemon, &YESTERDAY, false)?;
    ensure_same_steps(YESTERDAY.keys, &yesterday_there, &warm)?;
    let warm = bench.build(&daemon, &YESTERDAY, true)?;
    ensure_same_steps(YESTERDAY.keys, &edited, &warm)?;
    state::ensure_prunable(&world.tools, daemon, &root)
}

/// Returns the builds in the daemon's history.
fn histories(daemon: &Daemon) -> Result<Vec<String>> {
    let listed = run(daemon.buildctl().args(["debug", "histories", "--format", "{{json .}}"]))?;
    Ok(listed.lines().map(str::to_owned).collect())
}

/// Lists the attributes of every file below `root` that a change affects, except the lock.
fn listing(root: &Path) -> Result<BTreeMap<PathBuf, [i64; 7]>> {
    let mut listed = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(dir) = pending.pop() {
        for entry in std::fs::read_dir(&dir)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_dir() {
                pending.push(entry.path());
            }
            if entry.file_name() != "buildkitd.lock" {
                let seen = [
                    metadata.ino().cast_signed(),
                    metadata.size().cast_signed(),
                    i64::from(metadata.mode()),
                    metadata.mtime(),
                    metadata.mtime_nsec(),
                    metadata.ctime(),
                    metadata.ctime_nsec(),
                ];
                listed.insert(entry.path(), seen);
            }
        }
    }
    Ok(listed)
}

fn ensure_same_listing(
    before: &BTreeMap<PathBuf, [i64; 7]>,
    after: &BTreeMap<PathBuf, [i64; 7]>,
) -> Result<()> {
    let changed: Vec<_> = before
        .iter()
        .filter(|(path, seen)| after.get(*path) != Some(seen))
        .map(|(path, _)| path)
        .chain(after.keys().filter(|path| !before.contains_key(*path)))
        .collect();
    ensure!(changed.is_empty(), "these files changed: {changed:#?}");
    Ok(())
}
