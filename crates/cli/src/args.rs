//! The command line.

use std::error::Error as _;
use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use bkstate::Time;
use clap::error::ErrorKind;
use clap::{
    Arg, ArgAction, ArgMatches, Args, FromArgMatches, Parser, Subcommand, ValueEnum, value_parser,
};
use oci2bk::image::ImageRef;
use oci2bk::limits::{LIMITS, Limit, Limits, Setting, amount};
use oci2bk::release::Target;
use oci2bk::source::{ParseSourceError, SourceRef};

use crate::last_used;

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
    /// Check the root of a buildkitd that does not run, and say what is damaged
    Verify(Verify),
}

const USAGE: &str = "oci2bk convert [OPTIONS] <SRC>... <ROOT>";

#[derive(Debug, Args)]
#[command(after_help = limits_and_exit_codes(), override_usage = USAGE)]
pub(crate) struct Convert {
    #[command(flatten)]
    pub(crate) places: Places,

    /// Take op digests from FILE: provenance (mode=max), a metadata file of buildx, a layout with
    /// an image and its attestations, a bundle of buildx history export, LLB, the root directory of
    /// a builder or its cache.db, or what oci2bk keys wrote. The type shows from the content; what
    /// lies inside SRC is looked at anyway
    #[arg(long, value_name = "FILE")]
    pub(crate) keys: Vec<PathBuf>,

    /// The release of the buildkitd that will use the state, such as v0.16.0. Keys are translated
    /// to it
    #[arg(long, value_name = "VERSION", default_value_t)]
    pub(crate) buildkit: Target,

    /// Seed the manifest and config of a base image, so that FROM with its digest builds without a
    /// registry: [NAME=]LAYOUT, with the forms of SRC. NAME is what stands behind FROM; images with
    /// a name inside SRC are looked at anyway
    #[arg(long = "image", value_name = "[NAME=]LAYOUT")]
    pub(crate) images: Vec<ImageRef>,

    /// Leave layers packed; the daemon unpacks each when a build first needs it. Needs no root
    #[arg(long)]
    pub(crate) no_extract: bool,

    /// Go on if keys are missing; the steps without them will run again
    #[arg(long)]
    pub(crate) allow_unkeyed: bool,

    #[command(flatten)]
    pub(crate) limits: LimitArguments,

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

    /// When the state counts as last used, for the garbage collection of the daemon: a time such as
    /// 2027-06-30T00:00:00Z, @SECONDS since 1970, or now [default: SOURCE_DATE_EPOCH, or when the
    /// newest part of the cache was made]
    #[arg(long, value_name = "TIME", value_parser = last_used::parse)]
    pub(crate) last_used: Option<Time>,

    /// The same in seconds since 1970
    #[arg(long, hide = true, env = "SOURCE_DATE_EPOCH", value_parser = parse_epoch)]
    pub(crate) source_date_epoch: Option<Epoch>,

    /// Tell what is lost to the garbage collection of a daemon with the configuration FILE, a
    /// buildkitd.toml [default: that of a daemon without one]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    override_usage = "oci2bk keys <SOURCE>... --output <FILE>\n       \
                      oci2bk keys attach <LAYOUT> --keys <SOURCE>... [--tag <TAG>]",
    after_help = limits_and_exit_codes()
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

    #[command(flatten)]
    pub(crate) limits: LimitArguments,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Attach the keys of a cache to it, as an OCI artifact in its layout, where convert finds
    /// them; what was attached before is replaced
    Attach(Attach),
}

#[derive(Debug, Args)]
#[command(after_help = limits_and_exit_codes())]
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

    #[command(flatten)]
    pub(crate) limits: LimitArguments,
}

/// What the input may cost.
#[derive(Debug, Args)]
pub(crate) struct LimitArguments {
    /// Raise or lower a limit on what the input may cost, such as layer-entries=50M; they are
    /// listed below
    #[arg(long = "limit", value_name = "NAME=VALUE")]
    settings: Vec<Setting>,
}

impl LimitArguments {
    pub(crate) fn limits(&self) -> Limits {
        Limits::with(&self.settings)
    }
}

fn limits_and_exit_codes() -> String {
    let setting = |limit: &Limit| format!("{}={}", limit.name(), amount(limit.default));
    let settings: Vec<_> = LIMITS.iter().map(setting).collect();
    let width = settings.iter().map(String::len).max().unwrap_or_default();
    let lines = settings.iter().zip(LIMITS).map(|(setting, limit)| {
        format!("  {setting:width$}  {}\n", limit.description.trim_end_matches('.'))
    });
    format!("Limits and their defaults:\n{}\n{EXIT_CODES}", lines.collect::<String>())
}

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

/// The value of `SOURCE_DATE_EPOCH`; an empty variable counts as none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Epoch(pub(crate) Option<Time>);

/// Where from and where to: `SRC... ROOT`.
///
/// To clap it is one list, whose last word is the root. As two arguments it would let no option
/// stand between the sources and the root.
#[derive(Debug)]
pub(crate) struct Places {
    pub(crate) sources: Vec<SourceRef>,
    pub(crate) root: PathBuf,
}

