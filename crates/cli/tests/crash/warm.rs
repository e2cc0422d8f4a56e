//! What a real daemon makes of a root.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::bench::{Start, Subject};
use crate::build::{Options, Source};
use crate::case::{Case, Export, Keys};
use crate::daemon::Daemon;
use crate::process::run;
use crate::tools::Tools;

/// A place where no registry is; no build here needs one.
pub(crate) const REGISTRY: &str = "localhost:1";

const CASE: Case = Case {
    name: "crash",
    dockerfile: String::new,
    context: |_| {},
    edit: |_| {},
    arguments: &[],
    export: Export::MAX,
    keys: Keys::Provenance,
};

/// What a daemon says on a root: the steps of each build that are cached, and its complaints.
#[derive(Debug)]
struct Said {
    cached: Vec<Vec<String>>,
    complaints: BTreeSet<String>,
}

/// The builds that the subject's root must be warm for.
#[derive(Debug)]
pub(crate) struct Warmth {
    dir: TempDir,
    /// The build of which the root has the state from the start, and the one that is converted.
    contexts: Vec<PathBuf>,
    before: Option<Said>,
    after: Said,
}

impl Warmth {
    /// Asks daemons on copies of the subject's root before and after it is converted.
    pub(crate) fn learn(subject: &Subject<'_>) -> Result<Self> {
        let dir = subject.bench.disk()?;
        let other = subject.bench.other_context(subject.start);
        let before = match subject.start {
            Start::Absent => None,
            Start::Natural | Start::Converted => {
                subject.reset()?;
                let said = ask(subject, dir.path(), &[&other]).context("before the conversion")?;
                ensure!(said.cached[0].len() >= 3, "only {:?} are cached", said.cached);
                Some(said)
            }
        };
        let contexts: Vec<_> =
            before.iter().map(|_| other.clone()).chain([subject.bench.context()]).collect();
        subject.reset()?;
        run(&mut subject.convert())?;
        let after = ask(subject, dir.path(), &contexts).context("the undisturbed root")?;
        ensure!(after.cached.last().is_some_and(|new| new.len() >= 8), "{:?}", after.cached);
        for (old, new) in before.iter().flat_map(|before| &before.cached).zip(&after.cached) {
            ensure!(old == new, "cached: {new:?}, before: {old:?}");
        }
        Ok(Self { dir, contexts, before, after })
    }

    /// Fails unless a daemon on a copy of the root reports the same steps as cached as on one that
    /// was converted without disturbance.
    pub(crate) fn ensure_warm(&self, subject: &Subject<'_>) -> Result<()> {
        let said = ask(subject, self.dir.path(), &self.contexts)?;
        let (cached, expected) = (&said.cached, &self.after.cached);
        ensure!(cached == expected, "cached: {cached:?}, should be {expected:?}");
        self.ensure_content(&said)
    }

    /// Fails unless a daemon on a copy of the root starts and builds without new complaints, and
    /// reports the steps as cached that were before.
    pub(crate) fn ensure_usable(&self, subject: &Subject<'_>) -> Result<()> {
        let said = ask(subject, self.dir.path(), &self.contexts)?;
        for (old, now) in self.before.iter().flat_map(|before| &before.cached).zip(&said.cached) {
            ensure!(old == now, "cached: {now:?}, before: {old:?}");
        }
        self.ensure_content(&said)
    }

    fn ensure_content(&self, said: &Said) -> Result<()> {
        let new: Vec<_> = said.complaints.difference(&self.after.complaints).collect();
        ensure!(new.is_empty(), "the daemon complains: {new:#?}");
        Ok(())
    }
}

/// Builds each context with a daemon on a copy of the root.
fn ask(subject: &Subject<'_>, dir: &Path, contexts: &[impl AsRef<Path>]) -> Result<Said> {
    let root = dir.join("root");
    subject.copy(&root)?;
    let daemon = Daemon::start(&subject.bench.tools, &root, &[REGISTRY])?;
    let cached = contexts.iter().map(|context| cached_steps(&daemon, context.as_ref()));
    let cached = cached.collect::<Result<_>>()?;
    let complaints = daemon.stop()?;
    std::fs::remove_dir_all(&root)?;
    Ok(Said { cached, complaints })
}

/// Builds `context` with a daemon on `root`, which is not there yet.
pub(crate) fn build(tools: &Tools, root: &Path, context: &Path) -> Result<()> {
    let daemon = Daemon::start(tools, root, &[REGISTRY])?;
    cached_steps(&daemon, context)?;
    daemon.stop().map(drop)
}

fn cached_steps(daemon: &Daemon, context: &Path) -> Result<Vec<String>> {
    let report = Source { case: &CASE, context }.build(daemon, &Options::default())?;
    Ok(report.cached(CASE.keys).into_iter().map(str::to_owned).collect())
}
