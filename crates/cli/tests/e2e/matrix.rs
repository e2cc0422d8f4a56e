//! Caches of one release of BuildKit on a daemon of another.
//!
//! For each pair, a daemon of the first release builds and exports, the export is converted for the
//! second, and a daemon of that builds again. What counts is how many steps it reports as cached,
//! next to how many the first daemon itself does when it builds again.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::build::{Options, Source};
use crate::case::{Context, Keys};
use crate::cases::releases::CASE;
use crate::daemon::Daemon;
use crate::process::run;
use crate::state;
use crate::tools::Tools;
use crate::world::World;

/// The old release that is part of the ordinary suite.
pub(crate) const OLD: &str = "v0.16.0";

/// The last release before v0.33, whose databases always have the list of their free pages.
pub(crate) const PREVIOUS: &str = "v0.32.2";

/// Where the table goes.
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/compatibility.md");

/// Why a newer daemon does not find steps of caches made by older ones, by what the names of the
/// steps contain. A step that is not found for another reason fails the comparison.
const REASONS: [(&str, &str); 1] =
    [(PATTERNS, "what wildcards match is hashed otherwise since v0.26")];

/// The step that is not found.
const PATTERNS: &str = "COPY src/*.txt";

/// A release, with its daemon.
#[derive(Debug, Clone)]
pub(crate) struct Release {
    version: String,
    tools: Tools,
}

/// The cache that a daemon of one release made.
struct Exported {
    cache: PathBuf,
    keys: PathBuf,
    /// What that daemon takes from its own cache.
    warm: BTreeSet<String>,
}

impl Release {
    /// The release `version`, whose daemon `scripts/oracle` has to have made.
    pub(crate) fn old(tools: &Tools, version: &str) -> Result<Self, String> {
        Ok(Self { version: version.to_owned(), tools: tools.of_release(version)? })
    }

    /// The release that the suite tests with.
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

/// A cache of [`OLD`] is fully warm on a daemon of that release, and on one of the newest but for
/// the step that the command tells of; and the other way round.
pub(crate) fn old_release(world: &World) -> Result<()> {
    let old = Release::old(&world.tools, OLD).map_err(anyhow::Error::msg)?;
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

/// Compares every release that there are tools of, and writes the page about it.
pub(crate) fn write_page(world: &World) -> Result<()> {
    let mut releases = Vec::new();
    for version in world.tools.releases()? {
        releases.push(Release::old(&world.tools, &version).map_err(anyhow::Error::msg)?);
    }
    let newest = Release::newest(&world.tools)?;
    releases.push(newest.clone());
    let mut rows = String::new();
    for exporter in &releases {
        let comparison = Comparison::new(world)?;
        let exported = comparison.export(exporter).context(exporter.version.clone())?;
        write!(rows, "| {} | {} ", exporter.version, exported.warm.len())?;
        for target in [exporter, &newest] {
            let lost = comparison.lost(&exported, target).with_context(|| {
                format!("a cache of {} on {}", exporter.version, target.version)
            })?;
            write!(rows, "| {}{} ", exported.warm.len() - lost.len(), reasons(&lost)?)?;
        }
        rows.push_str("|\n");
    }
    let page = include_str!("matrix.md")
        .replace("{newest}", &newest.version)
        .replace("{dockerfile}", (CASE.dockerfile)().trim())
        .replace("{rows}", rows.trim_end());
    std::fs::write(PAGE, page).context(PAGE)
}

/// Why these steps are not found.
fn reasons(lost: &BTreeSet<String>) -> Result<String> {
    let mut reasons = BTreeSet::new();
    for step in lost {
        let known = REASONS.iter().find(|(part, _)| step.contains(part));
        reasons.insert(known.with_context(|| format!("no reason is known for {lost:#?}"))?.1);
    }
    let reasons: Vec<_> = reasons.into_iter().collect();
    Ok(if reasons.is_empty() { String::new() } else { format!(": {}", reasons.join("; ")) })
}

/// The steps that a conversion tells will not be found, or may not.
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

    /// Every step of `lost` is told of, and what is told for certain is in it.
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

/// Whether `name`, as the command calls a step, is `step`, as the daemon calls it: of which it has
/// the paths in full, but not the options or the stage.
fn is_step(name: &str, step: &str) -> bool {
    let step = step.rsplit("] ").next().unwrap_or(step);
    let words = step.split(' ').filter(|word| !word.starts_with("--"));
    let words: Vec<_> = words.map(|word| word.trim_matches('/')).collect();
    let named: Vec<_> = name.split(' ').map(|word| word.trim_matches('/')).collect();
    words.len() == named.len() && named.iter().zip(words).all(|(name, word)| name.ends_with(word))
}

/// A directory to compare in.
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
        Ok(Exported { cache, keys: keys.context("provenance is a file")?, warm })
    }

    /// The steps that the exporter takes from its own cache, but a daemon of `target` does not take
    /// from the converted one. The command has to tell of them.
    fn lost(&self, exported: &Exported, target: &Release) -> Result<BTreeSet<String>> {
        let dir = tempfile::tempdir_in(self.dir.path())?;
        let root = dir.path().join("root");
        let report = run(Command::new(&self.world.tools.oci2bk)
            .args(["convert", "--progress=plain", "--format=json", "--buildkit", &target.version])
            .arg("--keys")
            .args([&exported.keys, &exported.cache, &root]))?;
        let report: Value = serde_json::from_str(&report)?;
        state::ensure_sound(&self.world.tools, &root)?;
        state::ensure_verified(&self.world.tools, &root, true)?;
        let daemon = target.start(self.world, &root)?;
        let cached = self.build(&daemon)?;
        daemon.stop()?;
        state::ensure_verified(&self.world.tools, &root, true).context("after the build")?;
        let lost: BTreeSet<_> = exported.warm.difference(&cached).cloned().collect();
        let told = Told::read(&report)?;
        told.ensure_true(&lost).with_context(|| format!("the report is {report:#}"))?;
        Ok(lost)
    }

    /// Builds, and returns the names of the steps with inputs that were cached.
    fn build(&self, daemon: &Daemon) -> Result<BTreeSet<String>> {
        let report = self.source().build(daemon, &Options::default())?;
        Ok(report.cached(Keys::Donor).into_iter().map(str::to_owned).collect())
    }

    fn source(&self) -> Source<'_> {
        Source { case: &CASE, context: &self.context }
    }
}
