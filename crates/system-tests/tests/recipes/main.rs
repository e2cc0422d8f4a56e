//! The instructions in `examples/` and `docs/` work: each recipe is checked by its program and run in a
//! [`sandbox`], and a real daemon on the result is warm.
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
mod alarm;
mod ansible;
mod builders;
mod cloud_init;
mod composite;
mod dockerfile;
mod ec2;
mod kubernetes;
mod packer;
mod pages;
mod podman;
mod publishing;
mod releases;
mod sandbox;
mod sessions;
mod site;
mod systemd;
mod world;

use std::path::Path;

use testkit::trials::{Suite, alone};

use crate::world::World;

/// A test that a recipe works.
type Proof = fn(&World) -> anyhow::Result<()>;

const RECIPES: [(&str, Proof); 14] = [
    ("github-actions", actions::prove),
    ("packer", packer::prove),
    ("packer::engine", packer::prove_engine),
    ("ansible", ansible::prove),
    ("ansible::containerd", ansible::prove_containerd),
    ("ansible::engine", ansible::prove_engine),
    ("ec2-image-builder", ec2::prove),
    ("cloud-init", cloud_init::prove),
    ("dockerfile", dockerfile::prove),
    ("systemd", systemd::prove),
    ("kubernetes", kubernetes::prove),
    ("docs::site", site::prove),
    ("alarm", alarm::prove),
    ("release", publishing::prove),
];

/// A test that pages are correct, without a daemon.
type PageProof = fn() -> anyhow::Result<()>;

const PAGES: [(&str, PageProof); 6] = [
    ("docs::links", pages::prove_links),
    ("docs::paths", pages::prove_paths),
    ("docs::summary", pages::prove_summary),
    ("docs::code", pages::prove_code),
    ("docs::diagrams", site::prove_diagrams),
    ("docs::releases", releases::prove),
];

fn main() {
    let tools = World::locate(Path::new(env!("CARGO_BIN_EXE_oci2bk-under-test")));
    let mut suite = Suite::new("the suite of recipes", tools, World::create);
    for (name, prove) in RECIPES {
        suite.add(name, prove);
    }
    suite.add_if(&testkit::erofs::works(), "packer::packed", packer::prove_packed);
    for (name, prove) in PAGES {
        suite.push(alone(name.to_owned(), prove));
    }
    let root = rustix::process::geteuid().is_root();
    for page in sessions::PAGES {
        let session = alone(format!("docs::session::{page}"), move || sessions::prove(page));
        let kind = if root { "" } else { "needs root: layers have owners" };
        suite.push(session.with_kind(kind).with_ignored_flag(!root));
    }
    suite.run()
}
