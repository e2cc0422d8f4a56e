use super::*;
use crate::testing::{self, BASE, builds};

/// Returns a run, and a later one in which imports take half the time and conversions twice.
fn runs() -> [Run; 2] {
    let first = testing::run();
    let mut last = testing::run();
    last.name = "20260102T000000Z".into();
    builds(&mut last, "cache-from-registry-edit").for_each(|build| build.micros /= 2);
    builds(&mut last, "converted").for_each(|build| build.micros *= 2);
    last.measurements.retain(|measured| measured.scenario != "baked");
    [first, last]
}

#[test]
fn times_that_do_not_overlap_are_a_trend() {
    let comparison = Comparison::new(&runs());
    let trend = |scenario: &str| {
        comparison.scenarios.iter().find(|change| change.scenario == scenario).unwrap().trend
    };
    assert_eq!(trend("cache-from-registry-edit"), Trend::Faster);
    assert_eq!(trend("converted"), Trend::Slower);
    assert_eq!(trend("warm"), Trend::Same);
    assert_eq!(trend("baked"), Trend::Unknown);
    assert_eq!(comparison.notes, [""; 0]);
}

#[test]
fn comparisons_are_written_for_people_and_programs() {
    let comparison = Comparison::new(&runs());
    let markdown = comparison.markdown();
    assert!(markdown.starts_with(
        "| scenario | 20260101T000000Z | 20260102T000000Z | ratio | |\n|---|--:|--:|--:|---|\n"
    ));
    assert!(
        markdown.contains("| `converted` | 0.36 s | 0.73 s | 2.000 | slower |\n"),
        "{markdown}"
    );
    assert!(markdown.contains("| `baked` | 0.36 s | – | – | – |\n"), "{markdown}");
    let json: serde_json::Value = serde_json::from_str(&comparison.json().unwrap()).unwrap();
    assert_eq!(json["runs"][1], "20260102T000000Z");
}

#[test]
fn what_else_differs_is_noted() {
    let [first, mut last] = runs();
    last.header.workload.cache_mode = "min".into();
    last.header.machine.threads = 64;
    last.header.versions.insert("buildkitd".into(), "v0.33.0".into());
    let seed = last.seed.as_mut().unwrap();
    seed.bases.insert(BASE.into(), "sha256:4444444444444444".into());
    seed.image = "sha256:5555555555555555".into();
    assert_eq!(
        Comparison::new(&[first, last]).notes,
        [
            "Another project, or another way to export its cache, was measured.",
            "The machine, or its kernel, is another one.",
            "buildkitd is v0.33.0, and was v0.32.2.",
            "The base image registry/base:latest is 444444444444, and was 333333333333.",
            "The image is 555555555555, and was 111111111111."
        ]
    );
}
