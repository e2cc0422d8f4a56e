//! The report: ratios as text, every single run as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Result;
use serde::Serialize;

use crate::cache::{Compression, Shape};
use crate::cancel::{self, Cancelled};
use crate::containerd;
use crate::machine::Machine;
use crate::measure::Sample;
use crate::mounts::Mounts;
use crate::packed::PackedTrees;
use crate::records::Records;
use crate::repeat::Repeat;
use crate::state::StateImages;

/// All measurements. Its JSON is the report for programs.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Version of the format, incremented when a field changes its meaning.
    pub(crate) format: u32,
    pub(crate) machine: Machine,
    pub(crate) file_system: &'static str,
    pub(crate) rounds: usize,
    pub(crate) scenarios: Vec<Scenario>,
    pub(crate) records: Vec<Records>,
    pub(crate) repeat: Option<Repeat>,
    pub(crate) mounts: Option<Mounts>,
    pub(crate) packed: Option<PackedTrees>,
    pub(crate) state: Option<StateImages>,
    pub(crate) cancelled: Vec<Cancelled>,
}

/// One cache, unpacked by several contestants in turns.
#[derive(Debug, Serialize)]
pub(crate) struct Scenario {
    /// `whole`, `size`, `files`, `cores`, `workers`, `giant` or `memory`.
    pub(crate) group: &'static str,
    pub(crate) compression: Compression,
    pub(crate) shape: Shape,
    pub(crate) blob_bytes: u64,
    pub(crate) cores: usize,
    /// Number of parallel layers.
    pub(crate) jobs: usize,
    /// The samples of each contestant, by name, one per round.
    pub(crate) runs: BTreeMap<String, Vec<Sample>>,
}

/// Start of the report in a page of the documentation.
const BEGIN: &str = "<!-- bench:report -->";
const END: &str = "<!-- /bench:report -->";

/// Memory target of `convert`.
const MEMORY: u64 = 128 << 20;

/// The rows of the comparison: a title, the contestants whose times are summed, and the target for the ratio.
const ROWS: &[(&str, &[&str], Option<f64>)] = &[
    ("buildkitd: import and extraction", &["buildkitd"], Some(0.33)),
    ("GNU tar and pigz, a layer on each core", &["tar+pigz"], Some(1.0)),
    ("GNU tar and igzip, a layer on each core", &["tar+igzip"], Some(1.0)),
    ("GNU tar and zstd, a layer on each core", &["tar+zstd"], Some(1.0)),
    ("umoci raw unpack", &["umoci"], Some(1.0)),
    ("the floor", &["floor-inflate", "floor-write"], Some(1.25)),
    ("the floor's first part: inflated and hashed", &["floor-inflate"], None),
    ("the floor's second part: written", &["floor-write"], None),
];

/// The median, minimum and maximum of some numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) lowest: f64,
    pub(crate) highest: f64,
}

impl Spread {
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (lowest, highest) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        Some(Self { median, lowest, highest })
    }
}

impl Scenario {
    /// Returns `of` for convert divided by its sum over `others`, round by round; `None` if one did not run.
    fn ratio(&self, others: &[&str], of: impl Fn(&Sample) -> f64) -> Option<Spread> {
        let ours = self.runs.get("convert")?;
        let others: Vec<_> =
            others.iter().map(|name| self.runs.get(*name)).collect::<Option<_>>()?;
        let ratios = ours.iter().enumerate().map(|(round, sample)| {
            let other: f64 = others.iter().filter_map(|runs| runs.get(round)).map(&of).sum();
            of(sample) / other
        });
        Spread::of(ratios.collect())
    }

    /// Returns `of` for `other` divided by that for convert, round by round; `None` if one did not run.
    fn inverse(&self, other: &str, of: impl Fn(&Sample) -> f64) -> Option<Spread> {
        let (others, ours) = (self.runs.get(other)?, self.runs.get("convert")?);
        Spread::of(others.iter().zip(ours).map(|(other, ours)| of(other) / of(ours)).collect())
    }

    fn convert(&self, of: impl Fn(&Sample) -> f64) -> Option<Spread> {
        Spread::of(self.runs.get("convert")?.iter().map(of).collect())
    }

    /// Returns the peak memory of `contestant` in any round.
    fn peak(&self, contestant: &str) -> Option<u64> {
        self.runs.get(contestant)?.iter().filter_map(|sample| sample.peak_bytes).max()
    }

    fn gigabytes(&self) -> f64 {
        self.shape.bytes as f64 / 1e9
    }

