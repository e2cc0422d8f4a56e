use super::*;
use crate::testing;

#[test]
fn what_is_written_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let run = testing::run();
    for (started, repeats) in [("2026-01-01T00:00:00.001Z", 1), ("2026-01-01T00:00:00.01Z", 2)] {
        let header = Header { started: started.into(), repeats, ..run.header.clone() };
        let mut writer = Writer::create(dir.path(), &header).unwrap();
        writer.write(&Line::Seed(run.seed.clone().unwrap())).unwrap();
        for measurement in &run.measurements {
            writer.write(&Line::Measurement(measurement.clone())).unwrap();
        }
        writer.write(&Line::FirstBuilds(run.first_builds.clone().unwrap())).unwrap();
        writer.write(&Line::Overhead(run.overhead.clone().unwrap())).unwrap();
    }
    let runs = Run::latest(dir.path(), 2).unwrap();
    assert_eq!(runs.iter().map(|run| run.header.repeats).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(runs[1].name, "20260101T000000.01Z");
    assert_eq!(runs[1].measurements, run.measurements);
    assert_eq!(runs[1].first_builds, run.first_builds);
    assert_eq!((&runs[1].seed, &runs[1].overhead), (&run.seed, &run.overhead));

    let error = Run::latest(dir.path(), 3).unwrap_err().to_string();
    assert!(error.ends_with("has 2 of the 3 runs that are needed"), "{error}");
}

#[test]
fn two_runs_do_not_share_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let header = testing::run().header;
    Writer::create(dir.path(), &header).unwrap();
    let error = Writer::create(dir.path(), &header).unwrap_err();
    assert!(error.to_string().ends_with(".jsonl"), "{error}");
}

#[test]
fn a_run_that_was_killed_leaves_what_it_had() {
    let text = testing::text();
    let whole = Run::parse("x".into(), &text).unwrap();
    let torn = &text[..text.trim_end().rfind('\n').unwrap() + 20];
    let run = Run::parse("x".into(), torn).unwrap();
    assert_eq!(run.measurements, whole.measurements);
    assert_eq!(run.overhead, None);
}

#[test]
fn another_format_and_other_files_are_refused() {
    let text = testing::text();
    let error = Run::parse("x".into(), &text.replacen("\"format\":2", "\"format\":3", 1));
    assert!(error.unwrap_err().to_string().contains("the format is 3, and only 2 is known"));
    let headless = text.split_once('\n').unwrap().1;
    let error = Run::parse("x".into(), headless).unwrap_err();
    assert!(error.to_string().ends_with(": a run begins with one line of kind run"), "{error}");
    let error = Run::parse("x".into(), &format!("{text}{text}")).unwrap_err();
    assert!(error.to_string().ends_with(": a run begins with one line of kind run"), "{error}");
    let error = Run::parse("x".into(), "").unwrap_err();
    assert_eq!(error.to_string(), "there is no run in it");
    let error = Run::parse("x".into(), "nonsense\n").unwrap_err();
    assert_eq!(error.to_string(), "line 1");
}
