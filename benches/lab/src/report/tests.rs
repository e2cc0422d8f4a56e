use super::*;
use crate::record::Outcome;
use crate::testing::{self, BASE, EDITED, builds, layer, step};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");

/// Compares with a golden file; with `UPDATE_GOLDEN` it writes the file.
fn ensure_golden(name: &str, text: &str) {
    let path = std::path::Path::new(GOLDEN).join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    assert!(text == golden, "{} differs, which has\n{golden}\nfrom\n{text}", path.display());
}

fn report(run: &Run) -> Report {
    Report::new(run, 1.0)
}

fn abouts(run: &Run) -> Vec<&'static str> {
    report(run).actions.iter().map(|action| action.about).collect()
}

#[test]
fn the_same_results_give_the_same_report() {
    // Parsed from text, as in the command.
    let run = Run::parse("20260101T000000Z".into(), &testing::text()).unwrap();
    let report = report(&run);
    ensure_golden("report.md", &report.markdown());
    ensure_golden("report.json", &report.json().unwrap());
    ensure_golden("build-times.svg", &plot::svg(&report));
    ensure_golden("after-edit.svg", &after_edit::svg(&report));
    // Not as a page: its link is relative to the page that will contain it.
    ensure_golden("after-edit.txt", &after_edit::section(&report));
    ensure_golden("ways.md", &markdown::ways(&report));
    ensure_golden("before-after.md", &markdown::before_after(&report));
}

#[test]
fn the_pages_of_this_repository_can_be_filled_in() {
    let repository = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let pages = pages(&report(&testing::run()), repository).unwrap();
    let text = |name: &str| &pages.iter().find(|page| page.path.ends_with(name)).unwrap().text;
    assert!(text("docs/build-times.svg").starts_with("<svg "));
    assert!(text("docs/after-edit.svg").starts_with("<svg "));
    assert!(text("README.md").contains("(Medians of 2 builds, "));
    for (page, part) in [
        ("docs/trade-offs.md", "| convert | 3.00 s |"),
        ("docs/performance.md", "buildkitd v0.32.2"),
        ("docs/performance.md", "| `cold` |"),
        ("docs/performance.md", "| PASS |"),
        ("docs/performance.md", "![Build"),
    ] {
        assert!(text(page).contains(part), "{part} is not on {page}");
    }
}

#[test]
fn a_run_that_went_well_has_no_findings_and_reaches_the_targets() {
    let report = report(&testing::run());
    assert_eq!(report.findings, [""; 0]);
    assert_eq!(report.actions, []);
    assert!(report.stability.iter().all(|stability| stability.passed));
    assert!(report.targets.iter().all(|target| target.verdict == Verdict::Pass));
    assert_eq!(report.scenarios.len(), scenario::ALL.len());
}

#[test]
fn a_cache_backend_that_is_down_is_said_and_its_builds_do_not_count() {
    let mut run = testing::run();
    for build in builds(&mut run, "cache-from-registry") {
        build.progress.imports[0].error = Some("connection\n refused".into());
    }
    let report = report(&run);
    assert_eq!(
        report.findings,
        ["`cache-from-registry`, repeat 1, 2: cache-registry/cache could not be imported, and it \
          built without: connection refused"]
    );
    let row = report.row("cache-from-registry").unwrap();
    assert_eq!((row.degraded, row.builds.is_none()), (2, true));
    assert!(report.markdown().contains("| no sound build of 2 |"));
}

#[test]
fn a_build_that_failed_is_said_and_the_others_count() {
    let mut run = testing::run();
    let reason = "the build failed: no space left on device".to_owned();
    let failed = run.measurements.iter_mut().find(|measured| measured.scenario == "copied");
    failed.unwrap().outcome = Outcome::Failed { reason };
    let report = report(&run);
    assert_eq!(
        report.findings,
        ["`copied`, repeat 1: failed: the build failed: no space left on device"]
    );
    let row = report.row("copied").unwrap();
    assert_eq!((row.failed, row.builds.as_ref().unwrap().time.repeats), (1, 1));
}

#[test]
fn a_base_image_that_changed_is_said() {
    let mut run = testing::run();
    let changed = builds(&mut run, "cold").nth(1).unwrap();
    changed.progress.bases.insert(BASE.into(), "sha256:4444444444444444".into());
    changed.image = "sha256:5555555555555555".into();
    let report = report(&run);
    assert_eq!(
        report.findings,
        ["`cold`, repeat 2: the base image registry/base:latest is 444444444444 now, and was \
          333333333333 for the seed"]
    );
    let abouts: Vec<_> = report.actions.iter().map(|action| action.about).collect();
    assert_eq!(abouts, ["unstable-image", "moving-base"]);
}

#[test]
fn digests_are_stable_up_to_the_threshold() {
    let mut run = testing::run();
    builds(&mut run, "warm").next().unwrap().image = "sha256:other".into();
    let passed = |threshold: f64| {
        let report = Report::new(&run, threshold);
        let warm = report.stability.iter().find(|stability| stability.scenario == "warm");
        (warm.unwrap().equal, warm.unwrap().passed)
    };
    assert_eq!(passed(0.5), (1, true));
    assert_eq!(passed(0.51), (1, false));
}

#[test]
fn after_an_edit_most_builds_say_what_the_image_should_be() {
    let mut run = testing::run();
    builds(&mut run, "converted-edit").for_each(|build| build.image = "sha256:0".into());
    let report = report(&run);
    let failed: Vec<_> = report.stability.iter().filter(|stability| !stability.passed).collect();
    assert_eq!(failed.len(), 1);
    assert_eq!((failed[0].scenario, failed[0].expected.as_str()), ("converted-edit", EDITED));
}

