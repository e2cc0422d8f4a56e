//! Truncated databases, and databases with a lost page: if a daemon does not run on one, `verify` reports
//! damage, and `convert` rejects it.
//!
//! `verify` checks every cut at a page boundary and every lost page; a daemon starts on each root without
//! findings. It opens the databases independently, so one root has a change in every one of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use bkstate::Root;
use bkstate::state::Damage;

use crate::case::Context;
use crate::daemon::Daemon;
use crate::damage::FIXTURE;
use crate::matrix::PREVIOUS;
use crate::process::run;
use crate::proof::GARBAGE_COLLECTED;
use crate::tools::Tools;
use crate::world::World;

/// The databases that a daemon with the OCI worker opens in its root.
const DATABASES: [&str; 6] = [
    "cache.db",
    "history.db",
    "cache-debug.db",
    "runc-overlayfs/metadata_v2.db",
    "runc-overlayfs/containerdmeta.db",
    "runc-overlayfs/snapshots/metadata.db",
];

const PAGE: usize = 4096;

/// A change of a database.
#[derive(Debug, Clone, Copy)]
enum Change {
    /// Only this many pages are left.
    Cut(usize),
    /// The page is zeroed.
    Zeroed(usize),
    /// Every bit of the page is inverted.
    Garbled(usize),
}

impl Change {
    /// Returns all changes of a database with this many pages.
    fn all(pages: usize) -> impl Iterator<Item = Self> {
        let each = |change: fn(usize) -> Self| (0..pages).map(change);
        each(Self::Cut).chain(each(Self::Zeroed)).chain(each(Self::Garbled))
    }

    fn apply(self, content: &mut Vec<u8>) {
        let page = |page: usize| page * PAGE..(page + 1) * PAGE;
        match self {
            Self::Cut(pages) => content.truncate(pages * PAGE),
            Self::Zeroed(number) => content[page(number)].fill(0),
            Self::Garbled(number) => {
                content[page(number)].iter_mut().for_each(|byte| *byte = !*byte);
            }
        }
    }
}

/// The changes of one database without findings.
#[derive(Debug, Default)]
struct Unnoticed {
    cuts: Vec<Change>,
    /// Changes of meta pages; the state described by the other one is intact.
    metas: Vec<Change>,
    /// Changes of unused pages, to be made together.
    zeroed: Vec<Change>,
    garbled: Vec<Change>,
}

/// Tries some of the changes, on a state of the newest release.
pub(crate) fn at_some_pages(world: &World) -> Result<()> {
    let bench = Bench::new(world, world.tools.clone(), false)?;
    bench.stops_where_one_is_cut()?;
    bench.runs_where_nothing_is_found(true)
}

/// Tries all of them, on states of two releases, and of a killed daemon: since v0.34 that leaves databases
/// without a list of their free pages.
pub(crate) fn at_every_page(world: &World) -> Result<()> {
    let previous = world.tools.of_release(PREVIOUS).map_err(anyhow::Error::msg)?;
    for (tools, killed) in [(&world.tools, false), (&world.tools, true), (&previous, false)] {
        let prove = || -> Result<()> {
            let bench = Bench::new(world, tools.clone(), killed)?;
            bench.stops_where_one_is_cut()?;
            bench.runs_where_nothing_is_found(false)
        };
        prove().with_context(|| format!("{}, killed: {killed}", tools.buildkitd.display()))?;
    }
    Ok(())
}

struct Bench<'a> {
    world: &'a World,
    tools: Tools,
    dir: tempfile::TempDir,
    /// The root of a daemon that has built.
    natural: PathBuf,
}

impl<'a> Bench<'a> {
    fn new(world: &'a World, tools: Tools, killed: bool) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("databases").tempdir_in(world.scratch())?;
        let natural = dir.path().join("natural");
        let bench = Self { world, tools, dir, natural };
        let files = Context::create(&bench.context());
        let dockerfile = "FROM {registry}/busybox\nRUN echo 1 > /made\nCOPY file /file\n";
        files.file("Dockerfile", world.fill_in(dockerfile));
        for (round, is_last) in [(0, false), (1, false), (2, true)] {
            let daemon = bench.start(&bench.natural)?;
            for part in 0..2 {
                files.file("file", format!("{round} {part}"));
                bench.build(&daemon)?;
            }
            if killed && is_last {
                std::thread::sleep(GARBAGE_COLLECTED);
                daemon.kill()?;
            } else {
                daemon.stop()?;
            }
        }
        ensure!(bench.damage(&bench.natural)?.is_empty(), "the state is not sound");
        Ok(bench)
    }

    fn context(&self) -> PathBuf {
        self.dir.path().join("context")
    }

    fn start(&self, root: &Path) -> Result<Daemon> {
        self.world.start_with(&self.tools, root)
    }

    fn build(&self, daemon: &Daemon) -> Result<()> {
        let context = self.context();
        let mut build = daemon.buildctl();
        build.args(["build", "--progress=plain", "--frontend=dockerfile.v0"]);
        for local in ["context", "dockerfile"] {
            build.arg(format!("--local={local}={}", context.display()));
        }
        run(&mut build).map(drop)
    }

    /// Copies the root.
    fn copy(&self, name: &str) -> Result<PathBuf> {
        let root = self.dir.path().join(name);
        if root.exists() {
            fs::remove_dir_all(&root)?;
        }
        run(Command::new("cp").arg("-a").arg(&self.natural).arg(&root))?;
        Ok(root)
    }

