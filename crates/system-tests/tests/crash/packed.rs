//! `oci2bk pack` is killed before each call that changes a file: every snapshot is a directory, or a link into a
//! complete image, and the next run completes the work.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use testkit::erofs::Mounted;

use crate::bench::{Bench, copy};
use crate::points::{choose, limit};
use crate::process::run;
use crate::strace::{Profile, disturb};

const TREES: &str = "runc-overlayfs/snapshots/snapshots";
const STAGING: &str = ".oci2bk-staging";

/// Kills runs that pack, and runs that copy back.
pub(crate) fn killed(bench: &Bench) -> Result<()> {
    let dir = bench.memory()?;
    let (directories, packed) = (dir.path().join("directories"), dir.path().join("packed"));
    run(&mut bench.convert(&directories, 1))?;
    copy(&directories, &packed)?;
    run(&mut pack(bench, &packed, false))?;
    let root = dir.path().join("root");
    for (start, undo) in [(&directories, false), (&packed, true)] {
        let reset = || -> Result<()> {
            let _ = fs::remove_dir_all(&root);
            copy(start, &root)
        };
        reset()?;
        let log = dir.path().join("log");
        let profile = Profile::record(&pack(bench, &root, undo), &log, &root)?;
        let calls = choose(profile.changes(), limit(80));
        let (mut missed, mut partly) = (0, 0);
        for call in &calls {
            let check = || -> Result<(bool, bool)> {
                reset()?;
                let output = disturb(&pack(bench, &root, undo), call, "signal=SIGKILL")?.output;
                let (links, others) = counts(&root)?;
                ensure_sound(bench, &root).context("after the kill")?;
                run(&mut pack(bench, &root, undo)).context("the next run")?;
                let (left, made) = counts(&root)?;
                let is_complete = if undo { left == 0 } else { made == 0 };
                ensure!(is_complete, "{left} links and {made} directories are there");
                ensure!(!root.join(STAGING).exists(), "something is staged");
                ensure_sound(bench, &root).context("after the next run")?;
                Ok((output.status.success(), links > 0 && others > 0))
            };
            let (is_missed, is_partly) = check().with_context(|| {
                format!("undo {undo}, killed before {} {}", call.name, call.nth)
            })?;
            missed += usize::from(is_missed);
            partly += usize::from(is_partly);
        }
        ensure!(missed * 5 <= calls.len(), "{missed} of {} kills missed", calls.len());
        ensure!(partly > 0, "no kill came between two snapshots");
    }
    Ok(())
}

fn pack(bench: &Bench, root: &Path, undo: bool) -> Command {
    let mut command = bench.oci2bk();
    command.args(["pack", "--progress=quiet"]).args(undo.then_some("--undo")).arg(root);
    command
}

/// Returns how many snapshots are links, and how many are directories.
fn counts(root: &Path) -> Result<(usize, usize)> {
    let (mut links, mut directories) = (0, 0);
    for entry in fs::read_dir(root.join(TREES))? {
        if entry?.file_type()?.is_symlink() { links += 1 } else { directories += 1 }
    }
    Ok((links, directories))
}

/// Checks the root with all images mounted that are described.
fn ensure_sound(bench: &Bench, root: &Path) -> Result<()> {
    let mut mounted = Vec::new();
    let packed = root.join("packed");
    for entry in fs::read_dir(&packed).into_iter().flatten() {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let point = path.with_extension("");
            fs::create_dir_all(&point)?;
            mounted.push(Mounted::new(&path.with_extension("erofs"), &point)?);
        }
    }
    let mut verify = bench.oci2bk();
    let printed = run(verify.args(["verify", "--trees", "--progress=quiet"]).arg(root))?;
    ensure!(!printed.contains("packed-not-mounted"), "{printed}");
    ensure!(!printed.contains(" 0 trees compared"), "{printed}");
    Ok(())
}
