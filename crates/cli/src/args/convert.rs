//! The arguments of `convert`.

mod layers;
mod usage;

use std::error::Error as _;
use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use bkstate::Time;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, FromArgMatches, value_parser};
use oci2bk::image::ImageRef;
use oci2bk::keys::KeyPath;
use oci2bk::llb::Platform;
use oci2bk::mounts::{Selection, Wanted};
use oci2bk::plan::Requirement;
use oci2bk::release::Target;
use oci2bk::source::{ParseSourceError, Source};

use super::common::{Format, LimitArguments, PROGRESS_VARIABLE, ProgressMode, jobs, more_help};
use super::daemon::{BUILDER, CONFIG, DaemonArguments, ENGINE};
use super::dockerfile::DockerfileArguments;
use crate::clock;
use crate::hint::of_word;
use layers::Layers;
use usage::{USAGE, refusal};

const EXAMPLES: &str = "\
Examples:
  # The layers of a cache; its builds keep --cache-from type=local,src=./cache
  oci2bk convert ./cache /var/lib/buildkit

  # The same, with the few kilobytes that --cache-from reads of it
  oci2bk convert ./cache /var/lib/buildkit --sparse-layout /etc/buildkit/cache

  # The cache of one build, with the keys from its provenance
  oci2bk convert ./cache /var/lib/buildkit --keys provenance.json

  # With the keys from its Dockerfile
  oci2bk convert ./cache /var/lib/buildkit --dockerfile Dockerfile --build-arg VERSION=1.2

  # Look at what would be done first
  oci2bk convert ./cache /var/lib/buildkit --keys provenance.json --dry-run

  # Into a builder of docker buildx, which was stopped
  oci2bk convert ./cache --builder ci

  # Two caches with their keys attached, for the buildkitd of another release
  oci2bk convert oci:app:main oci-archive:tools.tar /var/lib/buildkit --buildkit v0.24.0

  # A build from debian@sha256:... that has no registry, in an image that is started months later
  oci2bk convert ./cache /var/lib/buildkit --image debian=./base --last-used 2027-06-30T00:00:00Z";

#[derive(Debug, Args)]
#[command(after_long_help = more_help(EXAMPLES), override_usage = USAGE)]
pub(crate) struct Convert {
    #[command(flatten)]
    pub(crate) places: Places,

    /// Take op digests from FILE, such as the provenance of the build
    ///
    /// FILE is one of: provenance (mode=max), signed or not, or as docker buildx imagetools prints it; a
    /// metadata file of buildx; the output of --output type=local or type=tar; a layout with an image and its
    /// attestations; a bundle of docker buildx history export; LLB; the root directory of a builder or
    /// its cache.db; the data root of Docker Engine; a file that oci2bk keys wrote; or - for stdin. The type is
    /// detected from the content. For a builder whose containerd is not in its usual place, write
    /// FILE,containerd=DIR. Keys inside SRC are used anyway. If keys are missing then, so are provenance.json,
    /// metadata.json, keys.json and out beside it.
    #[arg(long, value_name = "FILE")]
    pub(crate) keys: Vec<KeyPath>,

    #[command(flatten)]
    pub(crate) dockerfile: DockerfileArguments,

    /// The release of the buildkitd that will use the state, such as v0.16.0
    ///
    /// Keys are translated to it. By default it is the newest known release, and for --engine the one in its
    /// dockerd, if that is found.
    #[arg(long, value_name = "VERSION")]
    pub(crate) buildkit: Option<Target>,

    /// The release of the buildkitd that exported the caches, such as v0.16.0
    ///
    /// Without it, it is what the key sources and the names of the steps tell. It decides which steps are said to
    /// run again with another release, and no key depends on it.
    #[arg(long, value_name = "VERSION")]
    pub(crate) exported_by: Option<Target>,

    /// Seed an image as if the daemon had pulled it, so that FROM with its digest builds without a registry
    ///
    /// Its layers are warm, too, if LAYOUT has all of them. LAYOUT has the forms of SRC, NAME is the name
    /// behind FROM. Images with a name inside SRC are used anyway. The image of an SBOM scanner also
    /// makes its scan cached. With a TAG, for Docker Engine or a containerd, the image gets that name in the
    /// image store: FROM NAME:TAG builds while the registry cannot be reached, and docker images lists it.
    /// Then LAYOUT must have all of the image.
    #[arg(long = "image", value_name = "[NAME[:TAG]=]LAYOUT")]
    pub(crate) images: Vec<ImageRef>,

    /// Take the layers of images for PLATFORM, such as linux/arm64 [default: that of this machine]
    ///
    /// It is also the platform of the build of a --dockerfile.
    #[arg(long = "platform", value_name = "PLATFORM", value_delimiter = ',')]
    pub(crate) platforms: Vec<Platform>,

    #[command(flatten)]
    pub(crate) layers: Layers,

    /// Go on if the key sources leave steps out
    ///
    /// The steps without keys will run again, and so will steps that can only be reached through them,
    /// unless the build has --cache-from of the cache. Not needed if there is no key source at all.
    #[arg(long)]
    pub(crate) allow_unkeyed: bool,

    /// End with exit code 4 if a step has no key, even if there is no key source at all
    ///
    /// The same as --require keys.
    #[arg(long, conflicts_with_all = ["allow_unkeyed", "require"])]
    pub(crate) require_keys: bool,

    /// End with exit code 4 if the state would have less than WHAT of the caches
    ///
    /// WHAT is all; keys, if every step needs a key; layers, if no layer may be missing; or a number of percent
    /// of the steps, such as 90%, that builds have to find. Without it, steps without keys are an error if there
    /// is a key source, and everything else is a warning.
    #[arg(long, value_name = "WHAT")]
    pub(crate) require: Option<Requirement>,

