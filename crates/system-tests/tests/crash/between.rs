//! A daemon starts on the partly published root of a stopped run, and builds; the next run completes the
//! root.

use bkstate::Root;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use crate::bench::{Bench, Found, Start, Subject, copy, layout, said};
use crate::daemon::Daemon;
use crate::process::run;
use crate::state::ensure_prunable;
use crate::strace::{Call, Profile, disturb, publishing};
use crate::warm::{REGISTRY, cached_steps};

/// An additional step that the daemon builds in between.
const MORE: &str = "\nCOPY src /more\n";

const WORKER_ID: &str = "runc-overlayfs/workerid";

/// The last published step of a stopped run.
struct Stop {
    /// What the step published, relative to the root.
    published: PathBuf,
    /// The call before which the run is killed.
    before: Call,
}

/// The published parts for a root without a worker, in the order of `docs/format/state.md`.
const INTO_NOTHING: &[&str] = &["runc-overlayfs", "cache.db"];

/// The published parts for an existing worker.
const INTO_WORKER: &[&str] = &[
    "runc-overlayfs/containerdmeta.db",
    "runc-overlayfs/snapshots/metadata.db",
    "runc-overlayfs/content/blobs/sha256",
    "runc-overlayfs/snapshots/snapshots",
    "runc-overlayfs/containerdmeta.db",
    "runc-overlayfs/metadata_v2.db",
    "cache.db",
];

/// Stops runs after each step of publishing.
pub(crate) fn used(bench: &Bench, start: Start) -> Result<()> {
    let dir = bench.disk()?;
    let subject = Subject::new(bench, start, dir.path())?;
    let more = more(bench, start, dir.path())?;
    let warmth = subject.warmth;
    let (before, after) = (warmth.before().collect(), warmth.after().collect());
    let case = Case { subject: &subject, before, after, more };
    subject.reset()?;
    let stops = stops(&subject, &dir.path().join("log"))?;
    let steps = if start == Start::Absent { INTO_NOTHING } else { INTO_WORKER };
    ensure_published(&stops, steps)?;
    for stop in &stops {
        let check = || -> Result<()> {
            subject.reset()?;
            disturb(&subject.convert(), &stop.before, "signal=SIGKILL")?;
            let last = stop.published == Path::new("cache.db");
            let found = subject.inspect()?;
            ensure!((found == Found::Complete) == last, "the root is {found:?}");
            ensure!(found != Found::AsItWas, "nothing is published");
            case.build_and_complete()
        };
        check().with_context(|| format!("stopped after {}", stop.published.display()))?;
    }
    Ok(())
}

/// The same after a daemon lost its id and with it all results, so that a new id is published.
pub(crate) fn used_without_id(bench: &Bench) -> Result<()> {
    let dir = bench.disk()?;
    let subject = Subject::new(bench, Start::Natural, dir.path())?;
    let more = more(bench, Start::Natural, dir.path())?;
    let after = subject.warmth.after().skip(1).collect();
    let case = Case { subject: &subject, before: Vec::new(), after, more };
    let reset = || -> Result<()> {
        subject.reset()?;
        [WORKER_ID, "cache.db"]
            .iter()
            .try_for_each(|name| fs::remove_file(subject.root.join(name)))?;
        Ok(())
    };
    reset()?;
    let stops = stops(&subject, &dir.path().join("log"))?;
    let mut steps = INTO_WORKER.to_vec();
    steps.insert(steps.len() - 1, WORKER_ID);
    ensure_published(&stops, &steps)?;
    for stop in &stops {
        let check = || -> Result<()> {
            reset()?;
            let output = disturb(&subject.convert(), &stop.before, "signal=SIGKILL")?.output;
            ensure!(output.status.signal() == Some(9), "it ended: {}", said(&output));
            ensure!(subject.root.join(&stop.published).exists(), "it is not published");
            case.build_and_complete()
        };
        check().with_context(|| format!("stopped after {}", stop.published.display()))?;
    }
    Ok(())
}

