//! The agent as a process: what it leaves in the root, prints, and ends with.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

use std::fs;
use std::io::{PipeReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use oci2bk::{Root, Verifier};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// Capacity of a pipe (Linux, `pipe(7)`).
const PIPE_BYTES: usize = 64 << 10;

fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../fixtures").join(path)
}

/// Returns the agent with a layout and a root. Only root can unpack; other users leave the layers packed.
fn agent(layout: &Path, root: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bake-agent"));
    command.arg(layout).arg(root);
    if !geteuid().is_root() {
        command.arg("--no-extract");
    }
    command
}

fn with_keys(root: &Path) -> Command {
    let mut command = agent(&fixture("index/cache"), root);
    command.arg("--keys").arg(fixture("index/keys/provenance.json"));
    command
}

fn document(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Returns a directory, and the path of a root in it that is not there yet.
fn place() -> (TempDir, PathBuf) {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("root");
    (temp, root)
}

#[test]
fn a_cache_becomes_a_warm_root() {
    let (_temp, root) = place();
    let output = with_keys(&root).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    let document = document(&output);
    assert_eq!(document["outcome"], "baked");
    assert_eq!(document["complete"], true, "{document}");

    let root = Root::open(&root).unwrap();
    let verified = Verifier::new().trees(geteuid().is_root()).verify(&root).unwrap();
    assert!(verified.damage.is_empty());
    assert_eq!(document["stored"]["blob_count"], verified.counts.blobs);
    assert_eq!(document["stored"]["snapshot_count"].as_u64().unwrap() > 0, geteuid().is_root());

    // The last number of layers is that of all of them.
    let line = stderr.lines().rfind(|line| line.starts_with("layers: "));
    let last = line.unwrap().split_whitespace().collect::<Vec<_>>();
    let ["layers:", done, "of", all, "layers,", bytes, "of", all_bytes, "MB"] = last[..] else {
        panic!("{stderr}");
    };
    assert_eq!((done, bytes), (all, all_bytes), "{stderr}");
}

#[test]
fn without_keys_nothing_is_written() {
    let (_temp, root) = place();
    let output = agent(&fixture("index/cache"), &root).output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    let document = document(&output);
    assert_eq!(document["outcome"], "incomplete");
    let shortfalls = document["shortfalls"].as_array().unwrap();
    assert!(shortfalls.iter().any(|shortfall| shortfall["kind"] == "no-key"), "{document}");
    assert!(!root.exists());
}

#[test]
fn a_failure_has_the_code_of_its_class() {
    let (temp, root) = place();
    let empty = temp.path().join("empty");
    fs::create_dir(&empty).unwrap();
    for (layout, code, class) in [(empty, 3, "input"), (temp.path().join("nowhere"), 1, "io")] {
        let output = agent(&layout, &root).output().unwrap();
        let document = document(&output);
        assert_eq!(document["outcome"], "failed");
        assert_eq!(document["error"]["class"], class, "{document}");
        assert_eq!(output.status.code(), Some(code), "{document}");
        assert!(!root.exists());
    }
}

#[test]
fn a_root_in_use_is_left_alone() {
    let (_temp, root) = place();
    fs::create_dir(&root).unwrap();
    let _held = Root::open_to_write(&root).unwrap();
    let output = with_keys(&root).output().unwrap();
    assert_eq!(output.status.code(), Some(6), "{output:?}");
    assert_eq!(document(&output)["error"]["class"], "in-use");
}

/// What the agent prints before it converts.
const BEFORE: &str = "read\nkeys\nplan\n";

/// A bake that waits in the midst of a conversion: its next line of progress does not fit into the pipe.
struct Waiting {
    child: Child,
    stderr: PipeReader,
}

impl Waiting {
    fn start(mut command: Command, root: &Path) -> Self {
        let (stderr, mut writer) = std::io::pipe().unwrap();
        writer.write_all(&vec![b'.'; PIPE_BYTES - BEFORE.len()]).unwrap();
        let child = command.stdout(Stdio::piped()).stderr(writer).spawn().unwrap();
        // After this drop, the agent has the only writer.
        drop(command);
        let started = Instant::now();
        while !root.join(".oci2bk-staging").exists() {
            assert!(started.elapsed() < Duration::from_secs(120), "it does not convert");
            sleep(Duration::from_millis(5));
        }
        Self { child, stderr }
    }

    fn send(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    /// Makes room in the pipe, and waits for the end.
    fn end(mut self) -> Output {
        self.stderr.read_to_end(&mut Vec::new()).unwrap();
        self.child.wait_with_output().unwrap()
    }
}

#[test]
fn a_signal_ends_a_conversion_and_leaves_no_state() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let (_temp, root) = place();
        let waiting = Waiting::start(with_keys(&root), &root);
        waiting.send(signal);
        let output = waiting.end();
        let document = document(&output);
        assert_eq!(document["error"]["class"], "cancelled", "{document}");
        assert_eq!(output.status.code(), Some(code));
        let names = fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(names.collect::<Vec<_>>(), ["buildkitd.lock"]);
    }
}
