//! What all tests share: the command on a fixture, where it starts from, and what must hold of a
//! root after it was disturbed.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use bkstate::dir::Dir;
use bkstate::solver::SolverCache;
use bkstate::state::verify;
use tempfile::TempDir;

use crate::listing::Listing;
use crate::process::run;
use crate::tools::Tools;
use crate::volume::Volume;

/// A fixture with whiteouts, in which nothing is large: a run takes milliseconds.
const FIXTURE: &str = "manifest";

/// What a run may leave beside the state when it dies.
const STAGING: &str = ".oci2bk-staging";
const LOCK: &str = "buildkitd.lock";

/// The surroundings of all tests.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) tools: Tools,
    // Unmounted before the directory below it is removed.
    memory: Volume,
    scratch: TempDir,
}

/// What a root is before the run that is disturbed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// It is not there.
    Absent,
    /// An empty directory.
    Empty,
}

/// What a root is found to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// As it was before the run.
    AsItWas,
    /// Partly published; everything that is there is sound.
    Partly,
    /// As after a run that nothing disturbed.
    Complete,
}

impl Bench {
    pub(crate) fn create(tools: &Tools) -> Result<Self> {
        let scratch = tempfile::Builder::new()
            .prefix("crash-")
            .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
            .context("scratch directory")?;
        // In memory, as every run waits for the file system to be written out.
        let memory = Volume::tmpfs(&scratch.path().join("memory"), "size=1g")?;
        Ok(Self { tools: tools.clone(), memory, scratch })
    }

    /// A directory for a test, in memory.
    pub(crate) fn memory(&self) -> Result<TempDir> {
        tempfile::tempdir_in(self.memory.point()).context("directory in memory")
    }

    /// A directory for a test, on the disk.
    pub(crate) fn disk(&self) -> Result<TempDir> {
        tempfile::tempdir_in(self.scratch.path()).context("directory on the disk")
    }

    /// `oci2bk convert` of the fixture into `root`, on `jobs` threads.
    pub(crate) fn convert(&self, root: &Path, jobs: usize) -> Command {
        let mut command = self.oci2bk();
        command.args(["convert", "--progress=quiet", &format!("-j{jobs}")]);
        command.arg(layout()).arg(root).arg("--keys").arg(keys());
        command
    }

    pub(crate) fn oci2bk(&self) -> Command {
        let mut command = Command::new(&self.tools.oci2bk);
        command
            .stdin(Stdio::null())
            .env_remove("SOURCE_DATE_EPOCH")
            .env_remove("BUILDKIT_PROGRESS");
        command
    }

    /// Makes the context of the build that the fixture is the cache of: `run` comes from the
    /// layers in `root`.
    pub(crate) fn context(&self, root: &Path, context: &Path) -> Result<()> {
        fs::create_dir_all(context.join("src"))?;
        fs::copy(fixture("Dockerfile"), context.join("Dockerfile"))?;
        fs::write(context.join("src/a.txt"), "first\n")?;
        fs::write(context.join("src/b.md"), "second\n")?;
        let layers = fs::read_dir(root.join("runc-overlayfs/snapshots/snapshots"))?;
        let program = layers.map_while(Result::ok).map(|layer| layer.path().join("fs/run"));
        let program = program.into_iter().find(|path| path.exists()).context("no layer has run")?;
        fs::copy(program, context.join("run"))?;
        fs::set_permissions(context.join("run"), fs::Permissions::from_mode(0o755))?;
        Ok(())
    }
}

/// The cache that is converted.
pub(crate) fn layout() -> PathBuf {
    fixture("cache")
}

/// Where its keys are.
pub(crate) fn keys() -> PathBuf {
    fixture("keys/image")
}

fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(FIXTURE).join(path)
}

impl Start {
    pub(crate) const ALL: [Self; 2] = [Self::Absent, Self::Empty];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Empty => "empty",
        }
    }

    /// Makes `root`, which is not there, what this is.
    pub(crate) fn lay(self, root: &Path) -> Result<()> {
        match self {
            Self::Absent => Ok(()),
            Self::Empty => Ok(fs::create_dir(root)?),
        }
    }
}

/// A root that is disturbed again and again, and what it must be compared with.
#[derive(Debug)]
pub(crate) struct Subject<'b> {
    pub(crate) bench: &'b Bench,
    pub(crate) start: Start,
    /// The root, below a directory for it alone.
    pub(crate) root: PathBuf,
    before: Listing,
    after: Listing,
}

