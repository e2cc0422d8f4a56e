//! Problems during the run.

use std::collections::BTreeMap;

use super::is_sound;
use crate::record::{Build, Measurement, Outcome};
use crate::results::Run;
use crate::scenario;
use crate::units::short;

pub(super) fn of(run: &Run) -> Vec<String> {
    let mut findings = Vec::new();
    findings.extend(busy(run));
    if run.seed.is_none() {
        findings.push("There is no seed: the run ended before anything could be measured.".into());
    }
    for scenario in &scenario::ALL {
        // The same problem in several repeats is reported once.
        let mut said: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        for measurement in run.of(scenario.name) {
            for text in of_measurement(run, measurement) {
                said.entry(text).or_default().push(measurement.repeat);
            }
        }
        findings.extend(said.into_iter().map(|(text, repeats)| {
            let repeats: Vec<_> = repeats.iter().map(u32::to_string).collect();
            format!("`{}`, repeat {}: {text}", scenario.name, repeats.join(", "))
        }));
        let measured = run.of(scenario.name).count();
        if (1..run.header.repeats as usize).contains(&measured) {
            let name = scenario.name;
            let repeats = run.header.repeats;
            findings.push(format!("`{name}` was measured {measured} of {repeats} times."));
        }
    }
    findings
}

/// Reports a machine with more than half of its processor in use by others.
fn busy(run: &Run) -> Option<String> {
    let machine = &run.header.machine;
    let (load, threads) = (u64::from(machine.load), machine.threads as u64);
    (load > threads * 50).then(|| {
        format!(
            "The machine was busy when the run began (load {}.{:02} on {threads} threads): \
             trust no times.",
            load / 100,
            load % 100
        )
    })
}

fn of_measurement(run: &Run, measurement: &Measurement) -> Vec<String> {
    match &measurement.outcome {
        Outcome::Failed { reason } => vec![format!("failed: {}", one_line(reason))],
        Outcome::Built(build) if is_sound(run, build) => Vec::new(),
        Outcome::Built(build) => of_build(run, build),
    }
}

fn of_build(run: &Run, build: &Build) -> Vec<String> {
    let failed = build.progress.imports.iter().filter_map(|import| {
        let error = one_line(import.error.as_ref()?);
        Some(format!("{} could not be imported, and it built without: {error}", import.from))
    });
    let seed = run.seed.as_ref().map(|seed| &seed.bases);
    let changed = build.progress.bases.iter().filter_map(|(name, digest)| {
        let before = seed?.get(name).map_or_else(|| "not used".to_owned(), |base| short(base));
        let after = short(digest);
        (before != after)
            .then(|| format!("the base image {name} is {after} now, and was {before} for the seed"))
    });
    failed.chain(changed).collect()
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
