//! End-to-end proof with real daemons: a cache that one buildkitd exports is converted, and a
//! second buildkitd on the result is as warm as the first.
//!
//! Each build of the table ([`cases`]) is one test; [`proof`] says what must hold. The tools come
//! from `scripts/oracle`; without them, or without root, the tests are shown as ignored, unless
//! `OCI2BK_REQUIRE_ORACLE` is set. Arguments are those of any Rust test: names filter, `--list`
//! lists.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::exit,
    reason = "a test program: a broken set-up ends it, and what it prints is for the developer"
)]

mod blobs;
mod build;
mod case;
mod cases;
mod copies;
mod damage;
mod du;
mod explain;
mod export;
mod gc;
mod inspecting;
mod matrix;
mod merging;
mod naturals;
mod offline;
mod ops;
mod proof;
mod results;
mod shapes;
mod state;
mod tree;
mod web;
mod world;

use std::path::Path;

use libtest_mimic::{Arguments, Trial};
// What the lab uses too.
use testkit::trials::{self, Shared};
use testkit::{daemon, process, registry, tools};

use crate::proof::{Subject, prove};
use crate::tools::Tools;
use crate::world::World;

/// Cases that are also run unextracted, and on states that daemons made themselves.
const CONTROLS: [&str; 2] = ["stages", "files"];

fn main() {
    let mut arguments = Arguments::from_args();
    // More daemons at once only get into each other's way.
    arguments.test_threads.get_or_insert(2);

    let tools = Tools::locate(Path::new(env!("CARGO_BIN_EXE_oci2bk")));
    if let (Err(reason), true) = (&tools, Tools::required()) {
        eprintln!("the end-to-end suite cannot run: {reason}");
        std::process::exit(1);
    }
    let shared = Shared::default();
    let mut trials = Vec::new();
    for case in cases::all() {
        let mut subjects = vec![(case.name.to_owned(), Subject::Converted)];
        if CONTROLS.contains(&case.name) {
            subjects.extend([
                (format!("unextracted::{}", case.name), Subject::Unextracted),
                (format!("control::natural::{}", case.name), Subject::Natural),
                (format!("control::imported::{}", case.name), Subject::Imported),
            ]);
        }
        for (name, subject) in subjects {
            trials.push(trial(name, &tools, &shared, move |world| prove(world, &case, subject)));
        }
    }
    trials.push(trial("offline".to_owned(), &tools, &shared, offline::prove));
    trials.push(trial("gc::policies".to_owned(), &tools, &shared, gc::prove_policies));
    trials.push(trial("gc::first-start".to_owned(), &tools, &shared, gc::prove_first_start));
    trials.push(trial("inspect".to_owned(), &tools, &shared, inspecting::prove));
    trials.push(trial("ops".to_owned(), &tools, &shared, ops::prove));
    trials.push(trial("old-release".to_owned(), &tools, &shared, matrix::old_release));
    // These take long, and tools that are not made unasked: scripts/matrix runs them.
    let page = trial("compatibility-page".to_owned(), &tools, &shared, matrix::write_page);
    trials.push(page.with_ignored_flag(true));
    let old = format!("natural-states::{}", matrix::OLD);
    trials.push(trial(old, &tools, &shared, naturals::of_old_release));
    let all = trial("natural-states::all".to_owned(), &tools, &shared, naturals::of_all_releases);
    trials.push(all.with_ignored_flag(true));
    for case in shapes::INLINE {
        let proof = |world: &World| shapes::prove_inline(world, case);
        trials.push(trial(case.name.to_owned(), &tools, &shared, proof));
    }
    trials.push(trial("du".to_owned(), &tools, &shared, du::prove));
    trials.push(trial("explain".to_owned(), &tools, &shared, explain::prove));
    trials.push(trial("damage".to_owned(), &tools, &shared, damage::prove));
    trials.push(trial("branches".to_owned(), &tools, &shared, shapes::prove_branches));
    trials.push(trial("results".to_owned(), &tools, &shared, results::prove));
    let merging = |name: &str| format!("merging::{name}");
    trials.push(trial(merging("converted"), &tools, &shared, merging::prove_converted));
    trials.push(trial(merging("natural"), &tools, &shared, merging::prove_natural));
    for (name, proof) in blobs::PROOFS {
        trials.push(trial(format!("blobs::{name}"), &tools, &shared, proof));
    }
    trials.push(trial("registry".to_owned(), &tools, &shared, shapes::prove_registry));
    for copy in copies::COPIES {
        let proof = |world: &World| copies::prove(world, copy);
        trials.push(trial(format!("copies::{}", copy.name), &tools, &shared, proof));
    }
    for refusal in copies::REFUSALS {
        let proof = |world: &World| copies::prove_refused(world, refusal);
        let name = format!("copies::refused::{}", refusal.name);
        trials.push(trial(name, &tools, &shared, proof));
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    // Stops the registry and removes the scratch directory before the process exits.
    drop(shared);
    conclusion.exit();
}

fn trial(
    name: String,
    tools: &Result<Tools, String>,
    shared: &Shared<World>,
    prove: impl FnOnce(&World) -> anyhow::Result<()> + Send + 'static,
) -> Trial {
    trials::trial(name, tools, shared, World::create, prove)
}
