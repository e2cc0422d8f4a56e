//! The committed fixtures, built again by another release: its daemon must compute the same op digests as the
//! library.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use oci2bk::llb::OpDigest;
use serde_json::Value;

use crate::case::Context;
use crate::daemon::Daemon;
use crate::process::run;
use crate::state::State;
use crate::world::World;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures");

/// Each fixture, and the source of its keys.
const KEYS: [(&str, &str); 4] = [
    ("index", "provenance.json"),
    ("manifest", "image"),
    ("zstd", "cache.db"),
    ("min", "metadata.json"),
];

/// Compares the op digests of the daemon and of the library for the fixtures. Returns the number of steps.
pub(crate) fn compare(world: &World) -> Result<usize> {
    let dir = tempfile::Builder::new().prefix("fixtures").tempdir_in(world.scratch())?;
    let root = dir.path().join("root");
    let daemon = world.start(&root)?;
    let context = write_context(world, &dir.path().join("context"))?;
    for (name, _) in KEYS {
        build(&daemon, &context, &Path::new(FIXTURES).join(name)).context(name)?;
    }
    daemon.stop()?;
    let state = State::read(&world.tools, &root)?;
    let links = state.links()?;
    let keys = state.keys();
    let mut steps = 0;
    for (name, source) in KEYS {
        let source = Path::new(FIXTURES).join(name).join("keys").join(source);
        for step in steps_of(world, &source)? {
            let digest = step["digests"][0]["digest"].as_str().context("a step without digest")?;
            // A step without inputs is not a link, but a key.
            let root_key = OpDigest::try_from(digest.to_owned())?.record(0).to_string();
            let known = links.iter().any(|link| link.digest == digest) || keys.contains(&*root_key);
            ensure!(known, "{name}: the daemon does not call this {digest}: {step}");
            steps += 1;
        }
    }
    Ok(steps)
}

/// Returns the steps with keys in a source; the digests of the newest releases come first.
fn steps_of(world: &World, source: &Path) -> Result<Vec<Value>> {
    let json = run(Command::new(&world.tools.oci2bk).args(["keys", "--output=-"]).arg(source))?;
    let keys: Value = serde_json::from_str(&json)?;
    keys["ops"].as_array().cloned().with_context(|| format!("{} has no keys", source.display()))
}

/// Writes the context that `fixtures/make` makes.
fn write_context(world: &World, dir: &Path) -> Result<PathBuf> {
    let context = Context::create(dir);
    fs::copy(&world.tools.busybox, dir.join("busybox"))?;
    context.file("app.conf", "key=value\n");
    context.file("src/a.txt", "first\n");
    context.file("src/b.md", "second\n");
    run(Command::new("gcc")
        .args(["-static", "-nostdlib", "-Os", "-s", "-Wl,--build-id=none", "-o"])
        .args([dir.join("run"), Path::new(FIXTURES).join("run.c")]))?;
    Ok(dir.to_owned())
}

fn build(daemon: &Daemon, context: &Path, fixture: &Path) -> Result<()> {
    run(daemon
        .buildctl()
        .args(["build", "--progress=plain", "--frontend", "dockerfile.v0"])
        .arg(format!("--local=context={}", context.display()))
        .arg(format!("--local=dockerfile={}", fixture.display()))
        .arg(format!("--secret=id=token,src={}", context.join("app.conf").display())))
    .map(drop)
}
