//! Compares `oci2bk convert` with other ways to unpack the layers of a cache, side by side in one run,
//! over generated caches. `scripts/bench` prepares what this needs and runs it, as root.
#![allow(clippy::print_stderr, reason = "a program of ours for us, which says what it is doing")]

mod cache;
mod cancel;
mod containerd;
mod content;
mod contestants;
mod daemon;
mod floor;
mod layout;
mod llb;
mod machine;
mod measure;
mod mounts;
mod packed;
mod pool;
mod process;
mod records;
mod repeat;
mod report;
mod state;
mod target;

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use cache::{Cache, Compression, Shape};
use contestants::{Arena, Contestant};
use machine::Machine;
use report::{Report, Scenario};
use target::Kind;

/// Measure `oci2bk convert` against other programs on generated caches.
#[derive(Debug, Parser)]
struct Arguments {
    /// What to measure [default: all]
    #[arg(value_enum)]
    groups: Vec<Group>,

    /// Bytes of the files in the cache of the comparison, in millions
    #[arg(long, value_name = "MB", default_value_t = 2_000)]
    size: u64,

    /// How many files there are in it
    #[arg(long, value_name = "N", default_value_t = 80_000)]
    files: u64,

    /// How many layers there are in every cache
    #[arg(long, value_name = "N", default_value_t = 12)]
    layers: u64,

    /// The unit of growth, in millions of bytes: caches have one, two, four and eight of it
    #[arg(long, value_name = "MB", default_value_t = 1_000)]
    unit: u64,

    /// How many records the caches of `records` have
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = records::SIZES)]
    counts: Vec<u64>,

    /// How often every contestant runs in the comparison; elsewhere at most three times, and once for
    /// memory
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: usize,

    /// The file system to write to
    #[arg(long, value_enum, default_value_t = Kind::Tmpfs)]
    on: Kind,

    /// Only these contestants, by the names in the report, and convert
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,

    /// Where caches are generated, and kept for the next time
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    work: PathBuf,

    /// Where report.md and report.json go
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    output: PathBuf,

    /// A page that also gets the report, between its marks `<!-- bench:report -->` and
    /// `<!-- /bench:report -->`
    #[arg(long, value_name = "FILE")]
    page: Option<PathBuf>,

    /// The directory with buildkitd and buildctl
    #[arg(long, value_name = "DIR", default_value = "target/oracle/buildkit")]
    buildkit: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Group {
    /// One cache, gzip and zstd, all contestants
    Whole,
    /// Caches of one, two, four and eight units
    Size,
    /// Caches of one unit with 10 to 100000 files for each GB
    Files,
    /// The cache of the comparison on one core and on two
    Cores,
    /// One unit in a single layer, gzip and zstd
    Giant,
    /// One unit in a single layer and in a thousand, two and sixteen at a time: the peak of the memory
    Memory,
    /// Caches of very many records, which are left packed
    Records,
    /// The cache of the comparison into the roots of different kinds of builders
    Workers,
    /// The cache of the comparison once more into a root that has it
    Repeat,
    /// Files into a cache mount, with the command and with builds that copy them
    Mounts,
    /// The first build after an edit on a cold disk: directories, and images by oci2bk pack
    Pack,
    /// A state as an image: export and import, beside a copy of the root and convert
    State,
    /// Conversions of 400000 and of a million files that are cancelled
    Cancel,
}

impl Arguments {
    /// The cache of the comparison.
    const fn shape(&self) -> Shape {
        Shape { bytes: self.size * 1_000_000, files: self.files, layers: self.layers }
    }

    fn wants(&self, group: Group) -> bool {
        self.groups.is_empty() || self.groups.contains(&group)
    }
}

/// Contestants on one shape of cache.
struct Match {
    group: &'static str,
    shape: Shape,
    compressions: &'static [Compression],
    cores: usize,
    /// Number of parallel layers.
    jobs: usize,
    /// Contestants other than convert.
    others: Option<Vec<Contestant>>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    ensure!(rustix::process::geteuid().is_root(), "unpacking and mounting need root");
    ensure!(arguments.rounds > 0, "nothing is measured in 0 rounds");
    for dir in [&arguments.work, &arguments.output] {
        fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    }
    let work = fs::canonicalize(&arguments.work)?;
    let buildkit = fs::canonicalize(&arguments.buildkit)
        .with_context(|| format!("{}: see scripts/bench", arguments.buildkit.display()))?;
    // It is built together with this program.
    let oci2bk = std::env::current_exe()?.with_file_name("oci2bk");
    ensure!(oci2bk.exists(), "{} is missing: build it first", oci2bk.display());

