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
  4  keys are missing, or none is of the cache; nothing was written
  5  verification found damage
  6  the root is in use, or another program writes to the layout";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write the state of caches into the root of a buildkitd that does not run
    Convert(Convert),
    /// Write the keys that sources have into a file, or attach them to a cache
    Keys(Keys),
}

#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Convert {
    /// A cache export: DIR, oci:DIR[:TAG|@DIGEST] or type=local,src=DIR[,tag=TAG][,digest=DIGEST]
    #[arg(required = true, value_name = "SRC")]
    pub(crate) sources: Vec<SourceRef>,

    /// The root of the buildkitd, such as /var/lib/buildkit; made if it is not there
    #[arg(value_name = "ROOT")]
    pub(crate) root: PathBuf,

    /// Take op digests from FILE: provenance (mode=max), a metadata file of buildx, a layout with
    /// an image and its attestations, the cache.db of a builder, or what oci2bk keys wrote. The
    /// type shows from the content; what lies inside SRC is looked at anyway
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

#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    override_usage = "oci2bk keys <SOURCE>... --output <FILE>\n       \
                      oci2bk keys attach <LAYOUT> --keys <SOURCE>... [--tag <TAG>]",
    after_help = EXIT_CODES
)]
pub(crate) struct Keys {
    #[command(subcommand)]
    pub(crate) command: Option<KeysCommand>,

    /// Where to take op digests from: whatever convert takes with --keys
    #[arg(required = true, value_name = "SOURCE")]
    pub(crate) sources: Vec<PathBuf>,

    /// Write the keys to FILE; - is stdout. The file has digests and the kinds of steps, but no
    /// arguments, environment or paths
    #[arg(short, long, value_name = "FILE", required = true)]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Attach the keys of a cache to it, as an OCI artifact in its layout, where convert finds
    /// them; what was attached before is replaced
    Attach(Attach),
}

#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Attach {
    /// The cache: DIR, oci:DIR[:TAG|@DIGEST] or type=local,src=DIR[,tag=TAG][,digest=DIGEST]
    #[arg(value_name = "LAYOUT")]
    pub(crate) layout: SourceRef,

    /// Where to take op digests from: whatever convert takes with --keys
    #[arg(long, value_name = "SOURCE", required = true, num_args = 1..)]
    pub(crate) keys: Vec<PathBuf>,

    /// Give the artifact a tag, for tools that copy nothing but what has one
    #[arg(long, value_name = "TAG")]
    pub(crate) tag: Option<String>,
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
        let Command::Convert(convert) = Arguments::try_parse_from(words).unwrap().command else {
            panic!("not convert");
        };
        assert_eq!(convert.sources.len(), 2);
        assert_eq!(convert.root, PathBuf::from("/var/lib/buildkit"));
        assert!(Arguments::try_parse_from(["oci2bk", "convert", "only-one"]).is_err());
        assert!(Arguments::try_parse_from(["oci2bk", "convert", "type=gha", "r"]).is_err());
    }

    #[test]
    fn keys_are_written_or_attached() {
        let parse = |words: &str| {
            let arguments = Arguments::try_parse_from(words.split(' '));
            arguments.map(|arguments| match arguments.command {
                Command::Keys(keys) => keys,
                Command::Convert(_) => panic!("not keys"),
            })
        };
        let keys = parse("oci2bk keys a b -o c").unwrap();
        assert_eq!(keys.sources, [PathBuf::from("a"), PathBuf::from("b")]);
        assert_eq!(keys.output, Some(PathBuf::from("c")));
        assert!(keys.command.is_none());

        let keys = parse("oci2bk keys attach oci:dir:main --keys a b --keys c --tag keys").unwrap();
        let Some(KeysCommand::Attach(attach)) = keys.command else { panic!("not attach") };
        assert_eq!(attach.layout, "oci:dir:main".parse().unwrap());
        assert_eq!(attach.keys, ["a", "b", "c"].map(PathBuf::from));
        assert_eq!(attach.tag.as_deref(), Some("keys"));

        // A file of that name can be given with its directory.
        assert_eq!(parse("oci2bk keys ./attach -o -").unwrap().sources.len(), 1);
        for wrong in ["keys", "keys a", "keys -o a", "keys attach a", "keys attach a -o b --keys c"]
        {
            assert!(parse(&format!("oci2bk {wrong}")).is_err(), "{wrong}");
        }
    }
}
