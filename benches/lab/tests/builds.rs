//! The lab with real daemons, on the smallest project. Without the tools of `scripts/oracle`, or
//! without root, the tests are shown as ignored, unless `OCI2BK_REQUIRE_ORACLE` is set.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::exit,
    reason = "a test program: a broken set-up ends it, and what it prints is for the developer"
)]

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use lab::lab::{Exports, Lab, Mode};
use lab::record::{Build, Measurement, Outcome};
use lab::report::Report;
use lab::results::Run;
use lab::scenario;
use lab::workload::{Size, Workload};
use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::Value;
use testkit::Tools;
use testkit::process::run;
use testkit::trials::require;

const LAB: &str = env!("CARGO_BIN_EXE_lab");

const ALL: Exports = Exports { cache: Mode::Max, provenance: Mode::Max };

type Test = fn(&Tools) -> Result<()>;

fn main() {
    let mut arguments = Arguments::from_args();
    // Parallel measurements would disturb each other.
    arguments.test_threads.get_or_insert(1);
    let tools = locate();
    require("the test of the lab", &tools);
    let tests: [(&str, Test); 3] = [
        ("all_scenarios_are_measured_and_reported", all_scenarios),
        ("a_cache_registry_that_is_down_and_a_base_that_moves_are_recorded", breakdowns),
        ("partial_exports_of_a_project_of_the_users_are_seen", partial_exports),
    ];
    let trials = tests.into_iter().map(|(name, test)| match tools.clone() {
        Err(reason) => Trial::test(name, || Ok(())).with_kind(reason).with_ignored_flag(true),
        Ok(tools) => Trial::test(name, move || {
            test(&tools).map_err(|error| Failed::from(format!("{error:#}")))
        }),
    });
    libtest_mimic::run(&arguments, trials.collect()).exit();
}

fn target() -> &'static Path {
    Path::new(LAB).ancestors().nth(2).unwrap()
}

fn locate() -> Result<Tools, String> {
    let oci2bk = Path::new(LAB).with_file_name("oci2bk");
    if oci2bk.exists() {
        Tools::locate(&oci2bk)
    } else {
        Err("oci2bk is not built: run cargo build --bin oci2bk".into())
    }
}

/// An amount that CI can afford: the whole command, once.
fn all_scenarios(_: &Tools) -> Result<()> {
    let results = tempfile::tempdir()?;
    let lab = |arguments: &[&str]| {
        run(Command::new(LAB).arg("--results").arg(results.path()).args(arguments))
    };
    let start = Instant::now();
    lab(&["run", "--all", "--size=tiny", "--repeats=1"])?;
    eprintln!("all scenarios took {:.0} s", start.elapsed().as_secs_f64());

    let report: Value = serde_json::from_str(&lab(&["report", "--format=json"])?)?;
    let rows = report["scenarios"].as_array().context("a report has scenarios")?;
    let names: Vec<_> = rows.iter().filter_map(|row| row["scenario"].as_str()).collect();
    ensure!(names == scenario::ALL.map(|scenario| scenario.name), "the report has {names:?}");
    for row in rows {
        let (name, builds) = (&row["scenario"], &row["builds"]);
        let steps = (&builds["cached"], &builds["ran"]);
        let expected = match name.as_str() {
            Some("cold") => (0, 10),
            Some(name) if name.ends_with("edit") => (7, 3),
            _ => (10, 0),
        };
        ensure!(
            steps == (&expected.0.into(), &expected.1.into()),
            "{name} has {steps:?} steps cached and run, should be {expected:?}"
        );
    }
    for stability in report["stability"].as_array().into_iter().flatten() {
        ensure!(stability["passed"] == true, "the image differs: {stability}");
    }
    // Times on a busy machine do not matter.
    let targets = report["targets"].as_array().context("a report has targets")?;
    let of_nothing = |target: &&Value| target["bound"] == "0";
    ensure!(targets.iter().filter(of_nothing).count() == 2, "{targets:?}");
    for target in targets.iter().filter(of_nothing) {
        ensure!(target["verdict"] == "pass", "{target}");
    }
    let markdown = lab(&["report"])?;
    ensure!(markdown == lab(&["report"])?, "the same results give another report");
    for scenario in &scenario::ALL {
        ensure!(markdown.contains(&format!("| `{}` | ", scenario.name)), "{markdown}");
    }
    let error = lab(&["compare", "--last=2"]).expect_err("there is one run").to_string();
    ensure!(error.contains("has 1 of the 2 runs that are needed"), "{error}");
    Ok(())
}

