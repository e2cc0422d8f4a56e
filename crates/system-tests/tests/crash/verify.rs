//! Verification of a root reports what cannot be read, and leaves no trace of reading.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::bench::{Bench, Start, Subject, said};
use crate::points::{limit, spread};
use crate::process::run;
use crate::strace::{Profile, disturb};
use crate::volume::Volume;

/// Calls that examine, read, or open files for reading.
const READS: [&str; 8] =
    ["read", "pread64", "getdents64", "openat", "openat2", "newfstatat", "statx", "readlinkat"];

/// Makes each call fail that reads anything of the root. The command must report the file and the cause, and
/// must neither call the root sound nor call the unreadable part damaged.
pub(crate) fn with_failing_reads(bench: &Bench) -> Result<()> {
    let dir = bench.disk()?;
    let subject = converted(bench, dir.path())?;
    let verify = verify(&subject);
    let profile = Profile::record(&verify, &dir.path().join("log"), &subject.root)?;
    let reads = profile.calls_below(&subject.root, &READS);
    ensure!(reads.len() > 100, "only {reads:#?}");
    let reads = spread(reads, limit(120));
    for call in &reads {
        let check = || -> Result<()> {
            let disturbed = disturb(&verify, call, "error=EIO")?;
            let output = disturbed.output;
            let text = said(&output) + &String::from_utf8_lossy(&output.stdout);
            let calls = &disturbed.calls;
            ensure!(!calls.is_empty(), "it was not called");
            ensure!(matches!(output.status.code(), Some(1 | 5)), "{calls:#?}\n{text}");
            ensure!(text.contains("(os error 5)"), "the cause is not named: {text}");
            ensure!(!text.contains("damaged-page") && !text.contains("no-database"), "{text}");
            Ok(())
        };
        check().with_context(|| format!("EIO from {call:?}"))?;
    }
    Ok(())
}

/// Access times stay unchanged, except those of symbolic links, which the kernel always updates.
pub(crate) fn access_times(bench: &Bench) -> Result<()> {
    let dir = bench.memory()?;
    let volume = Volume::tmpfs(&dir.path().join("volume"), "size=64m,strictatime")?;
    let subject = converted(bench, volume.point())?;
    let paths = paths(&subject.root)?;
    ensure!(paths.len() > 100, "there are only {paths:?}");
    let before = times(&paths)?;
    // The resolution of the kernel's clock for files.
    std::thread::sleep(std::time::Duration::from_millis(50));
    run(&mut verify(&subject))?;
    let after = times(&paths)?;
    let read: Vec<_> = before.iter().filter(|before| !after.contains(before)).collect();
    ensure!(read.is_empty(), "these were read: {read:#?}");
    volume.unmount()
}

fn converted<'b>(bench: &'b Bench, dir: &Path) -> Result<Subject<'b>> {
    let subject = Subject::new(bench, Start::Natural, dir)?;
    subject.reset()?;
    run(&mut subject.convert())?;
    Ok(subject)
}

fn verify(subject: &Subject<'_>) -> Command {
    let mut verify = subject.bench.oci2bk();
    verify.args(["verify", "--trees", "--jobs=1", "--progress=quiet"]).arg(&subject.root);
    verify
}

/// Returns everything below `top`, and `top` itself, except symbolic links.
fn paths(top: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    let mut pending = vec![top.to_owned()];
    while let Some(path) = pending.pop() {
        let metadata = path.symlink_metadata()?;
        if metadata.is_dir() {
            for entry in fs::read_dir(&path)? {
                pending.push(entry?.path());
            }
        }
        if !metadata.is_symlink() {
            paths.push(path);
        }
    }
    Ok(paths)
}

/// Returns the access time and the name of each.
fn times(paths: &[PathBuf]) -> Result<Vec<(&Path, i64, i64)>> {
    let mut times = Vec::new();
    for path in paths {
        let metadata = path.symlink_metadata()?;
        times.push((path.as_path(), metadata.atime(), metadata.atime_nsec()));
    }
    Ok(times)
}
