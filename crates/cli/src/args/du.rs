//! The arguments of `du`.

use bkstate::usage::Filter;
use clap::Args;

use super::common::Format;
use super::daemon::RootArguments;
use crate::code::EXIT_CODES;

const EXAMPLES: &str = "\
Examples:
  # All records and their sums
  oci2bk du /var/lib/buildkit

  # Cache mounts of a builder of docker buildx, which was stopped
  oci2bk du --builder ci --filter type==exec.cachemount

  # For programs: an object for each record
  oci2bk du /var/lib/buildkit --format json";

#[derive(Debug, Args)]
#[command(after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub(crate) struct Du {
    #[command(flatten)]
    pub(crate) root: RootArguments,

    /// Show the records that match FILTER, such as type==exec.cachemount,mutable
    ///
    /// In the form of buildctl du or of docker buildx du; may be given several times.
    #[arg(long = "filter", value_name = "FILTER")]
    pub(crate) filters: Vec<Filter>,

    /// Show all fields of each record
    #[arg(short, long, conflicts_with = "format")]
    pub(crate) verbose: bool,

    /// The form of the result on stdout
    ///
    /// JSON is an object for each record, in a line of its own.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,
}
