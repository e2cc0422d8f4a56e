//! The command as users see it: its output, the streams, and the exit codes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]
#![allow(clippy::print_stderr, reason = "a skipped test says so")]

mod containerd;
mod corruptions;
mod daemon;
mod dry_run;
mod failures;
mod forged;
mod hints;
mod hostile_text;
mod inspect;
mod json;
mod layers;
mod look;
mod output;
mod outputs;
mod packed;
mod prepared;
mod reference;
mod required;
mod results;
mod rights;
mod roots;
mod sessions;
mod signals;
mod state;
mod strangers;
mod verify;
mod voice;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use testkit::schema;

/// Returns a file or directory of the fixtures.
fn fixture(path: &str) -> String {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").canonicalize();
    fixtures.unwrap().join(path).into_os_string().into_string().unwrap()
}

/// A place for a root, which does not exist yet.
struct Place {
    temp: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { temp: tempfile::tempdir().unwrap() }
    }

    fn root(&self) -> PathBuf {
        self.temp.path().join("root")
    }

    /// Makes the root belong to another worker.
    fn hand_over(&self) {
        let ours = self.root().join("runc-overlayfs");
        std::fs::rename(ours, self.root().join("runc-native")).unwrap();
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.root().join(name)).unwrap()
    }

    /// Returns the paths of all files and directories, relative to the place.
    fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        let mut pending = vec![self.temp.path().to_owned()];
        while let Some(dir) = pending.pop() {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                let name = path.strip_prefix(self.temp.path()).unwrap();
                names.push(name.to_str().unwrap().to_owned());
                if path.symlink_metadata().unwrap().is_dir() {
                    pending.push(path);
                }
            }
        }
        names.sort();
        names
    }
}

fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_oci2bk-under-test"));
    command.stdin(Stdio::null());
    for variable in ["BUILDKIT_PROGRESS", "NO_COLOR", "SOURCE_DATE_EPOCH"] {
        command.env_remove(variable);
    }
    command
}

/// `oci2bk convert` without unpacking, which does not require root.
fn convert(words: impl IntoIterator<Item = impl AsRef<OsStr>>, place: &Place) -> Command {
    let mut command = command();
    command.args(["convert", "--no-extract"]).args(words).arg(place.root());
    command
}

/// Returns the arguments for a fixture and its keys.
fn index() -> [String; 3] {
    [fixture("index/cache"), "--keys".to_owned(), fixture("index/keys/provenance.json")]
}

/// The output of a command with the expected exit code `code`.
struct Printed {
    stdout: String,
    stderr: String,
}

impl Printed {
    /// Runs it. JSON output must match `docs/reference/schemas`.
    fn of(command: &mut Command, code: i32) -> Self {
        let Output { status, stdout, stderr } = command.output().unwrap();
        schema::ensure_output(command.get_args(), &stdout, &stderr).unwrap();
        let stdout = String::from_utf8(stdout).unwrap();
        let stderr = String::from_utf8(stderr).unwrap();
        assert_eq!(status.code(), Some(code), "{command:?}\n{stdout}\n{stderr}");
        Self { stdout, stderr }
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap()
    }

    /// Asserts that stderr contains all of `parts`.
    fn says(&self, parts: &[&str]) {
        for part in parts {
            assert!(self.stderr.contains(part), "{part:?} is not in\n{}", self.stderr);
        }
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
    }
}
