//! How soon a cancelled conversion returns, and how long what it leaves takes to remove.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use oci2bk::convert::{ConvertError, remove_remains};
use oci2bk::progress::Stage;
use oci2bk::{Cancel, Converter, Event, Limits, Preparer, Source};
use serde::Serialize;

use crate::cache::Cache;
use crate::target::{Kind, Target};

/// A moment of a conversion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// The layer with most bytes is almost unpacked.
    Unpacking,
    /// All layers are unpacked.
    Settling,
    /// The databases are to be written.
    Verifying,
}

const MOMENTS: [(&str, Moment); 3] = [
    ("while layers are unpacked", Moment::Unpacking),
    ("when all are unpacked", Moment::Settling),
    ("before the databases are written", Moment::Verifying),
];

/// How long a caller may have to wait, in seconds.
const WANTED: f64 = 0.5;

/// Cancelled conversions of one cache.
#[derive(Debug, Serialize)]
pub(crate) struct Cancelled {
    pub(crate) files: u64,
    pub(crate) runs: Vec<Run>,
}

/// A cancelled conversion.
#[derive(Debug, Serialize)]
pub(crate) struct Run {
    pub(crate) moment: &'static str,
    /// From the request to the return.
    pub(crate) seconds: f64,
    /// For the rest, which the next conversion would remove.
    pub(crate) removal: f64,
}

/// Cancels conversions of `cache` into new file systems of `kind`, `rounds` times at each moment.
pub(crate) fn measure(work: &Path, kind: Kind, cache: &Cache, rounds: usize) -> Result<Cancelled> {
    let mut runs = Vec::new();
    for round in 1..=rounds {
        for (moment, at) in MOMENTS {
            let (seconds, removal) = cancelled(work, kind, cache, at)?;
            let files = cache.shape.files;
            eprintln!(
                "{files} files, round {round}: cancelled {moment} {seconds:.3} s, removal {removal:.2} s"
            );
            runs.push(Run { moment, seconds, removal });
        }
    }
    Ok(Cancelled { files: cache.shape.files, runs })
}

fn cancelled(work: &Path, kind: Kind, cache: &Cache, moment: Moment) -> Result<(f64, f64)> {
    let room = cache.shape.bytes * 2 + cache.blob_bytes() * 2 + cache.shape.files * (8 << 10);
    let target = Target::new(work, kind, room + (256 << 20))?;
    let root = target.path().join("root");
    let source: Source = cache.layout.to_str().context("a path in UTF-8")?.parse()?;
    let limits = Limits::default();
    let prepared = Preparer::new().limits(limits).prepare(&[source])?;

    let cancel = Cancel::new();
    let asked: Arc<Mutex<Option<Instant>>> = Arc::default();
    let (request, noted) = (cancel.clone(), Arc::clone(&asked));
    let ask = move |event: Event<'_>| {
        let now = match event {
            Event::LayerAdvanced { work, done } => {
                moment == Moment::Unpacking && done > work.to_read / 10 * 9
            }
            Event::StageStarted(Stage::Settle) => moment == Moment::Settling,
            Event::StageStarted(Stage::Verify) => moment == Moment::Verifying,
            _ => false,
        };
        if now {
            let mut asked = noted.lock().unwrap_or_else(PoisonError::into_inner);
            asked.get_or_insert_with(Instant::now);
            request.cancel();
        }
    };
    let converter = Converter::new().limits(limits).progress(Arc::new(ask)).cancel(cancel);
    match converter.convert(&prepared.plan, &root) {
        Err(ConvertError::Cancelled) => {}
        Err(error) => return Err(error.into()),
        Ok(_) => bail!("the conversion was not cancelled"),
    }
    let asked = *asked.lock().unwrap_or_else(PoisonError::into_inner);
    let seconds = asked.context("nobody asked")?.elapsed().as_secs_f64();
    let start = Instant::now();
    remove_remains(&root)?;
    let removal = start.elapsed().as_secs_f64();
    ensure!(!root.join(".oci2bk-staging").exists(), "something is left");
    Ok((seconds, removal))
}

/// Appends the table of all caches.
pub(crate) fn write(text: &mut String, all: &[Cancelled]) {
    if all.is_empty() {
        return;
    }
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "\n## Cancelled conversions\n\nFrom the request to the return of the library, the longest of all rounds, and \
         how long `remove_remains` takes then, which the next conversion would do. Wanted: {WANTED} s at most.\n\n\
         | files | cancelled | seconds | removal, seconds | |\n|---|---|---|---|---|"
    );
    for Cancelled { files, runs } in all {
        for (moment, _) in MOMENTS {
            let of_moment = || runs.iter().filter(|run| run.moment == moment);
            let longest = of_moment().map(|run| run.seconds).fold(0.0, f64::max);
            let removal = of_moment().map(|run| run.removal).fold(0.0, f64::max);
            let verdict = if longest <= WANTED { "PASS" } else { "FAIL" };
            let _ =
                writeln!(text, "| {files} | {moment} | {longest:.2} | {removal:.1} | {verdict} |");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_wait_counts() {
        let run = |moment, seconds| Run { moment, seconds, removal: 2.0 };
        let runs = vec![run(MOMENTS[0].0, 0.1), run(MOMENTS[0].0, 0.7), run(MOMENTS[1].0, 0.2)];
        let mut text = String::new();
        write(&mut text, &[Cancelled { files: 400_000, runs }]);
        let rows: Vec<_> = text.lines().skip(7).take(2).collect();
        assert_eq!(
            rows,
            [
                "| 400000 | while layers are unpacked | 0.70 | 2.0 | FAIL |",
                "| 400000 | when all are unpacked | 0.20 | 2.0 | PASS |",
            ]
        );
    }
}
