//! The builders of the tests of cache mounts, and the command for them.

use std::cell::Cell;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context as _, Result, ensure};
use bkstate::worker::{OwnerMap, Owners};
use serde_json::Value;
use tempfile::TempDir;
use testkit::rootless::User;
use testkit::schema;

use super::READER;
use crate::build::{Options, Report, Source};
use crate::case::{Case, Context};
use crate::daemon::Daemon;
use crate::process::run;
use crate::rootless::open_fuse;
use crate::world::World;

/// A kind of builder.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// That of the world.
    OfWorld,
    /// A daemon with the OCI worker and another snapshotter than overlayfs.
    Snapshotter(&'static str),
    /// A rootless daemon with this snapshotter.
    Rootless(&'static str),
}

impl Kind {
    fn snapshotter(self) -> Option<&'static str> {
        match self {
            Self::OfWorld => None,
            Self::Snapshotter(snapshotter) | Self::Rootless(snapshotter) => Some(snapshotter),
        }
    }
}

pub(crate) struct Bench<'w> {
    pub(crate) world: &'w World,
    kind: Kind,
    /// The user of rootless daemons.
    user: Option<User>,
    dir: PathBuf,
    /// Number of builds.
    runs: Cell<u32>,
    _scratch: TempDir,
}

impl<'w> Bench<'w> {
    pub(crate) fn new(world: &'w World, kind: Kind) -> Result<Self> {
        let scratch = tempfile::Builder::new().prefix("mounts").tempdir_in(world.scratch())?;
        if kind.snapshotter() == Some("fuse-overlayfs") {
            open_fuse()?;
        }
        let (user, dir) = match kind {
            Kind::Rootless(_) => {
                let user = User::create(&world.tools)?;
                let dir = user.directory("work")?;
                (Some(user), dir)
            }
            Kind::OfWorld | Kind::Snapshotter(_) => (None, scratch.path().to_owned()),
        };
        Ok(Self { world, kind, user, dir, runs: Cell::new(0), _scratch: scratch })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(crate) fn user(&self) -> Option<&User> {
        self.user.as_ref()
    }

    pub(crate) fn start(&self, root: &Path) -> Result<Daemon> {
        let (tools, registries) = (&self.world.tools, [self.world.registry()]);
        match (self.kind, &self.user) {
            (Kind::Rootless(snapshotter), Some(user)) => {
                Daemon::start_rootless(tools, user, root, &registries, snapshotter)
            }
            (Kind::Snapshotter(snapshotter), _) => {
                Daemon::start_with(tools, root, &registries, snapshotter, "")
            }
            _ => self.world.start(root),
        }
    }

    /// Gives a file to the owner that is `user` and `group` for a daemon.
    pub(crate) fn give(&self, path: &Path, user: u32, group: u32) -> Result<()> {
        let (user, group) = match &self.user {
            Some(of) => {
                Owners::Mapped(OwnerMap::of_both(of.map()?.parse()?)).on_disk(user, group)?
            }
            None => (user, group),
        };
        Ok(chown(path, Some(user), Some(group))?)
    }

    /// Gives everything that was made here to the user of the daemon.
    pub(crate) fn give_all(&self, names: &[&str]) -> Result<()> {
        let Some(user) = &self.user else { return Ok(()) };
        let owner = format!("{0}:{0}", user.name());
        let paths = names.iter().map(|name| self.path(name));
        run(Command::new("chown").args(["-R", &owner]).args(paths)).map(drop)
    }

    pub(crate) fn build(
        &self,
        daemon: &Daemon,
        case: &Case,
        options: &Options<'_>,
    ) -> Result<Report> {
        let context = Context::create(&self.path(case.name));
        self.runs.set(self.runs.get() + 1);
        let dockerfile = (case.dockerfile)().replace("{run}", &self.runs.get().to_string());
        context.file("Dockerfile", self.world.fill_in(&dockerfile));
        Source { case, context: context.dir() }.build(daemon, options).context(case.name)
    }

    /// Returns what a step sees in the mounts.
    pub(crate) fn read(&self, daemon: &Daemon) -> Result<String> {
        let out = self.path("out");
        let _ = fs::remove_dir_all(&out);
        let output = Some(format!("type=local,dest={}", out.display()));
        let report = self.build(daemon, &READER, &Options { output, ..Options::default() })?;
        let ran = report.steps().any(|(name, cached)| name.contains("&& find /c1") && !cached);
        ensure!(ran, "the step that reads the mounts is cached");
        Ok(fs::read_to_string(out.join("list"))?)
    }

    /// Returns the arguments for `root`.
    pub(crate) fn place(&self, root: &Path) -> Vec<OsString> {
        let mut place = self.world.host.arguments(root);
        place.extend(self.kind.snapshotter().map(|name| format!("--snapshotter={name}").into()));
        place
    }

    /// Returns the command for `root`, as a user of the daemon runs it: that of a rootless one in its namespace.
    pub(crate) fn command(&self, words: &[&str], root: &Path) -> Command {
        let mut command = match &self.user {
            Some(user) => user.rootless("oci2bk.rootlesskit", &user.program("oci2bk")),
            None => Command::new(&self.world.tools.oci2bk),
        };
        command.args(words).args(self.place(root));
        command
    }

    /// Returns the command for `root` as root runs it, outside of the namespace, with these options.
    pub(crate) fn outside(&self, words: &[&str], root: &Path, options: &[&str]) -> Command {
        let mut command = Command::new(&self.world.tools.oci2bk);
        command.args(words).args(self.place(root)).args(options);
        command
    }

    pub(crate) fn import(&self, source: &str, root: &Path, more: &[&str]) -> Result<Output> {
        let words = ["mounts", "import", source];
        let mut command = self.command(&words, root);
        let release = self.world.release.version.as_str();
        command.args(["--progress=rawjson", "--format=json", "--buildkit", release]);
        Ok(command.args(more).output()?)
    }

    pub(crate) fn imported(&self, source: &str, root: &Path, more: &[&str]) -> Result<Value> {
        let output = self.import(source, root, more)?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "importing {source}: {text}");
        schema::ensure_output(
            ["mounts", "import", "--format=json", "--progress=rawjson"].map(OsStr::new),
            &output.stdout,
            &output.stderr,
        )?;
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Runs the command for `root`, and returns the document that it prints.
    pub(crate) fn json(&self, words: &[&str], root: &Path) -> Result<Value> {
        let printed = run(self.command(words, root).arg("--format=json"))?;
        let words = words.iter().copied().chain(["--format=json"]).map(OsStr::new);
        schema::ensure_output(words, printed.as_bytes(), &[])?;
        Ok(serde_json::from_str(&printed)?)
    }

    /// Exports mounts of `root`. Returns the report, and the warnings.
    pub(crate) fn export(&self, root: &Path, more: &[&str]) -> Result<(Value, String)> {
        exported(self.command(&["mounts", "export"], root).args(more))
    }

    pub(crate) fn convert(
        &self,
        cache: &Path,
        keys: &Path,
        root: &Path,
        more: &[&str],
    ) -> Result<Value> {
        let release = self.world.release.version.as_str();
        let [cache, keys] = [cache, keys].map(|path| path.to_str().unwrap_or_default());
        let mut words = vec!["convert", cache, "--keys", keys, "--progress=quiet"];
        words.extend(["--buildkit", release]);
        words.extend(more);
        self.json(&words, root)
    }

    pub(crate) fn verify(&self, root: &Path) -> Result<()> {
        let mut command = self.command(&["verify", "--progress=quiet", "--trees"], root);
        let output = command.output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success(), "verify: {text}");
        Ok(())
    }
}

/// Runs a command that exports mounts. Returns its report, and the warnings.
pub(crate) fn exported(command: &mut Command) -> Result<(Value, String)> {
    let output = command.args(["--progress=quiet", "--format=json"]).output()?;
    let warnings = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "exporting: {warnings}");
    let words = ["mounts", "export", "--format=json"].map(OsStr::new);
    schema::ensure_output(words, &output.stdout, &[])?;
    Ok((serde_json::from_slice(&output.stdout)?, warnings))
}