    /// Leave out the layers of steps without keys
    ///
    /// Only builds with --cache-from of the cache use them.
    #[arg(long)]
    pub(crate) drop_unused_layers: bool,

    /// Write the index of the caches, without the layers, into DIR, for --cache-from
    ///
    /// Like oci2bk sparse, after the conversion. DIR is a new or empty directory, or a sparse layout,
    /// which is replaced.
    #[arg(long, value_name = "DIR")]
    pub(crate) sparse_layout: Option<PathBuf>,

    /// Import the cache mounts that are attached to SRC too, or only those with this ID
    ///
    /// oci2bk mounts export --attach attaches them. Mounts that the root has already stay as they are. Nothing
    /// checks the files of a mount, and steps can run what is in them: use it for sources that you trust. ID is
    /// as for oci2bk mounts. May be given several times.
    #[arg(
        long,
        value_name = "ID",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = ALL_MOUNTS
    )]
    pub(crate) mounts: Vec<Wanted>,

    #[command(flatten)]
    pub(crate) limits: LimitArguments,

    /// How many layers to work on at a time [default: the number of processors]
    #[arg(short, long, value_name = "N", value_parser = jobs)]
    pub(crate) jobs: Option<NonZeroUsize>,

    /// Print the plan and write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// The form of the result on stdout
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,

    /// How to show progress on stderr
    #[arg(long, value_enum, default_value_t = ProgressMode::Auto, env = PROGRESS_VARIABLE)]
    pub(crate) progress: ProgressMode,

    /// Write the report to FILE, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) metadata_file: Option<PathBuf>,

    /// When the state counts as last used, for the daemon's garbage collection
    ///
    /// TIME is a time such as 2027-06-30T00:00:00Z, @SECONDS since 1970, or now. By default it is
    /// SOURCE_DATE_EPOCH, or when the newest part of the cache was made.
    #[arg(long, value_name = "TIME", value_parser = clock::parse)]
    pub(crate) last_used: Option<Time>,

    #[command(flatten)]
    pub(crate) daemon: DaemonArguments,
}

/// The value of `--mounts` without an id. No mount has this id.
const ALL_MOUNTS: &str = "";

impl Convert {
    /// Returns what the state has to have; `None` if nothing was said about it.
    pub(crate) fn requirement(&self) -> Option<Requirement> {
        self.require.or(self.require_keys.then_some(Requirement::Keys))
    }

    /// Returns the cache mounts to import; `None` if they are not to be imported.
    pub(crate) fn mounts(&self) -> Option<Selection> {
        let named = |wanted: &&Wanted| wanted.id("") != ALL_MOUNTS;
        let wanted = self.mounts.iter().filter(named).cloned().collect();
        (!self.mounts.is_empty()).then(|| Selection { wanted, ..Selection::default() })
    }
}

/// Sources and destination: `SRC... ROOT`.
///
/// For clap it is one list, whose last word is the root. As two arguments, no option could come between the
/// sources and the root.
#[derive(Debug)]
pub(crate) struct Places {
    pub(crate) sources: Vec<Source>,
    /// Omitted if the daemon's options determine it.
    pub(crate) root: Option<PathBuf>,
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
                    "Cache exports or images, and last the root of the buildkitd, such as /var/lib/buildkit",
                )
                .long_help(
                    "Cache exports and images, and last the root of the buildkitd, such as \
                     /var/lib/buildkit\n\nSRC is a cache export, or an image with an inline cache or \
                     without one: \
                     DIR[:TAG|@DIGEST], oci:DIR[:TAG|@DIGEST], ocidir://DIR[:TAG|@DIGEST], \
                     oci-archive:FILE[:TAG|@DIGEST], docker-archive:FILE[:NAME:TAG], s3dir:DIR[:NAME] \
                     or type=local,src=DIR[,tag=TAG][,digest=DIGEST]. DIR may be a tar archive, \
                     also one compressed with gzip or zstd, or the mirror of a cache in S3 or Azure. \
                     Sources that need a network are refused with the command that fetches them. ROOT is \
                     the root of a buildkitd, or empty, or does not exist yet; for a volume of Docker it is \
                     _data. It is left out with --builder, or with one SRC and a --config that has it.",
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
        // A switch always has a value.
        let is_given = |id: &str| {
            matches.value_source(id).is_some_and(|source| source != ValueSource::DefaultValue)
        };
        // With a configuration, a single word is a source, without a root; of several the last is the root.
        let has_no_root =
            is_given(BUILDER) || is_given(ENGINE) || is_given(CONFIG) && words.len() == 1;
        let root = if has_no_root { None } else { words.pop() };
        if words.is_empty() {
            let message = "there is only one of <SRC>... and <ROOT>; the last word is the root";
            return Err(refusal(ErrorKind::MissingRequiredArgument, message));
        }
        let sources = words.into_iter().map(|word| {
            let refused = |said: String, hint: Option<String>| {
                let word = word.to_string_lossy();
                let message = format!("invalid value '{word}' for '<SRC>...': {said}");
                let mut refusal = refusal(ErrorKind::ValueValidation, &message);
                if let Some(hint) = hint {
                    refusal.insert(ContextKind::Custom, ContextValue::String(hint));
                }
                refusal
            };
            let text = word
                .to_str()
                .ok_or_else(|| refused("a source has to be UTF-8".to_owned(), None))?;
            text.parse().map_err(|error| refused(chain(&error), of_word(&error)))
        });
        Ok(Self { sources: sources.collect::<Result<_, _>>()?, root: root.map(PathBuf::from) })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Formats a source's error and its causes in one line.
fn chain(error: &ParseSourceError) -> String {
    let reason = error.source().map(|source| format!(": {source}"));
    format!("{error}{}", reason.unwrap_or_default())
}
