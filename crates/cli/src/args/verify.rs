//! The arguments of `verify`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;

use super::common::{Format, LimitArguments, ProgressMode, limits_and_exit_codes};

#[derive(Debug, Args)]
#[command(after_help = limits_and_exit_codes())]
pub(crate) struct Verify {
    /// The root of the buildkitd, such as /var/lib/buildkit. Nothing in it is changed
    #[arg(value_name = "ROOT")]
    pub(crate) root: PathBuf,

    /// Compare the unpacked trees with their layers too, which are unpacked into TMPDIR for that, one
    /// for each job at a time. Needs root
    #[arg(long)]
    pub(crate) trees: bool,

    #[command(flatten)]
    pub(crate) limits: LimitArguments,

    /// How many blobs or trees to work on at a time [default: the number of processors]
    #[arg(short, long, value_name = "N")]
    pub(crate) jobs: Option<NonZeroUsize>,

    /// The form of what is printed on stdout
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,

    /// How to show progress on stderr
    #[arg(long, value_enum, default_value_t = ProgressMode::Auto, env = "BUILDKIT_PROGRESS")]
    pub(crate) progress: ProgressMode,
}
