//! The process is killed: before each of its calls that changes anything, and at random times.

use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::bench::{Bench, Found, Start, Subject, copy, layout};
use crate::points::{Random, choose, limit, spread};
use crate::strace::{Profile, disturb};

/// Kills a run before each call that changes a file.
pub(crate) fn at_every_call(bench: &Bench, start: Start) -> Result<()> {
    let dir = bench.memory()?;
    let subject = Subject::new(bench, start, dir.path())?;
    subject.reset()?;
    let profile = Profile::record(&subject.convert(), &dir.path().join("log"), &layout())?;
    let calls = choose(profile.changes(), limit(100));
    let mut missed = 0;
    let mut partly = 0;
    for call in &calls {
        let check = || -> Result<Option<Found>> {
            subject.reset()?;
            let output = disturb(&subject.convert(), call, "signal=SIGKILL")?.output;
            if output.status.success() {
                // Threads share their work differently each time.
                subject.ensure_complete()?;
                return Ok(None);
            }
            ensure!(output.status.signal() == Some(9), "it ended with {}", output.status);
            let found = subject.inspect()?;
            subject.ensure_completes()?;
            Ok(Some(found))
        };
        let found = check().with_context(|| format!("killed before {} {}", call.name, call.nth))?;
        missed += usize::from(found.is_none());
        partly += usize::from(found == Some(Found::Partly));
    }
    ensure!(missed * 5 <= calls.len(), "{missed} of {} kills missed", calls.len());
    ensure!(partly > 0, "no kill came between the steps of publishing");
    Ok(())
}

/// Kills runs on several threads at times that a seed determines.
pub(crate) fn at_random_times(bench: &Bench, start: Start) -> Result<()> {
    let dir = bench.memory()?;
    let subject = Subject::new(bench, start, dir.path())?;
    let mut random = Random::new();
    let began = Instant::now();
    subject.reset()?;
    ensure!(subject.convert().output()?.status.success(), "the run that is timed");
    let usual = began.elapsed();
    for round in 0..limit(40) {
        let after = Duration::from_nanos(random.below(u64::try_from(usual.as_nanos())? * 5 / 4));
        let check = || -> Result<()> {
            subject.reset()?;
            let mut child = bench
                .convert(&subject.root, 4)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()?;
            std::thread::sleep(after);
            child.kill()?;
            child.wait()?;
            subject.ensure_completes()
        };
        check().with_context(|| {
            format!("round {round}, killed after {after:?}, OCI2BK_CRASH_SEED={}", random.seed())
        })?;
    }
    Ok(())
}

/// Kills runs that remove the leftovers of a killed run.
pub(crate) fn while_cleaning_up(bench: &Bench, start: Start) -> Result<()> {
    let dir = bench.memory()?;
    let subject = Subject::new(bench, start, dir.path())?;
    subject.reset()?;
    let log = dir.path().join("log");
    let profile = Profile::record(&subject.convert(), &log, &layout())?;
    let renames: Vec<_> =
        profile.changes().into_iter().filter(|call| call.name.starts_with("rename")).collect();
    for stop in &spread(renames, limit(4)) {
        subject.reset()?;
        disturb(&subject.convert(), stop, "signal=SIGKILL")?;
        let died = dir.path().join("died");
        subject.copy(&died)?;
        let profile = Profile::record(&subject.convert(), &log, &layout())?;
        let removals = |name: &str| name.starts_with("unlink") || name.starts_with("rename");
        let calls: Vec<_> =
            profile.changes().into_iter().filter(|call| removals(&call.name)).collect();
        for call in spread(calls, limit(15)) {
            let check = || -> Result<()> {
                std::fs::remove_dir_all(&subject.root)?;
                copy(&died, &subject.root)?;
                disturb(&subject.convert(), &call, "signal=SIGKILL")?;
                subject.ensure_completes()
            };
            check().with_context(|| {
                format!("killed before {stop:?}, and the next run before {call:?}")
            })?;
        }
        std::fs::remove_dir_all(&died)?;
    }
    Ok(())
}
