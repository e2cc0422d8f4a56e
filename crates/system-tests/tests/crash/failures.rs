//! The kernel refuses a call: no space, no permission, a failing disk.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::bench::{Bench, Found, Start, Subject, layout, said};
use crate::points::{choose, limit};
use crate::strace::{Call, Disturbed, Profile, disturb};

/// Makes each call fail once, with one of its possible errors.
pub(crate) fn at_every_call(bench: &Bench, start: Start) -> Result<()> {
    let dir = bench.memory()?;
    let subject = Subject::new(bench, start, dir.path())?;
    subject.reset()?;
    let profile = Profile::record(&subject.convert(), &dir.path().join("log"), &layout())?;
    for (call, error) in choose(profile.all(), limit(80)).iter().zip(0_usize..) {
        let errors = errors_of(&call.name);
        let error = errors[error % errors.len()];
        let check = || -> Result<()> {
            subject.reset()?;
            let disturbed = disturb(&subject.convert(), call, &format!("error={error}"))?;
            let found = ensure_harmless(&subject, call, error, &disturbed)?;
            ensure!(
                found != Some(Found::Partly) || !profile.precedes_publishing(call),
                "the root is partly published: {}",
                said(&disturbed.output)
            );
            subject.ensure_completes()
        };
        check().with_context(|| format!("{error} from {} {}", call.name, call.nth))?;
    }
    Ok(())
}

/// A run with one failing call either does not need it and succeeds, or says what failed and returns the
/// state of the root. Published parts cannot be taken back.
fn ensure_harmless(
    subject: &Subject<'_>,
    call: &Call,
    error: &str,
    disturbed: &Disturbed,
) -> Result<Option<Found>> {
    let output = &disturbed.output;
    let text = said(output);
    ensure!(!text.contains("panicked"), "{text}");
    if output.status.success() {
        ensure!(!call.name.contains("sync"), "nobody noticed that nothing was written out");
        subject.ensure_complete()?;
        return Ok(None);
    }
    if output.status.code() == Some(127) {
        // The program was not even loaded.
        return Ok(None);
    }
    ensure!(matches!(output.status.code(), Some(1 | 3 | 5)), "{text}");
    let number = match error {
        "EPERM" => 1,
        "EIO" => 5,
        "EACCES" => 13,
        "ENOSPC" => 28,
        "EROFS" => 30,
        "EMLINK" => 31,
        "ENOLCK" => 37,
        "EDQUOT" => 122,
        other => bail!("the number of {other} is not known here"),
    };
    // The message itself is written too.
    if call.name != "write" {
        ensure!(text.contains(&format!("(os error {number})")), "the cause is not named: {text}");
        let named = text.contains('/') || text.contains("sha256:");
        ensure!(named, "what it was about is not named: {text}");
    }
    let found = subject.inspect()?;
    // A partly published root keeps its staging directory, by which the next run recognises it. And the same
    // call of another thread may have failed during cleanup.
    if found == Found::AsItWas && disturbed.calls.len() < 2 {
        subject.ensure_nothing_left()?;
    }
    Ok(Some(found))
}

fn errors_of(call: &str) -> &'static [&'static str] {
    match call {
        "open" | "openat" | "openat2" => &["EACCES", "EIO", "ENOSPC", "EROFS"],
        "linkat" => &["EMLINK", "EDQUOT", "ENOSPC"],
        "flock" => &["ENOLCK"],
        "write" | "writev" | "pwrite64" | "copy_file_range" | "sendfile" => {
            &["ENOSPC", "EIO", "EDQUOT"]
        }
        "fchmod" | "fchmodat" | "fchown" | "fchownat" | "utimensat" => &["EPERM", "EROFS", "EIO"],
        name if name.starts_with("rename") => &["EIO", "ENOSPC", "EROFS"],
        name if ["mkdir", "mknod", "symlink"].iter().any(|make| name.starts_with(make)) => {
            &["ENOSPC", "EDQUOT", "EACCES", "EROFS"]
        }
        name if name.contains("setxattr") => &["ENOSPC", "EPERM"],
        _ => &["EIO"],
    }
}

/// Makes the directory `$0` read-only for the command `$@`.
const READ_ONLY: &str = r#"mount --bind "$0" "$0"; mount -o remount,bind,ro "$0"; exec "$@""#;

/// A root without write permission is rejected, however it is protected.
pub(crate) fn without_permission(bench: &Bench, start: Start) -> Result<()> {
    let dir = bench.disk()?;
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
    let subject = Subject::new(bench, start, dir.path())?;
    let refused = |mut command: Command, expected: &str| -> Result<()> {
        subject.ensure_refused(&command.output()?, expected)
    };

    subject.reset()?;
    let place = if subject.root.exists() { subject.root.clone() } else { dir.path().to_owned() };
    let attribute = |set: &str| -> Result<()> {
        crate::process::run(Command::new("chattr").arg(set).arg(&place)).map(drop)
    };
    attribute("+i")?;
    let result = refused(subject.convert(), "Operation not permitted");
    attribute("-i")?;
    result.context("an immutable directory")?;
    subject.ensure_completes()?;

    subject.reset()?;
    refused(as_nobody(&subject.convert()), "Permission denied").context("somebody else's root")?;
    subject.ensure_completes()?;

    // The same directory, mounted read-only in a namespace that ends with the run.
    subject.reset()?;
    let mut namespace = Command::new("unshare");
    namespace.args(["--mount", "sh", "-ec", READ_ONLY]);
    namespace.arg(&place).arg(subject.convert().get_program()).args(subject.convert().get_args());
    refused(namespace, "Read-only file system").context("a read-only mount")?;
    subject.ensure_completes()
}

fn as_nobody(command: &Command) -> Command {
    let mut nobody = Command::new("setpriv");
    nobody.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    nobody.arg(command.get_program()).args(command.get_args());
    nobody
}

/// A layout that cannot be read, or is damaged in the part that is read last, leaves no trace in the root.
pub(crate) fn unreadable_layout(bench: &Bench, start: Start) -> Result<()> {
    let dir = bench.memory()?;
    let subject = Subject::new(bench, start, dir.path())?;
    let copy = dir.path().join("layout");
    crate::bench::copy(&layout(), &copy)?;
    let convert = || {
        let mut command = bench.oci2bk();
        command.args(["convert", "--progress=quiet", "-j1"]).arg(&copy).arg(&subject.root);
        command.arg("--keys").arg(crate::bench::keys());
        command
    };
    let blobs = copy.join("blobs/sha256");
    for blob in fs::read_dir(&blobs)? {
        let blob = blob?.path();
        let content = fs::read(&blob)?;
        let half = &content[..content.len() / 2];
        let damaged: Vec<u8> = content.iter().map(|byte| byte ^ 0x20).collect();
        for broken in [None, Some(half), Some(&damaged)] {
            subject.reset()?;
            fs::remove_file(&blob)?;
            if let Some(bytes) = broken {
                fs::write(&blob, bytes)?;
            }
            let output = convert().output()?;
            let text = said(&output);
            ensure!(!text.contains("panicked"), "{text}");
            let found = subject.inspect()?;
            // Some blobs only add to what is known without them.
            if !output.status.success() {
                ensure!(text.contains(&name_of(&blob)) || text.contains("layout"), "{text}");
                ensure!(found == Found::AsItWas, "changed the root: {text}");
                subject.ensure_nothing_left()?;
                subject.ensure_completes()?;
            }
            fs::write(&blob, &content)?;
        }
    }
    subject.reset()?;
    ensure!(convert().output()?.status.success(), "the layout is whole again");
    subject.ensure_complete()
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
