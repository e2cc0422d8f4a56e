//! The service as a process, and its directory.

use std::fs;
use std::io::{BufRead as _, BufReader, PipeReader, PipeWriter, Read as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;

/// Capacity of a pipe (Linux, `pipe(7)`).
const PIPE_BYTES: usize = 64 << 10;

/// Returns whether layers can be unpacked, which takes root. A suite that must be complete sets
/// `OCI2BK_REQUIRE_ORACLE`.
pub(crate) fn can_extract() -> bool {
    let root = geteuid().is_root();
    if !root {
        assert!(std::env::var_os("OCI2BK_REQUIRE_ORACLE").is_none(), "unpacking layers takes root");
        eprintln!("not unpacked: that takes root");
    }
    root
}

/// How long anything may take. All of it takes less than a second.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until it is so.
pub(crate) fn until(mut so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !so() {
        assert!(started.elapsed() < PATIENCE, "it does not come to that");
        sleep(Duration::from_millis(5));
    }
}

/// Its directory.
pub(crate) struct Data(TempDir);

impl Data {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    fn names(&self, directory: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path().join(directory)).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    /// The directories of requests.
    pub(crate) fn work(&self) -> Vec<PathBuf> {
        self.names("work")
    }

    /// The directories of states.
    pub(crate) fn states(&self) -> Vec<PathBuf> {
        self.names("states")
    }

    /// Whether nothing of any request is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.work().is_empty() && self.states().is_empty()
    }
}

/// A process, which ends with the test.
struct Process(Child);

impl Process {
    fn send(&self, signal: Signal) {
        let pid = i32::try_from(self.0.id()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The service, whose log is not read.
pub(crate) struct Server {
    process: Process,
    pub(crate) address: SocketAddr,
    log: BufReader<PipeReader>,
    to_log: PipeWriter,
}

impl Server {
    pub(crate) fn start(data: &Data, options: &[&str]) -> Self {
        let (reader, to_log) = std::io::pipe().unwrap();
        // The usual limit on open files, which the machine of a test may have raised.
        let mut command = Command::new("sh");
        command.args(["-c", r#"ulimit -n 1024 && exec "$0" "$@""#]);
        command.arg(env!("CARGO_BIN_EXE_conversion-service"));
        command.arg(data.path()).arg("--listen=127.0.0.1:0").args(options);
        if !geteuid().is_root() {
            command.arg("--no-extract");
        }
        let process = Process(command.stderr(to_log.try_clone().unwrap()).spawn().unwrap());
        let (mut log, mut line) = (BufReader::new(reader), String::new());
        log.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").expect(&line).parse().unwrap();
        Self { process, address, log, to_log }
    }

    /// Fills the pipe of its log, so that a conversion waits in its first stage.
    pub(crate) fn fill_log(&mut self) {
        self.to_log.write_all(&vec![b'.'; PIPE_BYTES]).unwrap();
    }

    /// Reads its log from here on, to the end.
    pub(crate) fn read_log(self) -> Running {
        let Self { process, address, mut log, to_log } = self;
        // From here on, the service has the only writer.
        drop(to_log);
        let log = thread::spawn(move || {
            let mut text = String::new();
            log.read_to_string(&mut text).unwrap();
            text.trim_start_matches('.').to_owned()
        });
        Running { process, address, log }
    }

    pub(crate) fn send(&self, signal: Signal) {
        self.process.send(signal);
    }
}

/// The service, whose log is read.
pub(crate) struct Running {
    process: Process,
    pub(crate) address: SocketAddr,
    log: JoinHandle<String>,
}

impl Running {
    pub(crate) fn start(data: &Data, options: &[&str]) -> Self {
        Server::start(data, options).read_log()
    }

    /// Ends it, and returns its log.
    pub(crate) fn end(self) -> String {
        self.process.send(Signal::TERM);
        let (status, log) = self.wait();
        assert!(status.success(), "{log}");
        log
    }

    /// Waits for the end. Returns its status and its log.
    pub(crate) fn wait(mut self) -> (ExitStatus, String) {
        let mut status = None;
        until(|| {
            status = self.process.0.try_wait().unwrap();
            status.is_some()
        });
        (status.unwrap(), self.log.join().unwrap())
    }
}
