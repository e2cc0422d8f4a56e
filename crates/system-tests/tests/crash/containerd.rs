//! A conversion into the roots of a buildkitd and of a containerd, killed after each step of publishing.
//!
//! containerd collects garbage by itself when it starts. So it starts alone first, then with the buildkitd, and
//! neither an older build nor an image of another program may be lost. The next run completes the state.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use system_tests::host::Host;
use testkit::containerd;

use crate::bench::{Bench, Start, copy, keys, layout, said};
use crate::build::{Options, Source};
use crate::process::run;
use crate::state;
use crate::strace::{Call, Profile, disturb, publishing};
use crate::warm::{CASE, REGISTRY, cached_steps};

const HOST: Host = Host::Worker { containerd: containerd::NEWEST };

/// Longer than containerd waits after its start before it collects garbage (`plugins/gc/scheduler.go`).
const COLLECTED: Duration = Duration::from_millis(1200);

/// The image of another program, and its namespace.
const NAMESPACE: &str = "other";
const IMAGE: &str = "localhost/other:1";

/// An additional step on the last layer of a build.
const MORE: &str = "\nCOPY src /more\n";

/// Starts from directories that do not exist.
pub(crate) fn absent(bench: &Bench) -> Result<()> {
    prove(bench, false)
}

/// Starts from a containerd and a buildkitd that were used, with an image of another program.
pub(crate) fn used(bench: &Bench) -> Result<()> {
    prove(bench, true)
}

fn prove(bench: &Bench, is_used: bool) -> Result<()> {
    let dir = bench.disk()?;
    let case = Case::prepare(bench, dir.path(), is_used)?;
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
    /// The pair that is converted into, and what it starts from, if that exists.
    pair: PathBuf,
    template: Option<PathBuf>,
    log: PathBuf,
    /// The build of the pair before the conversion, the converted one, and both with one more step.
    other: PathBuf,
    converted: PathBuf,
    other_more: PathBuf,
    converted_more: PathBuf,
    /// The cached steps of the converted build after an undisturbed run.
    expected: Vec<String>,
}

impl<'b> Case<'b> {
    fn prepare(bench: &'b Bench, dir: &Path, is_used: bool) -> Result<Self> {
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
            pair: dir.join("pair"),
            template: is_used.then(|| template.clone()),
            log: dir.join("log"),
            other_more: more(other.clone(), "other-more")?,
            converted_more: more(converted.clone(), "converted-more")?,
            other,
            converted,
            expected: Vec::new(),
        };
        if is_used {
            case.make_used(&template, &dir.join("image.tar"))?;
        }
        case.reset()?;
        run(&mut case.convert()).context("the undisturbed run")?;
        let daemon = HOST.start(&bench.tools, &case.pair, &[REGISTRY])?;
        case.expected = cached_steps(&daemon, &case.converted)?;
        daemon.stop()?;
        ensure!(case.expected.len() >= 8, "only {:?} are cached", case.expected);
        Ok(case)
    }

    fn make_used(&self, pair: &Path, archive: &Path) -> Result<()> {
        let daemon = HOST.start(&self.bench.tools, pair, &[REGISTRY])?;
        let output = Some(format!("type=docker,name={IMAGE},dest={}", archive.display()));
        let source = Source { case: &CASE, context: &self.other };
        source.build(&daemon, &Options { output, ..Options::default() })?;
        let containerd = daemon.containerd()?;
        run(containerd.ctr(NAMESPACE).args(["images", "import"]).arg(archive))?;
        daemon.stop().map(drop)
    }

    fn convert(&self) -> Command {
        let mut command = self.bench.oci2bk();
        command.args(["convert", "--progress=quiet", "-j1"]).arg(layout());
        command.arg("--keys").arg(keys()).args(HOST.arguments(&self.pair));
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
        let profile = Profile::record(&self.convert(), &self.log, &layout())?;
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
        let containerd = system_tests::host::containerd(&self.pair);
        [
            system_tests::host::builder(&self.pair),
            containerd.join("io.containerd.metadata.v1.bolt"),
            containerd.join("io.containerd.content.v1.content"),
            containerd.join("io.containerd.snapshotter.v1.overlayfs"),
        ]
    }

    fn ensure_usable_and_completed(&self) -> Result<()> {
        let tools = &self.bench.tools;
        let containerd = HOST.start_containerd(tools, &self.pair)?;
        std::thread::sleep(COLLECTED);
        containerd.stop().context("containerd alone")?;
        self.build(&[&self.other_more]).context("what is left")?;

        run(&mut self.convert()).context("the next run")?;
        for base in self.bench_bases() {
            ensure!(!base.join(".oci2bk-staging").exists(), "the staging directory is still there");
        }
        state::ensure_sound(tools, HOST.place(&self.pair))?;
        state::ensure_verified_on(HOST, tools, &self.pair, true)?;
        let containerd = HOST.start_containerd(tools, &self.pair)?;
        std::thread::sleep(COLLECTED);
        containerd.stop().context("containerd alone")?;
        let daemon = HOST.start(tools, &self.pair, &[REGISTRY])?;
        let cached = cached_steps(&daemon, &self.converted)?;
        daemon.stop()?;
        ensure!(cached == self.expected, "cached: {cached:?}, should be {:?}", self.expected);
        self.build(&[&self.other_more, &self.converted_more]).context("after the next run")
    }

    /// The build before the conversion is cached, `contexts` build, and the image of the other program is
    /// whole.
    fn build(&self, contexts: &[&Path]) -> Result<()> {
        let daemon = HOST.start(&self.bench.tools, &self.pair, &[REGISTRY])?;
        if self.template.is_some() {
            let cached = cached_steps(&daemon, &self.other)?;
            ensure!(cached.len() >= 3, "of the older build only {cached:?} are cached");
        }
        for context in contexts {
            cached_steps(&daemon, context)?;
        }
        if self.template.is_some() {
            let containerd = daemon.containerd()?;
            ensure!(containerd.list(NAMESPACE, "images")?.contains(IMAGE), "the image is gone");
            let checked = run(containerd.ctr(NAMESPACE).args(["images", "check"]))?;
            ensure!(checked.contains(" complete ("), "{checked}");
        }
        daemon.stop().map(drop)
    }
}
