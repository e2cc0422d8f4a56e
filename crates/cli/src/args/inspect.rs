//! The arguments of `inspect`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use oci2bk::release::Target;

use super::common::{LimitArguments, limits_and_exit_codes};

#[derive(Debug, Args)]
#[command(after_help = limits_and_exit_codes())]
pub(crate) struct Inspect {
    /// What to look into: a cache export in any form that convert takes, or the root of a buildkitd
    /// that does not run, such as /var/lib/buildkit. Which of them shows from what is there. Nothing
    /// is changed
    #[arg(value_name = "SRC|ROOT")]
    pub(crate) place: OsString,

    /// Show only this and what is tied to it: the id of a record, a digest of any kind, or the first
    /// characters of one, four at least
    #[arg(value_name = "RECORD|DIGEST")]
    pub(crate) only: Option<String>,

    /// Take op digests, and with them the names of steps, from FILE, as convert does
    #[arg(long, value_name = "FILE")]
    pub(crate) keys: Vec<PathBuf>,

    /// Of an export: the release of the buildkitd that would use its state, to tell what it would not
    /// find
    #[arg(long, value_name = "VERSION", default_value_t)]
    pub(crate) buildkit: Target,

    #[command(flatten)]
    pub(crate) limits: LimitArguments,

    /// The form of what is printed on stdout
    #[arg(long, value_enum, default_value_t = InspectFormat::Table)]
    pub(crate) format: InspectFormat,
}

/// The form of what is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum InspectFormat {
    /// For people
    Table,
    /// For programs
    Json,
    /// The graph of steps, for Graphviz
    Dot,
    /// The graph of steps, as a picture
    Svg,
}
