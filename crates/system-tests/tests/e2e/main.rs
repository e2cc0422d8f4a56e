//! End-to-end tests with real daemons: the export of one buildkitd is converted, and a second buildkitd on
//! the result is as warm as the first.
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

mod alarm;
mod blobs;
mod cases;
mod containerd;
mod copies;
mod corruptions;
mod damage;
mod databases;
mod du;
mod explain;
mod export;
mod fixtures;
mod gc;
mod git;
mod images;
mod inspecting;
mod layers;
mod lazy;
mod matrix;
mod merging;
mod mounts;
mod naturals;
mod offline;
mod ops;
mod packed;
mod page;
mod proof;
mod pulled;
mod results;
mod rootless;
mod sbom;
mod seen;
mod shape;
mod shapes;
mod sharing;
mod snapshotters;
mod sources;
mod state_image;
mod trust;
mod upgraded;
mod web;
mod world;

use std::path::Path;

// What other suites and the lab use too.
use system_tests::{build, case, host, state, tree};
use testkit::trials::{Suite, alone};
use testkit::{daemon, process, registry, tools};

use crate::matrix::Release;
use crate::proof::{Subject, prove};
use crate::tools::Tools;
use crate::world::World;

/// Cases that take minutes: scripts/matrix runs them on the previous release.
const LARGE: [&str; 2] = ["wide", "deep"];

/// Cases that also run unextracted, and on states that daemons made themselves.
const CONTROLS: [&str; 2] = ["stages", "files"];

fn main() {
    let tools = Tools::locate(Path::new(env!("CARGO_BIN_EXE_oci2bk-under-test")));
    let mut suite = Suite::new("the end-to-end suite", tools, World::create);
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
            let of_previous = format!("{}::{name}", matrix::PREVIOUS);
            suite.add(name, move |world| prove(world, &case, subject));
            let on_previous = move |world: &World| {
                let previous = Release::old(&world.tools, matrix::PREVIOUS);
                prove(&world.on(previous.map_err(anyhow::Error::msg)?), &case, subject)
            };
            if LARGE.contains(&case.name) {
                suite.add_ignored(of_previous, on_previous);
            } else {
                suite.add(of_previous, on_previous);
            }
        }
    }
    packed::add(&mut suite);
    containerd::add(&mut suite);
    rootless::add(&mut suite);
    snapshotters::add(&mut suite);
    suite.add("offline", offline::prove);
    for form in layers::FORMS {
        suite.add(format!("layers::{}", form.name), move |world| layers::prove(world, form));
    }
    suite.add("layers::buildx", layers::prove_with_buildx);
    for version in [matrix::PREVIOUS, matrix::OLD] {
        let on = move |world: &World| -> anyhow::Result<World> {
            let release = Release::old(&world.tools, version).map_err(anyhow::Error::msg)?;
            Ok(world.on(release))
        };
        for form in layers::FORMS {
            let name = format!("{version}::layers::{}", form.name);
            suite.add(name, move |world| layers::prove(&on(world)?, form));
        }
        let name = format!("{version}::layers::buildx");
        suite.add(name, move |world| layers::prove_with_buildx(&on(world)?));
    }
    suite.add("pulled", pulled::prove);
    suite.add(format!("{}::pulled", matrix::PREVIOUS), |world| {
        let previous = Release::old(&world.tools, matrix::PREVIOUS);
        pulled::prove(&world.on(previous.map_err(anyhow::Error::msg)?))
    });
    suite.add("gc::policies", gc::prove_policies);
    suite.add("gc::first-start", gc::prove_first_start);
    suite.add("gc::native", gc::prove_native);
    suite.add("inspect", inspecting::prove);
    suite.add("ops", ops::prove);
    suite.add("old-release", matrix::old_release);
    // These take long, and need tools that are not installed by default: scripts/matrix runs them.
    suite.add_ignored("compatibility-page", matrix::write_page);
    suite.add_ignored("natural-states::all", naturals::of_all_releases);
    suite.add_ignored("natural-states::stopped::often", naturals::stopped_often);
    suite.add_ignored("databases::every-page", databases::at_every_page);
    suite.add_ignored("corruptions::each", corruptions::prove_each);
    suite.add(format!("natural-states::{}", matrix::OLD), naturals::of_old_release);
    suite.add("natural-states::stopped", naturals::stopped);
    suite.add("databases", databases::at_some_pages);
    suite.push(alone("shape::alarm".to_owned(), shape::prove_alarm));
    suite.add("shape::newest", shape::prove);
    for version in [matrix::PREVIOUS, matrix::OLD] {
        suite.add(format!("shape::{version}"), |world| {
            let release = Release::old(&world.tools, version).map_err(anyhow::Error::msg)?;
            shape::prove(&world.on(release))
        });
    }
    suite.add_ignored("shapes", shape::prove_all);
    if let Ok(version) = std::env::var(alarm::VERSION) {
        suite.add_ignored("new-release", move |world| alarm::prove(world, &version));
    }
    for case in shapes::INLINE {
        suite.add(case.name, |world| shapes::prove_inline(world, case));
    }
    suite.add("du", du::prove);
    suite.add("explain", explain::prove);
    suite.add("damage", damage::prove);
    suite.add("corruptions", corruptions::prove_at_once);
    suite.add("branches", shapes::prove_branches);
    suite.add("results", results::prove);
    suite.add("lazy", lazy::prove);
    suite.add("upgraded::mended", upgraded::prove_mended);
    suite.add("upgraded::lie", upgraded::prove_lie);
    suite.add("upgraded::killed", upgraded::prove_killed);
    suite.add("trust::two-diffids", trust::prove_two_diff_ids);
    suite.add("trust::annotations", trust::prove_annotations);
    suite.add_ignored("trust::wrong-key", trust::prove_wrong_key);
    suite.add("sbom", sbom::prove);
    mounts::add(&mut suite);
    state_image::add(&mut suite);
    suite.add("merging::converted", merging::prove_converted);
    suite.add("merging::natural", merging::prove_natural);
    for (name, proof) in blobs::PROOFS {
        suite.add(format!("blobs::{name}"), proof);
    }
    suite.add("registry", shapes::prove_registry);
    suite.add("sources::forms", sources::prove_forms);
    suite.add("sources::s3", sources::prove_s3);
    suite.add(format!("{}::sources::s3", matrix::PREVIOUS), |world| {
        let previous = Release::old(&world.tools, matrix::PREVIOUS);
        sources::prove_s3(&world.on(previous.map_err(anyhow::Error::msg)?))
    });
    for copy in copies::COPIES {
        suite.add(format!("copies::{}", copy.name), |world| copies::prove(world, copy));
    }
    for refusal in copies::REFUSALS {
        let name = format!("copies::refused::{}", refusal.name);
        suite.add(name, |world| copies::prove_refused(world, refusal));
    }
    suite.run()
}
