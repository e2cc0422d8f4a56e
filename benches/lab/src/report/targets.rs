//! Targets, and whether they were reached.

use serde::Serialize;

use super::{sound, time};
use crate::results::Run;
use crate::stats::{Summary, ratio};

/// Maximum time on a converted root, relative to a root on which the build itself ran.
const CONVERTED: f64 = 1.05;

/// Maximum time of a recorded build, relative to one whose progress is discarded.
const RECORDED: f64 = 1.05;

/// A target.
#[derive(Debug, Serialize)]
pub struct Target {
    /// Its description.
    pub name: String,
    /// The measured value, as text.
    pub measured: String,
    /// The maximum, as text.
    pub bound: String,
    /// The outcome.
    pub verdict: Verdict,
}

/// Whether a target was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Reached.
    Pass,
    /// Not reached.
    Fail,
    /// The required values were not measured.
    NotMeasured,
}

impl Verdict {
    /// Returns the word in reports.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Pass => "PASS",
            Self::Fail => "FAIL",
            Self::NotMeasured => "not measured",
        }
    }
}

pub(super) fn of(run: &Run) -> Vec<Target> {
    let overhead = run.overhead.as_ref();
    let median = |durations: &[u64]| Summary::of(durations.iter().copied());
    let first_builds = run.first_builds.as_ref();
    let mut targets = vec![
        at_most(
            "time of the first build on a converted root to that on a naturally warm one"
                .to_owned(),
            first_builds.and_then(|builds| median(&builds.converted)),
            first_builds.and_then(|builds| median(&builds.natural)),
            CONVERTED,
        ),
        at_most(
            "the same, if the naturally warm one has the client's build context already".to_owned(),
            first_builds.and_then(|builds| median(&builds.converted)),
            first_builds.and_then(|builds| median(&builds.acquainted)),
            CONVERTED,
        ),
        at_most(
            "time of `converted-edit` to `baked-edit`, a naturally warm root".to_owned(),
            time(run, "converted-edit"),
            time(run, "baked-edit"),
            CONVERTED,
        ),
    ];
    targets
        .extend(["converted", "converted-edit"].map(|scenario| nothing_extracted(run, scenario)));
    targets.push(at_most(
        "time of a warm build that is recorded to one that is not".to_owned(),
        overhead.and_then(|overhead| median(&overhead.recorded)),
        overhead.and_then(|overhead| median(&overhead.unrecorded)),
        RECORDED,
    ));
    targets
}

fn at_most(name: String, part: Option<Summary>, whole: Option<Summary>, bound: f64) -> Target {
    let measured = part.zip(whole).and_then(|(part, whole)| ratio(part.median, whole.median));
    let verdict = match measured {
        None => Verdict::NotMeasured,
        Some(measured) if measured <= bound => Verdict::Pass,
        Some(_) => Verdict::Fail,
    };
    let measured = measured.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.3}"));
    Target { name, measured, bound: format!("{bound:.2}"), verdict }
}

fn nothing_extracted(run: &Run, scenario: &str) -> Target {
    let counts = sound(run, scenario)
        .map(|(_, build)| build.progress.extracted.len() + build.progress.imports.len());
    let most = counts.max();
    Target {
        name: format!("imports and extracted layers of `{scenario}`"),
        measured: most.map_or_else(|| "–".to_owned(), |count| count.to_string()),
        bound: "0".to_owned(),
        verdict: match most {
            None => Verdict::NotMeasured,
            Some(0) => Verdict::Pass,
            Some(_) => Verdict::Fail,
        },
    }
}
