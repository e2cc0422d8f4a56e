//! The command for aarch64 writes the same bytes as the command for this machine: roots, archives and reports.
//!
//! `OCI2BK_AARCH64` names the program for aarch64. It runs by itself, or by the runner that cargo has for that target
//! (`scripts/cross` prints the settings). Without it, the tests are shown as ignored, unless `OCI2BK_REQUIRE_ORACLE`
//! is set.
#![allow(clippy::unwrap_used, reason = "a test program")]

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Arguments;
use system_tests::tree;
use testkit::process::run;
use testkit::trials::{alone, require};

/// Names the program for aarch64.
const PROGRAM: &str = "OCI2BK_AARCH64";

/// What cargo has in front of a program for aarch64.
const RUNNER: &str = "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_RUNNER";

/// The fixtures, and the key source of each.
const FIXTURES: [(&str, &str); 4] = [
    ("index", "provenance.json"),
    ("manifest", "image"),
    ("zstd", "cache.db"),
    ("min", "metadata.json"),
];

fn main() {
    let programs = Programs::find();
    require("the comparison of architectures", &programs);
    let mut trials = Vec::new();
    for (name, prove) in PROOFS {
        let trial = match programs.clone() {
            Ok(programs) => alone(name.to_owned(), move || prove(&programs)),
            Err(reason) => {
                alone(name.to_owned(), || Ok(())).with_kind(reason).with_ignored_flag(true)
            }
        };
        trials.push(trial);
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

type Prove = fn(&Programs) -> Result<()>;

const PROOFS: [(&str, Prove); 6] = [
    ("convert", convert),
    ("convert::packed", convert_packed),
    ("convert::without-blobs", convert_without_blobs),
    ("convert::native", convert_native),
    ("convert::merge", merge),
    ("verify", verify),
];

/// The command for this machine, and that for aarch64.
#[derive(Clone)]
struct Programs {
    here: PathBuf,
    runner: Option<OsString>,
    aarch64: PathBuf,
}

impl Programs {
    fn find() -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("needs root: layers have owners".into());
        }
        let aarch64 = env::var_os(PROGRAM).map(PathBuf::from).ok_or_else(|| {
            format!("needs a command for aarch64, in {PROGRAM}: scripts/test makes it")
        })?;
        let aarch64 = fs::canonicalize(&aarch64)
            .map_err(|error| format!("{}: {error}", aarch64.display()))?;
        let programs = Self {
            here: env!("CARGO_BIN_EXE_oci2bk-under-test").into(),
            runner: env::var_os(RUNNER),
            aarch64,
        };
        run(programs.foreign().arg("--version"))
            .map_err(|error| format!("the command for aarch64 does not run here: {error:#}"))?;
        Ok(programs)
    }

    /// Returns a command for this machine.
    fn native(&self) -> Command {
        Command::new(&self.here)
    }

    /// Returns a command for aarch64.
    fn foreign(&self) -> Command {
        let Some(runner) = &self.runner else { return Command::new(&self.aarch64) };
        let mut command = Command::new(runner);
        command.arg(&self.aarch64);
        command
    }

    /// Runs both with the same arguments, each in a directory of its own, which holds the root, `root`. Fails if
    /// what they print differs, or what they leave in their directories.
    fn equal(&self, dirs: &Dirs, arguments: &[&str]) -> Result<String> {
        let mut outputs = Vec::new();
        for (mut command, dir) in [(self.native(), &dirs.native), (self.foreign(), &dirs.foreign)] {
            command.args(arguments).current_dir(dir);
            outputs.push(run(&mut command)?);
        }
        let foreign = outputs.pop().unwrap_or_default();
        let native = outputs.pop().unwrap_or_default();
        ensure!(
            without_durations(&native) == without_durations(&foreign),
            "{native}differs from\n{foreign}"
        );
        tree::ensure_equal(&dirs.foreign, &dirs.native, dirs.since)?;
        Ok(native)
    }
}

/// A directory for each program, what holds them, and since when they are there.
struct Dirs {
    native: PathBuf,
    foreign: PathBuf,
    since: SystemTime,
    _above: tempfile::TempDir,
}

impl Dirs {
    fn new() -> Result<Self> {
        let since = SystemTime::now();
        let above = tempfile::tempdir()?;
        let [native, foreign] = ["native", "foreign"].map(|name| above.path().join(name));
        for dir in [&native, &foreign] {
            fs::create_dir(dir).with_context(|| dir.display().to_string())?;
        }
        Ok(Self { native, foreign, since, _above: above })
    }
}

/// Returns what a report says besides the time that the command took.
fn without_durations(report: &str) -> String {
    let line = |line: &str| match line.split_once(" after ") {
        Some((before, _)) => format!("{before}\n"),
        None => format!("{line}\n"),
    };
    report.lines().map(line).collect()
}

fn fixture(name: &str, file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name).join(file);
    path.display().to_string()
}

/// Converts each fixture with both programs and `options`, each into a new root.
fn convert_all(programs: &Programs, options: &[&str]) -> Result<()> {
    for (name, keys) in FIXTURES {
        let dirs = Dirs::new()?;
        let (cache, keys) = (fixture(name, "cache"), fixture(name, &format!("keys/{keys}")));
        let mut arguments = vec!["convert", "--progress=quiet", &cache, "root", "--keys", &keys];
        arguments.extend(options);
        let report = programs.equal(&dirs, &arguments).context(name)?;
        ensure!(report.contains(" is warm after "), "{name}: {report}");
    }
    Ok(())
}

fn convert(programs: &Programs) -> Result<()> {
    convert_all(programs, &[])
}

fn convert_packed(programs: &Programs) -> Result<()> {
    convert_all(programs, &["--no-extract"])
}

fn convert_without_blobs(programs: &Programs) -> Result<()> {
    convert_all(programs, &["--blobs", "none"])
}

fn convert_native(programs: &Programs) -> Result<()> {
    convert_all(programs, &["--snapshotter", "native"])
}

/// All fixtures in one root, one after the other.
fn merge(programs: &Programs) -> Result<()> {
    let dirs = Dirs::new()?;
    for (name, keys) in FIXTURES {
        let (cache, keys) = (fixture(name, "cache"), fixture(name, &format!("keys/{keys}")));
        programs
            .equal(&dirs, &["convert", "--progress=quiet", &cache, "root", "--keys", &keys])
            .context(name)?;
    }
    Ok(())
}

/// Each program finds the root of the other sound, and both say the same of it.
fn verify(programs: &Programs) -> Result<()> {
    let dirs = Dirs::new()?;
    let (cache, keys) = (fixture("index", "cache"), fixture("index", "keys/provenance.json"));
    for (mut command, dir) in
        [(programs.native(), &dirs.foreign), (programs.foreign(), &dirs.native)]
    {
        run(command.current_dir(dir).args([
            "convert",
            "--progress=quiet",
            &cache,
            "root",
            "--keys",
            &keys,
        ]))?;
    }
    for arguments in [
        &["verify", "--progress=quiet", "--trees", "root"][..],
        &["du", "root"],
        &["inspect", "root"],
    ] {
        let said = programs.equal(&dirs, arguments).with_context(|| arguments.join(" "))?;
        ensure!(!said.is_empty(), "{} says nothing", arguments.join(" "));
    }
    Ok(())
}
