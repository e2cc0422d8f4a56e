//! The command line.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, value_parser};

use crate::lab::{Exports, Mode};
use crate::scenario::{self, Scenario};
use crate::workload::{Size, Workload};

/// Measure whole builds on builders that were warmed in different ways.
#[derive(Debug, Parser)]
#[command(name = "lab", version, propagate_version = true)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,

    /// Where results are kept [default: target/lab]
    #[arg(long, global = true, value_name = "DIR")]
    pub results: Option<PathBuf>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Measure, and add the results to those that there are. Needs root
    Run(Run),
    /// Say what a run showed
    Report(Report),
    /// Put the latest runs side by side
    Compare(Compare),
}

/// What to measure.
#[derive(Debug, Args)]
pub struct Run {
    #[command(flatten)]
    which: Which,

    /// How much the generated project is
    #[arg(long, value_enum, default_value_t = Size::Full)]
    size: Size,

    /// Measure the project with this build context in place of a generated one
    #[arg(long, value_name = "DIR", conflicts_with = "size", requires = "edit")]
    context: Option<PathBuf>,

    /// Its Dockerfile, relative to the context
    #[arg(long, value_name = "FILE", requires = "context", default_value = "Dockerfile")]
    dockerfile: PathBuf,

    /// The source file that counts as edited, relative to the context: a copy of it gets a line more
    #[arg(long, value_name = "FILE", requires = "context")]
    edit: Option<PathBuf>,

    /// How often to measure each scenario
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = value_parser!(u32).range(1..))]
    pub(crate) repeats: u32,

    /// The mode of the cache export
    #[arg(long, value_enum, default_value_t = Mode::Max)]
    cache_mode: Mode,

    /// The mode of the provenance that the conversion takes its keys from
    #[arg(long, value_enum, default_value_t = Mode::Max)]
    provenance: Mode,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// Measure every scenario, first builds in pairs, and what measuring costs
    #[arg(long)]
    all: bool,

    /// Measure this scenario; can be given several times
    #[arg(long = "scenario", value_name = "NAME", value_parser = parse_scenario)]
    scenarios: Vec<&'static Scenario>,
}

/// What to say, and how.
#[derive(Debug, Args)]
pub struct Report {
    /// The form of the report
    #[arg(long, value_enum, default_value_t = Format::Markdown)]
    pub(crate) format: Format,

    /// The results to report on [default: the latest]
    #[arg(long, value_name = "FILE")]
    pub(crate) run: Option<PathBuf>,

    /// What part of a scenario's images must be the expected one
    #[arg(long, value_name = "RATIO", default_value_t = 1.0)]
    pub(crate) threshold: f64,

    /// Write tables and the plot into the documentation in the current directory
    #[arg(long)]
    pub(crate) write: bool,
}

/// Which runs to compare.
#[derive(Debug, Args)]
pub struct Compare {
    /// How many of the latest runs
    #[arg(long, value_name = "N", default_value = "2")]
    pub(crate) last: NonZeroUsize,

    /// The form of the comparison
    #[arg(long, value_enum, default_value_t = Format::Markdown)]
    pub(crate) format: Format,
}

/// The form of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Markdown, for people.
    Markdown,
    /// JSON, for programs.
    Json,
}

impl Run {
    /// Returns the scenarios, in the order of reports.
    pub(crate) fn scenarios(&self) -> Vec<&'static Scenario> {
        let wanted = |scenario: &&Scenario| {
            self.which.all || self.which.scenarios.iter().any(|wanted| wanted == scenario)
        };
        scenario::ALL.iter().filter(wanted).collect()
    }

    /// Returns whether to measure more than scenarios: first builds, and the overhead of measuring.
    pub(crate) fn measures_all(&self) -> bool {
        self.which.all
    }

    /// Returns the number of builds of each kind per repeat, for comparisons of builds that take a fraction
    /// of a second.
    pub(crate) fn short_builds(&self) -> u32 {
        match self.workload() {
            // This one shows that the lab works, not how long builds take.
            Workload::Generated(Size::Tiny) => 2,
            _ => 16,
        }
    }

    pub(crate) fn workload(&self) -> Workload {
        match (&self.context, &self.edit) {
            (Some(context), Some(edit)) => Workload::Project {
                context: context.clone(),
                dockerfile: self.dockerfile.clone(),
                edit: edit.clone(),
            },
            _ => Workload::Generated(self.size),
        }
    }

    pub(crate) fn exports(&self) -> Exports {
        Exports { cache: self.cache_mode, provenance: self.provenance }
    }
}

fn parse_scenario(name: &str) -> Result<&'static Scenario, String> {
    scenario::find(name).ok_or_else(|| {
        let names: Vec<_> = scenario::ALL.iter().map(|scenario| scenario.name).collect();
        format!("there are {}", names.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(words: &str) -> Result<Run, clap::Error> {
        match Arguments::try_parse_from(format!("lab run {words}").split_whitespace())?.command {
            Command::Run(run) => Ok(run),
            _ => panic!("not what was asked for"),
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn some_scenarios_are_measured_in_the_order_of_reports() {
        let run = parse("--scenario converted --scenario cold").unwrap();
        let names: Vec<_> = run.scenarios().iter().map(|scenario| scenario.name).collect();
        assert_eq!(names, ["cold", "converted"]);
        assert!(!run.measures_all());
        assert_eq!(parse("--all").unwrap().scenarios().len(), scenario::ALL.len());
    }

    #[test]
    fn what_is_measured_has_to_be_said() {
        for words in ["", "--all --scenario cold", "--scenario nonsense", "--all --repeats 0"] {
            assert!(parse(words).is_err(), "{words}");
        }
    }

    #[test]
    fn a_project_of_the_users_needs_a_file_to_edit() {
        let run = parse("--all --context dir --edit src/main").unwrap();
        let Workload::Project { dockerfile, .. } = run.workload() else { panic!("a project") };
        assert_eq!(dockerfile.to_str(), Some("Dockerfile"));
        let generated = parse("--all --size small").unwrap().workload();
        assert!(matches!(generated, Workload::Generated(Size::Small)));
        for words in
            ["--all --context dir", "--all --edit f", "--all --context d --edit f --size tiny"]
        {
            assert!(parse(words).is_err(), "{words}");
        }
    }
}