impl<'b> Subject<'b> {
    /// Converts once without disturbance in `dir`, to know what it leads to.
    pub(crate) fn new(bench: &'b Bench, start: Start, dir: &Path) -> Result<Self> {
        let root = dir.join("root");
        let mut subject =
            Self { bench, start, root, before: Listing::default(), after: Listing::default() };
        subject.reset()?;
        subject.before = subject.listing()?;
        run(&mut subject.convert()).context("the undisturbed run")?;
        subject.after = subject.listing()?;
        let found = subject.inspect()?;
        ensure!(found == Found::Complete, "the undisturbed run left the root {found:?}");
        Ok(subject)
    }

    /// The same subject with its root below another directory.
    pub(crate) fn elsewhere(mut self, dir: &Path) -> Self {
        self.root = dir.join("root");
        self
    }

    pub(crate) fn convert(&self) -> Command {
        self.bench.convert(&self.root, 1)
    }

    /// Makes the root anew.
    pub(crate) fn reset(&self) -> Result<()> {
        if self.root.exists() {
            fs::remove_dir_all(&self.root)?;
        }
        self.start.lay(&self.root)
    }

    /// What the root holds, but for the lock and what is being built.
    fn listing(&self) -> Result<Listing> {
        if !self.root.exists() {
            return Ok(Listing::default());
        }
        Listing::of(&self.root, |name| name == LOCK || name == STAGING)
    }

    /// What the root is, or what is wrong with it.
    pub(crate) fn inspect(&self) -> Result<Found> {
        let now = self.listing()?;
        if now == self.before {
            return Ok(Found::AsItWas);
        }
        self.ensure_sound(&now)?;
        Ok(if now == self.after { Found::Complete } else { Found::Partly })
    }

    /// Fails if a daemon would trip over anything in the root.
    fn ensure_sound(&self, now: &Listing) -> Result<()> {
        let mut root = self.root.clone();
        let copy = self.bench.memory()?;
        if now.line(Path::new("cache.db")).is_none() {
            // A daemon makes an empty one.
            root = copy.path().join("root");
            self.copy(&root)?;
            SolverCache::default().write(&fs::File::create_new(root.join("cache.db"))?)?;
        }
        let damage = verify(&Dir::open(&root)?)?;
        ensure!(damage.is_empty(), "the root is damaged: {damage:#?}");
        Ok(())
    }

    /// Copies the root as it is, to a place that is not there.
    pub(crate) fn copy(&self, to: &Path) -> Result<()> {
        copy(&self.root, to)
    }

    /// Runs again, which must complete what was begun and leave nothing else.
    pub(crate) fn ensure_completes(&self) -> Result<()> {
        let found = self.inspect()?;
        let output = self.convert().output()?;
        if found == Found::Complete {
            let text = String::from_utf8_lossy(&output.stderr);
            ensure!(text.contains("already holds a state"), "running again: {text}");
            return Ok(());
        }
        ensure!(output.status.success(), "running again: {}", said(&output));
        self.ensure_complete()
    }

    /// Fails unless the root is as after a run that nothing disturbed, with nothing beside it.
    pub(crate) fn ensure_complete(&self) -> Result<()> {
        let now = self.listing()?;
        ensure!(now == self.after, "the root differs:\n  {}", self.after.difference(&now));
        self.ensure_nothing_left()
    }

    /// Fails if anything of a run that failed is still there.
    pub(crate) fn ensure_nothing_left(&self) -> Result<()> {
        ensure!(!self.root.join(STAGING).exists(), "the staging directory is still there");
        Ok(())
    }

    /// Fails unless a run that ended in an error left the root as it was, and said what of it
    /// failed. `expected` is what the kernel answered, in words.
    pub(crate) fn ensure_refused(&self, output: &Output, expected: &str) -> Result<()> {
        let text = said(output);
        ensure!(output.status.code() == Some(1), "{}: {text}", output.status);
        ensure!(text.contains(expected), "the error does not say {expected:?}: {text}");
        ensure!(text.contains('/'), "the error names no path: {text}");
        match self.inspect()? {
            Found::AsItWas => self.ensure_nothing_left(),
            found => bail!("the root is {found:?} after: {text}"),
        }
    }
}

/// Copies a tree with all that belongs to it.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    run(Command::new("cp").arg("-a").arg(from).arg(to)).map(drop)
}

/// What a run said on stderr.
pub(crate) fn said(output: &Output) -> String {
    format!("{} {}", output.status, String::from_utf8_lossy(&output.stderr))
}