    fn title(&self) -> String {
        let Shape { files, layers, .. } = &self.shape;
        format!(
            "{}: {:.1} GB in {files} files and {}, {:.1} GB compressed; {}",
            self.compression.name(),
            self.gigabytes(),
            if *layers == 1 { "1 layer".to_owned() } else { format!("{layers} layers") },
            self.blob_bytes as f64 / 1e9,
            if self.cores == 1 { "1 core".to_owned() } else { format!("{} cores", self.cores) },
        )
    }
}

impl Report {
    /// Writes both forms into the directory `output`.
    pub(crate) fn write(&self, output: &Path) -> Result<()> {
        let json = serde_json::to_string_pretty(self)? + "\n";
        fs::write(output.join("report.json"), json)?;
        Ok(fs::write(output.join("report.md"), self.markdown())?)
    }

    fn markdown(&self) -> String {
        let mut text = String::from("# How fast `oci2bk convert` is\n\n");
        self.write_method(&mut text);
        let compared = |scenario: &&Scenario| matches!(scenario.group, "whole" | "giant");
        for scenario in self.scenarios.iter().filter(compared) {
            write_comparison(&mut text, scenario);
        }
        for (group, title) in [
            ("size", "With the size of the cache"),
            ("files", "With the number of files per GB"),
            ("cores", "With the number of cores"),
        ] {
            let scenarios = self.scenarios.iter().filter(|scenario| scenario.group == group);
            write_growth(&mut text, title, &scenarios.collect::<Vec<_>>());
        }
        for scenario in self.scenarios.iter().filter(|scenario| scenario.group == "workers") {
            write_workers(&mut text, scenario);
        }
        let memory = self.scenarios.iter().filter(|scenario| scenario.group == "memory");
        write_memory(&mut text, &memory.collect::<Vec<_>>());
        write_records(&mut text, &self.records);
        if let Some(repeat) = &self.repeat {
            write_repeat(&mut text, repeat);
        }
        if let Some(mounts) = &self.mounts {
            mounts.write(&mut text);
        }
        if let Some(packed) = &self.packed {
            packed.write(&mut text);
        }
        if let Some(state) = &self.state {
            state.write(&mut text);
        }
        cancel::write(&mut text, &self.cancelled);
        text
    }

    /// Returns `page` with the report between its marks; `None` if it has no marks.
    pub(crate) fn fill_in(&self, page: &str) -> Option<String> {
        let (before, rest) = page.split_once(BEGIN)?;
        let (_, after) = rest.split_once(END)?;
        let report = self.markdown();
        let (_, report) = report.split_once("\n\n")?;
        Some(format!("{before}{BEGIN}\n{report}{END}{after}"))
    }

    fn write_method(&self, text: &mut String) {
        let Machine { processor, processors, memory_bytes, kernel, load_before, versions } =
            &self.machine;
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{processors} × {processor}, {:.0} GiB, Linux {kernel}; load before the first run: \
             {load_before}. Every run is on a new file system ({}) and ends when that is synced, all \
             that is read is in the page cache, and contestants take turns: {} rounds of the comparison, \
             at most three of the rest, one for memory. A ratio \
             is the median of the rounds' ratios, and the spread is from the lowest to the highest.\n",
            *memory_bytes as f64 / f64::from(1 << 30),
            self.file_system,
            self.rounds,
        );
        let _ = writeln!(text, "| program | version |\n|---|---|");
        for (program, version) in versions {
            let _ = writeln!(text, "| {program} | {version} |");
        }
    }
}

fn write_comparison(text: &mut String, scenario: &Scenario) {
    let _ = writeln!(
        text,
        "\n## {}\n\n| `convert` takes, of | time | spread | processor time | wanted | |\n\
         |---|---|---|---|---|---|",
        scenario.title()
    );
    for (title, names, wanted) in ROWS {
        let Some(ratio) = scenario.ratio(names, |sample| sample.seconds) else { continue };
        let busy = scenario.ratio(names, |sample| sample.cpu_seconds);
        let wanted_text = wanted.map_or_else(String::new, |wanted| format!("≤ {wanted:.2}"));
        let verdict = match wanted {
            None => "",
            Some(wanted) if ratio.median <= *wanted => "PASS",
            Some(_) => "FAIL",
        };
        let _ = writeln!(
            text,
            "| {title} | {:.2} | {:.2} to {:.2} | {:.2} | {wanted_text} | {verdict} |",
            ratio.median,
            ratio.lowest,
            ratio.highest,
            busy.map_or(f64::NAN, |busy| busy.median),
        );
    }
    let peak = |name: &&str| Some(format!("`{name}` {}", mebibytes(scenario.peak(name)?)));
    let peaks: Vec<_> = ["convert", "buildkitd", "umoci"].iter().filter_map(peak).collect();
    if !peaks.is_empty() {
        let _ = writeln!(text, "\nMemory at most: {}.", peaks.join(", "));
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20))
}

