//! Shared setup of all tests: the command on a fixture, its starting points, and the invariants of a root
//! after a disturbance.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use bkstate::Root;
use bkstate::solver::SolverCache;
use tempfile::TempDir;

use crate::listing::Listing;
use crate::process::run;
use crate::tools::Tools;
use crate::volume::Volume;
use crate::warm::{Warmth, build};

/// An earlier build in the root, with its keys, for [`Start::Converted`].
const EARLIER: [&str; 3] = ["min/cache", "min/keys/metadata.json", "min/Dockerfile"];

/// What an interrupted run may leave beside the state.
const STAGING: &str = ".oci2bk-staging";
/// A build with the context of the fixture.
const OTHER: &str = r#"
FROM scratch AS one
COPY run /run
RUN ["/run", "+/d", "/d/file", "/gone"]
FROM one
RUN --mount=type=cache,target=/cache ["/run", "/cache/kept", "/own"]
COPY src /src
"#;

const LOCK: &str = "buildkitd.lock";

/// The setup of all tests.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) tools: Tools,
    // Unmounted before the directory below it is removed.
    memory: Volume,
    scratch: TempDir,
    /// Reports of daemons on the roots of each start; made when first needed.
    warmth: [OnceLock<Result<Warmth, String>>; Start::ALL.len()],
}

/// The root before the disturbed run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// It does not exist.
    Absent,
    /// The state of a daemon that has built something else, with steps in common with the fixture.
    Natural,
    /// The converted cache of another build.
    Converted,
}

/// The state of a root after a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// As before the run.
    AsItWas,
    /// Published in part; everything that is published is sound.
    Partly,
    /// As after an undisturbed run.
    Complete,
}

impl Bench {
    pub(crate) fn create(tools: &Tools) -> Result<Self> {
        let scratch = tempfile::Builder::new()
            .prefix("crash-")
            .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
            .context("scratch directory")?;
        // In memory, because every run waits until the file system is written.
        let memory = Volume::tmpfs(&scratch.path().join("memory"), "size=1g")?;
        let bench = Self { tools: tools.clone(), memory, scratch, warmth: Default::default() };
        bench.prepare().context("what the tests start from")?;
        Ok(bench)
    }

    /// Returns a directory for a test, in memory.
    pub(crate) fn memory(&self) -> Result<TempDir> {
        tempfile::tempdir_in(self.memory.point()).context("directory in memory")
    }

    /// Returns a directory for a test, on the disk.
    pub(crate) fn disk(&self) -> Result<TempDir> {
        tempfile::tempdir_in(self.scratch.path()).context("directory on the disk")
    }

    /// Returns `oci2bk convert` of the fixture into `root`, on `jobs` threads.
    pub(crate) fn convert(&self, root: &Path, jobs: usize) -> Command {
        self.convert_of(&layout(), &keys(), root, jobs)
    }

    fn convert_of(&self, layout: &Path, keys: &Path, root: &Path, jobs: usize) -> Command {
        let mut command = self.oci2bk();
        command.args(["convert", "--progress=quiet", &format!("-j{jobs}")]);
        command.arg(layout).arg(root).arg("--keys").arg(keys);
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

    /// Returns the context of the fixture's build.
    pub(crate) fn context(&self) -> PathBuf {
        self.scratch.path().join("context")
    }

    /// Returns the context of the build whose state the root has at the start.
    pub(crate) fn other_context(&self, start: Start) -> PathBuf {
        self.scratch.path().join(format!("context-{}", start.name()))
    }

    /// Makes the starting states, and the contexts: the program in them is the one in the layers of the
    /// fixture.
    fn prepare(&self) -> Result<()> {
        let scratch = self.scratch.path();
        let converted = scratch.join("converted");
        run(&mut self.convert(&converted, 1))?;
        let layers = fs::read_dir(converted.join("runc-overlayfs/snapshots/snapshots"))?;
        let program = layers.map_while(Result::ok).map(|layer| layer.path().join("fs/run"));
        let program = program.into_iter().find(|path| path.exists()).context("no layer has run")?;
        for (context, dockerfile) in [
            (self.context(), fs::read_to_string(fixture("manifest/Dockerfile"))?),
            (self.other_context(Start::Natural), OTHER.to_owned()),
            (self.other_context(Start::Converted), fs::read_to_string(fixture(EARLIER[2]))?),
        ] {
            fs::create_dir_all(context.join("src"))?;
            fs::write(context.join("Dockerfile"), dockerfile)?;
            fs::write(context.join("src/a.txt"), "first\n")?;
            fs::write(context.join("src/b.md"), "second\n")?;
            fs::copy(&program, context.join("run"))?;
            fs::set_permissions(context.join("run"), fs::Permissions::from_mode(0o755))?;
        }
        let natural = scratch.join("natural");
        build(&self.tools, &natural, &self.other_context(Start::Natural))?;
        copy(&natural, &self.template(Start::Natural))?;
        let [layout, keys] = [EARLIER[0], EARLIER[1]].map(fixture);
        run(&mut self.convert_of(&layout, &keys, &self.template(Start::Converted), 1)).map(drop)
    }

    pub(crate) fn warmth(&self, start: Start) -> Result<&Warmth> {
        let learn = || Warmth::learn(self, start).map_err(|error| format!("{error:#}"));
        let learned = self.warmth[start as usize].get_or_init(learn).as_ref();
        learned.map_err(|error| anyhow!("{error}"))
    }

    fn template(&self, start: Start) -> PathBuf {
        self.memory.point().join(start.name())
    }
}

/// Returns the converted cache: it has whiteouts, and is small, so that a run takes milliseconds.
pub(crate) fn layout() -> PathBuf {
    fixture("manifest/cache")
}

/// Returns the source of its keys.
pub(crate) fn keys() -> PathBuf {
    fixture("manifest/keys/image")
}

fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(path)
}

