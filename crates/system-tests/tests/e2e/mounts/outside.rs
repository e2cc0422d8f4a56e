//! Cache mounts of rootless daemons in other ways than with RootlessKit: by root outside of the namespace, and in a
//! namespace of `unshare`.

use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context as _, Result, ensure};
use testkit::rootless::User;

use super::bench::{Bench, exported};
use crate::process::run;
use crate::tree;

/// All ways export the same bytes of `natural`, and import the same files.
pub(super) fn prove(bench: &Bench<'_>, user: &User, natural: &Path, expected: &str) -> Result<()> {
    let place = |name: &str| format!("oci:{}", bench.path(name).display());
    let map = format!("--map={}", user.map()?);
    let by_name = ["--map-user", user.name()];
    let (within, _) = bench.export(natural, &["--to", &place("within")])?;
    let mut outside = bench.outside(&["mounts", "export"], natural, &[&map]);
    let (outside, warnings) = exported(outside.args(["--to", &place("outside")]))?;
    ensure!(outside["manifest"] == within["manifest"], "{outside:#}\nis not\n{within:#}");
    ensure!(warnings.contains("//c1 has files that hold credentials"), "{warnings}");
    let mut unshare = user.command(Path::new("unshare"));
    unshare.args(["--map-root-user", "--map-auto"]).arg(user.program("oci2bk"));
    unshare.args(["mounts", "export"]).args(bench.place(natural));
    let (unshared, _) = exported(unshare.args(["--to", &place("unshared")]))?;
    ensure!(unshared["manifest"] == within["manifest"], "{unshared:#}\nis not\n{within:#}");

    // An owner that the map does not have.
    let map = user.map()?;
    let (start, _) = map.rsplit_once(':').context("a map")?;
    let small = format!("--map={start}:900");
    let mut refused = bench.outside(&["mounts", "export", "--progress=quiet"], natural, &[&small]);
    let output = refused.args(["--to", &place("refused")]).output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(1), "with {small}: {}: {said}", output.status);
    ensure!(said.contains("is not in the user namespace of the daemon"), "{said}");
    ensure!(said.contains(&natural.display().to_string()), "no file is named: {said}");
    ensure!(!bench.path("refused").exists(), "a layout was made");

    // Root imports what the user imports.
    let started = SystemTime::now();
    let [ours, theirs] = ["imported-outside", "imported-within"].map(|name| bench.path(name));
    let release = ["--buildkit", bench.world.release.version.as_str(), "--progress=quiet"];
    let words = ["mounts", "import", &place("outside")];
    run(bench.outside(&words, &ours, &by_name).args(release))?;
    bench.imported(&place("outside"), &theirs, &[])?;
    tree::ensure_equal(&ours, &theirs, started)?;
    let daemon = bench.start(&ours)?;
    let seen = bench.read(&daemon)?;
    ensure!(seen == expected, "mounts that root imported have\n{seen}\nnot\n{expected}");
    daemon.stop()?;
    bench.verify(&ours)?;

    // With a conversion.
    let [cache, keys] = ["cache", "keys/provenance.json"].map(|name| bench.path(name));
    let converted = bench.path("converted-outside");
    let words = ["convert", cache.to_str().context("a path")?, "--mounts", "--keys"];
    let mut convert = bench.outside(
        &[&words[..], &[keys.to_str().context("a path")?]].concat(),
        &converted,
        &by_name,
    );
    run(convert.args(release))?;
    bench.verify(&converted)?;
    let daemon = bench.start(&converted)?;
    let seen = bench.read(&daemon)?;
    ensure!(seen == expected, "mounts that root converted have\n{seen}\nnot\n{expected}");
    daemon.stop()?;
    bench.verify(&converted)
}
