//! The arguments of `verify`.

use std::num::NonZeroUsize;

use clap::Args;
use oci2bk::keys::KeyPath;
use oci2bk::{Source, Target};

use super::common::{Format, LimitArguments, PROGRESS_VARIABLE, ProgressMode, jobs, more_help};
use super::daemon::{CONTAINERD, ENGINE, RootArguments};

const EXAMPLES: &str = "\
Examples:
  # Databases, references between them, and the digest of every blob
  oci2bk verify /var/lib/buildkit

  # The state of a builder of docker buildx, which was stopped
  oci2bk verify --builder ci

  # After an upgrade from before BuildKit v0.33.1: let the daemon share its layers again
  oci2bk verify --trees --mend /var/lib/buildkit

  # Whether every result is that of its step, by the cache that the root was made of
  oci2bk verify --against cache --keys provenance.json /var/lib/buildkit

  # The unpacked trees too, with the result as JSON
  oci2bk verify --trees --format json /var/lib/buildkit";

#[derive(Debug, Args)]
#[command(after_long_help = more_help(EXAMPLES))]
pub(crate) struct Verify {
    #[command(flatten)]
    pub(crate) root: RootArguments,

    /// Compare the unpacked trees with their layers too, which needs the privileges of root
    ///
    /// The layers are unpacked into TMPDIR, one for each job at a time.
    #[arg(long)]
    pub(crate) trees: bool,

    /// Rename the layers of daemons before v0.33.1 that pass, so that newer daemons share them
    ///
    /// Such a daemon did not check what it unpacked, so newer ones do not share these layers with images and
    /// caches. A layer that equals its blob, as do all layers below it, is renamed. Nothing else is changed.
    #[arg(long, requires = "trees", conflicts_with_all = [CONTAINERD, ENGINE])]
    pub(crate) mend: bool,

    /// Compare the root with a cache that it was made of, as convert takes it [repeatable]
    ///
    /// Finds results and links that belong to other steps, which nothing in the root itself shows. Give all the
    /// caches, with the --keys and --buildkit of the conversions. What a daemon has added or removed since is
    /// counted.
    #[arg(long, value_name = "SRC")]
    pub(crate) against: Vec<Source>,

    /// The key sources of the conversions, as for convert [repeatable]
    #[arg(long, value_name = "FILE", requires = "against")]
    pub(crate) keys: Vec<KeyPath>,

    /// The release that the root was made for
    ///
    /// By default as for convert.
    #[arg(long, value_name = "VERSION", requires = "against")]
    pub(crate) buildkit: Option<Target>,

    /// The release of the buildkitd that exported the caches, such as v0.16.0
    ///
    /// Without it, it is what the key sources and the names of the steps tell. It decides which steps are said to
    /// run again with another release, and no key depends on it.
    #[arg(long, value_name = "VERSION")]
    pub(crate) exported_by: Option<Target>,

    #[command(flatten)]
    pub(crate) limits: LimitArguments,

    /// How many blobs or trees to work on at a time [default: the number of processors]
    #[arg(short, long, value_name = "N", value_parser = jobs)]
    pub(crate) jobs: Option<NonZeroUsize>,

    /// The form of the result on stdout
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,

    /// How to show progress on stderr
    #[arg(long, value_enum, default_value_t = ProgressMode::Auto, env = PROGRESS_VARIABLE)]
    pub(crate) progress: ProgressMode,
}