const PLACES: &str = "places";

impl Args for Places {
    fn augment_args(command: clap::Command) -> clap::Command {
        command.arg(
            Arg::new(PLACES)
                .required(true)
                .num_args(1..)
                .action(ArgAction::Append)
                .value_name("SRC... ROOT")
                .value_parser(value_parser!(OsString))
                .help(
                    "SRC is a cache export, or an image with an inline cache: DIR, \
                     oci:DIR[:TAG|@DIGEST], oci-archive:FILE[:TAG|@DIGEST] or \
                     type=local,src=DIR[,tag=TAG][,digest=DIGEST]; DIR may be a tar archive too. \
                     ROOT, the last, is the root of the buildkitd, such as /var/lib/buildkit; made \
                     if it is not there",
                ),
        )
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Places {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let words = matches.get_many::<OsString>(PLACES).unwrap_or_default();
        let mut words: Vec<_> = words.collect();
        let (Some(root), false) = (words.pop(), words.is_empty()) else {
            let message = "there is only one of <SRC>... and <ROOT>; the last word is the root";
            return Err(refusal(ErrorKind::MissingRequiredArgument, message));
        };
        let sources = words.into_iter().map(|word| {
            let source = word.to_str().ok_or("a source has to be UTF-8".to_owned());
            source.and_then(|text| text.parse().map_err(|error| chain(&error))).map_err(|error| {
                let word = word.to_string_lossy();
                let message = format!("invalid value '{word}' for '<SRC>...': {error}");
                refusal(ErrorKind::ValueValidation, &message)
            })
        });
        Ok(Self { sources: sources.collect::<Result<_, _>>()?, root: root.into() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// An error as clap's own look, with the usage of `convert`.
fn refusal(kind: ErrorKind, message: &str) -> clap::Error {
    clap::Command::new("convert").override_usage(USAGE).error(kind, message)
}

/// What went wrong with a source, in one line.
fn chain(error: &ParseSourceError) -> String {
    let reason = error.source().map(|source| format!(": {source}"));
    format!("{error}{}", reason.unwrap_or_default())
}

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

    fn parsed(words: &[&str]) -> Result<Places, clap::Error> {
        let words = ["oci2bk", "convert"].iter().chain(words);
        Arguments::try_parse_from(words).map(|arguments| match arguments.command {
            Command::Convert(convert) => convert.places,
            Command::Keys(_) | Command::Verify(_) => panic!("not convert"),
        })
    }

    #[test]
    fn the_last_word_is_the_root_wherever_the_options_are() {
        for words in [
            &["a", "type=local,src=b", "/var/lib/buildkit"][..],
            &["--jobs", "2", "a", "b", "/var/lib/buildkit"],
            &["a", "--keys", "k", "b", "--no-extract", "/var/lib/buildkit", "--dry-run"],
            &["--dry-run", "--", "a", "b", "/var/lib/buildkit"],
        ] {
            let places = parsed(words).unwrap();
            let paths: Vec<_> = places.sources.iter().map(|s| s.path.as_path()).collect();
            assert_eq!(paths, ["a", "b"].map(std::path::Path::new));
            assert_eq!(places.root, PathBuf::from("/var/lib/buildkit"));
        }
    }

    #[test]
    fn a_root_without_a_source_is_refused() {
        assert!(
            parsed(&["only-one"]).unwrap_err().to_string().contains("the last word is the root")
        );
        assert!(parsed(&[]).is_err());
        let error = parsed(&["oci:dir@sha256:abc", "r"]).unwrap_err().to_string();
        assert!(error.contains("64 lowercase hex digits"), "{error}");
    }

    #[test]
    fn releases_without_this_format_of_state_are_refused() {
        let parse = |release: &str| {
            Arguments::try_parse_from(["oci2bk", "convert", "a", "r", "--buildkit", release])
        };
        let Command::Convert(convert) = parse("0.16").unwrap().command else { panic!("keys") };
        assert_eq!(convert.buildkit.to_string(), "v0.16.0");
        assert!(parse("v0.33.0").is_ok());
        for refused in ["v0.10.6", "v1.0.0", "latest"] {
            assert!(parse(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn limits_are_settings_that_help_lists() {
        let parse = |setting: &str| {
            Arguments::try_parse_from(["oci2bk", "convert", "a", "r", "--limit", setting])
        };
        let Command::Convert(convert) = parse("layer-entries=50M").unwrap().command else {
            panic!("keys")
        };
        assert_eq!(convert.limits.limits().layer_entries, 50_000_000);
        assert!(parse("entries=1").unwrap_err().to_string().contains("there are layer-entries"));
        let help = limits_and_exit_codes();
        let row = "  layer-size=1Ti         Bytes of one unpacked layer, holes of sparse files \
                   included\n";
        assert!(help.contains(row), "{help}");
    }

    #[test]
    fn keys_are_written_or_attached() {
        let parse = |words: &str| {
            let arguments = Arguments::try_parse_from(words.split(' '));
            arguments.map(|arguments| match arguments.command {
                Command::Keys(keys) => keys,
                Command::Convert(_) | Command::Verify(_) => panic!("not keys"),
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
