//! The report of a run, as data; deterministic for the same results.

mod actions;
mod after_edit;
mod findings;
mod markdown;
mod pages;
mod plot;
mod stability;
mod targets;

use std::collections::BTreeSet;

use serde::Serialize;

use crate::record::{Build, Conversion, Header, Measurement, Seed};
use crate::results::Run;
use crate::scenario::{self, Scenario};
use crate::stats::{Summary, ratio};

pub use actions::Action;
pub use pages::{Page, PageError, pages};
pub use stability::Stability;
pub use targets::{Target, Verdict};

/// The version of the JSON form.
const FORMAT: u32 = 1;

/// The report of a run.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The version of the format.
    pub format: u32,
    /// Name of the run.
    pub run: String,
    /// The machine and the workload.
    pub header: Header,
    /// The build that made the seed for warming the builders.
    pub seed: Option<Seed>,
    /// A row for each scenario that was measured.
    pub scenarios: Vec<Row>,
    /// Whether repeats gave the same image.
    pub stability: Vec<Stability>,
    /// The targets.
    pub targets: Vec<Target>,
    /// Problems during the run.
    pub findings: Vec<String>,
    /// Advice to make the builds faster.
    pub actions: Vec<Action>,
}

/// A scenario. Numbers are only for its sound builds: those that imported what they should and started from
/// the seed's base images. Durations are in microseconds.
#[derive(Debug, Serialize)]
pub struct Row {
    /// Its name.
    pub scenario: &'static str,
    /// Its description.
    pub about: &'static str,
    /// Builds that failed.
    pub failed: usize,
    /// Builds that are not sound.
    pub degraded: usize,
    /// Medians and other statistics; `None` without a sound build.
    pub builds: Option<Builds>,
    /// The report of the first conversion, if there was one.
    pub conversion: Option<Conversion>,
}

/// The sound builds of a scenario. Values that are not summaries are medians.
#[derive(Debug, Serialize)]
pub struct Builds {
    /// Duration of the client.
    pub time: Summary,
    /// From the first to the last action of the daemon.
    pub solve: Summary,
    /// Time to warm the builder, if that is part of the way.
    pub preparation: Option<Summary>,
    /// The median time divided by that of `cold`.
    pub to_cold: Option<f64>,
    /// Number of cached steps.
    pub cached: u64,
    /// Number of steps that ran.
    pub ran: u64,
    /// Cached steps divided by all steps; `None` if there are no steps.
    pub hit_ratio: Option<f64>,
    /// Time during which at least one import was active.
    pub importing: u64,
    /// Time during which at least one layer was fetched.
    pub fetching: u64,
    /// Bytes fetched.
    pub fetched_bytes: u64,
    /// Time during which at least one layer was extracted.
    pub extracting: u64,
    /// Layers extracted.
    pub extracted: u64,
    /// Total size of their blobs in bytes.
    pub extracted_bytes: u64,
    /// Digests of the images.
    pub images: BTreeSet<String>,
}

impl Report {
    /// Computes the report; a scenario's digests are stable if at least `threshold` of its builds have the
    /// expected one.
    #[must_use]
    pub fn new(run: &Run, threshold: f64) -> Self {
        let cold = time(run, "cold");
        let rows = scenario::ALL.iter().filter_map(|scenario| row(run, scenario, cold)).collect();
        Self {
            format: FORMAT,
            run: run.name.clone(),
            header: run.header.clone(),
            seed: run.seed.clone(),
            scenarios: rows,
            stability: stability::of(run, threshold),
            targets: targets::of(run),
            findings: findings::of(run),
            actions: actions::of(run, threshold),
        }
    }

    /// Formats as JSON, for programs.
    ///
    /// # Errors
    /// Never returns an error in practice: all of it can be expressed in JSON.
    pub fn json(&self) -> serde_json::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// Formats as Markdown, for people.
    #[must_use]
    pub fn markdown(&self) -> String {
        markdown::document(self)
    }

    fn row(&self, scenario: &str) -> Option<&Row> {
        self.scenarios.iter().find(|row| row.scenario == scenario)
    }

    fn builds(&self, scenario: &str) -> Option<&Builds> {
        self.row(scenario)?.builds.as_ref()
    }
}

/// Returns whether a build is valid for its scenario.
fn is_sound(run: &Run, build: &Build) -> bool {
    build.progress.imports.iter().all(|import| import.error.is_none())
        && run.seed.as_ref().is_none_or(|seed| build.progress.bases == seed.bases)
}

/// Returns the sound builds of a scenario, each with its measurement.
fn sound<'a>(
    run: &'a Run,
    scenario: &'a str,
) -> impl Iterator<Item = (&'a Measurement, &'a Build)> {
    run.of(scenario)
        .filter_map(|measurement| Some((measurement, measurement.build()?)))
        .filter(|(_, build)| is_sound(run, build))
}

/// Returns the median time of a scenario's builds.
pub(crate) fn time(run: &Run, scenario: &str) -> Option<Summary> {
    Summary::of(sound(run, scenario).map(|(_, build)| build.micros))
}

fn row(run: &Run, scenario: &Scenario, cold: Option<Summary>) -> Option<Row> {
    let all = run.of(scenario.name).count();
    if all == 0 {
        return None;
    }
    let failed = run.of(scenario.name).filter(|measurement| measurement.build().is_none()).count();
    let sound: Vec<_> = sound(run, scenario.name).collect();
    Some(Row {
        scenario: scenario.name,
        about: scenario.about,
        failed,
        degraded: all - failed - sound.len(),
        builds: builds(&sound, cold),
        conversion: run.of(scenario.name).find_map(|measurement| measurement.conversion.clone()),
    })
}

fn builds(sound: &[(&Measurement, &Build)], cold: Option<Summary>) -> Option<Builds> {
    let summary = |of: fn(&Build) -> u64| Summary::of(sound.iter().map(|(_, build)| of(build)));
    let median = |of: fn(&Build) -> u64| summary(of).map(|summary| summary.median);
    let time = summary(|build| build.micros)?;
    let cached = median(|build| build.progress.cached() as u64)?;
    let ran = median(|build| build.progress.ran() as u64)?;
    Some(Builds {
        time,
        solve: summary(|build| build.progress.solve)?,
        preparation: Summary::of(sound.iter().filter_map(|(measured, _)| measured.preparation)),
        to_cold: cold.and_then(|cold| ratio(time.median, cold.median)),
        cached,
        ran,
        hit_ratio: ratio(cached, cached + ran),
        importing: median(|build| build.progress.importing)?,
        fetching: median(|build| build.progress.fetching)?,
        fetched_bytes: median(|build| build.progress.fetched_bytes)?,
        extracting: median(|build| build.progress.extracting)?,
        extracted: median(|build| build.progress.extracted.len() as u64)?,
        extracted_bytes: median(|build| build.progress.extracted_bytes())?,
        images: sound.iter().map(|(_, build)| build.image.clone()).collect(),
    })
}

#[cfg(test)]
mod tests;
