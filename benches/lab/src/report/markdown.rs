//! Reports as Markdown.

use super::{Builds, Report, Row};
use crate::units::{bytes, seconds, seconds_or_dash, short};

/// Formats the whole report.
pub(super) fn document(report: &Report) -> String {
    let sections = [
        ("Builds", scenarios(report)),
        ("Targets", targets(report)),
        ("Images", stability(report)),
        ("Findings", list(&report.findings)),
        ("Recommended actions", list(report.actions.iter().map(|action| &action.text))),
    ];
    let mut text = format!("# Lab: {}\n\n{}", report.run, environment(report));
    for (title, section) in sections {
        text += &format!("\n## {title}\n\n{section}");
    }
    text
}

/// Describes the workload and the machine, in a paragraph.
pub(super) fn environment(report: &Report) -> String {
    let header = &report.header;
    let machine = &header.machine;
    let versions: Vec<_> =
        header.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
    let seed = report.seed.as_ref().map_or_else(String::new, |seed| {
        format!(
            " The build that the builders were warmed with took {}, exporting its cache {}.",
            seconds(seed.micros),
            seconds(seed.export_micros)
        )
    });
    format!(
        "Medians of {} builds with the standard deviation in percent of the mean. Project: {}, cache `mode={}`, \
         provenance `mode={}`. Machine: {}, {} threads, {}, Linux {}. {}.{seed}\n",
        header.repeats,
        header.workload.name,
        header.workload.cache_mode,
        header.workload.provenance,
        machine.processor,
        machine.threads,
        bytes(machine.memory),
        machine.kernel,
        versions.join(", "),
    )
}

/// Formats a row for each scenario.
pub(super) fn scenarios(report: &Report) -> String {
    let mut text = String::from(
        "| scenario | | build | ± | to cold | cached | ran | hit ratio | importing | fetched | extracted | extracting | making ready |\n\
         |---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for row in &report.scenarios {
        text += &format!("| `{}` | {} | {} |\n", row.scenario, row.about, cells(row));
    }
    text
}

fn cells(row: &Row) -> String {
    let Some(builds) = &row.builds else {
        let count = row.failed + row.degraded;
        return format!("no sound build of {count} |{}", "| ".repeat(9)).trim_end().to_owned()
            + " |";
    };
    let cells = [
        seconds(builds.time.median),
        format!("{:.0} %", builds.time.spread()),
        builds.to_cold.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.3}")),
        builds.cached.to_string(),
        builds.ran.to_string(),
        builds.hit_ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}")),
        seconds(builds.importing),
        bytes(builds.fetched_bytes),
        extracted(builds),
        seconds(builds.extracting),
        seconds_or_dash(builds.preparation.map(|summary| summary.median)),
    ];
    cells.join(" | ")
}

fn extracted(builds: &Builds) -> String {
    match builds.extracted {
        0 => "0".to_owned(),
        1 => format!("1 layer, {}", bytes(builds.extracted_bytes)),
        count => format!("{count} layers, {}", bytes(builds.extracted_bytes)),
    }
}

/// Formats the targets.
pub(super) fn targets(report: &Report) -> String {
    let mut text = String::from("| | measured | at most | |\n|---|--:|--:|---|\n");
    for target in &report.targets {
        let (name, measured, bound) = (&target.name, &target.measured, &target.bound);
        text += &format!("| {name} | {measured} | {bound} | {} |\n", target.verdict.word());
    }
    text
}

fn stability(report: &Report) -> String {
    let mut text = String::from("| scenario | image | equal | |\n|---|---|--:|---|\n");
    for stability in &report.stability {
        text += &format!(
            "| `{}` | {} | {} of {} | {} |\n",
            stability.scenario,
            short(&stability.expected),
            stability.equal,
            stability.builds,
            if stability.passed { "PASS" } else { "FAIL" }
        );
    }
    text
}

/// Formats the ways to warm a builder, with the cost and benefit of each.
pub(super) fn ways(report: &Report) -> String {
    let mut text = String::from(
        "| way | once, in the bake | first build | first build after an edit | fetched then | extracted then |\n\
         |---|--:|--:|--:|--:|--:|\n",
    );
    for (way, scenario) in [
        ("none", "cold"),
        ("build inside the bake", "baked"),
        ("import in a build, from a registry", "cache-from-registry"),
        ("import in a build, from a layout", "cache-from-local"),
        ("convert", "converted"),
        ("convert layers, import the layout", "layers"),
        ("convert layers, import their index", "sparse"),
        ("copy a state", "copied"),
    ] {
        let first = report.builds(scenario);
        let edited = report.builds(&format!("{scenario}-edit"));
        let preparation = first.and_then(|builds| builds.preparation);
        let cells = [
            seconds_or_dash(preparation.map(|summary| summary.median)),
            seconds_or_dash(first.map(|builds| builds.time.median)),
            seconds_or_dash(edited.map(|builds| builds.time.median)),
            edited.map_or_else(|| "–".to_owned(), |builds| bytes(builds.fetched_bytes)),
            edited.map_or_else(|| "–".to_owned(), extracted),
        ];
        text += &format!("| {way} | {} |\n", cells.join(" | "));
    }
    text
}

/// Describes the benefit for a user, in a few lines.
pub(super) fn before_after(report: &Report) -> String {
    let mut text = String::from(
        "| first build on a new builder | nothing changed | a source file edited | fetched and extracted |\n\
         |---|--:|--:|--:|\n",
    );
    for (name, scenario) in [
        ("nothing in it", "cold"),
        ("`--cache-from` a registry", "cache-from-registry"),
        ("root by `oci2bk`", "converted"),
        ("root on which the build itself ran", "baked"),
    ] {
        let first = report.builds(scenario);
        let edited = report.builds(&format!("{scenario}-edit"));
        let most = edited.or(first);
        let cells = [
            seconds_or_dash(first.map(|builds| builds.time.median)),
            seconds_or_dash(edited.map(|builds| builds.time.median)),
            most.map_or_else(|| "–".to_owned(), |builds| bytes(builds.extracted_bytes)),
        ];
        text += &format!("| {name} | {} |\n", cells.join(" | "));
    }
    text
}

fn list<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    let text: String = items.into_iter().map(|item| format!("* {}\n", item.as_ref())).collect();
    if text.is_empty() { "None.\n".to_owned() } else { text }
}
