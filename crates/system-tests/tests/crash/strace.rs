//! Runs of the command in which strace kills it, or makes one of its calls fail.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus, Output, Stdio};

use anyhow::{Context as _, Result, ensure};

/// Calls that change files, or sync changes. Not every architecture has all.
const CHANGES: &str = "?open,openat,openat2,?mkdir,mkdirat,mknodat,?symlink,symlinkat,linkat,\
                       ?rename,?renameat,renameat2,?unlink,unlinkat,?rmdir,write,pwrite64,writev,\
                       copy_file_range,sendfile,ftruncate,fallocate,fchmod,fchmodat,fchown,\
                       fchownat,?lchown,utimensat,?setxattr,lsetxattr,fsetxattr,fsync,fdatasync,\
                       syncfs,flock";

/// Calls that only read.
const READS: &str = "read,pread64,getdents64,?newfstatat,statx,?readlink,readlinkat";

/// The number of SIGKILL.
const KILL: i32 = 9;

/// How strace continues a call in another line, after one of another thread.
const RESUMED: &str = "<... ";

/// A call of a run, identified as strace counts: within its thread, among those with the same name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Call {
    pub(crate) name: String,
    pub(crate) nth: usize,
    /// The file or directory that it uses, if only the calls on that are counted. Then other calls of the
    /// thread make no difference.
    pub(crate) of: Option<String>,
}

/// The calls of an undisturbed run.
#[derive(Debug)]
pub(crate) struct Profile {
    /// Each line of strace that begins a call: the thread, the call, and the line from its name on.
    pub(crate) lines: Vec<(String, Call, String)>,
}

impl Profile {
    /// Runs `command` to completion under strace. Calls before the first use of `from` are left out: the
    /// program's startup is not tested.
    pub(crate) fn record(command: &Command, log: &Path, from: &Path) -> Result<Self> {
        let from = from.to_str().context("a path in UTF-8")?;
        let mut strace = strace();
        strace.args(["-f", "-qq", "-y", "-s", "4096", "-e"]);
        strace.arg(format!("trace={CHANGES},{READS}")).arg("-o").arg(log);
        let output = follow(strace, command).output().context("strace")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = std::fs::read_to_string(log).context("the log of strace")?;
        let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        let mut lines = Vec::new();
        for line in text.lines() {
            let Some((thread, call)) = line.split_once(' ') else { continue };
            let call = call.trim_start();
            if call.starts_with(RESUMED) {
                continue;
            }
            let Some((name, _)) = call.split_once('(') else { continue };
            let nth = counts.entry((thread, name)).or_default();
            *nth += 1;
            if !lines.is_empty() || (call.contains(from) && name != "execve") {
                let id = Call { name: name.to_owned(), nth: *nth, of: None };
                lines.push((thread.to_owned(), id, call.to_owned()));
            }
        }
        ensure!(!lines.is_empty(), "strace saw nothing of {from}");
        Ok(Self { lines })
    }

    /// Returns the calls that change files, each once, in the order of the run.
    pub(crate) fn changes(&self) -> Vec<Call> {
        self.calls(is_change)
    }

    /// Returns the calls that can fail, each once, in the order of the run.
    pub(crate) fn all(&self) -> Vec<Call> {
        self.calls(|_| true)
    }

    /// Returns the calls with one of these names that use files below `root`, counted for each file and
    /// directory, each once, in the order of the run.
    pub(crate) fn calls_below(&self, root: &Path, names: &[&str]) -> Vec<Call> {
        let mut counts: BTreeMap<(&str, &str, &str), usize> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        let mut calls = Vec::new();
        for (thread, Call { name, .. }, line) in &self.lines {
            let Some(of) = used(line).filter(|of| Path::new(of).starts_with(root)) else {
                continue;
            };
            let nth = counts.entry((thread, name, of)).or_default();
            *nth += 1;
            let call = Call { name: name.clone(), nth: *nth, of: Some(of.to_owned()) };
            if names.contains(&name.as_str()) && seen.insert(call.clone()) {
                calls.push(call);
            }
        }
        calls
    }

