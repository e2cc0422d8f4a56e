//! The arguments of `completions` and `man`, and the help of `limits`.

use std::path::PathBuf;

use clap::Args;
use clap_complete::Shell;

use super::common::limits;

#[derive(Debug, Args)]
#[command(after_long_help = COMPLETIONS_EXAMPLES)]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub(crate) shell: Shell,
}

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  # In bash, from now on
  oci2bk completions bash > ~/.local/share/bash-completion/completions/oci2bk

  # In zsh, with a directory of $fpath
  oci2bk completions zsh > ~/.zfunc/_oci2bk

  # In fish
  oci2bk completions fish > ~/.config/fish/completions/oci2bk.fish";

#[derive(Debug, Args)]
#[command(after_long_help = MAN_EXAMPLES)]
pub(crate) struct Man {
    /// An existing directory; files in it are overwritten
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
}

const MAN_EXAMPLES: &str = "\
Examples:
  # For everybody on this machine, then: man oci2bk-convert
  oci2bk man /usr/local/share/man/man1";

/// Returns the text at the end of `oci2bk help limits`.
pub(super) fn limits_help() -> String {
    let lines: Vec<_> = limits().lines().map(|line| format!("  {line}")).collect();
    format!(
        "{LIMITS_EXAMPLES}\n\nLimits, their defaults, and their values with --limit untrusted:\n{}",
        lines.join("\n")
    )
}

const LIMITS_EXAMPLES: &str = "\
Examples:
  # What --limit can change, with the defaults, and the values of --limit untrusted
  oci2bk limits";
