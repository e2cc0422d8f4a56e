//! Results for tests: all scenarios twice, with invented times.

use std::collections::BTreeMap;

use crate::record::{
    Build, Conversion, FORMAT, FirstBuilds, Header, Import, Layer, Line, Machine, Measurement,
    Measures, Outcome, Overhead, Seed, Step, WorkloadInfo,
};
use crate::results::Run;
use crate::scenario::{ALL, Builder, Scenario};

pub(crate) const IMAGE: &str = "sha256:1111111111111111";
pub(crate) const EDITED: &str = "sha256:2222222222222222";
pub(crate) const BASE: &str = "registry/base:latest";
pub(crate) const BASE_DIGEST: &str = "sha256:3333333333333333";

/// Returns a run without problems.
pub(crate) fn run() -> Run {
    let measurements = (1..=2)
        .flat_map(|repeat| ALL.iter().map(move |scenario| measurement(scenario, repeat)))
        .collect();
    Run {
        name: "20260101T000000Z".into(),
        header: Header {
            format: FORMAT,
            started: "2026-01-01T00:00:00Z".into(),
            machine: Machine {
                processor: "A Processor".into(),
                threads: 2,
                memory: 8_000_000_000,
                kernel: "6.18.0".into(),
                load: 12,
            },
            versions: BTreeMap::from([
                ("buildkitd".into(), "v0.32.2".into()),
                ("oci2bk".into(), "0.1.0".into()),
            ]),
            workload: WorkloadInfo {
                name: "full".into(),
                cache_mode: "max".into(),
                provenance: "max".into(),
            },
            repeats: 2,
        },
        seed: Some(Seed {
            micros: 21_000_000,
            export_micros: 4_200_000,
            image: IMAGE.into(),
            bases: bases(),
        }),
        measurements,
        first_builds: Some(FirstBuilds {
            converted: vec![205_000, 200_000, 190_000],
            natural: vec![200_000, 198_000, 210_000],
            acquainted: vec![199_000, 197_000, 201_000],
        }),
        overhead: Some(Overhead {
            recorded: vec![410_000, 400_000, 420_000],
            unrecorded: vec![400_000, 405_000, 395_000],
        }),
    }
}

/// Returns the results file of that run.
pub(crate) fn text() -> String {
    let run = run();
    let lines = std::iter::once(Line::Run(run.header))
        .chain(run.seed.map(Line::Seed))
        .chain(run.measurements.into_iter().map(Line::Measurement))
        .chain(run.first_builds.map(Line::FirstBuilds))
        .chain(run.overhead.map(Line::Overhead));
    lines.map(|line| serde_json::to_string(&line).unwrap() + "\n").collect()
}

pub(crate) fn bases() -> BTreeMap<String, String> {
    BTreeMap::from([(BASE.to_owned(), BASE_DIGEST.to_owned())])
}

/// Returns a step that ran for that time, or was cached.
pub(crate) fn step(stage: &str, place: u32, instruction: &str, micros: Option<u64>) -> Step {
    Step {
        stage: stage.into(),
        place,
        instruction: instruction.into(),
        cached: micros.is_none(),
        micros: micros.unwrap_or(0),
    }
}

/// Returns a layer that took that time to extract.
pub(crate) fn layer(digit: char, bytes: u64, micros: u64) -> Layer {
    Layer {
        digest: format!("sha256:{}", digit.to_string().repeat(64)),
        bytes: Some(bytes),
        micros,
        step: "[build 2/3] RUN install".into(),
    }
}

/// Returns the mutable builds of a scenario.
pub(crate) fn builds<'a>(run: &'a mut Run, scenario: &str) -> impl Iterator<Item = &'a mut Build> {
    let measurements = run.measurements.iter_mut();
    measurements.filter(move |measured| measured.scenario == scenario).filter_map(|measured| {
        match &mut measured.outcome {
            Outcome::Built(build) => Some(build),
            Outcome::Failed { .. } => None,
        }
    })
}

fn measurement(scenario: &Scenario, repeat: u32) -> Measurement {
    let prepared = scenario.builder.is_made_in_a_bake();
    Measurement {
        scenario: scenario.name.into(),
        repeat,
        preparation: prepared.then_some(3_000_000 + u64::from(repeat)),
        conversion: (scenario.builder == Builder::Converted)
            .then_some(Conversion { records: 17, unresolved: 0 }),
        outcome: Outcome::Built(build(scenario, repeat)),
    }
}

fn build(scenario: &Scenario, repeat: u32) -> Build {
    let edited = scenario.edited.then_some(1_500_000);
    let cold = (scenario.builder == Builder::New).then_some(8_000_000);
    let imports = matches!(
        scenario.builder,
        Builder::ImportsLayout
            | Builder::ImportsFromRegistry
            | Builder::LayersImportLayout
            | Builder::LayersImportSparse
    );
    // Builders that have the layers extract none.
    let extracts = imports && !scenario.builder.is_made_in_a_bake() && scenario.edited;
    let solve = 300_000
        + edited.unwrap_or(0)
        + 2 * cold.unwrap_or(0)
        + u64::from(extracts) * 6_000_000
        + u64::from(repeat) * 10_000;
    let steps = vec![
        step("build", 2, "RUN install", cold),
        step("build", 3, "COPY src /src", edited.or(cold).map(|_| 20_000)),
        step("build", 4, "RUN make", edited.or(cold)),
    ];
    Build {
        micros: solve + 50_000,
        image: if scenario.edited { EDITED } else { IMAGE }.into(),
        progress: Measures {
            solve,
            steps,
            imports: Vec::from_iter(imports.then(|| Import {
                from: "cache-registry/cache".into(),
                micros: 15_000,
                error: None,
            })),
            importing: u64::from(imports) * 15_000,
            extracted: if extracts {
                vec![
                    layer('a', 50_000_000, 1_800_000),
                    layer('b', 40_000_000, 1_700_000),
                    layer('c', 30_000_000, 1_500_000),
                ]
            } else {
                Vec::new()
            },
            extracting: u64::from(extracts) * 5_000_000,
            fetched_bytes: u64::from(extracts) * 120_000_000,
            fetching: u64::from(extracts) * 900_000,
            bases: bases(),
        },
    }
}
