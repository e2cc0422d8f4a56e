//! The command line.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use bkstate::Time;
use clap::{Args, Parser, Subcommand, ValueEnum};
use oci2bk::source::SourceRef;

/// Turn a BuildKit cache export into the state directory of a buildkitd that has already run
/// those builds.
#[derive(Debug, Parser)]
#[command(name = "oci2bk", version, propagate_version = true, after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed
  2  the command line is wrong
  3  the input is invalid or corrupt
  4  keys are missing; nothing was written
  5  verification found damage
  6  the root is in use";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write the state of caches into the root of a buildkitd that does not run
    Convert(Convert),
}

#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Convert {
    /// A cache export, or an image with an inline cache: DIR, oci:DIR[:TAG|@DIGEST],
    /// oci-archive:FILE[:TAG|@DIGEST] or type=local,src=DIR[,tag=TAG][,digest=DIGEST]; DIR may be a
    /// tar archive too
    #[arg(required = true, value_name = "SRC")]
    pub(crate) sources: Vec<SourceRef>,

    /// The root of the buildkitd, such as /var/lib/buildkit; made if it is not there
    #[arg(value_name = "ROOT")]
    pub(crate) root: PathBuf,

    /// Take op digests from FILE: provenance (mode=max), a metadata file of buildx, a layout with
    /// an image and its attestations, or the cache.db of a builder. The type shows from the
    /// content; what lies inside SRC is looked at anyway
    #[arg(long, value_name = "FILE")]
    pub(crate) keys: Vec<PathBuf>,

    /// Leave layers packed; the daemon unpacks each when a build first needs it. Needs no root
    #[arg(long)]
    pub(crate) no_extract: bool,

    /// Go on if keys are missing; the steps without them will run again
    #[arg(long)]
    pub(crate) allow_unkeyed: bool,

    /// How many layers to work on at a time [default: the number of processors]
    #[arg(short, long, value_name = "N")]
    pub(crate) jobs: Option<NonZeroUsize>,

    /// Print what would be done and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// The form of what is printed on stdout
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,

    /// How to show progress on stderr
    #[arg(long, value_enum, default_value_t = ProgressMode::Auto, env = "BUILDKIT_PROGRESS")]
    pub(crate) progress: ProgressMode,

    /// Write what was done to FILE, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) metadata_file: Option<PathBuf>,

    /// When the state counts as last used, in seconds since 1970 [default: when the newest part of
    /// the cache was made]
    #[arg(long, hide = true, env = "SOURCE_DATE_EPOCH", value_parser = parse_epoch)]
    pub(crate) source_date_epoch: Option<Epoch>,
}

/// The value of `SOURCE_DATE_EPOCH`; an empty variable counts as none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Epoch(pub(crate) Option<Time>);

fn parse_epoch(text: &str) -> Result<Epoch, std::num::ParseIntError> {
    if text.is_empty() {
        return Ok(Epoch(None));
    }
    text.parse().map(|seconds| Epoch(Some(Time::from_unix_seconds(seconds))))
}

/// The form of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Table,
    /// For programs
    Json,
}

/// The form of progress, as in `docker buildx build --progress`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressMode {
    /// tty on a terminal, plain elsewhere
    // An empty variable counts as none.
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

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_definition_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_last_word_is_the_root() {
        let words = ["oci2bk", "convert", "a", "type=local,src=b", "/var/lib/buildkit"];
        let Command::Convert(convert) = Arguments::try_parse_from(words).unwrap().command;
        assert_eq!(convert.sources.len(), 2);
        assert_eq!(convert.root, PathBuf::from("/var/lib/buildkit"));
        assert!(Arguments::try_parse_from(["oci2bk", "convert", "only-one"]).is_err());
        assert!(Arguments::try_parse_from(["oci2bk", "convert", "type=gha", "r"]).is_err());
    }
}
