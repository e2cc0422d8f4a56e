//! containerd's own applier, and a comparison with ours.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::time::SystemTime;

use anyhow::{Context as _, Result, bail, ensure};
use bkstate::worker::Worker;
use oci2bk::limits::Limits;
use serde_json::{Value, json};

use crate::case::{Blob, Case, Containerd};
use crate::sandbox::Sandbox;
use crate::tree::ensure_equal;
use crate::unpacker;

/// A running `refstate layers`.
pub(crate) struct Applier {
    child: Child,
    pipes: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
}

impl Applier {
    pub(crate) fn start(refstate: &Path) -> Result<Self> {
        let mut child = Command::new(refstate)
            .arg("layers")
            // Programs of the host that containerd prefers to its own decompression if they exist; they
            // accept some truncated streams.
            .env("CONTAINERD_DISABLE_PIGZ", "1")
            .env("CONTAINERD_DISABLE_IGZIP", "1")
            // Its log is not relevant.
            .stderr(Stdio::null())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", refstate.display()))?;
        let pipes = child.stdin.take().zip(child.stdout.take()).context("no pipes")?;
        Ok(Self { child, pipes: Mutex::new((pipes.0, BufReader::new(pipes.1))) })
    }

    /// Applies the blob in a file; returns why it was rejected.
    fn apply(&self, blob: &Path, fs: &Path, lowers: &[PathBuf]) -> Result<Result<(), String>> {
        let Ok(mut pipes) = self.pipes.lock() else { bail!("another test failed") };
        let (requests, answers) = &mut *pipes;
        writeln!(requests, "{}", json!({"blob": blob, "fs": fs, "lowers": lowers}))?;
        let mut line = String::new();
        answers.read_line(&mut line)?;
        let answer: Value = serde_json::from_str(&line).context("refstate ended")?;
        Ok(answer["error"].as_str().map_or(Ok(()), |error| Err(error.to_owned())))
    }
}

impl Drop for Applier {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Compares the results for the layers of a case.
pub(crate) fn prove(case: &Case, containerd: &Applier) -> Result<()> {
    let sandbox = Sandbox::new()?;
    let layers = (case.layers)(&sandbox.outside());
    let limits =
        Limits::with(&case.limits.iter().map(|s| s.parse()).collect::<Result<Vec<_>, _>>()?);
    let outcome = compare(&sandbox, &layers, &limits, containerd)?;
    match case.containerd {
        Containerd::Same => ensure!(outcome.is_same(), "{outcome:?}"),
        Containerd::Unpacks(_) => ensure!(outcome.we_refuse_alone(), "{outcome:?}"),
        Containerd::Refuses(_) => ensure!(outcome.they_refuse_alone(), "{outcome:?}"),
        Containerd::NotTried(_) => {}
    }
    Ok(())
}

/// The results for the last layer that was tried: ours, and containerd's.
#[derive(Debug)]
pub(crate) struct Outcomes {
    ours: Result<(), String>,
    theirs: Result<(), String>,
    /// Number of layers that both unpacked, to equal trees.
    pub(crate) equal: usize,
}

impl Outcomes {
    pub(crate) fn is_same(&self) -> bool {
        self.ours.is_ok() == self.theirs.is_ok()
    }

    /// Returns whether containerd fails because an implied directory is needed only for a moment, and a lower
    /// layer has something else in its place: see the known differences in docs/format/unpack.md.
    pub(crate) fn is_known_difference(&self) -> bool {
        self.ours.is_ok()
            && self.theirs.as_ref().is_err_and(|error| error.contains("not a directory"))
    }

    fn they_refuse_alone(&self) -> bool {
        self.ours.is_ok() && self.theirs.is_err()
    }

    fn we_refuse_alone(&self) -> bool {
        self.ours.is_err() && self.theirs.is_ok()
    }
}

/// Unpacks a chain of layers twice, up to the first that is rejected, and fails if the trees differ.
pub(crate) fn compare(
    sandbox: &Sandbox,
    layers: &[Blob],
    limits: &Limits,
    containerd: &Applier,
) -> Result<Outcomes> {
    // The clock of the file system is coarser than ours.
    let start = SystemTime::now() - std::time::Duration::from_millis(20);
    let (mut our_lowers, mut their_lowers) = (Vec::new(), Vec::new());
    let mut outcomes = Outcomes { ours: Ok(()), theirs: Ok(()), equal: 0 };
    for (index, layer) in layers.iter().enumerate() {
        let ours = sandbox.snapshot(&format!("ours-{index}"))?;
        let theirs = sandbox.snapshot(&format!("theirs-{index}"))?;
        let blob = sandbox.target(&format!("blob-{index}"));
        fs::write(&blob, &layer.bytes)?;
        let our = unpacker::apply(layer, &ours, &our_lowers, &Worker::default(), limits);
        outcomes.ours = our.map_err(|error| format!("{error:#}"));
        outcomes.theirs = containerd.apply(&blob, &theirs, &their_lowers)?;
        if outcomes.ours.is_err() || outcomes.theirs.is_err() {
            break;
        }
        ensure_equal(&ours, &theirs, start).with_context(|| format!("layer {index}"))?;
        outcomes.equal += 1;
        our_lowers.insert(0, ours);
        their_lowers.insert(0, theirs);
    }
    Ok(outcomes)
}
