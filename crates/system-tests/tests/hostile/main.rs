//! Hostile layers: each case of the table ([`cases`]) runs on the unpacker, on `oci2bk convert` as a whole,
//! and on containerd's own applier for comparison.
//!
//! With any layer, nothing outside the target changes, memory and time stay bounded, and the result is
//! containerd's or a named error. `docs/hostile-input.md` has the table.
//!
//! All tests require root, for owners and devices, and the comparisons the tools of `scripts/oracle`; without
//! them, they are shown as ignored, unless `OCI2BK_REQUIRE_ORACLE` is set.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::exit,
    reason = "a test program"
)]

mod case;
mod cases;
mod command;
mod containerd;
mod differential;
mod page;
mod sandbox;
mod unpacker;

use std::path::Path;
use std::sync::{Arc, OnceLock};

use libtest_mimic::{Arguments, Failed, Trial};
use system_tests::tree;
use testkit::Tools;
use testkit::trials::require;

use crate::case::Containerd;
use crate::containerd::Applier;

fn main() {
    let arguments = Arguments::from_args();
    let refstate = Tools::refstate(Path::new(env!("CARGO_BIN_EXE_oci2bk-under-test")));
    let root = if rustix::process::geteuid().is_root() { Ok(()) } else { Err("needs root") };
    let missing = root.err().map(str::to_owned).or_else(|| refstate.as_ref().err().cloned());
    require("the suite of hostile layers", &missing.clone().map_or(Ok(()), Err));
    let trial = |name: String, without: Option<&str>, prove: Box<Prove>| {
        let run = || prove().map_err(|error| Failed::from(format!("{error:#}")));
        let trial = Trial::test(name, run).with_ignored_flag(without.is_some());
        match without {
            None => trial,
            Some(reason) => trial.with_kind(reason),
        }
    };
    // Started by the first test that needs it.
    let applier: Arc<OnceLock<Result<Applier, String>>> = Arc::default();
    let mut trials = vec![trial("page".to_owned(), None, Box::new(|| page::prove(&cases::all())))];
    for case in cases::all() {
        let case = Arc::new(case);
        let unpacker = Arc::clone(&case);
        let run = Box::new(move || unpacker::prove(&unpacker));
        trials.push(trial(format!("unpack::{}", case.name), root.err(), run));
        let command = Arc::clone(&case);
        let run = Box::new(move || command::prove(&command));
        trials.push(trial(format!("convert::{}", case.name), root.err(), run));
        if !matches!(case.containerd, Containerd::NotTried(_)) {
            let (name, applier) = (format!("containerd::{}", case.name), Arc::clone(&applier));
            let refstate = refstate.clone();
            let run = Box::new(move || containerd::prove(&case, started(&applier, &refstate)?));
            trials.push(trial(name, missing.as_deref(), run));
        }
    }
    let (shared, run_by) = (Arc::clone(&applier), refstate.clone());
    let run = Box::new(move || differential::prove(started(&shared, &run_by)?));
    trials.push(trial("differential".to_owned(), missing.as_deref(), run));
    let conclusion = libtest_mimic::run(&arguments, trials);
    drop(applier);
    conclusion.exit();
}

type Prove = dyn FnOnce() -> anyhow::Result<()> + Send;

fn started<'a>(
    applier: &'a OnceLock<Result<Applier, String>>,
    refstate: &Result<std::path::PathBuf, String>,
) -> anyhow::Result<&'a Applier> {
    let start = || {
        let refstate = refstate.as_ref().map_err(Clone::clone)?;
        Applier::start(refstate).map_err(|error| format!("{error:#}"))
    };
    applier.get_or_init(start).as_ref().map_err(|error| anyhow::anyhow!("{error}"))
}
