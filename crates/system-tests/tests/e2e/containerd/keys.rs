//! The state of a builder on a containerd as the source of keys.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use testkit::engine;

use crate::host::{self, Host};
use crate::world::World;

/// Checks that the state in `root` of a stopped builder has the keys of `cache`, which the builder exported: for a
/// buildkitd with the OCI worker, of the newest release. With the containerd, its history has all of them;
/// without it, its databases have.
pub(super) fn ensure_source(world: &World, root: &Path, cache: &Path) -> Result<()> {
    let builder = host::builder(root);
    let mut places = vec![builder.clone()];
    if matches!(world.host, Host::Engine { .. }) {
        places.push(builder.join(engine::BUILDER));
    }
    let mut targets = 0..;
    let mut convert = |keys: &OsString| {
        let target = targets.next().map(|number| root.with_extension(format!("keys{number}")));
        convert(world, cache, keys, &target.context("a target")?)
    };
    for place in places {
        let mut with_containerd = place.clone().into_os_string();
        with_containerd.push(",containerd=");
        with_containerd.push(host::containerd(root));
        let (report, said) = convert(&with_containerd)?;
        ensure!(resolved(&report, "cache.db") == 0, "the sources are {:#}", report["key_sources"]);
        ensure!(resolved(&report, "build history") > 1, "{:#}", report["key_sources"]);
        let misses = report["misses"].as_array();
        ensure!(misses.is_some_and(Vec::is_empty), "{:#}", report["misses"]);
        ensure!(!said.contains("build history"), "{said}");

        let (report, said) = convert(&place.into_os_string())?;
        // That of buildkitd is beside the inputs of its hashes, which come first.
        ensure!(resolved(&report, "cache") > 1, "{:#}", report["key_sources"]);
        ensure!(said.contains(",containerd="), "it warns only of {said:?}");
    }
    Ok(())
}

/// Converts `cache` with `keys`, every one of which must be found. Returns the report and the warnings.
fn convert(world: &World, cache: &Path, keys: &OsString, target: &Path) -> Result<(Value, String)> {
    let mut command = Command::new(&world.tools.oci2bk);
    command.args(["convert", "--progress=quiet", "--format=json", "--no-extract"]);
    command.args(["--require-keys", "--keys"]).arg(keys).args([cache, target]);
    let output = command.output().context("cannot start oci2bk")?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{command:?}: {said}");
    Ok((serde_json::from_slice(&output.stdout)?, said))
}

/// Returns how many keys sources of the kind `kind` have.
fn resolved(report: &Value, kind: &str) -> u64 {
    let sources = report["key_sources"].as_array().into_iter().flatten();
    let of_kind = sources.filter(|source| {
        source["description"].as_str().is_some_and(|description| description.starts_with(kind))
    });
    of_kind.filter_map(|source| source["resolved_count"].as_u64()).sum()
}
