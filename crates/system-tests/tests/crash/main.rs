//! The state of a root after a conversion was killed, ran out of space, was refused something or lost power,
//! and while others use the root.
//!
//! In every case, the root is as it was, or all published parts of the new state are sound; and running again
//! completes it. Requires root, strace and the tools of `scripts/oracle`; without them the tests are shown as
//! ignored, unless `OCI2BK_REQUIRE_ORACLE` is set. `OCI2BK_CRASH_EFFORT=10` tries ten times as many points.
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
mod between;
mod containerd;
mod disks;
mod failures;
mod holders;
mod import;
mod kills;
mod listing;
mod order;
mod packed;
mod points;
mod power;
mod state_image;
mod strace;
mod verify;
mod volume;
mod warm;

use std::path::Path;

use anyhow::Result;
use system_tests::{build, case, state};
use testkit::trials::Suite;
use testkit::{daemon, mounts, process, tools};

use crate::bench::{Bench, Start};
use crate::tools::{Tools, on_path};

type Proof = fn(&Bench) -> Result<()>;
type ProofFrom = fn(&Bench, Start) -> Result<()>;

/// Tests that run from every start.
const FROM_STARTS: &[(&str, ProofFrom)] = &[
    ("killed::at-every-call", kills::at_every_call),
    ("killed::at-random-times", kills::at_random_times),
    ("killed::while-cleaning-up", kills::while_cleaning_up),
    ("killed::used-in-between", between::used),
    ("failing::every-call", failures::at_every_call),
    ("failing::permission", failures::without_permission),
    ("failing::layout", failures::unreadable_layout),
    ("full::blocks", disks::few_blocks),
    ("full::inodes", disks::few_inodes),
    ("full::tmpfs", disks::small_tmpfs),
    ("power::cut", power::cut),
    ("power::order", order::syncs_precede_publishing),
];

/// Tests with their own start.
const ALONE: &[(&str, Proof)] = &[
    ("killed::used-in-between::without-id", between::used_without_id),
    ("verify::failing", verify::with_failing_reads),
    ("verify::access-times", verify::access_times),
    ("attach", attach::disturbed),
    ("import::absent", import::into_nothing),
    ("import::added", import::added),
    ("import::replaced", import::replaced),
    ("import::with-conversion", import::with_conversion),
    ("state-image::killed", state_image::killed),
    ("state-image::without-room", state_image::without_room),
    ("holders::daemon", holders::daemon),
    ("holders::mounts", holders::mounts),
    ("holders::conversion", holders::conversion),
    ("containerd::absent", containerd::absent),
    ("containerd::used", containerd::used),
];

/// Tests that `scripts/matrix` runs.
const IN_MATRIX: &[(&str, Proof)] =
    &[("engine::absent", containerd::absent_engine), ("engine::used", containerd::used_engine)];

fn main() {
    let tools =
        Tools::locate(Path::new(env!("CARGO_BIN_EXE_oci2bk-under-test"))).and_then(|tools| {
            on_path("strace", "strace")?;
            on_path("mkfs.ext4", "e2fsprogs")?;
            Ok(tools)
        });
    let mut suite = Suite::new("the crash harness", tools, Bench::create);
    for &(name, proof) in FROM_STARTS {
        for start in Start::ALL {
            let name = format!("{name}::{}", start.name());
            suite.add(name, move |bench| proof(bench, start));
        }
    }
    for &(name, proof) in ALONE {
        suite.add(name, proof);
    }
    suite.add_if(&testkit::erofs::works(), "packed::killed", packed::killed);
    for &(name, proof) in IN_MATRIX {
        suite.add_ignored(name, proof);
    }
    suite.run()
}
