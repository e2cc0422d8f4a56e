//! Determines the commit for the version: `OCI2BK_COMMIT`, which `scripts/release` sets, else cargo's record
//! in a package, else the commit of the checkout. Without any of them the version has no commit.
#![allow(clippy::print_stdout, reason = "this is how a build script talks to cargo")]

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=OCI2BK_COMMIT");
    println!("cargo::rerun-if-changed=build.rs");
    let named = std::env::var("OCI2BK_COMMIT").ok().filter(|commit| !commit.is_empty());
    if let Some(commit) = named.or_else(of_package).or_else(of_checkout) {
        let short: String = commit.chars().take(12).collect();
        println!("cargo::rustc-env=OCI2BK_BUILT_FROM={short}");
    }
}

/// `cargo package` writes it beside the manifest.
fn of_package() -> Option<String> {
    let text = std::fs::read_to_string(".cargo_vcs_info.json").ok()?;
    let (_, rest) = text.split_once("\"sha1\"")?;
    rest.split('"').nth(1).map(str::to_owned)
}

/// A package inside another checkout does not have this directory structure.
fn of_checkout() -> Option<String> {
    if !Path::new("../../.git").exists() || !Path::new("../../crates/cli/build.rs").exists() {
        return None;
    }
    // Written at every commit and checkout.
    let log = git(&["rev-parse", "--git-path", "logs/HEAD"])?;
    println!("cargo::rerun-if-changed={log}");
    git(&["rev-parse", "HEAD"])
}

fn git(words: &[&str]) -> Option<String> {
    let output = Command::new("git").args(words).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
