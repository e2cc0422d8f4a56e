//! The arguments of `inspect`.

use std::ffi::OsString;

use clap::{Args, ValueEnum};
use oci2bk::keys::KeyPath;
use oci2bk::release::Target;

use super::common::{LimitArguments, PROGRESS_VARIABLE, ProgressMode, more_help};
use super::daemon::{ENGINE, StorageArguments};
use super::dockerfile::DockerfileBuildArguments;

const EXAMPLES: &str = "\
Examples:
  # The steps of a cache, and which of them have keys
  oci2bk inspect ./cache --keys provenance.json

  # The same as a picture
  oci2bk inspect ./cache --keys provenance.json --format svg > cache.svg

  # What a root with this cache would take on a disk
  oci2bk inspect ./cache --sizes

  # Everything in the root of a stopped daemon, and one record with everything tied to it
  oci2bk inspect /var/lib/buildkit
  oci2bk inspect /var/lib/buildkit 3f4d3bdb";

#[derive(Debug, Args)]
#[command(after_long_help = more_help(EXAMPLES))]
pub(crate) struct Inspect {
    /// A cache export, or the root of a stopped buildkitd
    ///
    /// The kind is detected from the content. An export has the forms that convert takes. Nothing is changed.
    #[arg(value_name = "SRC|ROOT", required_unless_present = ENGINE)]
    pub(crate) place: Option<OsString>,

    /// Show only this record, blob or key and what is tied to it
    ///
    /// The id of a record, a digest of any kind, or the first characters of one, four at least.
    #[arg(value_name = "RECORD|DIGEST")]
    pub(crate) only: Option<String>,

    /// Take op digests, and with them the names of steps, from FILE, as convert does
    #[arg(long, value_name = "FILE")]
    pub(crate) keys: Vec<KeyPath>,

    #[command(flatten)]
    pub(crate) dockerfile: DockerfileBuildArguments,

    /// The release of the buildkitd that would use the state of an export [default: the newest]
    ///
    /// Steps that it would not find are listed. Refused for a root: its keys are made already.
    #[arg(long, value_name = "VERSION")]
    pub(crate) buildkit: Option<Target>,

    /// The release of the buildkitd that exported the caches, such as v0.16.0
    ///
    /// Without it, it is what the key sources and the names of the steps tell. It decides which steps are said to
    /// run again with another release, and no key depends on it.
    #[arg(long, value_name = "VERSION")]
    pub(crate) exported_by: Option<Target>,

    /// Read all layers of an export, and show what a root with them would take
    ///
    /// It takes about as long as to convert the cache, and needs neither room nor rights. Refused for a root, whose sizes
    /// are those of oci2bk du.
    #[arg(long)]
    pub(crate) sizes: bool,

    #[command(flatten)]
    pub(crate) storage: StorageArguments,

    #[command(flatten)]
    pub(crate) limits: LimitArguments,

    /// The form of the result on stdout
    #[arg(long, value_enum, default_value_t = InspectFormat::Table)]
    pub(crate) format: InspectFormat,

    /// How to show progress on stderr, with --sizes
    #[arg(long, value_enum, default_value_t = ProgressMode::Auto, env = PROGRESS_VARIABLE)]
    pub(crate) progress: ProgressMode,
}

/// The form of the output.
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
