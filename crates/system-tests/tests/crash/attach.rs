//! `keys attach`, which writes into a layout that may be the only copy of a cache.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::bench::{Bench, copy, keys, layout, said};
use crate::listing::Listing;
use crate::points::{choose, limit};
use crate::process::run;
use crate::strace::{Call, Profile, disturb};

/// Leftovers of a killed run; readers ignore them.
const LEFT: [&str; 2] = [".oci2bk.tmp", LOCK];

/// The lock of the layout, which is BuildKit's.
const LOCK: &str = "index.json.lock";

/// Kills it before each call that changes a file, and makes each call fail once. The layout must have its old
/// or its new state, except for unreferenced blobs; and running again must complete it.
pub(crate) fn disturbed(bench: &Bench) -> Result<()> {
    let dir = bench.memory()?;
    let case = Attach { bench, layout: dir.path().join("layout") };
    case.reset()?;
    let before = case.listing()?;
    let profile = Profile::record(&case.attach(), &dir.path().join("log"), &case.layout)?;
    let after = case.listing()?;
    ensure!(before != after, "nothing was attached");

    let kills = profile.changes().into_iter().map(|call| (call, "signal=SIGKILL"));
    let failures = choose(profile.all(), limit(60)).into_iter();
    let failures = failures.map(|call| {
        let error = if call.name.starts_with("write") { "error=ENOSPC" } else { "error=EIO" };
        (call, error)
    });
    for (call, how) in kills.chain(failures) {
        let check = || case.disturb(&call, how, &before, &after);
        check().with_context(|| format!("{how} at {} {}", call.name, call.nth))?;
    }
    Ok(())
}

struct Attach<'b> {
    bench: &'b Bench,
    layout: PathBuf,
}

impl Attach<'_> {
    fn disturb(&self, call: &Call, how: &str, before: &Listing, after: &Listing) -> Result<()> {
        self.reset()?;
        let output = disturb(&self.attach(), call, how)?.output;
        let killed = output.status.signal() == Some(9);
        ensure!(killed || !said(&output).contains("panicked"), "{}", said(&output));
        if !killed {
            for left in LEFT.iter().filter(|left| self.layout.join(left).exists()) {
                // A file that could not be removed still exists, and a lock that could not be taken may be that of another
                // program.
                let is_not_ours = call.name == "flock" && *left == LOCK;
                ensure!(call.name.starts_with("unlink") || is_not_ours, "{left} is still there");
            }
        }
        let now = self.listing()?;
        if output.status.success() {
            ensure!(now == *after, "{}", after.difference(&now));
        }
        let known = |path: &Path| before.line(path).or(after.line(path));
        for (path, line) in now.lines() {
            ensure!(
                known(path) == Some(line) || after.line(path) == Some(line),
                "{path:?}: {line}"
            );
        }
        for (path, _) in before.lines() {
            ensure!(now.line(path).is_some(), "{} is gone", path.display());
        }
        run(&mut self.plan()).context("the layout cannot be read")?;
        run(&mut self.attach()).context("running again")?;
        let now = self.listing()?;
        ensure!(now == *after, "running again:\n  {}", after.difference(&now));
        ensure!(LEFT.iter().all(|left| !self.layout.join(left).exists()), "it left something");
        Ok(())
    }

    fn reset(&self) -> Result<()> {
        if self.layout.exists() {
            fs::remove_dir_all(&self.layout)?;
        }
        copy(&layout(), &self.layout)
    }

    fn listing(&self) -> Result<Listing> {
        Listing::of(&self.layout, |name| LEFT.contains(&name))
    }

    fn attach(&self) -> Command {
        let mut command = self.bench.oci2bk();
        command.args(["keys", "attach"]).arg(&self.layout).arg("--keys").arg(keys());
        command
    }

    fn plan(&self) -> Command {
        let mut command = self.bench.oci2bk();
        command.args(["convert", "--dry-run", "--progress=quiet"]).arg(&self.layout);
        command.arg(self.layout.with_file_name("nowhere")).arg("--keys").arg(keys());
        command
    }
}