/// The rows about other kinds of builders: a title, the contestant, and the target for the ratio.
const WORKERS: [(&str, &str, Option<f64>); 2] = [
    ("the root of a new containerd", "convert+containerd", Some(1.1)),
    ("that of a containerd with images of others", "convert+used-containerd", None),
];

fn write_workers(text: &mut String, scenario: &Scenario) {
    let _ = writeln!(
        text,
        "\n## Other builders\n\n{}. A containerd with images of others has {} of {} layers each, unpacked.\n\n\
         | into | of the time for the OCI worker | spread | processor time | wanted | |\n|---|---|---|---|---|---|",
        scenario.title(),
        containerd::IMAGES,
        containerd::LAYERS,
    );
    for (title, name, wanted) in WORKERS {
        let of = |of: fn(&Sample) -> f64| scenario.inverse(name, of);
        let (Some(time), Some(busy)) =
            (of(|sample| sample.seconds), of(|sample| sample.cpu_seconds))
        else {
            continue;
        };
        let verdict = match wanted {
            None => "",
            Some(wanted) if time.median <= wanted => "PASS",
            Some(_) => "FAIL",
        };
        let wanted = wanted.map_or_else(String::new, |wanted| format!("≤ {wanted:.2}"));
        let _ = writeln!(
            text,
            "| {title} | {:.2} | {:.2} to {:.2} | {:.2} | {wanted} | {verdict} |",
            time.median, time.lowest, time.highest, busy.median,
        );
    }
}

fn write_memory(text: &mut String, scenarios: &[&Scenario]) {
    let mut title = "\n## Memory\n\n| | layers at a time | `convert` at most | wanted | |\n|---|---|---|---|---|\n";
    for scenario in scenarios {
        let Some(peak) = scenario.peak("convert") else { continue };
        let _ = writeln!(
            text,
            "{}| {} | {} | {} | ≤ {} | {} |",
            std::mem::take(&mut title),
            scenario.title(),
            scenario.jobs,
            mebibytes(peak),
            mebibytes(MEMORY),
            if peak <= MEMORY { "PASS" } else { "FAIL" },
        );
    }
}

fn write_growth(text: &mut String, title: &str, scenarios: &[&Scenario]) {
    let Some(first) = scenarios.first().and_then(|first| per_gigabyte(first)) else { return };
    let _ = writeln!(
        text,
        "\n## {title}\n\n| | time per GB, of the first line | spread | of the floor | of tar and pigz \
         | of tar and igzip |\n|---|---|---|---|---|---|"
    );
    for scenario in scenarios {
        let Some(cost) = per_gigabyte(scenario) else { continue };
        let ratio = |names: &[&str]| {
            let ratio = scenario.ratio(names, |sample| sample.seconds);
            ratio.map_or_else(String::new, |ratio| format!("{:.2}", ratio.median))
        };
        let _ = writeln!(
            text,
            "| {} | {:.2} | {:.2} to {:.2} | {} | {} | {} |",
            scenario.title(),
            cost.median / first.median,
            cost.lowest / first.median,
            cost.highest / first.median,
            ratio(&["floor-inflate", "floor-write"]),
            ratio(&["tar+pigz"]),
            ratio(&["tar+igzip"]),
        );
    }
}

/// Targets for 100,000 records: seconds, bytes of memory, and the factor for ten times as many.
const RECORDS_WANTED: (u64, f64, u64, f64) = (100_000, 10.0, 1 << 30, 12.0);

fn write_records(text: &mut String, measured: &[Records]) {
    if measured.is_empty() {
        return;
    }
    let (records, most_seconds, most_bytes, most_times) = RECORDS_WANTED;
    let _ = writeln!(
        text,
        "\n## With the number of records\n\n`convert --no-extract`. Wanted: {records} records in \
         {most_seconds} s and {} MiB, and at most {most_times} times the time for ten times the \
         records.\n\n| records | layers | seconds | spread | of the line above | peak memory, MiB | |\n\
         |---|---|---|---|---|---|---|",
        most_bytes >> 20
    );
    let mut before: Option<(u64, f64)> = None;
    for one in measured {
        let Some(seconds) = Spread::of(one.seconds.clone()) else { continue };
        let before = before.replace((one.records, seconds.median));
        let times = before.map(|(_, before)| seconds.median / before);
        let tenfold = before.is_some_and(|(before, _)| before * 10 == one.records);
        let right_size = one.records == records;
        let missed = tenfold && times.is_some_and(|times| times > most_times)
            || (right_size && (seconds.median > most_seconds || one.peak_bytes > most_bytes));
        let _ = writeln!(
            text,
            "| {} | {} | {:.2} | {:.2} to {:.2} | {} | {} | {} |",
            one.records,
            one.layers,
            seconds.median,
            seconds.lowest,
            seconds.highest,
            times.map_or_else(String::new, |times| format!("{times:.1}")),
            one.peak_bytes >> 20,
            if missed { "FAIL" } else { "PASS" },
        );
    }
}

