//! What `examples/` and `docs/` tell people to do works: each recipe is checked by the program that it is
//! for and run in a [`sandbox`], and a real daemon on what comes out is warm.
//!
//! Without root or the tools of `scripts/oracle` and `scripts/recipes` the recipes are shown as ignored,
//! unless `OCI2BK_REQUIRE_ORACLE` is set.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::exit,
    reason = "a test program: a broken set-up ends it, and what it prints is for the developer"
)]

mod actions;
mod ansible;
mod cloud_init;
mod dockerfile;
mod ec2;
mod packer;
mod pages;
mod sandbox;
mod sessions;
mod site;
mod systemd;
mod world;

use std::path::Path;

use libtest_mimic::{Arguments, Failed, Trial};
use testkit::Tools;
use testkit::trials::{Shared, trial};

use crate::world::World;

/// What shows that a recipe works.
type Proof = fn(&World) -> anyhow::Result<()>;

const RECIPES: [(&str, Proof); 8] = [
    ("github-actions", actions::prove),
    ("packer", packer::prove),
    ("ansible", ansible::prove),
    ("ec2-image-builder", ec2::prove),
    ("cloud-init", cloud_init::prove),
    ("dockerfile", dockerfile::prove),
    ("systemd", systemd::prove),
    ("docs::site", site::prove),
];

/// What shows that pages are right; needs no daemon.
type PageProof = fn() -> anyhow::Result<()>;

const PAGES: [(&str, PageProof); 4] = [
    ("docs::links", pages::prove_links),
    ("docs::paths", pages::prove_paths),
    ("docs::summary", pages::prove_summary),
    ("docs::diagrams", site::prove_diagrams),
];

fn main() {
    let mut arguments = Arguments::from_args();
    // More daemons at once only get into each other's way.
    arguments.test_threads.get_or_insert(2);

    let tools = World::locate(Path::new(env!("CARGO_BIN_EXE_oci2bk")));
    if let (Err(reason), true) = (&tools, Tools::required()) {
        eprintln!("the recipes cannot be run: {reason}");
        std::process::exit(1);
    }
    let shared = Shared::default();
    let mut trials = Vec::new();
    for (name, prove) in RECIPES {
        trials.push(trial(name.to_owned(), &tools, &shared, World::create, prove));
    }
    for (name, prove) in PAGES {
        trials.push(page_trial(name.to_owned(), prove));
    }
    let root = rustix::process::geteuid().is_root();
    for page in sessions::PAGES {
        let session = page_trial(format!("docs::session::{page}"), move || sessions::prove(page));
        let kind = if root { "" } else { "needs root: layers have owners" };
        trials.push(session.with_kind(kind).with_ignored_flag(!root));
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    // Stops the registry and removes the scratch directory before the process exits.
    drop(shared);
    conclusion.exit();
}

fn page_trial(name: String, prove: impl FnOnce() -> anyhow::Result<()> + Send + 'static) -> Trial {
    Trial::test(name, move || prove().map_err(|error| Failed::from(format!("{error:#}"))))
}
