//! `mounts import`, and `convert --mounts`, are killed before their calls that change anything.

use std::ffi::OsString;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use bkstate::Root;
use serde_json::Value;
use tempfile::TempDir;

use crate::bench::{Bench, Start, copy, keys, layout, said};
use crate::listing::Listing;
use crate::points::{choose, limit};
use crate::process::run;
use crate::strace::{Call, Profile, disturb};

/// What a killed run may leave, and the lock.
const BESIDE: [&str; 2] = [".oci2bk-staging", "buildkitd.lock"];

/// A mount with an owner, into a root that does not exist.
pub(crate) fn into_nothing(bench: &Bench) -> Result<()> {
    killed(bench, Start::Absent, &["--id=target=/new", "--uid=1000", "--mode=0770"])
}

/// The same into the root of a daemon.
pub(crate) fn added(bench: &Bench) -> Result<()> {
    killed(bench, Start::Natural, &["--id=target=/new", "--uid=1000", "--mode=0770"])
}

/// In place of a mount that builds of the daemon have filled.
pub(crate) fn replaced(bench: &Bench) -> Result<()> {
    killed(bench, Start::Natural, &["--id=target=/cache", "--exists=replace"])
}

/// With the conversion of the cache to which it is attached. That is published first, and then the mount.
pub(crate) fn with_conversion(bench: &Bench) -> Result<()> {
    let dir = bench.memory()?;
    let source = source(dir.path())?;
    let [filled, cache] = ["filled", "cache"].map(|name| dir.path().join(name));
    run(bench
        .oci2bk()
        .args(["mounts", "import", "--progress=quiet", "--id=target=/new"])
        .args([PathBuf::from(format!("dir:{}", source.display())), filled.clone()]))?;
    copy(&layout(), &cache)?;
    let mut attach = bench.oci2bk();
    attach.args(["mounts", "export", "--progress=quiet"]).arg(&filled);
    run(attach.arg("--attach").arg(&cache))?;
    fs::remove_dir_all(filled)?;
    let words = ["convert", "--progress=quiet", "-j1", "--mounts", "--keys"];
    let mut words: Vec<_> = words.map(OsString::from).into();
    words.extend([keys().into(), cache.clone().into()]);
    killed_in(bench, Start::Absent, dir, &cache, words)
}

fn killed(bench: &Bench, start: Start, arguments: &[&str]) -> Result<()> {
    let dir = bench.memory()?;
    let source = source(dir.path())?;
    let mut words: Vec<_> = ["mounts", "import", "--progress=quiet"].map(OsString::from).into();
    words.extend(arguments.iter().map(OsString::from));
    words.push(format!("dir:{}", source.display()).into());
    killed_in(bench, start, dir, &source, words)
}

/// Makes the files of a mount.
fn source(dir: &Path) -> Result<PathBuf> {
    let source = dir.join("source");
    fs::create_dir_all(source.join("deep"))?;
    for name in ["a", "deep/b", "deep/c"] {
        fs::write(source.join(name), name)?;
    }
    Ok(source)
}

/// Kills the command with `words`, which reads `source`, and a root.
fn killed_in(
    bench: &Bench,
    start: Start,
    dir: TempDir,
    source: &Path,
    words: Vec<OsString>,
) -> Result<()> {
    let mut case = Import { bench, start, words, dir, before: Listing::default(), after: None };
    case.reset()?;
    case.before = case.listing()?;
    let profile = Profile::record(&case.import(), &case.dir.path().join("log"), source)?;
    case.after = Some(case.found()?);
    let mut partly = 0;
    let calls = choose(profile.changes(), limit(30));
    for call in &calls {
        let was_partly = case.kill(call);
        let was_partly =
            was_partly.with_context(|| format!("killed before {} {}", call.name, call.nth))?;
        partly += usize::from(was_partly);
    }
    ensure!(partly > 0, "no kill came between the steps of publishing");
    Ok(())
}

/// What matters in a root: the files of all snapshots, and the cache mounts.
#[derive(Debug, PartialEq)]
struct Found {
    layers: Vec<String>,
    mounts: Value,
}

struct Import<'b> {
    bench: &'b Bench,
    start: Start,
    words: Vec<OsString>,
    dir: TempDir,
    before: Listing,
    /// After an undisturbed run.
    after: Option<Found>,
}

impl Import<'_> {
    /// Returns whether only a part of it was published.
    fn kill(&self, call: &Call) -> Result<bool> {
        self.reset()?;
        let output = disturb(&self.import(), call, "signal=SIGKILL")?.output;
        ensure!(output.status.success() || output.status.signal() == Some(9), "{}", said(&output));
        let now = self.listing()?;
        let is_changed = now != self.before;
        if is_changed {
            self.ensure_sound()?;
        }
        if is_changed && self.start != Start::Absent {
            let warmth = self.bench.warmth(self.start)?;
            warmth.ensure_usable(self.bench, &self.root(), now)?;
        }
        let is_complete = is_changed && self.found().ok() == self.after;
        let again = self.import().output()?;
        let is_refused = again.status.code() == Some(1) && said(&again).contains("already");
        ensure!(again.status.success() || is_refused, "running again: {}", said(&again));
        let found = self.found()?;
        ensure!(
            Some(&found) == self.after.as_ref(),
            "running again left {found:#?}, not {:#?}",
            self.after
        );
        self.ensure_sound()?;
        ensure!(!self.root().join(BESIDE[0]).exists(), "the staging directory is still there");
        Ok(is_changed && !is_complete)
    }

    fn ensure_sound(&self) -> Result<()> {
        // A daemon makes the databases that are missing.
        if !self.root().join("cache.db").exists() {
            return Ok(());
        }
        let damage = Root::open(self.root())?.verify_databases()?.damage;
        ensure!(damage.is_empty(), "the root is damaged: {damage:#?}");
        Ok(())
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    fn reset(&self) -> Result<()> {
        if self.root().exists() {
            fs::remove_dir_all(self.root())?;
        }
        self.start.lay(self.bench, &self.root())
    }

    fn listing(&self) -> Result<Listing> {
        if !self.root().exists() {
            return Ok(Listing::default());
        }
        Listing::of(&self.root(), |name| BESIDE.contains(&name))
    }

    fn found(&self) -> Result<Found> {
        let mut ls = self.bench.oci2bk();
        let mounts = run(ls.args(["mounts", "ls", "--format=json"]).arg(self.root()))?;
        Ok(Found { layers: self.listing()?.layers(), mounts: serde_json::from_str(&mounts)? })
    }

    fn import(&self) -> Command {
        let mut command = self.bench.oci2bk();
        command.args(&self.words).arg(self.root());
        command
    }
}
