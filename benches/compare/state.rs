//! The cost of a state as an image: its export and import, beside a copy of the root and a conversion on the spot.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::Value;

use crate::cache::{Cache, Shape};
use crate::measure::{Sample, measure};
use crate::process::{run, run_watched};
use crate::report::Spread;
use crate::target::{Kind, Target};

/// The cost of all ways, by name, one sample for each round.
#[derive(Debug, Serialize)]
pub(crate) struct StateImages {
    pub(crate) shape: Shape,
    /// What each way reads, in bytes: the cache, the image, the files of the root.
    pub(crate) bytes: BTreeMap<&'static str, u64>,
    pub(crate) runs: BTreeMap<&'static str, Vec<Sample>>,
}

const CONVERT: &str = "convert";
const EXPORT: &str = "state export";
const IMPORT: &str = "state import";
const COPY: &str = "cp -a";

/// The ways to a root on another machine, and the export before one of them.
const WAYS: [&str; 4] = [CONVERT, IMPORT, COPY, EXPORT];

/// Makes a root `rounds` times in each way, in turns, each on a new file system of `kind`.
pub(crate) fn compare(
    work: &Path,
    kind: Kind,
    oci2bk: &Path,
    cache: &Cache,
    rounds: usize,
) -> Result<StateImages> {
    let room = cache.shape.bytes * 5 / 4
        + cache.blob_bytes() * 5 / 4
        + cache.shape.files * (16 << 10)
        + (256 << 20);
    let bench = Bench { oci2bk, cache };
    // What is read lies on a file system of its own.
    let from = Target::new(work, kind, room)?;
    let of_image = Target::new(work, kind, room)?;
    let (root, image) = (from.path().join("root"), of_image.path().join("image"));
    run(&mut bench.convert(&root))?;
    let exported: Value = serde_json::from_str(&run(&mut bench.export(&root, &image))?)?;
    let image_bytes = exported["layers_size"].as_u64().context("no size")?;
    let root_bytes = run(Command::new("du").args(["-s", "--block-size=1"]).arg(&root))?;
    let root_bytes = root_bytes.split_whitespace().next().context("no size")?.parse()?;
    let bytes = BTreeMap::from([
        (CONVERT, cache.blob_bytes()),
        (EXPORT, root_bytes),
        (IMPORT, image_bytes),
        (COPY, root_bytes),
    ]);
    let mut runs: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let mut turns = WAYS.to_vec();
    for round in 1..=rounds {
        for way in &turns {
            cache.warm(false)?;
            for dir in [&root, &image] {
                run(Command::new("tar").args(["-cf", "/dev/null"]).arg(dir))?;
            }
            let target = Target::new(work, kind, room)?;
            let to = target.path().join("to");
            let mut command = match *way {
                CONVERT => bench.convert(&to),
                EXPORT => bench.export(&root, &to),
                IMPORT => bench.import(&image, &to),
                _ => {
                    let mut copy = Command::new("cp");
                    copy.arg("-a").arg(&root).arg(&to);
                    copy
                }
            };
            let sample = measure(target.path(), None, || run_watched(&mut command).map(Some));
            let sample = sample.with_context(|| (*way).to_owned())?;
            eprintln!("a state, round {round}: {way} {:.2} s", sample.seconds);
            runs.entry(*way).or_default().push(sample);
        }
        turns.rotate_left(1);
    }
    fs::remove_dir_all(&root)?;
    Ok(StateImages { shape: cache.shape, bytes, runs })
}

struct Bench<'b> {
    oci2bk: &'b Path,
    cache: &'b Cache,
}

impl Bench<'_> {
    fn convert(&self, root: &Path) -> Command {
        let mut command = Command::new(self.oci2bk);
        command.args(["convert", "--progress=quiet", "--keys"]);
        command.args([&self.cache.build, &self.cache.layout]).arg(root);
        command
    }

    fn export(&self, root: &Path, image: &Path) -> Command {
        let mut command = Command::new(self.oci2bk);
        command.args(["state", "export", "--progress=quiet", "--format=json"]).arg(root);
        command.arg("--to").arg(format!("oci:{}", image.display()));
        command
    }

    fn import(&self, image: &Path, root: &Path) -> Command {
        let mut command = Command::new(self.oci2bk);
        let source = format!("oci:{}", image.display());
        command.args(["state", "import", "--progress=quiet", &source]).arg(root);
        command
    }
}

impl StateImages {
    /// Appends the table.
    pub(crate) fn write(&self, text: &mut String) {
        let Shape { bytes, files, .. } = self.shape;
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "\n## A state as an image\n\n{:.1} GB in {files} files: the root by `convert` from the cache, by `state \
             import` from an image in a layout, and by `cp -a` from another root; and the export of the image.\n\n\
             | | reads, MB | seconds | spread | of the convert | peak memory, MiB |\n|---|---|---|---|---|---|",
            bytes as f64 / 1e9,
        );
        let seconds = |name: &str| -> Option<Vec<f64>> {
            Some(self.runs.get(name)?.iter().map(|sample| sample.seconds).collect())
        };
        for name in WAYS {
            let (Some(samples), Some(own)) = (self.runs.get(name), seconds(name)) else { continue };
            let ratio = seconds(CONVERT).and_then(|convert| {
                Spread::of(own.iter().zip(convert).map(|(own, convert)| own / convert).collect())
            });
            let (Some(spread), Some(ratio)) = (Spread::of(own), ratio) else { continue };
            let peak = samples.iter().filter_map(|sample| sample.peak_bytes).max();
            let Spread { median, lowest, highest } = spread;
            let _ = writeln!(
                text,
                "| `{name}` | {:.0} | {median:.2} | {lowest:.2} to {highest:.2} | {:.2} ({:.2} to {:.2}) | {} |",
                self.bytes.get(name).map_or(0.0, |bytes| *bytes as f64 / 1e6),
                ratio.median,
                ratio.lowest,
                ratio.highest,
                peak.map_or_else(String::new, |peak| (peak >> 20).to_string()),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_ways_are_compared_with_a_conversion() {
        let samples = |seconds: &[f64]| {
            let peak_bytes = Some(64 << 20);
            let sample = |seconds: &f64| Sample { seconds: *seconds, cpu_seconds: 1.0, peak_bytes };
            seconds.iter().map(sample).collect()
        };
        let runs = [(CONVERT, samples(&[2.0, 4.0, 2.0])), (IMPORT, samples(&[1.0, 1.0, 3.0]))];
        let shape = Shape { bytes: 2_000_000_000, files: 80_000, layers: 12 };
        let bytes = [(CONVERT, 700_000_000), (IMPORT, 1_500_000_000)];
        let mut text = String::new();
        StateImages { shape, bytes: bytes.into(), runs: runs.into() }.write(&mut text);
        let rows: Vec<_> = text.lines().skip(7).collect();
        assert_eq!(
            rows,
            [
                "| `convert` | 700 | 2.00 | 2.00 to 4.00 | 1.00 (1.00 to 1.00) | 64 |",
                "| `state import` | 1500 | 1.00 | 1.00 to 3.00 | 0.50 (0.25 to 1.50) | 64 |",
            ]
        );
    }
}
