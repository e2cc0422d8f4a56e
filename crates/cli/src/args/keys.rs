//! The arguments of `keys` and `keys attach`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use oci2bk::keys::KeyPath;
use oci2bk::source::Source;

use super::common::{LimitArguments, more_help};
use super::dockerfile::DockerfileBuildArguments;

const EXAMPLES: &str = "\
Examples:
  # Keep the keys of a build in a file without its arguments, for convert --keys
  oci2bk keys provenance.json --output keys.json

  # The keys of all builds of a builder, from its volume
  oci2bk keys /var/lib/docker/volumes/buildx_buildkit_ci0_state/_data -o keys.json

  # Those of the builder in Docker Engine, and of a buildkitd on a containerd that has its root elsewhere
  oci2bk keys /var/lib/docker -o keys.json
  oci2bk keys /var/lib/buildkit,containerd=/data/containerd -o keys.json";

const ATTACH_EXAMPLES: &str = "\
Examples:
  # Right after the build, so that the keys go where the cache goes
  oci2bk keys attach ./cache --keys provenance.json

  # From the Dockerfile, where the build left nothing else
  oci2bk keys attach ./cache --dockerfile Dockerfile --build-arg VERSION=1.2

  # With a tag, for skopeo
  oci2bk keys attach oci:cache:main --keys metadata.json --tag main-keys";

#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    override_usage = "oci2bk keys <SOURCE>... --output <FILE>\n       \
                      oci2bk keys --dockerfile <FILE>... --output <FILE>\n       \
                      oci2bk keys attach <LAYOUT> --keys <FILE>... [--tag <TAG>]",
    after_long_help = more_help(EXAMPLES)
)]
pub(crate) struct Keys {
    #[command(subcommand)]
    pub(crate) command: Option<KeysCommand>,

    /// Key sources, as convert takes them with --keys
    #[arg(required_unless_present = "files", value_name = "SOURCE")]
    pub(crate) sources: Vec<KeyPath>,

    #[command(flatten)]
    pub(crate) dockerfile: DockerfileBuildArguments,

    /// Write the keys to FILE; - is stdout
    ///
    /// The file has digests and the kinds of steps, but no arguments, environment or paths.
    #[arg(short, long, value_name = "FILE", required = true)]
    pub(crate) output: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) limits: LimitArguments,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Attach the keys of a cache to it, where convert finds them
    ///
    /// They become an OCI artifact in its layout. Keys that were attached before are replaced.
    Attach(Attach),
}

#[derive(Debug, Args)]
#[command(after_long_help = more_help(ATTACH_EXAMPLES))]
pub(crate) struct Attach {
    /// The cache: DIR[:TAG|@DIGEST], oci:DIR[:TAG|@DIGEST] or type=local,src=DIR[,tag=TAG][,digest=DIGEST]
    #[arg(value_name = "LAYOUT")]
    pub(crate) layout: Source,

    /// Key sources, as convert takes them with --keys
    #[arg(long, value_name = "FILE", required_unless_present = "files", num_args = 1..)]
    pub(crate) keys: Vec<KeyPath>,

    #[command(flatten)]
    pub(crate) dockerfile: DockerfileBuildArguments,

    /// Give the artifact a tag, for tools that copy only what has one
    #[arg(long, value_name = "TAG")]
    pub(crate) tag: Option<String>,

    #[command(flatten)]
    pub(crate) limits: LimitArguments,
}
