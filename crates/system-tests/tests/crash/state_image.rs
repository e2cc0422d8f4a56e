//! `state import` is killed before its calls that change anything, and has no room.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use bkstate::Root;

use crate::bench::{Bench, said};
use crate::listing::Listing;
use crate::points::{choose, limit};
use crate::process::run;
use crate::strace::{Profile, disturb};
use crate::volume::Volume;

const STAGING: &str = ".oci2bk-staging";
/// What an import that did not end may leave: none of it is a worker, so a daemon starts on it as on an empty root.
const BESIDE: [&str; 3] = [STAGING, "buildkitd.lock", "cache.db"];

/// Exports the state of the fixture. Returns the image.
fn image(bench: &Bench, dir: &Path) -> Result<PathBuf> {
    let [root, image] = ["exported", "image"].map(|name| dir.join(name));
    run(&mut bench.convert(&root, 1))?;
    let mut export = bench.oci2bk();
    export.args(["state", "export", "--progress=quiet"]).arg(&root);
    run(export.arg("--to").arg(format!("oci:{}", image.display())))?;
    Ok(image)
}

fn import(bench: &Bench, image: &Path, root: &Path) -> Command {
    let mut command = bench.oci2bk();
    let source = format!("oci:{}", image.display());
    command.args(["state", "import", "--progress=quiet", &source]).arg(root);
    command
}

/// Killed anywhere, a run leaves nothing that a daemon takes for a state, or all of it.
pub(crate) fn killed(bench: &Bench) -> Result<()> {
    let dir = bench.memory()?;
    let image = image(bench, dir.path())?;
    let root = dir.path().join("root");
    let listing = || Listing::of(&root, |name| BESIDE.contains(&name));
    let profile = Profile::record(&import(bench, &image, &root), &dir.path().join("log"), &image)?;
    let complete = listing()?;
    let mut halfway = 0;
    for call in &choose(profile.changes(), limit(40)) {
        fs::remove_dir_all(&root)?;
        let output = disturb(&import(bench, &image, &root), call, "signal=SIGKILL")?.output;
        ensure!(output.status.success() || output.status.signal() == Some(9), "{}", said(&output));
        let context = || format!("killed before {} {}", call.name, call.nth);
        let has_worker = root.join("runc-overlayfs").exists();
        if has_worker {
            let now = listing()?;
            ensure!(now == complete, "{}: {}", context(), now.difference(&complete));
        } else if root.exists() {
            let left = listing()?;
            ensure!(left.lines().count() <= 1, "{}: left is {left:?}", context());
            halfway += usize::from(root.join("cache.db").exists());
        }
        let again = import(bench, &image, &root).output()?;
        if has_worker {
            ensure!(again.status.code() == Some(1), "{}: {}", context(), said(&again));
            ensure!(said(&again).contains("has a state already"), "{}", said(&again));
        } else {
            ensure!(again.status.success(), "{}: {}", context(), said(&again));
            ensure!(!root.join(STAGING).exists(), "{}: the staging directory stays", context());
        }
        let now = listing()?;
        ensure!(now == complete, "{}: again {}", context(), now.difference(&complete));
        let damage = Root::open(&root)?.verify_databases().with_context(context)?.damage;
        ensure!(damage.is_empty(), "{}: {damage:#?}", context());
    }
    ensure!(halfway > 0, "no kill came between the steps of publishing");
    Ok(())
}

/// Without room the root stays empty, and so does the place of an image.
pub(crate) fn without_room(bench: &Bench) -> Result<()> {
    let dir = bench.memory()?;
    let image = image(bench, dir.path())?;
    let point = dir.path().join("small");
    let volume = Volume::tmpfs(&point, "size=24k")?;
    let output = import(bench, &image, &point.join("root")).output()?;
    ensure!(output.status.code() == Some(1), "{}", said(&output));
    ensure!(said(&output).contains("No space left on device"), "{}", said(&output));
    let left = Listing::of(&point.join("root"), |name| name == "buildkitd.lock")?;
    ensure!(left.lines().count() <= 1, "left is {left:?}");
    let mut export = bench.oci2bk();
    export.args(["state", "export", "--progress=quiet"]).arg(dir.path().join("exported"));
    let place = point.join("image");
    let output = export.arg("--to").arg(format!("oci:{}", place.display())).output()?;
    ensure!(output.status.code() == Some(1), "{}", said(&output));
    ensure!(!place.exists(), "an incomplete image is there");
    volume.unmount()
}