fn breakdowns(tools: &Tools) -> Result<()> {
    let mut lab = Lab::create(tools, target(), Workload::Generated(Size::Tiny), ALL)?;
    let seed = lab.seed()?;
    lab.stop_cache_registry();
    let mut measurements = vec![measure(&lab, "cache-from-registry"), measure(&lab, "warm")];
    let [refused, warm] = [built(&measurements[0])?, built(&measurements[1])?];
    ensure!(refused.progress.ran() == 10 && warm.progress.ran() == 0, "{refused:?}");
    let error = refused.progress.imports[0].error.as_deref();
    ensure!(error.is_some_and(|error| error.contains("connection refused")), "{error:?}");

    lab.push_base("moved")?;
    measurements.push(measure(&lab, "converted"));
    let header = lab.header(1)?;
    let run = Run {
        name: "x".into(),
        header,
        seed: Some(seed),
        measurements,
        first_builds: None,
        overhead: None,
    };
    let findings = Report::new(&run, 1.0).findings.join("\n");
    for finding in [
        "`cache-from-registry`, repeat 1: cache-registry/cache could not be imported, and it built \
         without: ",
        "`converted`, repeat 1: the base image registry/base:latest is ",
    ] {
        ensure!(findings.contains(finding), "{findings}");
    }
    Ok(())
}

/// A project whose first COPY copies everything, with a cache and a provenance that lack most.
fn partial_exports(tools: &Tools) -> Result<()> {
    let project = tempfile::tempdir()?;
    let write = |name: &str, text: &str| std::fs::write(project.path().join(name), text);
    std::fs::copy(&tools.busybox, project.path().join("busybox"))?;
    write("source", "text\n")?;
    write(
        "Dockerfile.own",
        "FROM scratch AS build\nCOPY busybox /bin/sh\nRUN [\"/bin/sh\", \"-c\", \"echo 1 > /1\"]\n\
         COPY . /src\nRUN [\"/bin/sh\", \"-c\", \"echo 2 > /2\"]\n\
         RUN [\"/bin/sh\", \"-c\", \"while read l; do echo $l.; done < /src/source > /3\"]\n\
         FROM scratch\nCOPY --from=build /3 /3\n",
    )?;
    let workload = Workload::Project {
        context: project.path().to_owned(),
        dockerfile: "Dockerfile.own".into(),
        edit: "source".into(),
    };
    let exports = Exports { cache: Mode::Min, provenance: Mode::Min };
    let lab = Lab::create(tools, target(), workload, exports)?;
    let seed = Some(lab.seed()?);
    let scenarios = ["edit", "cache-from-registry-edit", "converted"];
    let measurements: Vec<_> = scenarios.iter().map(|name| measure(&lab, name)).collect();
    for (measurement, ran) in measurements.iter().zip([4, 6]) {
        let build = built(measurement)?;
        ensure!(build.progress.ran() == ran, "{} ran {:?}", measurement.scenario, build.progress);
    }
    ensure!(measurements[2].build().is_none(), "converted without keys: {:?}", measurements[2]);
    let (name, header) = ("x".into(), lab.header(1)?);
    let run = Run { name, header, seed, measurements, first_builds: None, overhead: None };
    let actions = Report::new(&run, 1.0).actions;
    let abouts: Vec<_> = actions.iter().map(|action| action.about).collect();
    for about in ["missing-keys", "missing-steps"] {
        ensure!(abouts.contains(&about), "{actions:#?}");
    }
    Ok(())
}

fn measure(lab: &Lab, scenario: &str) -> Measurement {
    lab.measure(scenario::find(scenario).unwrap(), 1)
}

fn built(measurement: &Measurement) -> Result<&Build> {
    match &measurement.outcome {
        Outcome::Built(build) => Ok(build),
        Outcome::Failed { reason } => anyhow::bail!("{}: {reason}", measurement.scenario),
    }
}
