//! Options of `convert` for layers: unpacking, and storing blobs.

use clap::error::ErrorKind;
use clap::{ArgMatches, Args, FromArgMatches};
use oci2bk::convert::StoreBlobs;

use super::usage::refusal;

/// The options for layers, some of which exclude each other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layers {
    pub(crate) extract: bool,
    pub(crate) blobs: StoreBlobs,
    pub(crate) trust_blobs: bool,
}

#[derive(Debug, Args)]
struct Options {
    /// Leave layers packed, which needs no privileges
    ///
    /// The daemon unpacks each when a build first needs its files.
    #[arg(long)]
    no_extract: bool,

    /// How layer blobs come into ROOT
    #[arg(long, value_enum, value_name = "HOW", default_value_t = Blobs::Auto)]
    blobs: Blobs,

    /// Do not hash blobs already in ROOT; check only their size
    ///
    /// Without this option they are hashed, and damaged ones replaced.
    #[arg(long)]
    trust_blobs: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Blobs {
    /// Share disk blocks with SRC (reflink) where the file system supports it, and copy elsewhere
    Auto,
    /// Copy every byte
    Copy,
    /// Hard-link the files of SRC; refused if another user can write to them
    Hardlink,
    /// Store none; exported layers are packed again, to other bytes
    None,
}

impl From<Blobs> for StoreBlobs {
    fn from(blobs: Blobs) -> Self {
        match blobs {
            Blobs::Auto => Self::Auto,
            Blobs::Copy => Self::Copy,
            Blobs::Hardlink => Self::Hardlink,
            Blobs::None => Self::None,
        }
    }
}

impl Args for Layers {
    fn augment_args(command: clap::Command) -> clap::Command {
        Options::augment_args(command)
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Options::augment_args_for_update(command)
    }
}

impl FromArgMatches for Layers {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let Options { no_extract, blobs, trust_blobs } = Options::from_arg_matches(matches)?;
        let layers = Self { extract: !no_extract, blobs: blobs.into(), trust_blobs };
        if no_extract && layers.blobs == StoreBlobs::None {
            let message = "--no-extract and --blobs=none leave nothing of a layer; the daemon needs its \
                           files or its blob";
            return Err(refusal(ErrorKind::ArgumentConflict, message));
        }
        Ok(layers)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
