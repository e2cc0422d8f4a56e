//! Layers through the library's unpacker.

use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use bkstate::worker::{OwnerMap, Worker};
use bkstate::{Classified as _, Digest};
use oci2bk::limits::Limits;
use oci2bk::unpack::{Layer, Placement, unpack};

use crate::case::{Blob, Case, OWNERS, Outcome};
use crate::sandbox::{Sandbox, names};

/// Unpacks and settles `blob` into `fs`, on top of `lowers`, nearest first.
pub(crate) fn apply(
    blob: &Blob,
    fs: &Path,
    lowers: &[PathBuf],
    worker: &Worker,
    limits: &Limits,
) -> Result<()> {
    let mut file = tempfile::tempfile()?;
    std::io::Write::write_all(&mut file, &blob.bytes)?;
    let layer = Layer {
        blob: &file,
        digest: Digest::of(&blob.bytes),
        size: blob.bytes.len() as u64,
        media_type: blob.media_type,
        diff_id: Digest::of(&blob.tar),
    };
    let placement = if lowers.is_empty() { Placement::Base } else { Placement::Overlay };
    let directory = File::open(fs)?;
    let unpacked = unpack(&layer, directory.as_fd(), placement, worker, limits, &|_| ());
    let lowers: Vec<_> = lowers.iter().map(File::open).collect::<Result<_, _>>()?;
    let settled = unpacked.and_then(|unpacked| unpacked.implied.settle(directory.as_fd(), lowers));
    settled.map_err(|error| {
        // The message of the command, and the docs page.
        let limit = error.limit_name().map(|name| format!("--limit {name}"));
        let is_input = error.is_input();
        let error = anyhow::Error::new(error);
        match limit {
            Some(limit) => error.context(limit),
            None if is_input => error,
            None => error.context("the machine is to blame"),
        }
    })
}

/// Unpacks the layers of a case in a chain.
pub(crate) fn prove(case: &Case) -> Result<()> {
    let sandbox = Sandbox::new()?;
    let layers = (case.layers)(&sandbox.outside());
    let limits =
        Limits::with(&case.limits.iter().map(|s| s.parse()).collect::<Result<Vec<_>, _>>()?);
    let worker = match case.rootless {
        false => Worker::default(),
        true => Worker::default().mapped(OwnerMap::of_both(OWNERS.parse()?)),
    };
    let mut lowers = Vec::new();
    for (index, blob) in layers.iter().enumerate() {
        let fs = sandbox.snapshot(&index.to_string())?;
        let outcome = apply(blob, &fs, &lowers, &worker, &limits);
        sandbox.ensure_untouched()?;
        if index + 1 < layers.len() {
            outcome.context("a lower layer")?;
        } else {
            check(&case.outcome, outcome.map_err(|error| format!("{error:#}")), &fs)?;
        }
        lowers.insert(0, fs);
    }
    // The result can be removed.
    for fs in lowers {
        fs::remove_dir_all(fs)?;
    }
    Ok(())
}

/// Compares an outcome with the expected one; `fs` is the tree.
pub(crate) fn check(expected: &Outcome, outcome: Result<(), String>, fs: &Path) -> Result<()> {
    match (expected, outcome) {
        (Outcome::Unpacks(expected), Ok(())) => {
            let names = names(fs)?;
            ensure!(&names == expected, "it has {names:?}, expected were {expected:?}");
        }
        (Outcome::Unpacks(_), Err(error)) => anyhow::bail!("refused: {error}"),
        (Outcome::Refused(text), Ok(())) => anyhow::bail!("unpacks, but expected was: {text}"),
        (Outcome::Refused(text), Err(error)) => {
            ensure!(error.contains(text), "expected was {text:?}, but it is: {error}");
            ensure!(!error.contains("the machine is to blame"), "{error}");
        }
    }
    Ok(())
}
