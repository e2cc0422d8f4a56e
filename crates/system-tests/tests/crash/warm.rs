//! The behaviour of a real daemon on a root.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use anyhow::{Context as _, Result, ensure};

use crate::bench::{Bench, Start, copy};
use crate::build::{Options, Source};
use crate::case::{Case, Export, Keys};
use crate::daemon::Daemon;
use crate::listing::Listing;
use crate::process::run;
use crate::tools::Tools;

/// An address without a registry; no build here needs one.
pub(crate) const REGISTRY: &str = "localhost:1";

pub(crate) const CASE: Case = Case {
    name: "crash",
    dockerfile: String::new,
    context: |_| {},
    edit: |_| {},
    arguments: &[],
    export: Export::MAX,
    keys: Keys::Provenance,
};

/// The report of a daemon on a root: the cached steps of each build, and its complaints.
#[derive(Debug)]
struct Said {
    cached: Vec<Vec<String>>,
    complaints: BTreeSet<String>,
}

/// The kind of root that a daemon gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// The leftovers of a disturbed run.
    Disturbed,
    /// The root after the run that completes it.
    Completed,
}

/// The result for an outcome, or why it was wrong.
type Answer = Arc<OnceLock<Result<(), String>>>;

/// The builds that roots of one start must have cached, and the reports of daemons on such roots.
#[derive(Debug)]
pub(crate) struct Warmth {
    /// The build whose state the root has at the start, and the converted one.
    contexts: Vec<PathBuf>,
    before: Option<Said>,
    after: Said,
    /// Starting a daemon takes time, so each outcome is tried once: different tests, points and file systems
    /// can lead to the same databases and trees.
    answers: Mutex<BTreeMap<(Outcome, Listing), Answer>>,
}

impl Warmth {
    /// Runs daemons on roots before and after their conversion.
    pub(crate) fn learn(bench: &Bench, start: Start) -> Result<Self> {
        let dir = bench.memory()?;
        let root = dir.path().join("root");
        let other = bench.other_context(start);
        start.lay(bench, &root)?;
        let before = match start {
            Start::Absent => None,
            Start::Natural | Start::Converted => {
                let said = ask(bench, &root, &[&other]).context("before the conversion")?;
                ensure!(said.cached[0].len() >= 3, "only {:?} are cached", said.cached);
                Some(said)
            }
        };
        let contexts: Vec<_> =
            before.iter().map(|_| other.clone()).chain([bench.context()]).collect();
        run(&mut bench.convert(&root, 1))?;
        let after = ask(bench, &root, &contexts).context("the undisturbed root")?;
        ensure!(after.cached.last().is_some_and(|new| new.len() >= 8), "{:?}", after.cached);
        let warmth = Self { contexts, before, after, answers: Mutex::default() };
        warmth.ensure_kept(&warmth.after)?;
        Ok(warmth)
    }

    /// Returns the builds, with their cached steps before the conversion.
    pub(crate) fn before(&self) -> impl Iterator<Item = (&Path, &[String])> {
        self.before.iter().flat_map(|said| self.builds(said))
    }

    /// The same after it.
    pub(crate) fn after(&self) -> impl Iterator<Item = (&Path, &[String])> {
        self.builds(&self.after)
    }

    fn builds<'s>(&'s self, said: &'s Said) -> impl Iterator<Item = (&'s Path, &'s [String])> {
        self.contexts.iter().map(PathBuf::as_path).zip(said.cached.iter().map(Vec::as_slice))
    }

    /// Fails unless a daemon on a copy of the root left by a disturbed run starts and builds without new
    /// complaints, and reports all earlier steps as cached.
    pub(crate) fn ensure_usable(&self, bench: &Bench, root: &Path, listing: Listing) -> Result<()> {
        self.ensure_once(Outcome::Disturbed, listing, || {
            let said = ask(bench, root, &self.contexts)?;
            self.ensure_kept(&said)?;
            self.ensure_only_known(&said.complaints)
        })
        .context("a daemon on what is left")
    }

    /// Fails unless a daemon on a copy of the root reports the same steps as cached as on a root that was
    /// converted without disturbance.
    pub(crate) fn ensure_warm(&self, bench: &Bench, root: &Path, listing: Listing) -> Result<()> {
        self.ensure_once(Outcome::Completed, listing, || {
            let said = ask(bench, root, &self.contexts)?;
            let (cached, expected) = (&said.cached, &self.after.cached);
            ensure!(cached == expected, "cached: {cached:?}, should be {expected:?}");
            self.ensure_only_known(&said.complaints)
        })
        .context("a daemon on what was completed")
    }

    /// Runs `proof` if this outcome is new, and fails if it failed; other threads wait for it.
    fn ensure_once(
        &self,
        outcome: Outcome,
        listing: Listing,
        proof: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let answer = {
            let mut answers = self.answers.lock().expect("a test that held it has panicked");
            Arc::clone(answers.entry((outcome, listing)).or_default())
        };
        let answer = answer.get_or_init(|| proof().map_err(|error| format!("{error:#}")));
        answer.clone().map_err(anyhow::Error::msg)
    }

    fn ensure_kept(&self, said: &Said) -> Result<()> {
        for ((_, old), now) in self.before().zip(&said.cached) {
            ensure!(old == now, "cached: {now:?}, before: {old:?}");
        }
        Ok(())
    }

    /// Fails if a daemon has complaints that it does not have about an undisturbed root.
    pub(crate) fn ensure_only_known(&self, complaints: &BTreeSet<String>) -> Result<()> {
        let new: Vec<_> = complaints.difference(&self.after.complaints).collect();
        ensure!(new.is_empty(), "the daemon complains: {new:#?}");
        Ok(())
    }
}

/// Builds each context with a daemon on a copy of the root.
fn ask(bench: &Bench, root: &Path, contexts: &[impl AsRef<Path>]) -> Result<Said> {
    let dir = bench.disk()?;
    let asked = dir.path().join("root");
    if root.exists() {
        copy(root, &asked)?;
    }
    let daemon = Daemon::start(&bench.tools, &asked, &[REGISTRY])?;
    let cached = contexts.iter().map(|context| cached_steps(&daemon, context.as_ref()));
    let cached = cached.collect::<Result<_>>()?;
    let complaints = daemon.stop()?;
    Ok(Said { cached, complaints })
}

/// Builds `context` with a daemon on `root`, which does not exist yet.
pub(crate) fn build(tools: &Tools, root: &Path, context: &Path) -> Result<()> {
    let daemon = Daemon::start(tools, root, &[REGISTRY])?;
    cached_steps(&daemon, context)?;
    daemon.stop().map(drop)
}

/// Builds, and returns the names of the cached steps. None may fetch or unpack anything.
pub(crate) fn cached_steps(daemon: &Daemon, context: &Path) -> Result<Vec<String>> {
    let report = Source { case: &CASE, context }.build(daemon, &Options::default())?;
    report.ensure_nothing_imported(|_| false)?;
    Ok(report.cached(CASE.keys).into_iter().map(str::to_owned).collect())
}
