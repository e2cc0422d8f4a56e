//! The arguments of `du`.

use std::path::PathBuf;

use bkstate::usage::Filter;
use clap::Args;

use super::EXIT_CODES;
use super::common::Format;

#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Du {
    /// The root of the buildkitd, such as /var/lib/buildkit. Nothing in it is changed
    #[arg(value_name = "ROOT")]
    pub(crate) root: PathBuf,

    /// Show the records that match FILTER, such as type==exec.cachemount,mutable, in the form of
    /// buildctl du or docker buildx du; may be given several times
    #[arg(long = "filter", value_name = "FILTER")]
    pub(crate) filters: Vec<Filter>,

    /// Show everything that is known of each record
    #[arg(short, long, conflicts_with = "format")]
    pub(crate) verbose: bool,

    /// The form of what is printed on stdout; json is an object for each record, in a line of its
    /// own
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,
}