#[test]
fn targets_that_are_missed_or_not_measured_are_told_apart() {
    let mut run = testing::run();
    let first_builds = run.first_builds.as_mut().unwrap();
    first_builds.converted.iter_mut().for_each(|micros| *micros *= 2);
    builds(&mut run, "converted-edit").next().unwrap().progress.extracted = vec![layer('c', 1, 1)];
    run.measurements.retain(|measured| measured.scenario != "baked-edit");
    run.overhead = None;
    let verdicts: Vec<_> = report(&run).targets.iter().map(|target| target.verdict).collect();
    assert_eq!(
        verdicts,
        [
            Verdict::Fail,
            Verdict::Fail,
            Verdict::NotMeasured,
            Verdict::Pass,
            Verdict::Fail,
            Verdict::NotMeasured
        ]
    );
}

#[test]
fn a_copy_above_commands_that_need_not_follow_it_is_named() {
    let mut run = testing::run();
    for build in builds(&mut run, "edit") {
        build.micros = 10_000_000;
        build.progress.steps = vec![
            step("build", 2, "COPY . /src", Some(10_000)),
            step("build", 3, "RUN install", Some(6_000_000)),
            step("build", 4, "RUN make", Some(2_000_000)),
            step("final", 2, "COPY --from=build /out /", Some(10_000)),
            step("final", 3, "RUN a", Some(4_000_000)),
            step("final", 4, "RUN b", Some(4_000_000)),
        ];
    }
    let actions = report(&run).actions;
    assert_eq!(actions.iter().filter(|action| action.about == "early-break").count(), 1);
    assert_eq!(
        actions[0].text,
        "After an edit (`edit`), `[build 2] COPY . /src` makes 2 commands below it run again, \
         8.00 s of 10.0 s. Copy there only what `[build 3] RUN install` needs, and the rest below \
         it."
    );
    // An edit affects one command below the copy.
    for build in builds(&mut run, "edit") {
        build.progress.steps.remove(1);
    }
    assert!(!abouts(&run).contains(&"early-break"));
}

#[test]
fn a_layer_that_dominates_is_named() {
    let mut run = testing::run();
    for build in builds(&mut run, "cache-from-registry-edit") {
        build.progress.extracted =
            vec![layer('a', 50_000_000, 500_000), layer('b', 700_000_000, 4_500_000)];
    }
    let actions = report(&run).actions;
    assert_eq!(actions.iter().map(|action| action.about).collect::<Vec<_>>(), ["dominant-layer"]);
    assert!(actions[0].text.starts_with(
        "Layer bbbbbbbbbbbb (700.0 MB) takes 4.50 s of the 5.00 s of extracting in \
         `cache-from-registry-edit`, for `[build 2/3] RUN install`."
    ));
    // The same layer in a much longer build is not worth mentioning.
    builds(&mut run, "cache-from-registry-edit").for_each(|build| build.micros = 100_000_000);
    assert_eq!(abouts(&run), [""; 0]);
}

#[test]
fn a_conversion_without_all_keys_asks_for_a_source_of_keys() {
    let mut run = testing::run();
    let converted = run.measurements.iter_mut().find(|measured| measured.conversion.is_some());
    converted.unwrap().conversion = Some(Conversion { records: 17, unresolved: 13 });
    let actions = report(&run).actions;
    assert_eq!(actions[0].about, "missing-keys");
    assert!(actions[0].text.starts_with("The conversion has no key for 13 of 17 records"));
}

#[test]
fn a_conversion_that_fails_for_want_of_keys_asks_for_them() {
    let mut run = testing::run();
    for measured in run.measurements.iter_mut().filter(|measured| measured.scenario == "converted")
    {
        measured.outcome = Outcome::Failed { reason: "nothing in it has provenance".into() };
    }
    // Then it failed for another reason.
    assert_eq!(abouts(&run), [""; 0]);
    run.header.workload.provenance = "min".into();
    assert_eq!(abouts(&run), ["missing-keys"]);
}

#[test]
fn steps_that_only_an_import_runs_again_ask_for_a_full_export() {
    let mut run = testing::run();
    for build in builds(&mut run, "cache-from-registry-edit") {
        build.progress.steps[0] = step("build", 2, "RUN install", Some(4_000_000));
    }
    let actions = report(&run).actions;
    assert_eq!(actions[0].about, "missing-steps");
    assert!(actions[0].text.starts_with(
        "Steps run again in `cache-from-registry-edit` that a warm builder has, 1 of them in \
         4.00 s, such as `[build 2] RUN install`"
    ));
    assert!(actions[0].text.contains("mode=max"));
}

#[test]
fn a_run_that_is_busy_or_not_whole_is_said() {
    let mut run = testing::run();
    run.header.machine.load = 307;
    run.measurements.pop();
    let findings = report(&run).findings;
    assert_eq!(
        findings,
        [
            "The machine was busy when the run began (load 3.07 on 2 threads): trust no times.",
            "`baked-edit` was measured 1 of 2 times."
        ]
    );
    run.seed = None;
    run.measurements.clear();
    let report = report(&run);
    assert!(report.findings[1].starts_with("There is no seed"));
    assert!(report.scenarios.is_empty() && report.stability.is_empty());
    assert!(plot::svg(&report).ends_with("</svg>\n"));
}
