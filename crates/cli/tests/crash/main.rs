//! What becomes of a root when a conversion is killed, runs out of space, is refused something or
//! loses power, and when others use the root.
//!
//! Whatever happens, the root is as it was, or everything that is published of the new state is
//! sound; and running again completes it. Needs root, strace and the tools of `scripts/oracle`;
//! without them the tests are shown as ignored, unless `OCI2BK_REQUIRE_ORACLE` is set.
//! `OCI2BK_CRASH_EFFORT=10` tries ten times as many points.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::exit,
    reason = "a test program: a broken set-up ends it, and what it prints is for the developer"
)]

mod attach;
mod bench;
mod disks;
mod failures;
mod holders;
mod kills;
mod listing;
mod order;
mod points;
mod power;
mod strace;
mod volume;
mod warm;

#[path = "../e2e/build.rs"]
#[expect(dead_code, reason = "shared with the end-to-end suite")]
mod build;
#[path = "../e2e/case.rs"]
#[expect(dead_code, reason = "shared with the end-to-end suite")]
mod case;

use std::path::Path;

use anyhow::Result;
use libtest_mimic::{Arguments, Trial};
use testkit::trials::{self, Shared};
use testkit::{daemon, process, tools};

use crate::bench::Bench;
use crate::bench::Start::{self, Absent, Converted, Natural};
use crate::tools::{Tools, on_path};

type Proof = fn(&Bench) -> Result<()>;
type ProofFrom = fn(&Bench, Start) -> Result<()>;

/// What must hold of runs that start from a root that is not there, or has a state.
const FROM_STARTS: &[(&str, ProofFrom, &[Start])] = &[
    ("killed::at-every-call", kills::at_every_call, &[Absent, Natural, Converted]),
    ("killed::at-random-times", kills::at_random_times, &[Absent, Natural]),
    ("killed::while-cleaning-up", kills::while_cleaning_up, &[Absent, Natural]),
    ("failing::every-call", failures::at_every_call, &[Absent, Natural]),
    ("failing::permission", failures::without_permission, &[Absent, Natural]),
    ("failing::layout", failures::unreadable_layout, &[Natural]),
    ("full::blocks", disks::few_blocks, &[Absent, Natural]),
    ("full::inodes", disks::few_inodes, &[Absent, Natural]),
    ("full::tmpfs", disks::small_tmpfs, &[Natural]),
    ("power::cut", power::cut, &[Absent, Natural, Converted]),
    ("power::order", order::syncs_precede_publishing, &[Absent, Natural, Converted]),
];

/// What has a start of its own.
const ALONE: &[(&str, Proof)] = &[
    ("attach", attach::disturbed),
    ("holders::daemon", holders::daemon),
    ("holders::mounts", holders::mounts),
    ("holders::conversion", holders::conversion),
];

fn main() {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(2);
    let tools = Tools::locate(Path::new(env!("CARGO_BIN_EXE_oci2bk"))).and_then(|tools| {
        on_path("strace", "strace")?;
        on_path("mkfs.ext4", "e2fsprogs")?;
        Ok(tools)
    });
    if let (Err(reason), true) = (&tools, Tools::required()) {
        eprintln!("the crash harness cannot run: {reason}");
        std::process::exit(1);
    }
    let shared = Shared::default();
    let mut trials = Vec::new();
    for &(name, proof, starts) in FROM_STARTS {
        for &start in starts {
            let name = format!("{name}::{}", start.name());
            trials.push(trial(name, &tools, &shared, move |bench| proof(bench, start)));
        }
    }
    for &(name, proof) in ALONE {
        trials.push(trial(name.to_owned(), &tools, &shared, proof));
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    // Unmounts and removes the scratch directory before the process exits.
    drop(shared);
    conclusion.exit();
}

fn trial(
    name: String,
    tools: &Result<Tools, String>,
    shared: &Shared<Bench>,
    prove: impl FnOnce(&Bench) -> Result<()> + Send + 'static,
) -> Trial {
    trials::trial(name, tools, shared, Bench::create, prove)
}
