//! Caches of one release of BuildKit on a daemon of another.
//!
//! For each pair, a daemon of the first release builds and exports, the export is converted for the second,
//! and a daemon of the second builds again. The number of cached steps is compared with that of the first
//! daemon when it builds again.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use oci2bk::release::Version;
use serde_json::Value;
use testkit::schema;

use crate::build::{Options, Source};
use crate::case::{Context, Keys};
use crate::cases::releases::CASE;
use crate::daemon::Daemon;
use crate::page::Page;
use crate::proof::compare_sharing;
use crate::shape;
use crate::state;
use crate::tools::Tools;
use crate::world::World;

/// The old release in the ordinary suite.
pub(crate) const OLD: &str = "v0.16.0";

/// The release before the newest, on which the whole table of builds is tested too.
pub(crate) const PREVIOUS: &str = "v0.32.2";

/// Why a newer daemon does not find steps of caches made by older ones. A step that is missing for another
/// reason fails the comparison.
struct Reason {
    /// The first release with another name for the step.
    since: Version,
    /// Substrings of the names of the steps.
    steps: &'static [&'static str],
    why: &'static str,
    /// Whether the command predicts them. It cannot know that a frontend makes other operations.
    is_told: bool,
}

const REASONS: [Reason; 2] = [
    Reason {
        since: Version { major: 0, minor: 26, patch: 0 },
        steps: &[PATTERNS],
        why: "files that wildcards match are hashed differently since v0.26",
        is_told: true,
    },
    Reason {
        since: Version { major: 0, minor: 12, patch: 0 },
        // The file, and the steps above it.
        steps: &["COPY <<FILE /heredoc", "RUN cat /heredoc", "/run/secrets/token"],
        why: "frontends give here-documents other modes since v0.12",
        is_told: false,
    },
];

/// The missing step.
const PATTERNS: &str = "COPY src/*.txt";

/// A release, with its daemon.
#[derive(Debug, Clone)]
pub(crate) struct Release {
    pub(crate) version: String,
    pub(crate) tools: Tools,
}

/// A cache exported by a daemon of one release.
struct Exported {
    by: Release,
    cache: PathBuf,
    keys: PathBuf,
    /// The steps that this daemon has cached itself.
    warm: BTreeSet<String>,
}

impl Release {
    /// Returns the release `version`, whose daemon `scripts/oracle` must have built.
    pub(crate) fn old(tools: &Tools, version: &str) -> Result<Self, String> {
        Ok(Self { version: version.to_owned(), tools: tools.of_release(version)? })
    }

    /// Returns the release that the suite tests by default.
    pub(crate) fn newest(tools: &Tools) -> Result<Self> {
        let pins = include_str!("../../../../oracle/buildkit/go.mod");
        let pin =
            pins.lines().find_map(|line| line.trim().strip_prefix("github.com/moby/buildkit "));
        let version = pin.context("oracle/buildkit pins no release")?.to_owned();
        Ok(Self { version, tools: tools.clone() })
    }

    /// Starts its daemon.
    pub(crate) fn start(&self, world: &World, root: &Path) -> Result<Daemon> {
        world.start_with(&self.tools, root)
    }
}

/// Returns every release with an installed daemon, oldest first.
pub(crate) fn all_releases(world: &World) -> Result<Vec<Release>> {
    let mut releases = Vec::new();
    for version in world.tools.releases()? {
        releases.push(Release::old(&world.tools, &version).map_err(anyhow::Error::msg)?);
    }
    releases.push(Release::newest(&world.tools)?);
    Ok(releases)
}

/// A cache of [`OLD`] is fully warm on a daemon of that release, which shares the layers, and on one of the
/// newest except for the step that the command predicts; and the other way round.
pub(crate) fn old_release(world: &World) -> Result<()> {
    let old = Release::old(&world.tools, OLD).map_err(anyhow::Error::msg)?;
    for compared in compare_sharing(&world.on(old.clone()), &CASE)? {
        compared.ensure_shared()?;
    }
    let newest = Release::newest(&world.tools)?;
    for (exporter, targets) in [(&old, &[&old, &newest][..]), (&newest, &[&old])] {
        let comparison = Comparison::new(world)?;
        let exported = comparison.export(exporter)?;
        for target in targets {
            let lost = comparison.lost(&exported, target)?;
            let unexpected: Vec<_> = lost.iter().filter(|step| !step.contains(PATTERNS)).collect();
            ensure!(
                unexpected.is_empty(),
                "of a cache of {}, a daemon of {} does not find {lost:#?}",
                exporter.version,
                target.version
            );
        }
    }
    Ok(())
}