    let processors = sched_getaffinity(None)?;
    let available = processors.count() as usize;
    let mut report = Report {
        format: 1,
        machine: Machine::look(&oci2bk, available),
        file_system: arguments.on.name(),
        rounds: arguments.rounds,
        scenarios: Vec::new(),
        records: Vec::new(),
        repeat: None,
        mounts: None,
        packed: None,
        state: None,
        cancelled: Vec::new(),
    };
    let mut planned_matches = matches(&arguments, available).into_iter().peekable();
    while let Some(planned) = planned_matches.next() {
        let jobs = NonZeroUsize::new(planned.jobs).unwrap_or(NonZeroUsize::MIN);
        let (kind, oci2bk) = (arguments.on, oci2bk.clone());
        let arena = Arena { work: work.clone(), kind, jobs, oci2bk, buildkit: buildkit.clone() };
        let caches = cache::caches(&work, planned.shape, planned.compressions)?;
        use_cores(&processors, planned.cores)?;
        for cache in &caches {
            let contestants = planned.contestants(cache, &arguments.only);
            let runs = run(&arena, cache, &contestants, planned.rounds(arguments.rounds))?;
            report.scenarios.push(Scenario {
                group: planned.group,
                compression: cache.compression,
                shape: cache.shape,
                blob_bytes: cache.blob_bytes(),
                cores: planned.cores,
                jobs: planned.jobs,
                runs,
            });
        }
        sched_setaffinity(None, &processors)?;
        // Only the cache of the comparison is kept for the next time; the others take much space.
        let next = planned_matches.peek().map(|next| next.shape);
        let kept = [Some(arguments.shape()), next];
        if let Some(cache) = caches.first().filter(|cache| !kept.contains(&Some(cache.shape))) {
            cache::remove(cache)?;
        }
        // Results are not lost if the next measurement fails.
        report.write(&arguments.output)?;
    }
    if arguments.wants(Group::Records) {
        let (kind, rounds) = (arguments.on, arguments.rounds);
        report.records = records::measure(&work, kind, &oci2bk, &arguments.counts, rounds)?;
        report.write(&arguments.output)?;
    }
    if arguments.wants(Group::Repeat) {
        let caches = cache::caches(&work, arguments.shape(), &[Compression::Gzip])?;
        let cache = caches.first().context("a cache")?;
        let (kind, rounds) = (arguments.on, arguments.rounds);
        report.repeat = Some(repeat::measure(&work, kind, &oci2bk, cache, rounds)?);
        report.write(&arguments.output)?;
    }
    if arguments.wants(Group::Mounts) {
        let (kind, rounds) = (arguments.on, arguments.rounds);
        report.mounts = Some(mounts::seed(&work, kind, (&oci2bk, &buildkit), rounds)?);
        report.write(&arguments.output)?;
    }
    if arguments.wants(Group::Pack) {
        let caches = cache::caches(&work, arguments.shape(), &[Compression::Gzip])?;
        let cache = caches.first().context("a cache")?;
        let rounds = arguments.rounds.min(3);
        report.packed = Some(packed::measure(&work, (&oci2bk, &buildkit), cache, rounds)?);
        report.write(&arguments.output)?;
    }
    if arguments.wants(Group::State) {
        let caches = cache::caches(&work, arguments.shape(), &[Compression::Gzip])?;
        let cache = caches.first().context("a cache")?;
        let (kind, rounds) = (arguments.on, arguments.rounds);
        report.state = Some(state::compare(&work, kind, &oci2bk, cache, rounds)?);
        report.write(&arguments.output)?;
    }
    if arguments.wants(Group::Cancel) {
        for files in [400_000, 1_000_000] {
            let shape = Shape { bytes: files * 100, files, layers: arguments.layers };
            let caches = cache::caches(&work, shape, &[Compression::Gzip])?;
            let cache = caches.first().context("a cache")?;
            let rounds = arguments.rounds.min(3);
            report.cancelled.push(cancel::measure(&work, arguments.on, cache, rounds)?);
            cache::remove(cache)?;
            report.write(&arguments.output)?;
        }
    }
    if let Some(page) = &arguments.page {
        let text = fs::read_to_string(page).with_context(|| page.display().to_string())?;
        let filled = report.fill_in(&text);
        fs::write(page, filled.with_context(|| format!("{} has no marks", page.display()))?)?;
    }
    eprintln!("{}", arguments.output.join("report.md").display());
    Ok(())
}

