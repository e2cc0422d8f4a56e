//! A conversion into the roots of a buildkitd or a Docker Engine and of a containerd, killed after each step of
//! publishing.
//!
//! containerd collects garbage by itself when it starts. So it starts alone first, then with the daemon, and
//! neither an older build nor an image or a container of another program may be lost. The next run completes the
//! state.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use system_tests::host::{self, Host};
use system_tests::others::{IMAGE, Others};
use testkit::{containerd, engine};

use crate::bench::{Bench, Start, copy, said};
use crate::build::{Options, Source};
use crate::case::Context;
use crate::process::run;
use crate::state;
use crate::strace::{Call, Profile, disturb, publishing};
use crate::warm::{CASE, REGISTRY, cached_steps};

const WORKER: Host = Host::Worker { containerd: containerd::NEWEST };
const ENGINE: Host =
    Host::Engine { engine: engine::Release::NEWEST, containerd: containerd::NEWEST };

/// Longer than containerd waits after its start before it collects garbage (`plugins/gc/scheduler.go`).
const COLLECTED: Duration = Duration::from_millis(1200);

/// The image of the other program.
const OTHER: &str = "FROM scratch\nCOPY busybox /bin/busybox\nRUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\n";

/// An additional step on the last layer of a build.
const MORE: &str = "\nCOPY src /more\n";

/// Starts from directories that do not exist.
pub(crate) fn absent(bench: &Bench) -> Result<()> {
    prove(bench, WORKER, false)
}

/// Starts from a containerd and a buildkitd that were used, with what another program has there.
pub(crate) fn used(bench: &Bench) -> Result<()> {
    prove(bench, WORKER, true)
}

/// The same as [`absent`], for an engine.
pub(crate) fn absent_engine(bench: &Bench) -> Result<()> {
    prove(bench, ENGINE, false)
}

/// The same as [`used`], for an engine with an image and a container of its own.
pub(crate) fn used_engine(bench: &Bench) -> Result<()> {
    prove(bench, ENGINE, true)
}

fn prove(bench: &Bench, host: Host, is_used: bool) -> Result<()> {
    let dir = bench.disk()?;
    let case = Case::prepare(bench, host, dir.path(), is_used)?;
    let stops = case.stops()?;
    let least = if is_used { 9 } else { 6 };
    ensure!(stops.len() >= least, "the steps are {:?}", stops.iter().map(|(at, _)| at));
    for (after, before) in &stops {
        case.reset()?;
        let output = disturb(&case.convert(), before, "signal=SIGKILL")?.output;
        ensure!(output.status.signal() == Some(9), "it ended: {}", said(&output));
        case.ensure_usable_and_completed().with_context(|| format!("stopped after {after}"))?;
    }
    Ok(())
}

struct Case<'b> {
    bench: &'b Bench,
    host: Host,
    /// The pair that is converted into, and what it starts from, if that exists.
    pair: PathBuf,
    template: Option<PathBuf>,
    log: PathBuf,
    /// The cache that a daemon of the same kind exported, and its keys.
    layout: PathBuf,
    keys: PathBuf,
    /// What another program has in the template.
    others: Option<Others>,
    /// The build of the pair before the conversion, the converted one, and both with one more step.
    other: PathBuf,
    converted: PathBuf,
    other_more: PathBuf,
    converted_more: PathBuf,
    /// The cached steps of the converted build after an undisturbed run.
    expected: Vec<String>,
}

impl<'b> Case<'b> {
    fn prepare(bench: &'b Bench, host: Host, dir: &Path, is_used: bool) -> Result<Self> {
        let more = |context: PathBuf, name: &str| -> Result<PathBuf> {
            let copied = dir.join(name);
            copy(&context, &copied)?;
            let mut file = File::options().append(true).open(copied.join("Dockerfile"))?;
            file.write_all(MORE.as_bytes())?;
            Ok(copied)
        };
        let (other, converted) = (bench.other_context(Start::Natural), bench.context());
        let template = dir.join("template");
        let mut case = Self {
            bench,
            host,
            others: None,
            pair: dir.join("pair"),
            template: is_used.then(|| template.clone()),
            log: dir.join("log"),
            layout: dir.join("layout"),
            keys: dir.join("keys/provenance.json"),
            other_more: more(other.clone(), "other-more")?,
            converted_more: more(converted.clone(), "converted-more")?,
            other,
            converted,
            expected: Vec::new(),
        };
        case.export(&dir.join("exporter"), &dir.join("keys"))?;
        if is_used {
            case.others = Some(case.make_used(&template, &dir.join("image.tar"))?);
        }
        case.reset()?;
        run(&mut case.convert()).context("the undisturbed run")?;
        let daemon = host.start(&bench.tools, &case.pair, &[REGISTRY])?;
        case.expected = cached_steps(&daemon, &case.converted)?;
        daemon.stop()?;
        ensure!(case.expected.len() >= 8, "only {:?} are cached", case.expected);
        Ok(case)
    }

    fn export(&self, pair: &Path, keys: &Path) -> Result<()> {
        let tools = &self.bench.tools;
        let daemon = self.host.start(tools, pair, &[REGISTRY])?;
        Source { case: &CASE, context: &self.converted }.make(
            tools,
            &daemon,
            &self.layout,
            keys,
        )?;
        daemon.stop().map(drop)
    }

