//! The arguments of `explain`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use oci2bk::release::Target;

use super::common::{Format, LimitArguments, limits_and_exit_codes};

#[derive(Debug, Args)]
#[command(after_help = limits_and_exit_codes())]
pub(crate) struct Explain {
    /// The cache: a cache export, in the forms that convert takes, or the root of a buildkitd that
    /// does not run. Nothing in it is changed
    #[arg(value_name = "SRC|ROOT")]
    pub(crate) cache: OsString,

    /// What a build asks for: LLB as buildctl build takes it, a dump of it, provenance (mode=max),
    /// or another source with whole ops that convert takes with --keys
    #[arg(long, value_name = "FILE")]
    pub(crate) llb: PathBuf,

    /// Compare what is not found with the ops in FILE, of the builds that made the cache; what
    /// lies inside SRC or ROOT is looked at anyway
    #[arg(long, value_name = "FILE")]
    pub(crate) keys: Vec<PathBuf>,

    /// The release of the buildkitd that will use ROOT, such as v0.16.0
    #[arg(long, value_name = "VERSION", default_value_t)]
    pub(crate) buildkit: Target,

    #[command(flatten)]
    pub(crate) limits: LimitArguments,

    /// The form of what is printed on stdout
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,
}