/// Target for a repeated conversion in seconds, without the check of the blobs.
const REPEAT_WANTED: f64 = 1.0;

fn write_repeat(text: &mut String, repeat: &Repeat) {
    let Shape { bytes, files, layers } = repeat.shape;
    let _ = writeln!(
        text,
        "\n## Once more\n\n{:.1} GB in {files} files and {layers} layers, {:.1} GB of blobs, converted \
         into a root that has all of it. The first conversion took {:.2} s. Wanted: at most \
         {REPEAT_WANTED} s.\n\n| | seconds | spread | |\n|---|---|---|---|",
        bytes as f64 / 1e9,
        repeat.blob_bytes as f64 / 1e9,
        repeat.first,
    );
    let check = repeat.checked.iter().map(|run| run.check).collect();
    let besides = repeat.checked.iter().map(|run| run.seconds - run.check).collect();
    for (title, seconds, wanted) in [
        ("the check of the blobs", check, false),
        ("all else", besides, true),
        ("with `--trust-blobs`", repeat.trusted.clone(), true),
    ] {
        let Some(spread) = Spread::of(seconds) else { continue };
        let verdict = match (wanted, spread.median <= REPEAT_WANTED) {
            (false, _) => "",
            (true, true) => "PASS",
            (true, false) => "FAIL",
        };
        let Spread { median, lowest, highest } = spread;
        let _ =
            writeln!(text, "| {title} | {median:.2} | {lowest:.2} to {highest:.2} | {verdict} |");
    }
}