impl Start {
    pub(crate) const ALL: [Self; 3] = [Self::Absent, Self::Natural, Self::Converted];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Natural => "natural",
            Self::Converted => "converted",
        }
    }

    /// Creates `root` in this state; it must not exist.
    pub(crate) fn lay(self, bench: &Bench, root: &Path) -> Result<()> {
        match self {
            Self::Absent => Ok(()),
            Self::Natural | Self::Converted => copy(&bench.template(self), root),
        }
    }
}

/// A root that is disturbed repeatedly, and the expected results.
#[derive(Debug)]
pub(crate) struct Subject<'b> {
    pub(crate) bench: &'b Bench,
    pub(crate) start: Start,
    /// The root, in its own directory.
    pub(crate) root: PathBuf,
    before: Listing,
    after: Listing,
    pub(crate) warmth: &'b Warmth,
}

impl<'b> Subject<'b> {
    /// Converts once without disturbance in `dir`, to learn the expected result.
    pub(crate) fn new(bench: &'b Bench, start: Start, dir: &Path) -> Result<Self> {
        let root = dir.join("root");
        let warmth = bench.warmth(start).context("what daemons say")?;
        let [before, after] = [Listing::default(), Listing::default()];
        let mut subject = Self { bench, start, root, before, after, warmth };
        subject.reset()?;
        subject.before = subject.listing()?;
        run(&mut subject.convert()).context("the undisturbed run")?;
        subject.after = subject.listing()?;
        let found = subject.inspect()?;
        ensure!(found == Found::Complete, "the undisturbed run left the root {found:?}");
        Ok(subject)
    }

    pub(crate) fn convert(&self) -> Command {
        self.bench.convert(&self.root, 1)
    }

    /// Recreates the root.
    pub(crate) fn reset(&self) -> Result<()> {
        if self.root.exists() {
            fs::remove_dir_all(&self.root)?;
        }
        self.start.lay(self.bench, &self.root)
    }

    /// Lists the content of the root, except the lock and the staging directory.
    fn listing(&self) -> Result<Listing> {
        if !self.root.exists() {
            return Ok(Listing::default());
        }
        Listing::of(&self.root, |name| name == LOCK || name == STAGING)
    }

    /// Determines the state of the root, or fails if it is wrong.
    pub(crate) fn inspect(&self) -> Result<Found> {
        let now = self.listing()?;
        if now == self.before {
            return Ok(Found::AsItWas);
        }
        self.ensure_sound(&now)?;
        Ok(if now == self.after { Found::Complete } else { Found::Partly })
    }

    /// Fails if anything in the root would break a daemon.
    fn ensure_sound(&self, now: &Listing) -> Result<()> {
        let mut root = self.root.clone();
        let copy = self.bench.memory()?;
        if now.line(Path::new("cache.db")).is_none() {
            // A daemon makes an empty one.
            root = copy.path().join("root");
            self.copy(&root)?;
            SolverCache::default().write(&fs::File::create_new(root.join("cache.db"))?)?;
        }
        // Parts that are moved into place before anything refers to them do not count as damage.
        let damage = Root::open(&root)?.verify_databases()?.damage;
        ensure!(damage.is_empty(), "the root is damaged: {damage:#?}");
        Ok(())
    }

    /// Copies the root to a new path.
    pub(crate) fn copy(&self, to: &Path) -> Result<()> {
        copy(&self.root, to)
    }

    /// A daemon must be able to use the root as it is. Then runs the conversion again, which must complete
    /// the state and leave nothing else, and checks that with a daemon too.
    pub(crate) fn ensure_completes(&self) -> Result<()> {
        let partly = self.inspect()? == Found::Partly;
        self.warmth.ensure_usable(self.bench, &self.root, self.listing()?)?;
        let output = self.convert().output()?;
        ensure!(output.status.success(), "running again: {}", said(&output));
        if !partly || self.start == Start::Absent {
            return self.ensure_complete();
        }
        // The numbers of snapshots are not reused, but everything else is the same.
        let now = self.listing()?;
        ensure!(now.layers() == self.after.layers(), "the layers are others than undisturbed");
        let damage = Root::open(&self.root)?.verify_databases()?.damage;
        ensure!(damage.is_empty(), "the root is damaged after running again: {damage:#?}");
        self.ensure_nothing_left()?;
        run(&mut self.convert())?;
        let later = self.listing()?;
        ensure!(now == later, "the third run changed:\n  {}", now.difference(&later));
        self.warmth.ensure_warm(self.bench, &self.root, now)
    }

    /// Fails unless the root is as after an undisturbed run, with nothing beside it, and a daemon has all
    /// steps cached.
    pub(crate) fn ensure_complete(&self) -> Result<()> {
        let now = self.listing()?;
        ensure!(now == self.after, "the root differs:\n  {}", self.after.difference(&now));
        self.ensure_nothing_left()?;
        self.warmth.ensure_warm(self.bench, &self.root, now)
    }

    /// Fails if a failed run left anything behind.
    pub(crate) fn ensure_nothing_left(&self) -> Result<()> {
        ensure!(!self.root.join(STAGING).exists(), "the staging directory is still there");
        Ok(())
    }

    /// Fails unless a failed run left the root as it was, and reported the failed operation. `expected` is
    /// the text of the kernel's error.
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

/// Copies a tree with all attributes.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    run(Command::new("cp").arg("-a").arg(from).arg(to)).map(drop)
}

/// Returns the stderr of a run.
pub(crate) fn said(output: &Output) -> String {
    format!("{} {}", output.status, String::from_utf8_lossy(&output.stderr))
}
