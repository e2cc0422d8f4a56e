//! What a real daemon makes of a root.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::bench::Subject;
use crate::build::{Options, Source};
use crate::case::{Case, Export, Keys};
use crate::daemon::Daemon;

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

/// The build whose cache is converted, and what a daemon says to it on a root that was converted
/// without disturbance.
#[derive(Debug)]
pub(crate) struct Warmth {
    dir: TempDir,
    context: PathBuf,
    cached: Vec<String>,
    complaints: BTreeSet<String>,
}

impl Warmth {
    /// Asks a daemon on a copy of the subject's root, which is complete.
    pub(crate) fn learn(subject: &Subject<'_>) -> Result<Self> {
        let dir = subject.bench.disk()?;
        let context = dir.path().join("context");
        subject.bench.context(&subject.root, &context)?;
        let (cached, complaints) = (Vec::new(), BTreeSet::new());
        let mut warmth = Self { dir, context, cached, complaints };
        (warmth.cached, warmth.complaints) =
            warmth.build_on(subject).context("the undisturbed root")?;
        ensure!(warmth.cached.len() >= 8, "only these steps are cached: {:?}", warmth.cached);
        Ok(warmth)
    }

    /// Fails unless a daemon on a copy of the root reports the same steps as cached.
    pub(crate) fn ensure_warm(&self, subject: &Subject<'_>) -> Result<()> {
        let cached = self.ensure_usable(subject)?;
        ensure!(cached == self.cached, "cached: {cached:?}, should be {:?}", self.cached);
        Ok(())
    }

    /// Fails unless a daemon on a copy of the root starts and builds without new complaints.
    /// Returns the steps that it reports as cached.
    pub(crate) fn ensure_usable(&self, subject: &Subject<'_>) -> Result<Vec<String>> {
        let (cached, complaints) = self.build_on(subject)?;
        let new: Vec<_> = complaints.difference(&self.complaints).collect();
        ensure!(new.is_empty(), "the daemon complains: {new:#?}");
        Ok(cached)
    }

    fn build_on(&self, subject: &Subject<'_>) -> Result<(Vec<String>, BTreeSet<String>)> {
        let root = self.dir.path().join("root");
        subject.copy(&root)?;
        let daemon = Daemon::start(&subject.bench.tools, &root, REGISTRY)?;
        let source = Source { case: &CASE, context: &self.context };
        let report = source.build(&daemon, &Options::default())?;
        let cached = report.cached(CASE.keys).into_iter().map(str::to_owned).collect();
        let complaints = daemon.stop()?;
        std::fs::remove_dir_all(&root)?;
        Ok((cached, complaints))
    }
}
