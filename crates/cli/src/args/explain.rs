//! The arguments of `explain`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use oci2bk::release::Target;

use super::common::{Format, LimitArguments, more_help};

const EXAMPLES: &str = "\
Examples:
  # Which steps of the build that this provenance is of a cache has
  oci2bk explain ./cache --llb provenance.json

  # What differs, if provenance of the build that made the cache is there too
  oci2bk explain ./cache --llb new/provenance.json --keys old/provenance.json

  # What a stopped daemon would find; it has the ops of its builds itself
  oci2bk explain /var/lib/buildkit --llb provenance.json --format json";

#[derive(Debug, Args)]
#[command(after_long_help = more_help(EXAMPLES))]
pub(crate) struct Explain {
    /// The cache: a cache export, or the root of a buildkitd that does not run
    ///
    /// An export has the forms that convert takes. Nothing in it is changed.
    #[arg(value_name = "SRC|ROOT")]
    pub(crate) cache: OsString,

    /// What a build asks for, such as LLB or provenance (mode=max)
    ///
    /// LLB is what buildctl build takes, or a dump of it. Everything with whole ops that convert takes with
    /// --keys will do.
    #[arg(long, value_name = "FILE")]
    pub(crate) llb: PathBuf,

    /// Compare what is not found with the ops in FILE, of the builds that made the cache
    ///
    /// What lies inside SRC or ROOT is looked at anyway.
    #[arg(long, value_name = "FILE")]
    pub(crate) keys: Vec<PathBuf>,

    /// The release of the buildkitd that will use ROOT, such as v0.16.0 [default: the newest]
    ///
    /// Refused for an export, whose keys convert translates to those of any release.
    #[arg(long, value_name = "VERSION")]
    pub(crate) buildkit: Option<Target>,

    #[command(flatten)]
    pub(crate) limits: LimitArguments,

    /// The form of what is printed on stdout
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,
}
