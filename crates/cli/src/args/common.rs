//! Arguments of several commands.

use std::num::NonZeroUsize;

use clap::{Args, ValueEnum};
use oci2bk::limits::{LIMITS, Limit, Limits, Setting, amount};

use crate::code::EXIT_CODES;

/// The limits on the cost of the input.
#[derive(Debug, Args)]
pub(crate) struct LimitArguments {
    /// Raise or lower a limit on what the input may cost, such as layer-entries=50M
    ///
    /// oci2bk help limits lists the names and their defaults. Without a name, untrusted lowers all limits for
    /// input from people you do not trust. May be given several times; the last one counts.
    #[arg(long = "limit", value_name = "NAME=VALUE")]
    settings: Vec<Setting>,
}

impl LimitArguments {
    pub(crate) fn limits(&self) -> Limits {
        Limits::with(&self.settings)
    }
}

/// Returns the text at the end of `--help`.
pub(super) fn more_help(examples: &str) -> String {
    format!("{}\n\n{EXIT_CODES}", examples.trim_end())
}

/// Parses the number of parallel jobs.
pub(super) fn jobs(text: &str) -> Result<NonZeroUsize, String> {
    text.parse().map_err(|_| "it has to be a number from 1 on".to_owned())
}

/// Returns the limits, one per line, with their defaults and their values in `untrusted`.
pub(crate) fn limits() -> String {
    let setting = |limit: &Limit| format!("{}={}", limit.name(), amount(limit.default));
    let settings: Vec<_> = LIMITS.iter().map(setting).collect();
    let width = settings.iter().map(String::len).max().unwrap_or_default();
    let lines = settings.iter().zip(LIMITS).map(|(setting, limit)| {
        let (untrusted, description) = (amount(limit.untrusted), limit.description);
        format!("{setting:width$}  {untrusted:>6}  {}\n", description.trim_end_matches('.'))
    });
    lines.collect::<String>().trim_end().to_owned()
}

/// The form of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Table,
    /// For programs
    Json,
}

/// The environment variable for `--progress`.
pub(super) const PROGRESS_VARIABLE: &str = "BUILDKIT_PROGRESS";

/// The form of progress, as in `docker buildx build --progress`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressMode {
    /// As tty on a terminal, as plain elsewhere
    // An empty variable counts as unset.
    #[value(alias = "")]
    Auto,
    /// A line per event
    Plain,
    /// Bars
    Tty,
    /// A JSON object per event
    Rawjson,
    /// Nothing
    #[value(alias = "none")]
    Quiet,
}