    /// Returns whether `call` comes before the first move of anything into place.
    pub(crate) fn precedes_publishing(&self, call: &Call) -> bool {
        let first = self.lines.iter().position(|(_, call, _)| call.name.starts_with("rename"));
        let last = self.lines.iter().rposition(|(_, other, _)| other == call);
        last < first
    }

    /// Returns the calls with wanted lines, each once, in the order of the run.
    pub(crate) fn calls(&self, wanted: impl Fn(&str) -> bool) -> Vec<Call> {
        let mut seen = BTreeSet::new();
        let lines = self.lines.iter().filter(|(_, _, line)| wanted(line));
        lines.map(|(_, call, _)| call).filter(|call| seen.insert(*call)).cloned().collect()
    }
}

/// Returns the object of the call in `line`, by which strace selects it: an absolute path, or its first
/// descriptor, as in `openat(3</root>, "name", …)`.
fn used(line: &str) -> Option<&str> {
    let named = line.split('"').nth(1).filter(|name| name.starts_with('/'));
    named.or_else(|| line.split_once('<')?.1.split('>').next())
}

/// Returns whether the call changes a file, or syncs changes.
pub(crate) fn is_change(line: &str) -> bool {
    let name = line.split('(').next().unwrap_or_default();
    let reads = READS.split(',').map(|read| read.trim_start_matches('?'));
    let only_opens = name.starts_with("open") && !line.contains("O_CREAT");
    !only_opens && !reads.into_iter().any(|read| read == name)
}

/// Returns the directory and the name to which a rename moves something out of the staging directory of
/// `root`.
pub(crate) fn publishing<'l>(line: &'l str, root: &Path) -> Option<(&'l Path, &'l str)> {
    let staging = root.join(".oci2bk-staging");
    // `renameat2(6</root/.oci2bk-staging>, "name", 3</root>, "name", …)`
    let mut directories = line.split('<').skip(1).filter_map(|rest| rest.split('>').next());
    let (from, to) = (Path::new(directories.next()?), Path::new(directories.next()?));
    let name = line.split('"').nth(3)?;
    let moves = line.starts_with("rename") && from.starts_with(&staging);
    (moves && to.starts_with(root) && !to.starts_with(&staging)).then_some((to, name))
}

/// A disturbed run.
#[derive(Debug)]
pub(crate) struct Disturbed {
    pub(crate) output: Output,
    /// The disturbed calls: each thread counts its own calls.
    pub(crate) calls: Vec<String>,
}

/// Runs `command` and disturbs it at `call`: `signal=SIGKILL`, or `error=ENOSPC` and similar.
pub(crate) fn disturb(command: &Command, call: &Call, how: &str) -> Result<Disturbed> {
    let log = tempfile::NamedTempFile::new()?;
    let mut strace = strace();
    // With --seccomp-bpf no signal would be sent.
    strace.args(["-f", "-qq", "-y", "-o"]).arg(log.path());
    strace.args(["-e", &format!("trace={}", call.name)]);
    strace.args(["-e", &format!("inject={}:{how}:when={}", call.name, call.nth)]);
    if let Some(path) = &call.of {
        strace.args(["-P", path]);
    }
    let mut output = follow(strace, command).output().context("strace")?;
    // The first process of a namespace cannot end by a signal, and ends as a shell does.
    if output.status.code() == Some(128 + KILL) {
        output.status = ExitStatus::from_raw(KILL);
    }
    let log = std::fs::read_to_string(log.path())?;
    let calls = log.lines().filter(|line| line.contains("(INJECTED)")).map(str::to_owned).collect();
    Ok(Disturbed { output, calls })
}

/// Returns strace in its own process namespace. There the command finds no other processes in `/proc`, so its
/// calls do not depend on them.
fn strace() -> Command {
    let mut strace = Command::new("unshare");
    strace.args(["--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "strace"]);
    strace
}

fn follow(mut strace: Command, command: &Command) -> Command {
    strace.arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => strace.env(name, value),
            None => strace.env_remove(name),
        };
    }
    strace
}