/// Returns all measurements, in the order of the report.
fn matches(arguments: &Arguments, available: usize) -> Vec<Match> {
    let wanted = |group| arguments.wants(group);
    let (layers, unit) = (arguments.layers, arguments.unit * 1_000_000);
    let shape = arguments.shape();
    let gzip: &[Compression] = &[Compression::Gzip];
    let peers = || [&[Contestant::PIGZ, Contestant::IGZIP], &Contestant::FLOOR[..]].concat();
    let mut matches = Vec::new();
    if wanted(Group::Whole) {
        let (compressions, cores) = (&Compression::ALL[..], available);
        let jobs = cores;
        matches.push(Match { group: "whole", shape, compressions, cores, jobs, others: None });
    }
    if wanted(Group::Size) {
        for units in [1, 2, 4, 8] {
            let bytes = units * unit;
            // With as many files per byte as the cache of the comparison.
            let files = arguments.files * bytes / shape.bytes.max(1);
            let shape = Shape { bytes, files: files.max(layers), layers };
            let (compressions, cores, others) = (gzip, available, Some(Vec::new()));
            let jobs = cores;
            matches.push(Match { group: "size", shape, compressions, cores, jobs, others });
        }
    }
    if wanted(Group::Files) {
        for files in [10, 100, 1_000, 10_000, 100_000] {
            let files = (files * unit / 1_000_000_000).max(1);
            let shape = Shape { bytes: unit, files, layers: layers.min(files) };
            let (compressions, cores, others) = (gzip, available, Some(peers()));
            let jobs = cores;
            matches.push(Match { group: "files", shape, compressions, cores, jobs, others });
        }
    }
    if wanted(Group::Cores) {
        for cores in [1, 2] {
            let (compressions, others) = (gzip, Some(peers()));
            let jobs = cores;
            matches.push(Match { group: "cores", shape, compressions, cores, jobs, others });
        }
    }
    if wanted(Group::Workers) {
        let (compressions, cores, others) = (gzip, available, Some(Contestant::WORKERS.to_vec()));
        let jobs = cores;
        matches.push(Match { group: "workers", shape, compressions, cores, jobs, others });
    }
    let in_layers = |layers| {
        let files = arguments.files * unit / shape.bytes.max(1);
        Shape { bytes: unit, files: files.max(layers), layers }
    };
    let (compressions, cores) = (&Compression::ALL[..], available);
    if wanted(Group::Giant) {
        let (shape, jobs, others) = (in_layers(1), cores, None);
        matches.push(Match { group: "giant", shape, compressions, cores, jobs, others });
    }
    if wanted(Group::Memory) {
        for (layers, jobs) in [(1, 2), (1, 16), (layers, 2), (layers, 16), (1_000, 2), (1_000, 16)]
        {
            let (shape, others) = (in_layers(layers), Some(Vec::new()));
            matches.push(Match { group: "memory", shape, compressions, cores, jobs, others });
        }
    }
    matches.retain(|planned| planned.cores <= available);
    matches
}

impl Match {
    /// Returns the number of runs of each contestant, if it is `rounds` in the comparison.
    fn rounds(&self, rounds: usize) -> usize {
        match self.group {
            "whole" | "workers" => rounds,
            "memory" => 1,
            _ => rounds.min(3),
        }
    }

    fn contestants(&self, cache: &Cache, only: &[String]) -> Vec<Contestant> {
        let ours = || vec![Contestant::Convert];
        let mut all = self.others.as_ref().map_or_else(
            || Contestant::all(cache.compression),
            |others| [ours(), others.clone()].concat(),
        );
        let named = |contestant: &Contestant| only.contains(&contestant.name());
        all.retain(|one| only.is_empty() || *one == Contestant::Convert || named(one));
        all
    }
}

/// Restricts this process and its children to the first `count` of `processors`.
fn use_cores(processors: &CpuSet, count: usize) -> Result<()> {
    let mut used = CpuSet::new();
    let allowed = (0..CpuSet::MAX_CPU).filter(|index| processors.is_set(*index));
    allowed.take(count).for_each(|index| used.set(index));
    Ok(sched_setaffinity(None, &used)?)
}

/// Runs the contestants in turns, starting with another one in every round.
fn run(
    arena: &Arena,
    cache: &Cache,
    contestants: &[Contestant],
    rounds: usize,
) -> Result<BTreeMap<String, Vec<measure::Sample>>> {
    let mut runs: BTreeMap<String, Vec<_>> = BTreeMap::new();
    let mut turns = contestants.to_vec();
    for round in 1..=rounds {
        for contestant in &turns {
            cache.warm(turns.contains(&Contestant::FloorWrite))?;
            let sample = arena.run(*contestant, cache)?;
            let name = contestant.name();
            eprintln!(
                "{} {} files, round {round}: {name} {:.2} s, {:.2} s of the processors",
                cache.compression.name(),
                cache.shape.files,
                sample.seconds,
                sample.cpu_seconds
            );
            runs.entry(name).or_default().push(sample);
        }
        turns.rotate_left(1);
    }
    Ok(runs)
}
