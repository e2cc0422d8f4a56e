//! The command line.

mod common;
mod convert;
mod keys;
mod layers;
mod verify;

use clap::{Parser, Subcommand};

pub(crate) use common::{Format, ProgressMode};
pub(crate) use convert::{Convert, Places};
pub(crate) use keys::{Attach, Keys, KeysCommand};
pub(crate) use verify::Verify;

/// Turn a BuildKit cache export into the state directory of a buildkitd that has already run
/// those builds.
#[derive(Debug, Parser)]
#[command(name = "oci2bk", version, propagate_version = true, after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed
  2  the command line is wrong
  3  the input is invalid or corrupt
  4  keys are missing, or none is of the cache; nothing was written
  5  verification found damage
  6  the root is in use, or another program writes to the layout";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write the state of caches into the root of a buildkitd that does not run
    Convert(Convert),
    /// Write the keys that sources have into a file, or attach them to a cache
    Keys(Keys),
    /// Check the root of a buildkitd that does not run, and say what is damaged
    Verify(Verify),
}

#[cfg(test)]
mod tests;
