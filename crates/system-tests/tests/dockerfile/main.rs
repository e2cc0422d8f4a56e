//! Compares what `dockerfile` makes of Dockerfiles with what real frontends make of them, for three releases: of the cases in
//! `crates/dockerfile/tests/cases`, of the Dockerfiles of the fixtures and of the end-to-end table, and of Dockerfiles made
//! at random ([`grammar`]).
//!
//! The frontends run without a daemon (`oracle/frontend`); without them, the tests are shown as ignored, unless
//! `OCI2BK_REQUIRE_ORACLE` is set.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::exit,
    reason = "a test program"
)]

#[path = "../e2e/cases/mod.rs"]
mod cases;
mod compare;
mod frontend;
mod grammar;
mod inputs;
mod shrink;

use std::ops::Range;
use std::path::Path;

use anyhow::{Result, ensure};
use libtest_mimic::{Arguments, Trial};
use system_tests::case;
use testkit::trials::require;
use testkit::{Tools, process};

use crate::compare::{Build, Outcome, compare};
use crate::frontend::Frontend;

/// How many Dockerfiles are made at random in each run, and how many once.
const RANDOM: u64 = 2_000;
const RANDOM_ONCE: u64 = 100_000;

/// How many of them frontends must accept, in percent, and how many operations each of these must have on the average: a
/// grammar of errors would compare nothing. The old release does not know what half of the Dockerfiles have.
const ACCEPTED: usize = 40;
const OPERATIONS: usize = 4;

/// How many differences are told at most.
const MOST_FAULTS: usize = 8;

fn main() {
    let arguments = Arguments::from_args();
    let tools = Tools::frontends(Path::new(env!("CARGO_BIN_EXE_oci2bk-under-test")));
    require("dockerfile", &tools);
    let missing = tools.is_err();
    let tools = tools.unwrap_or_default();
    let mut trials = Vec::new();
    for (version, program) in tools {
        let mut add = |name: &str, ignored, test: fn(&mut Frontend) -> Result<()>| {
            let (name, program, release) =
                (format!("{version}::{name}"), program.clone(), version.clone());
            let run = move || {
                let mut frontend = Frontend::start(&program, &release)?;
                Ok(test(&mut frontend)?)
            };
            trials.push(Trial::test(name, run).with_ignored_flag(ignored));
        };
        add("cases", false, |frontend| each(frontend, inputs::cases()?));
        add("fixtures", false, |frontend| each(frontend, inputs::fixtures()?));
        add("table", false, |frontend| each(frontend, inputs::table()));
        add("random", false, |frontend| random(frontend, 0..RANDOM));
        add("random-once", true, |frontend| random(frontend, RANDOM..RANDOM + RANDOM_ONCE));
    }
    if missing {
        trials.push(Trial::test("frontends", || Ok(())).with_ignored_flag(true));
    }
    libtest_mimic::run(&arguments, trials).exit();
}

/// Compares what is made of each build.
fn each(frontend: &mut Frontend, builds: Vec<Build>) -> Result<()> {
    let Counts { operations, .. } = prove(frontend, builds.into_iter())?;
    ensure!(operations > 0, "nothing is compared");
    Ok(())
}

/// Compares what is made of Dockerfiles made at random.
fn random(frontend: &mut Frontend, seeds: Range<u64>) -> Result<()> {
    let Counts { builds, accepted, operations } = prove(frontend, seeds.map(grammar::build))?;
    ensure!(
        100 * accepted >= ACCEPTED * builds,
        "the frontend accepts {accepted} of {builds} only"
    );
    ensure!(
        operations >= OPERATIONS * accepted,
        "there are {operations} operations in {accepted} only"
    );
    Ok(())
}

/// What was compared.
#[derive(Default)]
struct Counts {
    builds: usize,
    accepted: usize,
    operations: usize,
}

fn prove(frontend: &mut Frontend, builds: impl Iterator<Item = Build>) -> Result<Counts> {
    let mut counts = Counts::default();
    let mut faults = Vec::new();
    for build in builds {
        counts.builds += 1;
        match compare(frontend, &build)? {
            Outcome::Refused => {}
            Outcome::Same(operations) => {
                counts.accepted += 1;
                counts.operations += operations;
            }
            Outcome::Differs(_) => faults.push(fault(frontend, &build)?),
        }
        // A wrong rule shows in many.
        if faults.len() == MOST_FAULTS {
            break;
        }
    }
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    Ok(counts)
}

/// Tells how a build differs, by the least of it that does.
fn fault(frontend: &mut Frontend, build: &Build) -> Result<String> {
    let least = shrink::shrink(frontend, build)?;
    let outcome = compare(frontend, &least)?;
    let Outcome::Differs(difference) = outcome else {
        anyhow::bail!("{}: {outcome:?}", build.name)
    };
    let dockerfile = String::from_utf8_lossy(&least.dockerfile);
    let Build { opts, images, worker, .. } = &least;
    let release = frontend.version();
    Ok(format!(
        "{} differs from {release}:\n{dockerfile}\n{opts:?} {images:?} {worker}\n{difference}",
        build.name
    ))
}
