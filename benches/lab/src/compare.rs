//! Changes of build times between runs.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::report;
use crate::results::Run;
use crate::scenario;
use crate::stats::{Summary, ratio};
use crate::units::{seconds_or_dash, short};

/// Several runs side by side.
#[derive(Debug, Serialize)]
pub struct Comparison {
    /// Their names, oldest first.
    pub runs: Vec<String>,
    /// A row for each scenario that any of them measured.
    pub scenarios: Vec<Change>,
    /// Other differences between the first and the last.
    pub notes: Vec<String>,
}

/// The change of a scenario. Only sound builds count.
#[derive(Debug, Serialize)]
pub struct Change {
    /// Its name.
    pub scenario: &'static str,
    /// Its time in each run; `None` without a sound build.
    pub times: Vec<Option<Summary>>,
    /// The median of the last run divided by the median of the first.
    pub ratio: Option<f64>,
    /// The meaning of the change.
    pub trend: Trend,
}

/// Whether builds of the last run are faster or slower than those of the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trend {
    /// All builds are faster than any of the first run.
    Faster,
    /// All builds are slower than any of the first run.
    Slower,
    /// The times overlap.
    Same,
    /// One of the runs has no times.
    Unknown,
}

impl Trend {
    fn of(first: Option<Summary>, last: Option<Summary>) -> Self {
        match (first, last) {
            (Some(first), Some(last)) if last.max < first.min => Self::Faster,
            (Some(first), Some(last)) if last.min > first.max => Self::Slower,
            (Some(_), Some(_)) => Self::Same,
            _ => Self::Unknown,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Faster => "faster",
            Self::Slower => "slower",
            Self::Same => "same",
            Self::Unknown => "–",
        }
    }
}

impl Comparison {
    /// Compares runs, oldest first.
    #[must_use]
    pub fn new(runs: &[Run]) -> Self {
        let change = |scenario: &scenario::Scenario| {
            let times: Vec<_> = runs.iter().map(|run| report::time(run, scenario.name)).collect();
            let first = times.first().copied().flatten();
            let last = times.last().copied().flatten();
            times.iter().any(Option::is_some).then(|| Change {
                scenario: scenario.name,
                ratio: first.zip(last).and_then(|(first, last)| ratio(last.median, first.median)),
                trend: Trend::of(first, last),
                times,
            })
        };
        Self {
            runs: runs.iter().map(|run| run.name.clone()).collect(),
            scenarios: scenario::ALL.iter().filter_map(change).collect(),
            notes: runs.first().zip(runs.last()).map_or_else(Vec::new, |(a, b)| notes(a, b)),
        }
    }

    /// Formats as JSON, for programs.
    ///
    /// # Errors
    /// Never returns an error in practice: all of it can be expressed in JSON.
    pub fn json(&self) -> serde_json::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// Formats as Markdown, for people.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut text = format!(
            "| scenario | {} | ratio | |\n|---|{}--:|---|\n",
            self.runs.join(" | "),
            "--:|".repeat(self.runs.len())
        );
        for change in &self.scenarios {
            let times: Vec<_> = change
                .times
                .iter()
                .map(|time| seconds_or_dash(time.map(|time| time.median)))
                .collect();
            let ratio = change.ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.3}"));
            text += &format!(
                "| `{}` | {} | {ratio} | {} |\n",
                change.scenario,
                times.join(" | "),
                change.trend.word()
            );
        }
        if !self.notes.is_empty() {
            text += "\n";
        }
        self.notes.iter().fold(text, |text, note| text + &format!("* {note}\n"))
    }
}

/// Lists possible causes of changed times other than the builder.
fn notes(first: &Run, last: &Run) -> Vec<String> {
    let mut notes = Vec::new();
    let (before, after) = (&first.header, &last.header);
    if before.workload != after.workload {
        notes.push("Another project, or another way to export its cache, was measured.".into());
    }
    let machine = |header: &crate::record::Header| {
        let machine = &header.machine;
        (machine.processor.clone(), machine.threads, machine.memory, machine.kernel.clone())
    };
    if machine(before) != machine(after) {
        notes.push("The machine, or its kernel, is another one.".into());
    }
    let names: BTreeSet<_> = before.versions.keys().chain(after.versions.keys()).collect();
    for name in names {
        let version = |header: &'_ crate::record::Header| {
            header.versions.get(name).cloned().unwrap_or_else(|| "unknown".to_owned())
        };
        let (before, after) = (version(before), version(after));
        if before != after {
            notes.push(format!("{name} is {after}, and was {before}."));
        }
    }
    if let (Some(before), Some(after)) = (&first.seed, &last.seed) {
        notes.extend(changed_bases(&before.bases, &after.bases));
        if before.image != after.image {
            let (before, after) = (short(&before.image), short(&after.image));
            notes.push(format!("The image is {after}, and was {before}."));
        }
    }
    notes
}

fn changed_bases(
    before: &BTreeMap<String, String>,
    after: &BTreeMap<String, String>,
) -> Vec<String> {
    let changed = after.iter().filter_map(|(name, after)| {
        let before = before.get(name)?;
        (before != after).then(|| {
            let (before, after) = (short(before), short(after));
            format!("The base image {name} is {after}, and was {before}.")
        })
    });
    changed.collect()
}

#[cfg(test)]
mod tests;
