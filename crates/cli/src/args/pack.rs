//! The arguments of `pack`.

use std::path::PathBuf;

use clap::Args;
use oci2bk::packed::Compression;

use super::common::{Format, PROGRESS_VARIABLE, ProgressMode, more_help};
use super::daemon::RootArguments;

const EXAMPLES: &str = "\
Examples:
  # Into the root itself; the result says how to mount it
  oci2bk pack /var/lib/buildkit

  # Into a file that becomes a volume of many builders
  oci2bk pack /var/lib/buildkit -o trees.erofs --compress zstd

  # After a later conversion: everything in one image
  oci2bk pack /var/lib/buildkit --all

  # Directories again
  oci2bk pack /var/lib/buildkit --undo";

#[derive(Debug, Args)]
#[command(after_long_help = more_help(EXAMPLES))]
pub(crate) struct Pack {
    #[command(flatten)]
    pub(crate) root: RootArguments,

    /// Copy the packed trees back to directories, and remove the images
    ///
    /// An image that is mounted stays; unmount it, and run the command again.
    #[arg(long, conflicts_with_all = ["output", "all", "compress"])]
    pub(crate) undo: bool,

    /// Write the image to FILE, outside of the root, in place of ROOT/packed
    ///
    /// FILE may not exist. The command does not look for it later: mount it to verify what is in it, or to copy it
    /// back.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,

    /// Pack everything into one image, also what is packed already
    #[arg(long)]
    pub(crate) all: bool,

    /// How to compress files: none, lz4 or zstd [default: lz4]
    ///
    /// zstd makes smaller images. It takes erofs-utils 1.8 to make them, and Linux 6.10 to read them.
    #[arg(long, value_name = "NAME")]
    pub(crate) compress: Option<Compression>,

    /// The form of the result on stdout
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,

    /// How to show progress on stderr
    #[arg(long, value_enum, default_value_t = ProgressMode::Auto, env = PROGRESS_VARIABLE)]
    pub(crate) progress: ProgressMode,
}
