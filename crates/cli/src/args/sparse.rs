//! The arguments of `sparse`.

use std::path::PathBuf;

use clap::Args;
use oci2bk::Source;

use super::common::{Format, LimitArguments, more_help};

const EXAMPLES: &str = "\
Examples:
  # To keep on the machine whose root has the layers
  oci2bk sparse ./cache /etc/buildkit/cache
  docker buildx build --cache-from type=local,src=/etc/buildkit/cache .

  # Of the caches of two branches
  oci2bk sparse oci:cache:main oci:cache:release ./index-of-caches";

#[derive(Debug, Args)]
#[command(after_long_help = more_help(EXAMPLES))]
pub(crate) struct Sparse {
    /// Cache exports, in the forms that convert takes
    #[arg(value_name = "SRC", required = true)]
    pub(crate) sources: Vec<Source>,

    /// The directory of the layout: a new one, an empty one, or a sparse layout, which is replaced
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,

    #[command(flatten)]
    pub(crate) limits: LimitArguments,

    /// The form of the result on stdout
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,
}
