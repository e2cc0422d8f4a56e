//! The arguments of `verify`.

use std::num::NonZeroUsize;

use clap::Args;

use super::common::{Format, LimitArguments, PROGRESS_VARIABLE, ProgressMode, more_help};
use super::daemon::RootArguments;

const EXAMPLES: &str = "\
Examples:
  # Databases, references between them, and the digest of every blob
  oci2bk verify /var/lib/buildkit

  # The state of a builder of docker buildx, which was stopped
  oci2bk verify --builder ci

  # After an upgrade from before BuildKit v0.33.1: let the daemon share its layers again
  oci2bk verify --trees --mend /var/lib/buildkit

  # The unpacked trees too, with the result as JSON
  oci2bk verify --trees --format json /var/lib/buildkit";

#[derive(Debug, Args)]
#[command(after_long_help = more_help(EXAMPLES))]
pub(crate) struct Verify {
    #[command(flatten)]
    pub(crate) root: RootArguments,

    /// Compare the unpacked trees with their layers too, which needs the privileges of root
    ///
    /// The layers are unpacked into TMPDIR for that, one for each job at a time.
    #[arg(long)]
    pub(crate) trees: bool,

    /// Rename the layers of daemons before v0.33.1 that pass, so that newer daemons share them
    ///
    /// Such a daemon did not check what it unpacked, so newer ones share none of it with images and
    /// caches. What is what its layer unpacks to, with all below it, is renamed; nothing else is changed.
    #[arg(long, requires = "trees")]
    pub(crate) mend: bool,

    #[command(flatten)]
    pub(crate) limits: LimitArguments,

    /// How many blobs or trees to work on at a time [default: the number of processors]
    #[arg(short, long, value_name = "N")]
    pub(crate) jobs: Option<NonZeroUsize>,

    /// The form of what is printed on stdout
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,

    /// How to show progress on stderr
    #[arg(long, value_enum, default_value_t = ProgressMode::Auto, env = PROGRESS_VARIABLE)]
    pub(crate) progress: ProgressMode,
}