    fn content(&self, database: &str) -> Result<Vec<u8>> {
        Ok(fs::read(self.natural.join(database))?)
    }

    fn damage(&self, root: &Path) -> Result<Vec<Damage>> {
        Ok(Root::open(root)?.verify_databases()?.damage)
    }

    /// Returns the findings in `root` with `changes` of `database`, which is restored afterwards.
    fn damage_with(&self, root: &Path, database: &str, changes: &[Change]) -> Result<Vec<Damage>> {
        change(root, database, changes)?;
        let damage = self.damage(root)?;
        fs::write(root.join(database), self.content(database)?)?;
        Ok(damage)
    }

    /// Tries every change of `database`.
    fn unnoticed(&self, root: &Path, database: &str) -> Result<Unnoticed> {
        let mut unnoticed = Unnoticed::default();
        let mut found = 0;
        for change in Change::all(self.content(database)?.len() / PAGE) {
            if !self.damage_with(root, database, &[change])?.is_empty() {
                found += 1;
                continue;
            }
            match change {
                Change::Cut(_) => unnoticed.cuts.push(change),
                Change::Zeroed(0 | 1) | Change::Garbled(0 | 1) => unnoticed.metas.push(change),
                Change::Zeroed(_) => unnoticed.zeroed.push(change),
                Change::Garbled(_) => unnoticed.garbled.push(change),
            }
        }
        ensure!(found > 5, "only {found} changes of {database} are damage: {unnoticed:?}");
        Ok(unnoticed)
    }

    /// A daemon runs on every root without findings; with `some`, only for some of the cuts.
    fn runs_where_nothing_is_found(&self, some: bool) -> Result<()> {
        let probe = self.copy("probe")?;
        let mut rounds: Vec<Vec<(&str, Vec<Change>)>> = Vec::new();
        for database in DATABASES {
            let mut unnoticed = self.unnoticed(&probe, database)?;
            if some {
                unnoticed.cuts.truncate(1);
                unnoticed.metas.clear();
            }
            let Unnoticed { cuts, metas, zeroed, garbled } = unnoticed;
            let alone = |changes: Vec<Change>| changes.into_iter().map(|change| vec![change]);
            let changes: Vec<_> = [zeroed, garbled].into_iter().chain(alone(cuts)).collect();
            rounds.resize_with(rounds.len().max(changes.len()), Vec::new);
            for (round, changes) in rounds.iter_mut().zip(changes) {
                let damage = self.damage_with(&probe, database, &changes)?;
                ensure!(damage.is_empty(), "{changes:?} of {database} together: {damage:#?}");
                round.push((database, changes));
            }
            // They lead to the state before the last transaction, and other databases may be newer.
            rounds.extend(alone(metas).map(|meta| vec![(database, meta)]));
        }
        for round in rounds {
            let root = self.copy("changed")?;
            for (database, changes) in &round {
                change(&root, database, changes)?;
            }
            self.ensure_runs(&root).with_context(|| format!("nothing is found after {round:?}"))?;
        }
        Ok(())
    }

    /// Fails unless a daemon runs on `root` as if it were unchanged.
    fn ensure_runs(&self, root: &Path) -> Result<()> {
        let daemon = self.start(root)?;
        self.build(&daemon)?;
        std::thread::sleep(GARBAGE_COLLECTED);
        let complaints = daemon.stop()?;
        let crash = |line: &&String| line.contains("panic:") || line.contains("fatal error:");
        ensure!(complaints.iter().find(crash).is_none(), "it crashed: {complaints:#?}");
        for entry in fs::read_dir(root)? {
            let name = entry?.file_name();
            ensure!(!name.to_string_lossy().ends_with(".bak"), "{} is new", name.display());
        }
        Ok(())
    }

    /// With only its meta pages left, each database stops the daemon or is replaced by it. `verify` reports
    /// that, and `convert` rejects it.
    fn stops_where_one_is_cut(&self) -> Result<()> {
        for database in DATABASES {
            let root = self.copy("cut")?;
            change(&root, database, &[Change::Cut(2)])?;
            let damage = self.damage(&root)?;
            let kinds: Vec<_> = damage.iter().map(Damage::kind).collect();
            ensure!(kinds == ["cut-database"], "{database}: {damage:#?}");
            let path = root.join(database);
            let convert = Command::new(&self.tools.oci2bk)
                .args(["convert", "--progress=quiet", "--keys"])
                .arg(Path::new(FIXTURE).join("keys/provenance.json"))
                .arg(Path::new(FIXTURE).join("cache"))
                .arg(&root)
                .output()?;
            let said = String::from_utf8_lossy(&convert.stderr);
            ensure!(convert.status.code() == Some(5), "{database}: {said}");
            ensure!(said.contains(&path.display().to_string()), "{database}: {said}");
            ensure!(fs::metadata(&path)?.len() == 2 * PAGE as u64, "{database} was written");
            ensure!(self.ensure_runs(&root).is_err(), "a daemon runs with {database} cut off");
        }
        Ok(())
    }
}

fn change(root: &Path, database: &str, changes: &[Change]) -> Result<()> {
    let path = root.join(database);
    let mut content = fs::read(&path)?;
    changes.iter().for_each(|change| change.apply(&mut content));
    Ok(fs::write(path, content)?)
}
