//! Advice to make the builds faster, from the measurements.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{sound, stability};
use crate::record::{Build, Layer, Step};
use crate::results::Run;
use crate::stats::ratio;
use crate::units::{bytes, seconds, short};

/// Builds after an edit on a builder that had everything, the most natural first.
const EDITED: [&str; 4] = ["edit", "baked-edit", "copied-edit", "converted-edit"];

/// Builds that extract imported layers, those that extract most first.
const IMPORTING: [&str; 4] = [
    "cache-from-registry-edit",
    "cache-from-local-edit",
    "cache-from-registry",
    "cache-from-local",
];

/// Minimum part of a build's time that is worth mentioning.
const WORTHWHILE: f64 = 0.2;

/// A piece of advice.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Action {
    /// Its subject: `early-break`, `dominant-layer`, `missing-keys`, `missing-steps`, `unstable-image`,
    /// `moving-base`.
    pub about: &'static str,
    /// The observation and the advice.
    pub text: String,
}

pub(super) fn of(run: &Run, threshold: f64) -> Vec<Action> {
    let mut actions = early_breaks(run);
    actions.extend(dominant_layer(run));
    actions.extend(missing_keys(run));
    actions.extend(missing_steps(run));
    actions.extend(unstable_image(run, threshold));
    actions.extend(moving_bases(run));
    actions
}

/// Returns the sound build with the median time, of the first scenario that has any.
fn typical<'a>(run: &'a Run, scenarios: &[&'a str]) -> Option<(&'a str, &'a Build)> {
    scenarios.iter().find_map(|&scenario| {
        let mut builds: Vec<_> = sound(run, scenario).map(|(_, build)| build).collect();
        builds.sort_by_key(|build| build.micros);
        Some((scenario, *builds.get(builds.len() / 2)?))
    })
}

/// Finds a changed COPY with several commands below it: the first of them may not need it.
fn early_breaks(run: &Run) -> Vec<Action> {
    let Some((scenario, build)) = typical(run, &EDITED) else { return Vec::new() };
    let mut stages: BTreeMap<&str, Vec<&Step>> = BTreeMap::new();
    for step in build.progress.steps.iter().filter(|step| !step.cached) {
        stages.entry(&step.stage).or_default().push(step);
    }
    let early = |steps: Vec<&Step>| {
        let (first, below) = steps.split_first()?;
        let copies = ["COPY ", "ADD "].iter().any(|word| first.instruction.starts_with(word));
        // Output of another stage is not source.
        let copies = copies && !first.instruction.contains("--from=");
        let commands: Vec<_> =
            below.iter().filter(|step| step.instruction.starts_with("RUN ")).collect();
        let micros = commands.iter().map(|step| step.micros).sum();
        let part = ratio(micros, build.micros)?;
        (copies && commands.len() > 1 && part >= WORTHWHILE).then(|| Action {
            about: "early-break",
            text: format!(
                "After an edit (`{scenario}`), `{}` makes {} commands below it run again, {} of \
                 {}. Copy there only what `{}` needs, and the rest below it.",
                first.name(),
                commands.len(),
                seconds(micros),
                seconds(build.micros),
                commands[0].name()
            ),
        })
    };
    stages.into_values().filter_map(early).collect()
}

/// Finds a layer that takes most of the extraction time.
fn dominant_layer(run: &Run) -> Option<Action> {
    let (scenario, build) = typical(run, &IMPORTING)?;
    let total: u64 = build.progress.extracted.iter().map(|layer| layer.micros).sum();
    let largest: &Layer = build.progress.extracted.iter().max_by_key(|layer| layer.micros)?;
    let of_build = ratio(largest.micros, build.micros)?;
    let of_layers = ratio(largest.micros, total)?;
    (of_build >= WORTHWHILE && of_layers >= 0.5).then(|| Action {
        about: "dominant-layer",
        text: format!(
            "Layer {}{} takes {} of the {} of extracting in `{scenario}`, for `{}`. Make it \
             smaller, or split the step that makes it: layers are extracted one after the other.",
            short(&largest.digest),
            largest.bytes.map_or_else(String::new, |size| format!(" ({})", bytes(size))),
            seconds(largest.micros),
            seconds(total),
            largest.step
        ),
    })
}

/// Finds records without a key in any source, or a source without any keys.
fn missing_keys(run: &Run) -> Option<Action> {
    let failed = |scenario| run.of(scenario).any(|measured| measured.build().is_none());
    if run.header.workload.provenance == "min" && failed("converted") {
        return Some(Action {
            about: "missing-keys",
            text: "The cache cannot be converted with provenance that has `mode=min`, which does \
                   not list the steps. Build with `mode=max`, or give `--keys` the builder's root."
                .to_owned(),
        });
    }
    let conversions = run.measurements.iter().filter_map(|measured| measured.conversion.as_ref());
    let worst = conversions.max_by_key(|conversion| conversion.unresolved)?;
    (worst.unresolved > 0).then(|| Action {
        about: "missing-keys",
        text: format!(
            "The conversion has no key for {} of {} records, so their steps run again. Give \
             `--keys` a source that has them: provenance with `mode=max`, or the builder's root.",
            worst.unresolved, worst.records
        ),
    })
}

/// Finds steps that an importing build runs after an edit, but a warm builder does not.
fn missing_steps(run: &Run) -> Option<Action> {
    let (_, warm) = typical(run, &EDITED[..1])?;
    let (scenario, importing) = typical(run, &IMPORTING[..2])?;
    let ran = |build: &Build| -> BTreeMap<String, u64> {
        let steps = build.progress.steps.iter().filter(|step| !step.cached);
        steps.map(|step| (step.name(), step.micros)).collect()
    };
    let needed: BTreeSet<String> = ran(warm).into_keys().collect();
    let missing: Vec<_> =
        ran(importing).into_iter().filter(|(name, _)| !needed.contains(name)).collect();
    (!missing.is_empty()).then(|| Action {
        about: "missing-steps",
        text: format!(
            "Steps run again in `{scenario}` that a warm builder has, {} of them in {}, such as \
             `{}`: the cache lacks their results, as one does that is exported with `mode=min`. \
             Export it with `mode=max`.",
            missing.len(),
            seconds(missing.iter().map(|(_, micros)| micros).sum()),
            missing[0].0
        ),
    })
}

fn unstable_image(run: &Run, threshold: f64) -> Option<Action> {
    let unstable: Vec<_> = stability::of(run, threshold)
        .iter()
        .filter(|stability| !stability.passed)
        .map(|stability| format!("`{}`", stability.scenario))
        .collect();
    (!unstable.is_empty()).then(|| Action {
        about: "unstable-image",
        text: format!(
            "The same sources give different images in {}. Set `SOURCE_DATE_EPOCH`, and \
             `rewrite-timestamp=true` for the output, and see which steps depend on anything else.",
            unstable.join(", ")
        ),
    })
}

/// Finds base images whose tag moved to another image during the run.
fn moving_bases(run: &Run) -> Vec<Action> {
    let Some(seed) = &run.seed else { return Vec::new() };
    let builds = run.measurements.iter().filter_map(|measurement| measurement.build());
    let moved: BTreeSet<_> = builds
        .flat_map(|build| &build.progress.bases)
        .filter(|(name, digest)| seed.bases.get(*name).is_some_and(|base| base != *digest))
        .map(|(name, _)| name)
        .collect();
    let action = |name: &String| Action {
        about: "moving-base",
        text: format!(
            "The base image {name} changed during the run, and with it every step on it. Write \
             its digest into the Dockerfile."
        ),
    };
    moved.into_iter().map(action).collect()
}