fn ensure_published(stops: &[Stop], steps: &[&str]) -> Result<()> {
    let published: Vec<_> = stops.iter().map(|stop| stop.published.as_path()).collect();
    let expected: Vec<_> = steps.iter().map(Path::new).collect();
    ensure!(published == expected, "published are, in turn, {published:?}");
    Ok(())
}

/// Runs to the end, to find the ends of the publishing steps. All blobs are one step, and so are all trees.
fn stops(subject: &Subject<'_>, log: &Path) -> Result<Vec<Stop>> {
    let profile = Profile::record(&subject.convert(), log, &layout())?;
    let mut stops: Vec<Stop> = Vec::new();
    for (at, (_, _, line)) in profile.lines.iter().enumerate() {
        let Some(place) = published(line, &subject.root) else { continue };
        // The call after the last one of the step.
        let Some((_, before, _)) = profile.lines.get(at + 1) else { continue };
        stops.pop_if(|stop| stop.published == place);
        stops.push(Stop { published: place, before: before.clone() });
    }
    Ok(stops)
}

/// Returns the path to which a call moves something out of the staging directory, or the directory of all
/// blobs or trees.
fn published(line: &str, root: &Path) -> Option<PathBuf> {
    let (dir, name) = publishing(line, root)?;
    let is_content = dir.ends_with("sha256") || dir.ends_with("snapshots/snapshots");
    let place = if is_content { dir.to_owned() } else { dir.join(name) };
    place.strip_prefix(root).ok().map(Path::to_owned)
}

struct Case<'s> {
    subject: &'s Subject<'s>,
    /// The builds, and their cached steps before and after the run.
    before: Vec<(&'s Path, &'s [String])>,
    after: Vec<(&'s Path, &'s [String])>,
    /// The context of the build in between.
    more: PathBuf,
}

impl Case<'_> {
    /// A daemon on the root reports the earlier steps as cached, and builds more; the next run completes the
    /// root, on which a daemon then has all old, added and new steps.
    fn build_and_complete(&self) -> Result<()> {
        let Subject { bench, root, warmth, .. } = self.subject;
        let daemon = Daemon::start(&bench.tools, root, &[REGISTRY])?;
        for (context, expected) in &self.before {
            ensure_cached(&daemon, context, expected).context("what there was")?;
        }
        let first = cached_steps(&daemon, &self.more).context("a build that makes snapshots")?;
        let more = cached_steps(&daemon, &self.more)?;
        ensure!(first.len() < more.len(), "nothing was built: {first:?}, {more:?}");
        warmth.ensure_only_known(&daemon.stop()?)?;

        run(&mut self.subject.convert()).context("the next run")?;
        let damage = Root::open(root)?.verify_databases()?.damage;
        ensure!(damage.is_empty(), "the root is damaged: {damage:#?}");
        self.subject.ensure_nothing_left()?;
        let daemon = Daemon::start(&bench.tools, root, &[REGISTRY])?;
        for (context, expected) in &self.after {
            ensure_cached(&daemon, context, expected).context("after the next run")?;
        }
        ensure_cached(&daemon, &self.more, &more).context("what was built in between")?;
        ensure_prunable(&bench.tools, daemon, root)
    }
}

fn ensure_cached(daemon: &Daemon, context: &Path, expected: &[String]) -> Result<()> {
    let cached = cached_steps(daemon, context)?;
    ensure!(cached == expected, "cached: {cached:?}, should be {expected:?}");
    Ok(())
}

/// Creates a context that differs from that of another build in its last step.
fn more(bench: &Bench, start: Start, dir: &Path) -> Result<PathBuf> {
    let other = if start == Start::Absent { Start::Converted } else { start };
    let context = dir.join("more");
    copy(&bench.other_context(other), &context)?;
    let mut dockerfile = File::options().append(true).open(context.join("Dockerfile"))?;
    dockerfile.write_all(MORE.as_bytes())?;
    Ok(context)
}