/// Compares every release with installed tools, and writes the page about it, row by row.
pub(crate) fn write_page(world: &World) -> Result<()> {
    let newest = Release::newest(&world.tools)?;
    let mut page = Page::read(&newest.version).unwrap_or_else(|_| Page::new(&newest.version));
    let mut failed = Vec::new();
    for release in all_releases(world)? {
        match measure(world, &release, &newest) {
            Ok(cells) => drop(page.set(&release.version, &cells)?),
            Err(error) => failed.push(format!("{}: {error:#}", release.version)),
        }
        page.write(&(CASE.dockerfile)())?;
    }
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(())
}

/// Returns the cells of a release: the number of steps that its daemon finds in its own cache, in a root
/// converted for it, and that a daemon of the newest release finds in one converted for that; the shared
/// layers; and the differences of its state from that of the release before.
pub(crate) fn measure(world: &World, exporter: &Release, newest: &Release) -> Result<Vec<String>> {
    let comparison = Comparison::new(world)?;
    let exported = comparison.export(exporter).context(exporter.version.clone())?;
    let mut cells = vec![exported.warm.len().to_string()];
    for target in [exporter, newest] {
        let lost = comparison
            .lost(&exported, target)
            .with_context(|| format!("a cache of {} on {}", exporter.version, target.version))?;
        cells.push(format!("{}{}", exported.warm.len() - lost.len(), reasons(&lost, exporter)?));
    }
    cells.push(sharing(&world.on(exporter.clone())).context(exporter.version.clone())?);
    cells.push(match shape::changes_since_last(&exporter.version)? {
        None => "the first here".to_owned(),
        Some(changes) if changes.is_empty() => "the same".to_owned(),
        Some(changes) => format!("{} lines differ", changes.len()),
    });
    Ok(cells)
}

/// Returns the number of layers unpacked in each sharing scenario, on a converted root and on a natural one.
fn sharing(world: &World) -> Result<String> {
    let mut scenarios = Vec::new();
    for compared in compare_sharing(world, &CASE)? {
        compared.ensure_shared()?;
        scenarios.push(format!("{}/{}", compared.converted.extracted, compared.natural.extracted));
    }
    Ok(scenarios.join(", "))
}

/// Returns why a step of a cache of `exporter` is missing.
fn reason(step: &str, exporter: &Release) -> Result<Option<&'static Reason>> {
    let exporter: Version = exporter.version.parse()?;
    let applies = |reason: &&Reason| {
        exporter < reason.since && reason.steps.iter().any(|part| step.contains(part))
    };
    Ok(REASONS.iter().find(applies))
}

/// Describes why these steps are missing.
fn reasons(lost: &BTreeSet<String>, exporter: &Release) -> Result<String> {
    let mut reasons = BTreeSet::new();
    for step in lost {
        let known = reason(step, exporter)?;
        reasons.insert(known.with_context(|| format!("no reason is known for {lost:#?}"))?.why);
    }
    let reasons: Vec<_> = reasons.into_iter().collect();
    Ok(if reasons.is_empty() { String::new() } else { format!(": {}", reasons.join("; ")) })
}

/// The steps that a conversion predicts to be missing, or possibly missing.
struct Told {
    certain: Vec<String>,
    doubtful: Vec<String>,
}

impl Told {
    fn read(report: &Value) -> Result<Self> {
        let mut told = Self { certain: Vec::new(), doubtful: Vec::new() };
        for miss in report["misses"].as_array().context("a report without misses")? {
            let name = miss["name"].as_str().context("a miss without a name")?.to_owned();
            let certain = miss["certain"].as_bool().context("a miss that is neither")?;
            if certain { &mut told.certain } else { &mut told.doubtful }.push(name);
        }
        Ok(told)
    }

    /// Checks that every step of `lost` is predicted, and every certain prediction is in it.
    fn ensure_true(&self, lost: &BTreeSet<String>) -> Result<()> {
        for step in lost {
            let mut told = self.certain.iter().chain(&self.doubtful);
            ensure!(told.any(|name| is_step(name, step)), "{step} was lost, and nobody told");
        }
        for name in &self.certain {
            ensure!(lost.iter().any(|step| is_step(name, step)), "{name} was not lost");
        }
        Ok(())
    }
}

