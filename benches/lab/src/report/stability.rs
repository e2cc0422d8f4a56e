//! Checks whether the same sources give the same image with every kind of builder.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::record::Build;
use crate::results::Run;
use crate::scenario::{self, Scenario};

/// The images of a scenario's builds.
#[derive(Debug, Serialize)]
pub struct Stability {
    /// Name of the scenario.
    pub scenario: &'static str,
    /// The expected digest of its images: without an edit that of the seed, otherwise the most common one
    /// after the edit.
    pub expected: String,
    /// Builds with an image.
    pub builds: usize,
    /// Builds with the expected image.
    pub equal: usize,
    /// Whether these are enough.
    pub passed: bool,
}

/// Compares the images of all builds, degraded ones too.
pub(super) fn of(run: &Run, threshold: f64) -> Vec<Stability> {
    let unchanged = run.seed.as_ref().map(|seed| seed.image.clone());
    let unchanged = unchanged.or_else(|| most_common(run, false));
    let edited = most_common(run, true);
    let check = |scenario: &Scenario| {
        let images: Vec<_> = builds(run, scenario).map(|build| &build.image).collect();
        let expected = if scenario.edited { edited.clone() } else { unchanged.clone() };
        let expected = expected.filter(|_| !images.is_empty())?;
        let equal = images.iter().filter(|image| ***image == expected).count();
        let passed = equal as f64 >= threshold * images.len() as f64;
        let scenario = scenario.name;
        Some(Stability { scenario, expected, builds: images.len(), equal, passed })
    };
    scenario::ALL.iter().filter_map(check).collect()
}

fn builds<'a>(run: &'a Run, scenario: &Scenario) -> impl Iterator<Item = &'a Build> {
    let name = scenario.name;
    run.measurements
        .iter()
        .filter(move |measurement| measurement.scenario == name)
        .filter_map(|measurement| measurement.build())
}

/// Returns the most common image; of several equally common ones, that with the smallest digest.
fn most_common(run: &Run, edited: bool) -> Option<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for scenario in scenario::ALL.iter().filter(|scenario| scenario.edited == edited) {
        for build in builds(run, scenario) {
            *counts.entry(&build.image).or_default() += 1;
        }
    }
    let most = counts.values().copied().max()?;
    counts.into_iter().find(|(_, count)| *count == most).map(|(image, _)| image.to_owned())
}
