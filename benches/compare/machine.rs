//! The machine and the programs of a measurement.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde::Serialize;

use crate::process::run;

#[derive(Debug, Default, Serialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) processors: usize,
    pub(crate) memory_bytes: u64,
    pub(crate) kernel: String,
    /// Load average of the minute before: if it is not near 0, the machine was not idle.
    pub(crate) load_before: String,
    /// The first line of each program's version output.
    pub(crate) versions: BTreeMap<&'static str, String>,
}

impl Machine {
    pub(crate) fn look(oci2bk: &Path, processors: usize) -> Self {
        let version = |program: &Path| {
            let said = run(Command::new(program).arg("--version"));
            let said = said.map(|text| text.lines().next().unwrap_or_default().to_owned());
            said.unwrap_or_else(|_| "not there".to_owned())
        };
        let commit = run(Command::new("git").args(["describe", "--always", "--dirty"]));
        let commit = commit.map_or_else(|_| String::new(), |text| format!(" ({})", text.trim()));
        let mut versions: BTreeMap<_, _> = ["tar", "pigz", "igzip", "zstd", "umoci"]
            .map(|program| (program, version(Path::new(program))))
            .into();
        versions.insert("oci2bk", version(oci2bk) + &commit);
        versions.insert("buildkitd", pinned("oracle/buildkit/go.mod", "github.com/moby/buildkit"));
        Self {
            processor: field("/proc/cpuinfo", "model name"),
            processors,
            memory_bytes: kibibytes(&field("/proc/meminfo", "MemTotal")),
            kernel: text("/proc/sys/kernel/osrelease").trim().to_owned(),
            load_before: text("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned(),
            versions,
        }
    }
}

/// Returns the version of a Go module: programs built from our modules do not know their own.
fn pinned(manifest: &str, module: &str) -> String {
    let text = text(manifest);
    let mut requirements = text.lines().map(|line| line.trim_start_matches("require").trim());
    let version = requirements.find_map(|line| line.strip_prefix(module)?.strip_prefix(' '));
    version.unwrap_or("unknown").to_owned()
}

fn text(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Returns the value of the first line `name: value`.
fn field(path: &str, name: &str) -> String {
    let text = text(path);
    let mut fields = text.lines().filter_map(|line| line.split_once(':'));
    let found = fields.find(|(key, _)| key.trim() == name);
    found.map_or_else(|| "unknown".to_owned(), |(_, value)| value.trim().to_owned())
}

fn kibibytes(text: &str) -> u64 {
    text.trim_end_matches(" kB").parse::<u64>().unwrap_or_default() * 1024
}