/// Returns the seconds of convert for each GB of files.
fn per_gigabyte(scenario: &Scenario) -> Option<Spread> {
    scenario.convert(|sample| sample.seconds / scenario.gigabytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repeat::Checked;

    fn scenario(runs: &[(&str, &[f64])]) -> Scenario {
        let samples = |seconds: &[f64]| {
            let sample = |seconds: &f64| Sample {
                seconds: *seconds,
                cpu_seconds: 2.0 * seconds,
                peak_bytes: None,
            };
            seconds.iter().map(sample).collect()
        };
        Scenario {
            group: "whole",
            compression: Compression::Gzip,
            shape: Shape { bytes: 2_000_000_000, files: 80_000, layers: 12 },
            blob_bytes: 700_000_000,
            cores: 2,
            jobs: 2,
            runs: runs.iter().map(|(name, runs)| ((*name).to_owned(), samples(runs))).collect(),
        }
    }

    #[test]
    fn a_ratio_is_the_median_over_rounds() {
        let scenario = scenario(&[
            ("convert", &[1.0, 2.0, 30.0]),
            ("floor-inflate", &[1.0, 1.0, 20.0]),
            ("floor-write", &[1.0, 1.0, 10.0]),
        ]);
        let floor = scenario.ratio(&["floor-inflate", "floor-write"], |sample| sample.seconds);
        assert_eq!(floor, Some(Spread { median: 1.0, lowest: 0.5, highest: 1.0 }));
        assert_eq!(scenario.ratio(&["buildkitd"], |sample| sample.seconds), None);
        assert_eq!(Spread::of(vec![4.0, 1.0, 3.0, 2.0]).unwrap().median, 2.5);
    }

    #[test]
    fn other_builders_are_compared_with_the_oci_worker() {
        let scenario = scenario(&[
            ("convert", &[1.0, 2.0, 4.0]),
            ("convert+containerd", &[1.2, 2.0, 4.8]),
            ("convert+used-containerd", &[2.0, 2.0, 4.0]),
        ]);
        let mut text = String::new();
        write_workers(&mut text, &scenario);
        let rows: Vec<_> = text.lines().skip(7).collect();
        assert_eq!(
            rows,
            [
                "| the root of a new containerd | 1.20 | 1.00 to 1.20 | 1.20 | ≤ 1.10 | FAIL |",
                "| that of a containerd with images of others | 1.00 | 1.00 to 2.00 | 1.00 |  |  |",
            ]
        );
    }

    #[test]
    fn growth_with_records_says_what_was_missed() {
        let one = |records: u64, seconds: f64, mebibytes: u64| Records {
            records,
            layers: records / 10,
            seconds: vec![seconds],
            peak_bytes: mebibytes << 20,
        };
        let mut text = String::new();
        let measured = [one(10_000, 0.5, 50), one(100_000, 5.0, 1500), one(1_000_000, 65.0, 5000)];
        write_records(&mut text, &measured);
        let rows: Vec<_> = text.lines().skip(7).collect();
        assert_eq!(
            rows,
            [
                "| 10000 | 1000 | 0.50 | 0.50 to 0.50 |  | 50 | PASS |",
                "| 100000 | 10000 | 5.00 | 5.00 to 5.00 | 10.0 | 1500 | FAIL |",
                "| 1000000 | 100000 | 65.00 | 65.00 to 65.00 | 13.0 | 5000 | FAIL |",
            ]
        );
    }

    #[test]
    fn a_repeated_conversion_may_take_a_second_and_the_check() {
        let mut text = String::new();
        write_repeat(
            &mut text,
            &Repeat {
                shape: Shape { bytes: 2_000_000_000, files: 80_000, layers: 12 },
                blob_bytes: 700_000_000,
                first: 9.0,
                checked: vec![Checked { seconds: 1.5, check: 0.75 }],
                trusted: vec![1.25],
            },
        );
        let rows: Vec<_> = text.lines().skip(7).collect();
        assert_eq!(
            rows,
            [
                "| the check of the blobs | 0.75 | 0.75 to 0.75 |  |",
                "| all else | 0.75 | 0.75 to 0.75 | PASS |",
                "| with `--trust-blobs` | 1.25 | 1.25 to 1.25 | FAIL |",
            ]
        );
    }

    #[test]
    fn a_comparison_says_what_was_reached() {
        let mut text = String::new();
        let runs: &[(&str, &[f64])] =
            &[("convert", &[3.0]), ("buildkitd", &[10.0]), ("tar+igzip", &[2.0])];
        write_comparison(&mut text, &scenario(runs));
        let expected = "
## gzip: 2.0 GB in 80000 files and 12 layers, 0.7 GB compressed; 2 cores

| `convert` takes, of | time | spread | processor time | wanted | |
|---|---|---|---|---|---|
| buildkitd: import and extraction | 0.30 | 0.30 to 0.30 | 0.30 | ≤ 0.33 | PASS |
| GNU tar and igzip, a layer on each core | 1.50 | 1.50 to 1.50 | 1.50 | ≤ 1.00 | FAIL |
";
        assert_eq!(text, expected);
    }

    #[test]
    fn the_most_memory_of_all_rounds_counts() {
        let mut scenario = scenario(&[("convert", &[1.0, 2.0])]);
        let samples = scenario.runs.get_mut("convert").unwrap();
        (samples[0].peak_bytes, samples[1].peak_bytes) = (Some(200 << 20), Some(30 << 20));
        let mut text = String::new();
        write_memory(&mut text, &[&scenario]);
        assert!(text.ends_with("| 2 | 200 MiB | ≤ 128 MiB | FAIL |\n"), "{text}");
        let mut text = String::new();
        write_comparison(&mut text, &scenario);
        assert!(text.ends_with("\nMemory at most: `convert` 200 MiB.\n"), "{text}");
    }

    #[test]
    fn a_page_gets_the_report_between_its_marks() {
        let report = Report {
            format: 1,
            machine: Machine::default(),
            file_system: "tmpfs",
            rounds: 5,
            scenarios: vec![scenario(&[("convert", &[1.0]), ("buildkitd", &[4.0])])],
            records: Vec::new(),
            repeat: None,
            mounts: None,
            packed: None,
            state: None,
            cancelled: Vec::new(),
        };
        let page = "# Performance\n<!-- bench:report -->\nold\n<!-- /bench:report -->\nmore\n";
        let filled = report.fill_in(page).unwrap();
        assert!(filled.starts_with("# Performance\n<!-- bench:report -->\n0 × "), "{filled}");
        assert!(filled.contains("import and extraction | 0.25 |"), "{filled}");
        assert!(filled.ends_with("|\n<!-- /bench:report -->\nmore\n"), "{filled}");
        assert_eq!(report.fill_in(&filled).unwrap(), filled);
        assert_eq!(report.fill_in("no marks"), None);
    }
}