/// Returns whether `name`, the command's name of a step, is `step`, the daemon's name: it has the full paths,
/// but not the options or the stage.
fn is_step(name: &str, step: &str) -> bool {
    let step = step.rsplit("] ").next().unwrap_or(step);
    let words = step.split(' ').filter(|word| !word.starts_with("--"));
    let words: Vec<_> = words.map(|word| word.trim_matches('/')).collect();
    let named: Vec<_> = name.split(' ').map(|word| word.trim_matches('/')).collect();
    words.len() == named.len() && named.iter().zip(words).all(|(name, word)| name.ends_with(word))
}

/// The name in v0.11 of the first step of `COPY --link`; the second, which links, has the name that the first
/// has since v0.12.
const COPY_TO_LINK: &str = "copy /src/b /linked/b";

/// Returns the names that frontends since v0.12 give these steps.
fn with_later_names(mut steps: BTreeSet<String>) -> BTreeSet<String> {
    if steps.remove(COPY_TO_LINK) {
        let links = steps.iter().filter(|step| step.contains("] COPY --link "));
        let links: Vec<_> = links.map(|step| step.replace("] COPY", "] LINK COPY")).collect();
        steps.extend(links);
    }
    steps
}

/// The directory of a comparison.
struct Comparison<'a> {
    world: &'a World,
    dir: tempfile::TempDir,
    context: PathBuf,
}

impl<'a> Comparison<'a> {
    fn new(world: &'a World) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("releases").tempdir_in(world.scratch())?;
        let context = dir.path().join("context");
        let files = Context::create(&context);
        files.file("Dockerfile", world.fill_in(&(CASE.dockerfile)()));
        (CASE.context)(&files);
        Ok(Self { world, dir, context })
    }

    fn export(&self, release: &Release) -> Result<Exported> {
        let cache = self.dir.path().join("cache");
        let keys = self.dir.path().join("keys");
        let daemon = release.start(self.world, &self.dir.path().join("exporter"))?;
        let keys = self.source().make(&release.tools, &daemon, &cache, &keys)?;
        let warm = self.build(&daemon)?;
        daemon.stop()?;
        let keys = keys.context("provenance is a file")?;
        Ok(Exported { by: release.clone(), cache, keys, warm })
    }

    /// Returns the steps that the exporter has cached, but a daemon of `target` does not have cached on the
    /// converted root. The command must predict those that it can.
    fn lost(&self, exported: &Exported, target: &Release) -> Result<BTreeSet<String>> {
        let dir = tempfile::tempdir_in(self.dir.path())?;
        let root = dir.path().join("root");
        let report = schema::run(
            Command::new(&self.world.tools.oci2bk)
                .args([
                    "convert",
                    "--progress=plain",
                    "--format=json",
                    "--buildkit",
                    &target.version,
                ])
                .arg("--keys")
                .args([&exported.keys, &exported.cache, &root]),
        )?;
        state::ensure_sound(&self.world.tools, &root)?;
        state::ensure_verified(&self.world.tools, &root, true)?;
        let daemon = target.start(self.world, &root)?;
        let cached = self.build(&daemon)?;
        daemon.stop()?;
        state::ensure_verified(&self.world.tools, &root, true).context("after the build")?;
        let lost: BTreeSet<_> = exported.warm.difference(&cached).cloned().collect();
        let mut visible = lost.clone();
        for step in &lost {
            if reason(step, &exported.by)?.is_some_and(|reason| !reason.is_told) {
                visible.remove(step);
            }
        }
        let told = Told::read(&report)?;
        told.ensure_true(&visible).with_context(|| format!("the report is {report:#}"))?;
        Ok(lost)
    }

    /// Builds, and returns the names of the cached steps with inputs.
    fn build(&self, daemon: &Daemon) -> Result<BTreeSet<String>> {
        let report = self.source().build(daemon, &Options::default())?;
        let steps = report.cached(Keys::Donor).into_iter().map(str::to_owned).collect();
        Ok(with_later_names(steps))
    }

    fn source(&self) -> Source<'_> {
        Source { case: &CASE, context: &self.context }
    }
}