    fn make_used(&self, pair: &Path, archive: &Path) -> Result<Others> {
        let daemon = self.host.start(&self.bench.tools, pair, &[REGISTRY])?;
        cached_steps(&daemon, &self.other)?;
        let context = Context::create(&archive.with_extension("context"));
        context.file("Dockerfile", OTHER);
        fs::copy(&self.bench.tools.busybox, context.dir().join("busybox"))?;
        let output = Some(format!("type=docker,name={IMAGE},dest={}", archive.display()));
        let source = Source { case: &CASE, context: context.dir() };
        source.build(&daemon, &Options { output, ..Options::default() })?;
        let others = Others::add(self.host, &daemon, archive)?;
        daemon.stop()?;
        Ok(others)
    }

    fn convert(&self) -> Command {
        let mut command = self.bench.oci2bk();
        command.args(["convert", "--progress=quiet", "-j1"]).arg(&self.layout);
        command.arg("--keys").arg(&self.keys).args(self.host.arguments(&self.pair));
        if let Host::Engine { engine, .. } = self.host {
            command.args(["--buildkit", engine.buildkit()]);
        }
        command
    }

    fn reset(&self) -> Result<()> {
        if self.pair.exists() {
            fs::remove_dir_all(&self.pair)?;
        }
        match &self.template {
            Some(template) => copy(template, &self.pair),
            None => Ok(fs::create_dir(&self.pair)?),
        }
    }

    /// Runs to the end, to find the call after each step: a file that is renamed, or data that is written to a
    /// database. A database that is changed in place is written twice, first the new pages and then the page
    /// that refers to them. All blobs are one step, and so are all trees.
    fn stops(&self) -> Result<Vec<(String, Call)>> {
        self.reset()?;
        let profile = Profile::record(&self.convert(), &self.log, &self.layout)?;
        let mut stops: Vec<(String, Call)> = Vec::new();
        for (at, (_, _, line)) in profile.lines.iter().enumerate() {
            let Some(place) = self.step(line) else { continue };
            let Some((_, before, _)) = profile.lines.get(at + 1) else { continue };
            stops.pop_if(|(last, _)| *last == place && !place.ends_with(".db"));
            stops.push((place, before.clone()));
        }
        Ok(stops)
    }

    /// Returns what the call in `line` publishes.
    fn step(&self, line: &str) -> Option<String> {
        let place = self.bench_bases().iter().find_map(|base| publishing(line, base));
        if let Some((dir, name)) = place {
            let is_content = dir.ends_with("sha256") || dir.ends_with("snapshots");
            let place = if is_content { dir.to_owned() } else { dir.join(name) };
            return Some(place.display().to_string());
        }
        let written = line.strip_prefix("fdatasync(")?.split('<').nth(1)?.split('>').next()?;
        (written.ends_with(".db") && !written.contains("oci2bk-staging"))
            .then(|| written.to_owned())
    }

    fn bench_bases(&self) -> [PathBuf; 4] {
        let containerd = host::containerd(&self.pair);
        let builder = host::builder(&self.pair);
        [
            match self.host {
                Host::Engine { .. } => builder.join(engine::BUILDER),
                _ => builder,
            },
            containerd.join("io.containerd.metadata.v1.bolt"),
            containerd.join("io.containerd.content.v1.content"),
            containerd.join("io.containerd.snapshotter.v1.overlayfs"),
        ]
    }

    fn ensure_usable_and_completed(&self) -> Result<()> {
        let tools = &self.bench.tools;
        let containerd = self.host.start_containerd(tools, &self.pair)?;
        std::thread::sleep(COLLECTED);
        containerd.stop().context("containerd alone")?;
        self.build(&[&self.other_more]).context("what is left")?;

        run(&mut self.convert()).context("the next run")?;
        for base in self.bench_bases() {
            ensure!(!base.join(".oci2bk-staging").exists(), "the staging directory is still there");
        }
        state::ensure_sound(tools, self.host.place(&self.pair))?;
        state::ensure_verified_on(self.host, tools, &self.pair, true)?;
        let containerd = self.host.start_containerd(tools, &self.pair)?;
        std::thread::sleep(COLLECTED);
        containerd.stop().context("containerd alone")?;
        let daemon = self.host.start(tools, &self.pair, &[REGISTRY])?;
        let cached = cached_steps(&daemon, &self.converted)?;
        daemon.stop()?;
        ensure!(cached == self.expected, "cached: {cached:?}, should be {:?}", self.expected);
        self.build(&[&self.other_more, &self.converted_more]).context("after the next run")
    }

    /// The build before the conversion is cached, `contexts` build, and the image and the container of the
    /// other program are whole.
    fn build(&self, contexts: &[&Path]) -> Result<()> {
        let daemon = self.host.start(&self.bench.tools, &self.pair, &[REGISTRY])?;
        if self.template.is_some() {
            let cached = cached_steps(&daemon, &self.other)?;
            ensure!(cached.len() >= 3, "of the older build only {cached:?} are cached");
        }
        for context in contexts {
            cached_steps(&daemon, context)?;
        }
        if let Some(others) = self.others {
            others.ensure_whole(&daemon)?;
        }
        daemon.stop().map(drop)
    }
}
