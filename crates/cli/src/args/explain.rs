//! The arguments of `explain`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use oci2bk::keys::KeyPath;
use oci2bk::release::Target;

use super::common::{Format, LimitArguments, more_help};
use super::daemon::{ENGINE, StorageArguments};
use super::dockerfile::DockerfileBuildArguments;

const EXAMPLES: &str = "\
Examples:
  # Which steps of the build of this provenance a cache has
  oci2bk explain ./cache --llb provenance.json

  # Why a build of this Dockerfile would miss, by its lines
  oci2bk explain ./cache --dockerfile Dockerfile --build-arg VERSION=1.3

  # What differs, with provenance of the build that made the cache
  oci2bk explain ./cache --llb new/provenance.json --keys old/provenance.json

  # What a stopped daemon would find; it has the ops of its builds itself
  oci2bk explain /var/lib/buildkit --llb provenance.json --format json";

#[derive(Debug, Args)]
#[command(after_long_help = more_help(EXAMPLES))]
pub(crate) struct Explain {
    /// The cache: a cache export, or the root of a stopped buildkitd
    ///
    /// An export has the forms that convert takes. Nothing in it is changed.
    #[arg(value_name = "SRC|ROOT", required_unless_present = ENGINE, conflicts_with = ENGINE)]
    pub(crate) cache: Option<OsString>,

    /// The build, as LLB or provenance (mode=max)
    ///
    /// LLB is what buildctl build takes, or a dump of it. Any key source with whole ops works, too. Or give the
    /// Dockerfile of the build, with --dockerfile.
    #[arg(long, value_name = "FILE", required_unless_present = "files", conflicts_with = "files")]
    pub(crate) llb: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) dockerfile: DockerfileBuildArguments,

    /// Compare missing steps with the ops in FILE, of the builds that made the cache
    ///
    /// Ops inside SRC or ROOT are used anyway.
    #[arg(long, value_name = "FILE")]
    pub(crate) keys: Vec<KeyPath>,

    /// The release of the buildkitd that will use ROOT, such as v0.16.0 [default: as for convert]
    ///
    /// Refused for an export: convert translates its keys to those of any release.
    #[arg(long, value_name = "VERSION")]
    pub(crate) buildkit: Option<Target>,

    #[command(flatten)]
    pub(crate) storage: StorageArguments,

    #[command(flatten)]
    pub(crate) limits: LimitArguments,

    /// The form of the result on stdout
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,
}
