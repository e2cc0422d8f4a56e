//! The first signal ends the command cleanly, the second one at once.

use std::io::{Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::{Place, convert, index};

/// Capacity of a pipe (Linux, `pipe(7)`).
const PIPE_BYTES: usize = 64 << 10;

/// A conversion that blocks on its first line of progress, because the pipe is full.
struct Waiting {
    child: Child,
    stderr: std::io::PipeReader,
}

impl Waiting {
    fn new(place: &Place) -> Self {
        let (stderr, mut writer) = std::io::pipe().unwrap();
        writer.write_all(&vec![b'.'; PIPE_BYTES]).unwrap();
        let mut command = convert(index(), place);
        command.arg("--progress=plain").stdout(Stdio::null()).stderr(writer);
        let child = command.spawn().unwrap();
        // After this drop, the command has the only writer.
        drop(command);
        let waiting = Self { child, stderr };
        while !waiting.catches(Signal::TERM) {
            std::thread::sleep(Duration::from_millis(10));
        }
        waiting
    }

    /// Returns whether the command has a handler for the signal.
    fn catches(&self, signal: Signal) -> bool {
        self.has("SigCgt:", signal)
    }

    /// Returns whether the signal was sent and no handler has started.
    fn is_pending(&self, signal: Signal) -> bool {
        self.has("ShdPnd:", signal)
    }

    /// Returns whether the signal is in a set of `/proc/PID/status`.
    fn has(&self, set: &str, signal: Signal) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let set = status.lines().find_map(|line| line.strip_prefix(set)).unwrap();
        let set = u64::from_str_radix(set.trim(), 16).unwrap();
        set & (1 << (signal.as_raw() - 1)) != 0
    }

    fn send(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Unblocks it, and returns its exit status and its output.
    fn end(mut self) -> (ExitStatus, String) {
        let mut text = String::new();
        self.stderr.read_to_string(&mut text).unwrap();
        (self.child.wait().unwrap(), text.trim_start_matches('.').to_owned())
    }
}

#[test]
fn a_signal_ends_a_conversion_and_leaves_no_state() {
    for (signal, name, code) in [(Signal::INT, "SIGINT", 130), (Signal::TERM, "SIGTERM", 143)] {
        let place = Place::new();
        let waiting = Waiting::new(&place);
        waiting.send(signal);
        let (status, text) = waiting.end();
        assert_eq!(status.code(), Some(code), "{text}");
        assert!(text.contains(&format!("ended by {name}")), "{text}");
        assert_eq!(place.names(), ["root", "root/buildkitd.lock"]);
    }
}

#[test]
fn a_second_signal_kills() {
    let place = Place::new();
    let mut waiting = Waiting::new(&place);
    waiting.send(Signal::TERM);
    // Of two pending signals, the kernel delivers the one with the lower number first.
    while waiting.is_pending(Signal::TERM) {
        std::thread::sleep(Duration::from_millis(1));
    }
    // Signals before the first handler has run count as the first. The pipe is still full, so only a signal
    // can end the command.
    let status = loop {
        waiting.send(Signal::INT);
        std::thread::sleep(Duration::from_millis(50));
        if let Some(status) = waiting.child.try_wait().unwrap() {
            break status;
        }
    };
    assert_eq!(status.signal(), Some(Signal::INT.as_raw()));
}
